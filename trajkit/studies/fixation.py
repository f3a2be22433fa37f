"""The paper's rule of two numbers, level and spread of concentration: fixation and wandering, judged within form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trajkit.errors import InputError
from trajkit.judging.held_out_outcomes import HeldOutcomes
from trajkit.plots.style import MUTED, OUTCOME_COLOURS
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
from trajkit.tables import Estimate, Part, Table, words
from trajkit.tables.estimate import Side
from trajkit.tables.names import outcome_name
from trajkit.tables.words import listed

KINDS = ("hallucination", "reasoning_failure")
Summary = Literal["level", "spread"]
EXPECTED: dict[Summary, Side] = {"level": "above", "spread": "below"}
"""Side of 0.5 that the paper's reading puts the AUC of hallucination against reasoning failure on."""
MIN_SUCCESSES = 10
"""Successful runs of a task that its own borders need."""
TOGETHER = "all, within families"
Agreement = Literal["yes", "no, reversed", "not told", "too few groups"]
_VERDICTS: dict[Agreement, str] = {
    "yes": "as the paper reads it",
    "no, reversed": "the other way round",
    "not told": "not told apart",
    "too few groups": "of too few groups in one form to say",
}
"""What an agreement says in the middle of a sentence."""


@dataclass(frozen=True)
class Region:
    """One region of the plane. kind: what the paper reads its runs as. shares: outcome → the share of its runs that are
    here. Of the failing runs here: right, the share that is of that kind; expected, what family and form alone make one
    expect; more, the share less that. None where there is no kind, or no failing run."""

    name: str
    kind: str | None
    shares: Mapping[str, Estimate]
    right: Estimate | None = None
    expected: float | None = None
    more: Estimate | None = None


@dataclass(frozen=True)
class Told:
    """AUC of hallucination against reasoning failure by level or by spread. mixed: over pairs of one family, its forms
    mixed; within: of one form. agrees: whether `within` is on the side that the paper says."""

    mixed: Estimate
    within: Estimate
    agrees: Agreement


@dataclass(frozen=True)
class Family:
    """name: None for all. runs: of each of KINDS. forms: those with both kinds, of all that have one. told: by each
    summary."""

    name: str | None
    runs: Mapping[str, int]
    forms: Part
    told: Mapping[Summary, Told]

    @property
    def words(self) -> str:
        return TOGETHER if self.name is None else self.name or "(none)"


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


def agreement(labels: NDArray[Any], place: NDArray[Any], task: NDArray[Any], draws: Draws) -> list[Region]:
    """Of each region of the plane: who is in it, and whether its failing runs are what the paper says, beside what
    their family and form alone make one expect."""
    found, fails = [], np.isin(labels, KINDS)
    for name, kind in (("fixation", "hallucination"), ("wandering", "reasoning_failure"), ("neither", None)):
        here = place == name
        shares = {
            outcome: Estimate(*interval(weighted_mean(here[mine], draws.of(mine))))
            for outcome in ("success", *KINDS)
            if (mine := labels == outcome).any()
        }
        if kind is None or not (here & fails).any():
            found.append(Region(name, kind, shares))
            continue
        is_it = (labels == kind).astype(float)
        right = interval(weighted_mean(is_it[here & fails], draws.of(here & fails)))
        expected, more = _over_expected(here[fails], is_it[fails], numbered(task[fails]), draws.of(fails))
        found.append(Region(name, kind, shares, Estimate(*right), float(expected[0]), Estimate(*interval(more))))
    return found


def agreement_table(regions: Sequence[Region]) -> Table:
    """A row a region."""
    import pandas as pd

    present = regions[0].shares
    return Table(
        pd.DataFrame(
            {"region": [row.name for row in regions], "reading": [row.kind for row in regions]}
            | {f"share_{name}": [row.shares[name] for row in regions] for name in present}
            | {"right": [row.right for row in regions], "expected": [row.expected for row in regions]}
            | {"more": [row.more for row in regions]}
        ),
        {"region": "region", "reading": "the paper's reading"}
        | {f"share_{name}": f"share of {outcome_name(name)}" for name in present}
        | {
            "right": "of failing runs here, share that was it",
            "expected": "share expected from family and form alone",
            "more": "share more than expected",
        },
        {"expected": words.score, "more": words.difference},
        names={"reading": outcome_name},
    )


def _over_expected(here: NDArray[np.bool_], right: Floats, stratum: Any, draws: Draws) -> tuple[Floats, Floats]:
    """(B,) share of `right` that rows `here` would have if it were that of their stratum, and (B,) what they have less
    that."""
    inside, expected = draws.sums(here), np.zeros(len(draws))
    for s in np.unique(stratum):
        mine = stratum == s
        of_all = draws.sums(mine)
        rate = np.divide(draws.sums(mine * right), of_all, out=np.zeros(len(draws)), where=of_all > 0)
        expected += draws.sums(mine & here) * rate
    share = [
        np.divide(x, inside, out=np.full(len(x), np.nan), where=inside > 0)
        for x in (expected, draws.sums(here * right) - expected)
    ]
    return share[0], draws.sample_if_few(share[1], MIN_GROUPS, here)


def direct(held: HeldOutcomes, level: Floats, spread_: Floats, n_boot: int) -> list[Family]:
    """AUC of hallucination against reasoning failure by level and by spread: over all, compared within family and form,
    and of each family, where there are several, within form."""
    families = held.ends["task_set"].astype(str).to_numpy()
    fails = np.isin(held.labels, KINDS)
    names = sorted(set(families))
    found = []
    for name in [None, *names] if len(names) > 1 else [None]:
        mine = fails & (np.ones(len(fails), bool) if name is None else families == name)
        tasks = [set(held.labels[mine & (held.task == task)]) for task in set(held.task[mine])]
        found.append(
            Family(
                name,
                {kind: int((held.labels[mine] == kind).sum()) for kind in KINDS},
                Part(sum(len(kinds) == 2 for kinds in tasks), len(tasks)),
                {
                    "level": _told(held, "level", level, mine, n_boot),
                    "spread": _told(held, "spread", spread_, mine, n_boot),
                },
            )
        )
    return found


def _told(held: HeldOutcomes, summary: Summary, value: Floats, mine: NDArray[np.bool_], n_boot: int) -> Told:
    has = mine & ~np.isnan(value)
    draws = group_draws(held.ends["group_id"][has], n_boot, 0)
    y = (held.labels[has] == KINDS[0]).astype(float)
    families = held.ends["task_set"].astype(str).to_numpy()
    mixed, within = (
        Estimate(*interval(auc_within(y, value[has], numbered(stratum[has]), draws)))
        for stratum in (families, held.task)
    )
    side = within.beside(0.5)
    answers: dict[Side, Agreement] = {"not told from": "not told", "no interval": "too few groups"}
    return Told(mixed, within, answers.get(side, "yes" if side == EXPECTED[summary] else "no, reversed"))


def direct_table(families: Sequence[Family]) -> Table:
    """A row a family. Where a family has several forms, how many have both kinds, and the AUC with forms mixed."""
    import pandas as pd

    several = any(row.forms.of > 1 for row in (families[1:] or families))
    columns: dict[str, list[Any]] = {"family": [row.words for row in families]}
    columns |= {kind: [row.runs[kind] for row in families] for kind in KINDS}
    columns["forms_with_both"] = [row.forms.n for row in families]
    columns["forms"] = [row.forms.of for row in families]
    headings = {"family": "family"} | {kind: f"runs, {outcome_name(kind)}" for kind in KINDS}
    headings |= {"forms_with_both": "forms with both", "forms": "forms"} if several else {}
    for summary, side in EXPECTED.items():
        told = [row.told[summary] for row in families]
        columns[f"{summary}_mixed"] = [each.mixed for each in told]
        columns[summary] = [each.within for each in told]
        columns[f"{summary}_agrees"] = [each.agrees for each in told]
        headings |= {f"{summary}_mixed": f"{summary}, forms mixed"} if several else {}
        headings |= {
            summary: f"{summary} within form (the paper: {side} 0.5)",
            f"{summary}_agrees": f"{summary} agrees",
        }
    areas = [f"{summary}{which}" for summary in EXPECTED for which in ("", "_mixed")]
    return Table(pd.DataFrame(columns), headings, dict.fromkeys(areas, words.judged))


def reading(families: Sequence[Family]) -> list[str]:
    """A sentence each on level and spread."""
    if not families:
        return []
    first, rest = families[0], families[1:]
    several = any(row.forms.of > 1 for row in (rest or families))
    said = []
    for summary in EXPECTED:
        agree = [row.words for row in rest if row.told[summary].agrees == "yes"]
        reverse = [row.words for row in rest if row.told[summary].agrees == "no, reversed"]
        told = first.told[summary]
        mixed = f"; {words.judged(told.mixed)} with forms mixed" if several else ""
        parts = [
            f"the {summary} of concentration is {_VERDICTS[told.agrees]} over all ({words.judged(told.within)}, "
            f"compared within task family and question form{mixed})"
        ]
        parts += [f"as the paper reads it in {listed(agree)}"] if agree else []
        parts += [f"the other way round in {listed(reverse)}"] if reverse else []
        if agree and reverse:
            parts.append("so families disagree, and what holds over all holds of none")
        said.append(f"Hallucination against reasoning failure: {'; '.join(parts)}. Not corrected for being many.")
    return said


def plane(labels: NDArray[Any], level: Floats, spread_: Floats, border: Floats) -> str:
    """A panel an outcome: level and spread of each run, less the borders of its family and form."""
    x, y = level - border[:, 0], spread_ - border[:, 1]
    with quiet_style():
        names = [name for name in OUTCOME_COLOURS if (labels == name).any()]
        figure, axes = panels(len(names), 3.7, 3.7, sharex=True, sharey=True)
        has = ~np.isnan(x) & ~np.isnan(y)
        if not has.any():
            raise InputError("no run has a level and a spread of concentration, so there is no plane to draw.")
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
