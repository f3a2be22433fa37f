"""Do effects tell more about a sentence, beside uncertainty, once a model was rewarded for right answers?

    python -m pipelines.train_demo_model --out runs/trained
    python -m pipelines.train_estimator --model runs/trained --out runs/trained-estimator
    python -m pipelines.collect_traces --model runs/trained --estimator runs/trained-estimator \\
        --out runs/trained-traces --work runs/trained-collecting --samples 3
    python -m analyses.reinforced_sentences runs/trained-traces    # minutes; writes reports/reinforced_sentences.md

A model trained on likelihood alone knows when it guesses; one that was rewarded may know it less, and then effects
would have more to add. Runs of both models about the same scenes are compared, each model by an estimator of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import trajkit as tk
from analyses.common import command_of, table_of, write
from analyses.step_text import PAIRS, with_text
from trajkit.demo import paths
from trajkit.errors import InputError
from trajkit.judging.deals import each_deal, over_deals, strata_of
from trajkit.judging.held_out_sentences import ALL, SURE, WRONG, HeldOutSteps
from trajkit.progress import progress
from trajkit.stats.resampling import Floats, Integers, auc_within, group_draws, interval, numbered, weighted_mean
from trajkit.tables import Estimate, words
from trajkit.tables.render import markdown
from trajkit.traces.forms import task_labels
from trajkit.traces.trace import Trace

BEFORE, AFTER = "before", "after"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="traces of the model before reinforcement")
    parser.add_argument("after", type=Path, nargs="?", default=paths.TRACES, help="by default the demo's")
    parser.add_argument("--deals", type=int, default=1, help="deals of the scenes to folds")
    parser.add_argument("--boot", type=int, default=500, help="bootstrap draws of scenes")
    parser.add_argument("--out", type=Path, default=Path("reports/reinforced_sentences.md"))
    args = parser.parse_args(argv)
    before, after = paired(list(tk.read_traces(args.before)), list(tk.read_traces(args.after)))
    with progress("fits", total=2 * 20 * args.deals) as bar:
        held = {BEFORE: with_text(before, args.deals, bar.advance), AFTER: with_text(after, args.deals, bar.advance)}
    report(args.out, command_of("reinforced_sentences", parser, args, ["before", "after"]), held, args.boot)


def paired(before: Sequence[Trace], after: Sequence[Trace]) -> tuple[list[Trace], list[Trace]]:
    """Of each, the runs that both have, in the order of `before`. Raises InputError where there are none."""
    of_after = {trace.transcript_id: trace for trace in after}
    both = [trace for trace in before if trace.transcript_id in of_after]
    if not both:
        raise InputError(
            "expected runs of the same scenes before and after, by transcript_id; the two have none alike."
        )
    return both, [of_after[trace.transcript_id] for trace in both]


def report(out: Path, command: str, held: Mapping[str, HeldOutSteps], n_boot: int) -> None:
    """Write the page. held: BEFORE and AFTER; command: what makes the page again."""
    n_runs = held[AFTER].frame["transcript_id"].nunique()
    text = (
        f"# Effects before and after reinforcement\n\nRegenerate: `{command}`. {words.count(n_runs, 'run')} of each "
        "model about the same scenes, with the same seeds. Sentences are judged by trees that have not seen their "
        "scenes, as in [step_text](step_text.md), where what is *known* and *confident* are said. 95 % intervals "
        "resample scenes, the same for both models, and allow for fitting anew."
    )
    sections = {"The sentences of each model": sentences(held, n_boot), "What effects add": gains(held, n_boot)}
    *first, (last, table) = sections.items()
    body = "\n".join(f"## {name}\n\n{markdown(own)}" for name, own in first)
    write(out, f"{text}\n\n{body}\n## {last}", table, _READING)


def sentences(held: Mapping[str, HeldOutSteps], n_boot: int) -> Any:
    """A row a figure: of each model, and their difference."""
    found: dict[str, dict[str, Floats]] = {}
    for model, own in held.items():
        draws = group_draws(own.frame["group_id"], n_boot, seed=0)
        sure = np.isin(np.arange(len(own.frame)), _rows(own, SURE))
        wrong = own.is_it(WRONG).astype(float)
        found[model] = {
            WRONG: weighted_mean(wrong, draws),
            SURE: weighted_mean(sure.astype(float), draws),
            f"{WRONG}, of the {SURE}": weighted_mean(wrong[sure], draws.of(sure)),
        }
    rows = [{"sentences": name} | _compared(found[BEFORE][name], found[AFTER][name]) for name in found[BEFORE]]
    return table_of(rows, {"difference": words.fine_difference})


def gains(held: Mapping[str, HeldOutSteps], n_boot: int) -> Any:
    """A row for what is known, told, among and compared with: the AUC that effects add before, after, and between."""
    rows = []
    for known, target, among, within in _asked():
        row: dict[str, Any] = {"known": known, "told": target, "among": among}
        row["pairs"] = "within form" if within else "all"
        each = {m: _gains_of_deals(own, known, target, among, within, n_boot) for m, own in held.items()}
        n_folds = held[AFTER].n_folds
        drawn = {m: over_deals(gained, n_folds, gained, (-1, 1)) for m, (_, gained) in each.items()}
        for model, (without, _) in each.items():
            row[f"AUC without, {model}"] = without
        row |= {f"gain, {model}": Estimate.of(interval(gained)) for model, gained in drawn.items()}
        apart = over_deals(each[AFTER][1] - each[BEFORE][1], n_folds, each[AFTER][1], (-1, 1))
        rows.append(row | {"gain, after less before": Estimate.of(interval(apart))})
    formats = {f"AUC without, {model}": words.score for model in held}
    gained = (*(f"gain, {model}" for model in held), "gain, after less before")
    return table_of(rows, formats | dict.fromkeys(gained, words.fine_difference))


def _asked() -> Iterator[tuple[str, str, str, bool]]:
    for known in PAIRS:
        for target in (WRONG, "false"):
            for among in (ALL, SURE):
                for within in (False, True):
                    yield known, target, among, within


def _gains_of_deals(
    held: HeldOutSteps, known: str, target: str, among: str, within: bool, n_boot: int
) -> tuple[float, Floats]:
    """The AUC without effects; and (R, B) draws of what they add, a row a deal."""
    rows, y = _rows(held, among), held.is_it(target).astype(float)
    draws = group_draws(held.frame["group_id"], n_boot, seed=0).of(rows)
    stratum = _strata(held, within)
    first, second = (
        each_deal(auc_within, y[rows], held.score(method, target), stratum, rows, draws) for method in PAIRS[known]
    )
    return float(second[:, 0].mean()), first - second


def _strata(held: HeldOutSteps, within: bool) -> Integers:
    if not within:
        return strata_of(held.folds)
    task = task_labels(held.frame)
    return np.stack([numbered(task, fold) for fold in held.folds])


def _rows(held: HeldOutSteps, name: str) -> Integers:
    return next((one.rows for one in held.selections() if one.within == ("sentences", name)), np.zeros(0, int))


def _compared(before: Floats, after: Floats) -> dict[str, Estimate]:
    drawn = {BEFORE: before, AFTER: after, "difference": after - before}
    return {name: Estimate.of(interval(values)) for name, values in drawn.items()}


_READING = """
The two models differ by the ten updates of [reinforcement](reinforcement.md). Their runs begin from the same seeds, and
go apart at the first token that one of them draws otherwise; intervals of differences take the same scenes for both.
"""


if __name__ == "__main__":
    main()
