"""The paper's rule of two numbers, level and spread of concentration: fixation and wandering, judged within form."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajkit.judging.held_out_outcomes import HeldOutcomes
from trajkit.plots.style import MUTED, OUTCOME_COLOURS, outcome_name
from trajkit.stats.resampling import (
    MIN_GROUPS,
    Draws,
    Floats,
    auc_within,
    group_draws,
    interval,
    numbered,
    weighted_mean,
)
from trajkit.studies.pictures import panels, quiet_style, svg
from trajkit.studies.words import above, listed, spread

KINDS = ("hallucination", "reasoning_failure")
EXPECTED = {"level": "above", "spread": "below"}
"""Side of 0.5 that the paper's reading puts the AUC of hallucination against reasoning failure on."""
MIN_SUCCESSES = 10
"""Successful runs of a task that its own borders need."""
TOGETHER = "all, within families"


def borders(
    level: Floats, spread_: Floats, labels: NDArray[Any], task: NDArray[Any], known: NDArray[np.bool_]
) -> Floats:
    """(n, 2) medians of level and spread over the successful runs among `known` of each run's own family and form;
    over all of them where that has fewer than MIN_SUCCESSES, and over all runs where none succeeded."""
    values = np.stack([level, spread_], axis=1)
    good = known & (labels == "success")
    found = np.tile(np.nanmedian(values[good if good.any() else known], axis=0), (len(values), 1))
    for name in np.unique(task):
        mine = task == name
        own = values[mine & good]
        if (~np.isnan(own)).all(axis=1).sum() >= MIN_SUCCESSES:
            found[mine] = np.nanmedian(own, axis=0)
    return found


def held_out_borders(level: Floats, spread_: Floats, held: HeldOutcomes) -> Floats:
    """(n, 2) `borders` of each run by the runs of other folds."""
    found = np.zeros((len(level), 2))
    for number in np.unique(held.fold):
        test = held.fold == number
        found[test] = borders(level, spread_, held.labels, held.task, ~test)[test]
    return found


def places(level: Floats, spread_: Floats, border: Floats) -> NDArray[Any]:
    """(n,) fixation: level above its border and spread below; wandering: the reverse; else neither."""
    with np.errstate(invalid="ignore"):
        fixed = (level > border[:, 0]) & (spread_ < border[:, 1])
        wandering = (level < border[:, 0]) & (spread_ > border[:, 1])
    return np.select([fixed, wandering], ["fixation", "wandering"], "neither").astype(object)


def agreement(labels: NDArray[Any], place: NDArray[Any], task: NDArray[Any], draws: Draws) -> list[dict[str, Any]]:
    """A row a region of the plane: who is in it, and whether its failing runs are what the paper says, beside what
    their family and form alone make one expect."""
    rows, fails = [], np.isin(labels, KINDS)
    for name, kind in (("fixation", "hallucination"), ("wandering", "reasoning_failure"), ("neither", None)):
        here = place == name
        row: dict[str, Any] = {"region": name, "the paper's reading": outcome_name(kind) if kind else "–"}
        for outcome in ("success", *KINDS):
            mine = labels == outcome
            if mine.any():
                row[f"share of {outcome_name(outcome)}"] = spread(*interval(weighted_mean(here[mine], draws.of(mine))))
        if kind and (here & fails).any():
            right = (labels == kind).astype(float)
            row["of failing runs here, share that was it"] = spread(
                *interval(weighted_mean(right[here & fails], draws.of(here & fails)))
            )
            expected, more = _over_expected(here[fails], right[fails], numbered(task[fails]), draws.of(fails))
            row["share expected from family and form alone"] = f"{expected[0]:.2f}"
            row["share more than expected"] = spread(*interval(more), "+.2f")
        rows.append(row)
    return [{column: row.get(column, "–") for column in rows[0]} for row in rows]


def _over_expected(here: NDArray[np.bool_], right: Floats, stratum: Any, draws: Draws) -> tuple[Floats, Floats]:
    """(B,) share of `right` that rows `here` would have if it were that of their stratum, and (B,) what they have less
    that."""
    inside, expected = draws.sums(here), np.zeros(len(draws))
    for s in np.unique(stratum):
        mine = stratum == s
        of_all = draws.sums(mine)
        rate = np.divide(draws.sums(mine * right), of_all, out=np.zeros(len(draws)), where=of_all > 0)
        expected += draws.sums(mine & here) * rate
    share = [np.divide(x, inside, out=np.full(len(x), np.nan), where=inside > 0) for x in (
        expected, draws.sums(here * right) - expected)]  # fmt: skip
    return share[0], draws.sample_if_few(share[1], MIN_GROUPS, here)


def direct(held: HeldOutcomes, level: Floats, spread_: Floats, n_boot: int) -> list[dict[str, Any]]:
    """AUC of hallucination against reasoning failure by level and by spread: a row for all, compared within family and
    form, and one for each family, within form. Where a family has several forms, the AUC with forms mixed too."""
    families = held.ends["task_set"].astype(str).to_numpy()
    fails = np.isin(held.labels, KINDS)
    several = any(len(set(held.task[fails & (families == family)])) > 1 for family in set(families))
    names = sorted(set(families))
    rows = []
    for family in [None, *names] if len(names) > 1 else [None]:
        mine = fails & (family is None or families == family)
        row: dict[str, Any] = {"family": TOGETHER if family is None else family or "(none)"}
        row["runs"] = " / ".join(str(int((held.labels[mine] == kind).sum())) for kind in KINDS)
        if several:
            tasks = [set(held.labels[mine & (held.task == task)]) for task in set(held.task[mine])]
            row["forms with both"] = f"{sum(len(kinds) == 2 for kinds in tasks)} of {len(tasks)}"
        for word, value in (("level", level), ("spread", spread_)):
            has = mine & ~np.isnan(value)
            draws = group_draws(held.ends["group_id"][has], n_boot, 0)
            y = (held.labels[has] == KINDS[0]).astype(float)
            mixed, area = (
                interval(auc_within(y, value[has], numbered(stratum[has]), draws)) for stratum in (families, held.task)
            )
            if several:
                row[f"{word}, forms mixed"] = spread(*mixed)
            row[_column(word)] = spread(*area)
            answers = {"above": "no, reversed", "below": "no, reversed", "no interval": "–"} | {EXPECTED[word]: "yes"}
            row[f"{word} agrees"] = answers.get(above(*area[1:], 0.5), "not told")
        rows.append(row)
    return rows


def _column(word: str) -> str:
    return f"{word} within form (the paper: {EXPECTED[word]} 0.5)"


def reading(rows: list[dict[str, Any]]) -> list[str]:
    """A sentence each on level and spread, of the rows of `direct`."""
    said = []
    for word in EXPECTED if rows else ():
        by = {answer: [row["family"] for row in rows[1:] if row[f"{word} agrees"] == answer] for answer in (
            "yes", "no, reversed")}  # fmt: skip
        first = rows[0]
        mixed = f"; {first[f'{word}, forms mixed']} with forms mixed" if f"{word}, forms mixed" in first else ""
        parts = [
            f"the {word} of concentration is {_verdict(first[f'{word} agrees'])} over all "
            f"({first[_column(word)]}, compared within task family and question form{mixed})"
        ]
        parts += [f"as the paper reads it in {listed(by['yes'])}"] if by["yes"] else []
        parts += [f"the other way round in {listed(by['no, reversed'])}"] if by["no, reversed"] else []
        if by["yes"] and by["no, reversed"]:
            parts.append("so families disagree, and what holds over all holds of none")
        said.append(f"Hallucination against reasoning failure: {'; '.join(parts)}. Not corrected for being many.")
    return said


def _verdict(agrees: str) -> str:
    """What a cell of `<word> agrees` says, in the middle of a sentence."""
    return {
        "yes": "as the paper reads it", "no, reversed": "the other way round", "not told": "not told apart",
        "–": "of too few groups in one form to say",
    }[agrees]  # fmt: skip


def plane(labels: NDArray[Any], level: Floats, spread_: Floats, border: Floats) -> str:
    """A panel an outcome: level and spread of each run, less the borders of its family and form."""
    x, y = level - border[:, 0], spread_ - border[:, 1]
    with quiet_style():
        names = [name for name in OUTCOME_COLOURS if (labels == name).any()]
        figure, axes = panels(len(names), 3.7, 3.7, sharex=True, sharey=True)
        has = ~np.isnan(x) & ~np.isnan(y)
        left, right = min(float(x[has].min()), -0.01) * 1.05, max(float(x[has].max()), 0.01) * 1.05
        low, top = min(float(y[has].min()), -0.01) * 1.05, max(float(y[has].max()), 0.01) * 1.05
        for ax, name in zip(axes, names, strict=True):
            mine = has & (labels == name)
            ax.fill_between([0, right], low, 0, color="#d1590b", alpha=0.08, lw=0)
            ax.fill_between([left, 0], 0, top, color="#7a57b0", alpha=0.08, lw=0)
            ax.plot(x[mine], y[mine], "o", ms=3, alpha=0.35, color=OUTCOME_COLOURS[name], mew=0)
            if mine.any():
                ax.plot(np.median(x[mine]), np.median(y[mine]), "+", ms=14, mew=2.5, color="#1f2933")
            ax.text(right, low, "fixation", ha="right", va="bottom", color="#d1590b", fontsize=9)
            ax.text(left, top, "wandering", ha="left", va="top", color="#7a57b0", fontsize=9)
            ax.set(title=f"{outcome_name(name)} ({int(mine.sum())})", xlabel="level, less its border")
            ax.set(xlim=(left, right), ylim=(low, top))
        axes[0].set_ylabel("spread, less its border")
        axes[0].text(0.98, 0.9, "+ median", transform=axes[0].transAxes, ha="right", color=MUTED, fontsize=9)
    return svg(figure)
