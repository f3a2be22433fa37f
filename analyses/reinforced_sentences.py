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
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

import trajkit as tk
from analyses.common import command_of, estimated, table_of, write
from analyses.step_text import FITS, PAIRS, with_text
from trajkit.demo import paths
from trajkit.errors import InputError
from trajkit.judging.deals import each_deal, strata_of
from trajkit.judging.held_out_sentences import ALL, SURE, WRONG, HeldOutSteps
from trajkit.judging.risks import p_of_draws
from trajkit.judging.step_scores import strata_of_sentences
from trajkit.progress import progress
from trajkit.stats.correction import holm
from trajkit.stats.cross_validation import refitted
from trajkit.stats.resampling import Floats, Integers, auc_within, group_draws, weighted_mean
from trajkit.tables import Table, words
from trajkit.tables.render import markdown
from trajkit.tables.table import Format
from trajkit.traces.trace import Trace

BEFORE, AFTER, DIFFERENCE = "before", "after", "gain, after less before"
ALPHA = 0.05


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="traces of the model before reinforcement")
    parser.add_argument("after", type=Path, nargs="?", default=paths.TRACES, help="by default the demo's")
    parser.add_argument("--deals", type=int, default=1, help="deals of the scenes to folds")
    parser.add_argument("--boot", type=int, default=1000, help="bootstrap draws of scenes")
    parser.add_argument("--out", type=Path, default=Path("reports/reinforced_sentences.md"))
    args = parser.parse_args(argv)
    before, after = paired(list(tk.read_traces(args.before)), list(tk.read_traces(args.after)))
    runs = {BEFORE: before, AFTER: after}
    with progress("fits", total=len(runs) * FITS * args.deals) as bar:
        held = {model: with_text(own, args.deals, bar.advance) for model, own in runs.items()}
    report(args.out, command_of("reinforced_sentences", parser, args, ["before", "after"]), held, args.boot)


def paired(before: Sequence[Trace], after: Sequence[Trace]) -> tuple[list[Trace], list[Trace]]:
    """Of each, the runs that both have, in the order of `before`. Raises InputError where there are none."""
    of_after = {trace.transcript_id: trace for trace in after}
    both = [trace for trace in before if trace.transcript_id in of_after]
    if not both:
        raise InputError(
            "expected runs of the same scenes before and after, by transcript_id; the two have none alike."
        )
    if any(trace.group_id != of_after[trace.transcript_id].group_id for trace in both):
        raise InputError(
            "expected a run of one transcript_id to be about one scene, before and after; some are of two."
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
    added = gains(held, n_boot)
    body = f"{told(added)}\n\n## The sentences of each model\n\n{markdown(sentences(held, n_boot))}"
    write(out, f"{text}\n\n{body}\n## What effects add", added, _READING)


def told(added: Table) -> str:
    """Which differences are told, in a sentence for each thing that is known."""
    said = []
    for known, own in added.frame.groupby("known", sort=False):
        sure = own[own["p (Holm)"] < ALPHA]
        rows = words.listed(
            [f"{row['told']}, {row['among']}, {row['pairs']} ({words.fine_difference(row[DIFFERENCE])})"
             for _, row in sure.iterrows()]
        )  # fmt: skip
        said.append(f"Beside {known}, {len(sure)} of {len(own)} differences are told{f': {rows}' if rows else ''}.")
    return " ".join(said)


def sentences(held: Mapping[str, HeldOutSteps], n_boot: int) -> Table:
    """A row a figure: of each model, and their difference."""
    before, after = (_shares(held[model], n_boot) for model in (BEFORE, AFTER))
    rows = [
        {"sentences": name, BEFORE: estimated(first), AFTER: estimated(after[name])}
        | {"difference": estimated(after[name] - first)}
        for name, first in before.items()
    ]
    return table_of(rows, {"difference": words.fine_difference})


def _shares(held: HeldOutSteps, n_boot: int) -> dict[str, Floats]:
    draws = group_draws(held.frame["group_id"], n_boot, seed=0)
    wrong, sure = held.is_it(WRONG).astype(float), _among(held, SURE)
    return {
        WRONG: weighted_mean(wrong, draws),
        SURE: weighted_mean(np.isin(np.arange(len(wrong)), sure), draws),
        f"{WRONG}, of the {SURE}": weighted_mean(wrong[sure], draws.of(sure)),
    }


def gains(held: Mapping[str, HeldOutSteps], n_boot: int) -> Table:
    """A row for what is known, told, among and compared with: the AUC that effects add before, after, and between, with
    p of the difference, corrected by Holm over the rows."""
    rows, n_folds = [], held[AFTER].n_folds
    for asked in product(PAIRS, (WRONG, "false"), (ALL, SURE), (False, True)):
        known, target, among, within = asked
        each = {model: gained(own, *asked, n_boot) for model, own in held.items()}
        areas = {f"AUC without, {model}": found.without for model, found in each.items()}
        added = {f"gain, {model}": estimated(refitted(found.draws, n_folds, (-1, 1))) for model, found in each.items()}
        between = refitted(each[AFTER].draws - each[BEFORE].draws, n_folds, (-2, 2))
        pairs = "within form" if within else "all"
        row = {"known": known, "told": target, "among": among, "pairs": pairs, **areas, **added}
        rows.append(row | {DIFFERENCE: estimated(between), "p (Holm)": p_of_draws(between[1:])})
    table = pd.DataFrame(rows)
    table["p (Holm)"] = holm(table["p (Holm)"])
    formats: dict[str, Format] = dict.fromkeys((*added, DIFFERENCE), words.fine_difference)
    formats |= dict.fromkeys(areas, words.score) | {"p (Holm)": words.p_value}
    return Table(table, {name: name for name in table}, formats)


class Gained(NamedTuple):
    """without: the AUC of the method without effects. draws: (R, B) of what effects add to it, a row a deal."""

    without: float
    draws: Floats


def gained(held: HeldOutSteps, known: str, target: str, among: str, within: bool, n_boot: int) -> Gained:
    """What effects add to the AUC of a target where `known` is known: as `step_gains`, with its draws."""
    rows = _among(held, among)
    y, strata = held.is_it(target).astype(float)[rows], strata_of_sentences(held, within)
    draws = group_draws(held.frame["group_id"], n_boot, seed=0).of(rows)
    first, second = (
        each_deal(auc_within, y, held.score(method, target), strata_of(strata), rows, draws) for method in PAIRS[known]
    )
    return Gained(float(second[:, 0].mean()), first - second)


def _among(held: HeldOutSteps, name: str) -> Integers:
    """The rows of a selection."""
    (rows,) = (one.rows for one in held.selections() if one.columns["sentences"] == name)
    return rows


_READING = """
*told*: wrong sentences, or those that read a cell as what it is not. *among*: all sentences, or those that the model
was sure of. *pairs*: of any two sentences, or of two about questions of one form. A model, its estimator and its runs
before reinforcement, `runs/trained-traces`, are made by the commands that `analyses/reinforced_sentences.py` begins
with.

The two models differ by the ten updates of [reinforcement](reinforcement.md). Their runs begin from the same seeds, and
go apart at the first token that one of them draws otherwise; intervals of differences take the same scenes for both.
"""


if __name__ == "__main__":
    main()
