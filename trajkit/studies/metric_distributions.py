"""How every metric differs between outcomes: effect sizes, corrected tests, and what length and task leave of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trajkit.detection.splits import compared_outcomes
from trajkit.errors import InputError
from trajkit.judging.comparison import LEVEL, Comparison, Difference, compare_runs, medians
from trajkit.plots.style import OUTCOME_COLOURS
from trajkit.runs.table import RunTable
from trajkit.studies.pictures import quiet_style, svg
from trajkit.studies.runs import records
from trajkit.studies.study import Advance, Study
from trajkit.tables import Estimate, Table, joined, words
from trajkit.tables.names import metric_name, outcome_name
from trajkit.traces.forms import task_labels

if TYPE_CHECKING:
    import pandas as pd

LENGTH = ("n_steps", "n_tokens")
SHOWN = (
    "metric",
    "a",
    "b",
    "n_a",
    "n_b",
    "median_a",
    "median_b",
    "delta",
    "delta_tested",
    "p_mannwhitney",
    "p_permutation",
    "p_corrected",
    "verdict",
)


def metric_distributions(runs: RunTable, n_boot: int, advance: Advance) -> Study:
    """Every pair of outcomes on every metric (`judging.comparison`), and what length and task leave of it."""
    advance("shuffling labels")
    found = compare_runs(runs, n_boot)
    known = compared_outcomes(runs.table)
    held, not_fitted = _regressions(known, found, advance)
    tables = {
        "Runs": medians(known),
        "Differences between outcomes, among runs of one family and form": found.table(shown=SHOWN),
    }
    if len(held):
        tables[
            "What is left with length and task (family and form) held fixed, of lengths with task (cluster-robust "
            "regression)"
        ] = _held(held)
    return Study(
        "metric_distributions",
        "Metrics by outcome",
        "Which metrics differ between outcomes, by how much, and is it more than that longer runs fail more?",
        tables,
        {
            "Cliff's δ against success among runs of one family and form, and what is left with length and task held "
            "fixed (* of the two lengths, the task alone); intervals are not corrected for being many": _picture(
                found, held
            )
        },
        _reading(found, held, not_fitted),
    )


def _regressions(known: pd.DataFrame, found: Comparison, advance: Advance) -> tuple[pd.DataFrame, list[str]]:
    """`stats.regress` of every metric that is compared, corrected over all of them; and for the others, why not."""
    import pandas as pd

    from trajkit.stats import regress
    from trajkit.stats.correction import holm

    adjusted, not_fitted = [], []
    for metric in found.metrics:
        advance(metric_name(metric))
        some = known[np.isfinite(known[metric].to_numpy(float))]
        covariates = ("task",) if metric in LENGTH else ("n_tokens", "task")
        try:
            adjusted.append(regress(some.assign(task=task_labels(some)), metric, covariates=covariates))
        except InputError as error:
            not_fitted.append(f"{metric_name(metric)}: {error}")
    held = pd.concat(adjusted, ignore_index=True) if adjusted else pd.DataFrame()
    return (held.assign(p_corrected=holm(held["p"])) if len(held) else held), not_fitted


def _held(held: pd.DataFrame) -> Table:
    return Table(
        joined(held, "effect", "effect_low", "effect_high"),
        {
            "metric": "metric",
            "level": "a",
            "reference": "b",
            "n": "runs",
            "groups": "groups",
            "effect": "difference (sd)",
            "p": "p",
            "p_corrected": "p, corrected",
        },
        {"effect": words.difference, "p": words.p_value, "p_corrected": words.p_value},
        f"Corrected by Holm over the {words.count(int(held['p'].notna().sum()), 'test')} of this table.",
        names={"metric": metric_name, "level": outcome_name, "reference": outcome_name},
    )


def _reading(found: Comparison, held: pd.DataFrame, not_fitted: list[str]) -> tuple[str, ...]:
    said = []
    for a, b in found.pairs:
        of_pair = [one for one in found.differences if (one.a, one.b) == (a, b)]
        differ = [_said(one) for one in of_pair if one.told_apart]
        said.append(
            f"{outcome_name(a).capitalize()} against {outcome_name(b)}: "
            + (f"{words.listed(differ)} differ." if differ else "nothing differs after correction.")
        )
        untested = [metric_name(one.metric) for one in of_pair if not one.tested]
        if untested:
            said[-1] += f" Could not be tested: {words.listed(untested)}; no labels could be exchanged within task."
    if len(held):
        left = [
            f"{metric_name(row.metric)} of {outcome_name(row.level)} ({words.signed(row.effect)} sd)"
            for row in records(held[held["p_corrected"] < LEVEL])
        ]
        said.append(
            "With length and task held fixed (for the lengths themselves, task alone): "
            + (f"{words.listed(left)} still differ." if left else "nothing differs.")
        )
    if not_fitted:
        said.append(f"No regression: {'; '.join(not_fitted)}")
    said.append(
        "δ and the permutation compare runs of one task family and question form (where forms are not known, of one "
        "family); medians are of all runs. Mann-Whitney compares all runs, forms mixed, and takes them as independent, "
        "which runs on one image are not; it is shown because papers show it. "
        "The permutation shuffles whole groups of one size and within groups; what it tests, δ less what follows from "
        "the sizes of groups, is beside δ. A difference says nothing on what can be told while "
        "a run goes on, nor that the metric causes anything."
    )
    return tuple(said)


def _said(one: Difference) -> str:
    """A difference with its δ, and the part of it that the permutation tests where that has another sign."""
    tested = f", but {words.signed(one.delta_tested)} among groups of one size" if one.signs_differ else ""
    return f"{metric_name(one.metric)} (δ {words.signed(one.delta.value)}{tested})"


def _picture(found: Comparison, held: pd.DataFrame) -> str:
    from trajkit.studies.pictures import panels

    place = {name: len(found.metrics) - i for i, name in enumerate(found.metrics)}
    with quiet_style():
        figure, (left, right) = panels(2, 5.0, 0.8 + 0.32 * len(place), sharey=True)
        there = {name for pair in found.pairs for name in pair}
        others = [name for name in OUTCOME_COLOURS if name in there and name != "success"]
        for i, name in enumerate(others):
            shift, colour = 0.3 * (i - (len(others) - 1) / 2), OUTCOME_COLOURS[name]
            for one in found.differences:
                if {one.a, one.b} == {name, "success"}:
                    _bar(left, one.delta if one.a == name else -one.delta, place[one.metric] - shift, colour)
            for row in records(held[held["level"] == name]) if len(held) else ():
                effect = Estimate(row.effect, row.effect_low, row.effect_high)
                _bar(right, effect, place[row.metric] - shift, colour)
            left.plot([], [], "o", color=colour, label=f"{outcome_name(name)} against success")
        for ax, title in ((left, "Cliff's δ"), (right, "in sd, length and task held fixed*")):
            ax.axvline(0, color="#66717f", lw=1)
            ax.set_title(title)
        left.set_yticks(list(place.values()), [metric_name(name) for name in place])
        if others:
            figure.legend(loc="outside lower center", ncols=len(others))
    return svg(figure)


def _bar(ax: Any, found: Estimate, y: float, colour: str) -> None:
    ax.plot([found.low, found.high], [y, y], color=colour, lw=1.6, alpha=0.7)
    ax.plot([found.value], [y], "o", color=colour, ms=4)
