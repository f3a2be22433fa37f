"""How well the demo models answer, and how they fail.

    python -m analyses.demo_model     # about ten minutes on 2 cores; writes reports/demo_model.md

Greedy answers on clean scenes of test digits by task family, with 95 % Wilson intervals; then the outcomes of sampled
runs (temperature 1) on the mix of difficulties, as in the shipped traces, with their causes.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import pandas as pd

import trajkit as tk
from trajkit.attribution.item import Judgement
from trajkit.demo import paths
from trajkit.demo.evaluation import answer_all
from trajkit.demo.runs import MIX, demo_items
from trajkit.demo.tasks import FAMILIES
from trajkit.files import write_text
from trajkit.progress import progress
from trajkit.stats.resampling import wilson
from trajkit.tables import Estimate, Table, words
from trajkit.tables.names import outcome_name
from trajkit.tables.render import markdown
from trajkit.vlm.generation import Sampling

OUTCOMES = ("success", "hallucination", "reasoning_failure", "failure")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="questions of each kind of evaluation")
    parser.add_argument("--models", nargs="+", default=list(paths.MODELS), choices=paths.MODELS)
    parser.add_argument("--out", type=Path, default=Path("reports/demo_model.md"))
    args = parser.parse_args(argv)
    text = (
        "# The demo models\n\nRegenerate: `python -m analyses.demo_model`. Digits and scenes are held out from "
        "training. The first model is the demo's own; the others are smaller and were trained for less time: they show "
        "that what runs on one architecture runs on all.\n\n"
    )
    text += "\n".join(_section(name, args.runs) for name in args.models)
    text += (
        "\n`failure`: wrong, and of neither kind: false readings stand, and the wrong answer does not follow from them "
        "either. `omission`: the "
        "answer follows from what was read, and that was right in all that matters, but a cell that matters was never "
        "looked at. `wrong step`: a sentence does not follow from what had been read by then. `wrong answer`: all "
        "sentences do, and the answer does not. With a cell unread: runs that never read some cell that the question "
        "is about, whatever went wrong first; an omission is one that went wrong by nothing else.\n"
    )
    write_text(args.out, text)
    print(text)


def _section(name: str, n: int) -> str:
    vlm = tk.load_vlm(paths.model(name))
    weights = sum(parameter.numel() for parameter in vlm.model.parameters()) / 1e6
    with progress(name, total=2 * n) as bar:
        clean = answer_all(vlm, demo_items("test", n, seed=101, difficulty=(0, 0)), Sampling(0), advance=bar.advance)
        mixed = answer_all(
            vlm, demo_items("test", n, seed=102, difficulty=MIX), Sampling(1.0, seed=0), advance=bar.advance
        )
    greedy = _table([_accuracy(part, _of(clean, part)) for part in ("all", *FAMILIES)])
    sampled = _table([_outcomes(part, _of(mixed, part)) for part in ("all", *FAMILIES)])
    causes = _table(_causes([judgement for _, judgement, *_ in mixed]))
    lengths = pd.Series([len(sentences) for _, _, sentences, _ in mixed])
    return (
        f"## {name}, {weights:.1f} M weights\n\n"
        f"Greedy answers on clean scenes, {words.count(n, 'question')}:\n\n{markdown(greedy)}\n"
        f"Outcomes at temperature 1 on the mix of difficulties, {words.count(n, 'run')}:\n\n{markdown(sampled)}\n"
        f"What went wrong in them:\n\n{markdown(causes)}\n"
        f"Sentences of thinking a run: median {lengths.median():.0f}, 10th to 90th percentile "
        f"{lengths.quantile(0.1):.0f} to {lengths.quantile(0.9):.0f}.\n"
    )


def _table(rows: list[dict[str, object]]) -> Table:
    """Shares to three decimals."""
    frame = pd.DataFrame(rows)
    shares = [name for name in frame if name not in ("family", "outcome", "cause", "n", "runs")]
    headings = {name: outcome_name(name) for name in frame} | {"accuracy": "accuracy (95 %)"}
    return Table(frame, headings, dict.fromkeys(shares, words.figure))


def _of(judged: list, name: str) -> list[str]:
    return [_outcome(judgement) for item, judgement, *_ in judged if name in ("all", item.task_set)]


def _outcome(judgement: Judgement) -> str:
    """`failure` for a wrong answer of no known kind; every answer here is judged."""
    return "failure" if judgement.outcome == "unknown" else judgement.outcome


def _accuracy(name: str, outcomes: list[str]) -> dict[str, object]:
    right = outcomes.count("success")
    found = Estimate.of((right / len(outcomes), *wilson(right, len(outcomes))))
    return {"family": name, "n": len(outcomes), "accuracy": found}


def _outcomes(name: str, outcomes: list[str]) -> dict[str, object]:
    counts = Counter(outcomes)
    shares = {o: counts[o] / len(outcomes) for o in OUTCOMES}
    return {"family": name, "n": len(outcomes), "wrong": 1 - shares["success"], **shares}


def _causes(judged: list[Judgement]) -> list[dict[str, object]]:
    of = Counter(map(_outcome, judged))
    counts = Counter((_outcome(judgement), judgement.facts["detail"]) for judgement in judged)
    unread = Counter((_outcome(j), j.facts["detail"]) for j in judged if j.facts["unread"])
    rows = [
        {"outcome": outcome_name(outcome), "cause": cause, "runs": n, "share of the outcome": n / of[outcome]}
        | {"with a cell unread": unread[outcome, cause] / n}
        for (outcome, cause), n in sorted(counts.items())
        if cause
    ]
    if n := of["reasoning_failure"]:
        some = sum(count for (outcome, _), count in unread.items() if outcome == "reasoning_failure")
        row = {"outcome": outcome_name("reasoning_failure"), "cause": "any", "runs": n, "share of the outcome": 1.0}
        rows.append(row | {"with a cell unread": some / n})
    return rows


if __name__ == "__main__":
    main()
