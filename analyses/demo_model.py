"""How well the demo models answer, and how they fail.

    python -m analyses.demo_model     # minutes; writes reports/demo_model.md

Greedy answers on clean scenes of test digits by form of question, with 95 % Wilson intervals; then sampled runs
(temperature 1) on the mix, as in the shipped traces: how many fail, how long they are and what was the cause.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

import trajkit as tk
from analyses.common import command_of
from trajkit.attribution.item import Item
from trajkit.demo import paths
from trajkit.demo.evaluation import answer_all
from trajkit.demo.items import CLEAN, MIX, demo_items
from trajkit.demo.questions import FORMS
from trajkit.files import write_text
from trajkit.progress import progress
from trajkit.stats.resampling import wilson
from trajkit.tables import Estimate, Table, words
from trajkit.tables.names import outcome_name
from trajkit.tables.render import markdown
from trajkit.vlm.generation import Sampling
from trajkit.vlm.model import VLM

OUTCOMES = ("success", "hallucination", "reasoning_failure", "unknown")
_SMUDGED = words.share(MIX.smudged)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="questions of each kind of evaluation")
    parser.add_argument("--models", nargs="+", default=list(paths.MODELS), choices=paths.MODELS)
    parser.add_argument("--out", type=Path, default=Path("reports/demo_model.md"))
    args = parser.parse_args(argv)
    text = (
        f"# The demo models\n\nRegenerate: `{command_of('demo_model', parser, args)}`. Digits and scenes are held out "
        "from training; shares have Wilson's 95 % intervals, one run a scene. The first model is the demo's own; the "
        f"others show that what runs on one architecture runs on all. In the mix {_SMUDGED} of the pictures have a "
        f"smudge over one of the first {MIX.early} cells that the plan reads.\n\n"
    )
    text += "\n".join(_section(name, args.runs) for name in args.models)
    text += (
        "\nA run is on its course while going on without a mistake would end in the right answer; what took it off "
        "for good is the cause. *hallucination*: it was a false reading. *reasoning failure*: another sentence, or the "
        "answer itself, and no false reading came after it. *unknown*: one did. Lengths: the median, and the 10th to "
        "the 90th percentile.\n"
    )
    write_text(args.out, text)
    print(text)


def _section(name: str, n: int) -> str:
    vlm = tk.load_vlm(paths.model(name))
    weights = sum(parameter.numel() for parameter in vlm.model.parameters()) / 1e6
    with progress(name, total=2 * n) as bar:
        clean = answers(vlm, demo_items("test", n, 101, CLEAN), Sampling(0), bar.advance)
        mixed = answers(vlm, demo_items("test", n, 102), Sampling(1.0, seed=0), bar.advance)
    return (
        f"## {name}, {weights:.1f} M weights\n\n"
        f"Greedy answers on clean scenes, {words.count(n, 'question')}:\n\n{markdown(accuracy(clean))}\n"
        f"Outcomes at temperature 1 on the mix, {words.count(n, 'run')}:\n\n{markdown(outcomes(mixed))}\n"
        f"Sentences of thinking a run in them:\n\n{markdown(lengths(mixed))}\n"
        f"What was the cause:\n\n{markdown(causes(mixed))}\n"
    )


def answers(vlm: VLM, items: Iterable[Item], sampling: Sampling, advance: Any) -> pd.DataFrame:
    """A row a run: family, form, outcome, detail, sentences."""
    rows = [
        {"family": item.task_set, "form": item.meta["kind"], "outcome": judged.outcome}
        | {"detail": judged.facts["detail"], "sentences": len(sentences)}
        for item, judged, sentences, _ in answer_all(vlm, items, sampling, advance=advance)
    ]
    return pd.DataFrame(rows)


def _parts(runs: pd.DataFrame, by_form: bool = True) -> Iterable[tuple[dict[str, str], pd.DataFrame]]:
    """All runs, those of each family, and those of each form of it, with what stands before a row."""
    head = {"family": "all"} | ({"form": "all"} if by_form else {})
    yield head, runs
    for family, forms in FORMS.items():
        own = runs[runs["family"] == family]
        yield head | {"family": family}, own
        for form in forms if by_form else ():
            yield {"family": family, "form": form}, own[own["form"] == form]


def _share(hits: pd.Series) -> Estimate:
    k, n = int(hits.sum()), len(hits)
    return Estimate.of((k / n if n else float("nan"), *wilson(k, n)))


def accuracy(runs: pd.DataFrame) -> Table:
    """Right answers of all, by family and by form."""
    rows = [head | {"questions": len(own), "right": _share(own["outcome"] == "success")} for head, own in _parts(runs)]
    return Table(pd.DataFrame(rows), formats={"right": words.figure})


def outcomes(runs: pd.DataFrame) -> Table:
    """How many fail, and the runs of each outcome, of all, by family and by form."""
    rows = [
        head
        | {"runs": len(own), "failing": _share(own["outcome"] != "success")}
        | {outcome_name(name): int((own["outcome"] == name).sum()) for name in OUTCOMES}
        for head, own in _parts(runs)
    ]
    return Table(pd.DataFrame(rows), formats={"failing": words.figure})


def lengths(runs: pd.DataFrame) -> Table:
    """Sentences of all runs and of those of each outcome, of all and by family; a dash where there is none."""
    rows = [
        head
        | {"any outcome": _spread(own["sentences"])}
        | {outcome_name(name): _spread(own.loc[own["outcome"] == name, "sentences"]) for name in OUTCOMES}
        for head, own in _parts(runs, by_form=False)
    ]
    return Table(pd.DataFrame(rows))


def _spread(sentences: pd.Series) -> str:
    if not len(sentences):
        return "–"
    return f"{sentences.median():.0f} ({sentences.quantile(0.1):.0f}–{sentences.quantile(0.9):.0f})"


def causes(runs: pd.DataFrame) -> Table:
    """Failing runs by what was the cause: a row a form, a column a cause, the commonest first."""
    failing = runs[runs["outcome"] != "success"]
    named = list(failing["detail"].value_counts().index)
    rows = [
        head | {"failing": len(own)} | {cause: int((own["detail"] == cause).sum()) for cause in named}
        for head, own in _parts(failing)
    ]
    return Table(pd.DataFrame(rows))


if __name__ == "__main__":
    main()
