"""How well the demo model answers, and how it fails.

    python -m analyses.demo_model     # about four minutes on 2 cores; writes reports/demo_model.md

Greedy answers on clean scenes of test digits by task family, with 95 % Wilson intervals; then the outcomes of sampled
runs (temperature 1) on the mix of difficulties, as in the shipped traces.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import pandas as pd
from statsmodels.stats.proportion import proportion_confint

import trajkit as tk
from trajkit.attribution.stream import Sampling
from trajkit.cli.output import markdown
from trajkit.demo import paths
from trajkit.demo.evaluation import answer_all
from trajkit.demo.runs import MIX, demo_items
from trajkit.demo.tasks import FAMILIES
from trajkit.progress import progress


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="questions of each kind of evaluation")
    parser.add_argument("--out", type=Path, default=Path("reports/demo_model.md"))
    args = parser.parse_args(argv)
    vlm = tk.load_vlm(paths.MODEL)
    with progress("answering", total=2 * args.runs) as bar:
        clean = answer_all(
            vlm, demo_items("test", args.runs, seed=101, difficulty=(0, 0)), Sampling(0), advance=bar.advance
        )
        mixed = answer_all(
            vlm, demo_items("test", args.runs, seed=102, difficulty=MIX), Sampling(1.0, seed=0), advance=bar.advance
        )
    greedy = pd.DataFrame([_accuracy(name, _of(clean, name)) for name in ("all", *FAMILIES)])
    sampled = pd.DataFrame([_outcomes(name, _of(mixed, name)) for name in ("all", *FAMILIES)])
    lengths = pd.Series([len(sentences) for _, _, sentences, _ in mixed])
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(
        "# The demo model\n\nRegenerate: `python -m analyses.demo_model`. Digits and scenes are held out from "
        "training.\n\n"
        f"## Greedy answers on clean scenes ({args.runs} questions)\n\n{markdown(greedy)}\n"
        f"## Outcomes at temperature 1 on the mix of difficulties ({args.runs} runs)\n\n{markdown(sampled)}\n"
        "`unknown`: false readings stand, and the wrong answer does not follow from them either.\n\n"
        f"Sentences of thinking a run: median {lengths.median():.0f}, 10th to 90th percentile "
        f"{lengths.quantile(0.1):.0f} to {lengths.quantile(0.9):.0f}.\n",
        encoding="utf-8",
    )
    print(args.out.read_text(encoding="utf-8"))


def _of(judged: list, name: str) -> list[str]:
    return [judgement.outcome for item, judgement, *_ in judged if name in ("all", item.task_set)]


def _accuracy(name: str, outcomes: list[str]) -> dict[str, object]:
    right = outcomes.count("success")
    low, high = proportion_confint(right, len(outcomes), method="wilson")
    return {"family": name, "n": len(outcomes), "accuracy": right / len(outcomes), "low": low, "high": high}


def _outcomes(name: str, outcomes: list[str]) -> dict[str, object]:
    counts = Counter(outcomes)
    shares = {o: counts[o] / len(outcomes) for o in ("success", "hallucination", "reasoning_failure", "unknown")}
    return {"family": name, "n": len(outcomes), "failures": 1 - shares["success"], **shares}


if __name__ == "__main__":
    main()
