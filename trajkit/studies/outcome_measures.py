"""Which outcome it was: what is measured of held-out answers, and what judges say went wrong, before it is laid out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.detection.outcome import ABSTAIN
from trajkit.judging.held_out_outcomes import FOLDS, TARGET_ERROR, HeldOutcomes
from trajkit.runs.table import RunTable
from trajkit.stats.cross_validation import refitted
from trajkit.stats.resampling import Draws, Floats, group_draws, interval, weighted_mean
from trajkit.studies import fixation
from trajkit.studies.fixation import KINDS, Family, Region
from trajkit.tables import Estimate, Part, words
from trajkit.tables.names import OUTCOME_ORDER

if TYPE_CHECKING:
    import pandas as pd

ANSWERED = (0.25, 0.5, 0.75, 1.0)
"""Shares of the runs that thresholds are set to answer."""


@dataclass(frozen=True)
class Cause:
    """What went wrong in some runs of an outcome, as their judge says. runs: so many, of those of the outcome."""

    outcome: str
    name: str
    runs: Part


@dataclass(frozen=True)
class Answered:
    """What a threshold comes to. aim: in words. share: of the runs, answered. error: the share wrong among those;
    always: that of always saying the commonest outcome, of the same runs."""

    aim: str
    share: float
    error: Estimate
    always: Estimate


@dataclass(frozen=True, eq=False)
class Found:
    """held: outcomes of every run by classifiers that have not seen its group. draws: of its groups. areas, alike: of
    `HeldOutcomes.areas`, over all pairs, and over those of one family and form. regions, families: of the paper's
    reading; none where a kind of failure is missing. thresholds: the last is the classifier's own."""

    held: HeldOutcomes
    draws: Draws
    areas: pd.DataFrame
    alike: pd.DataFrame
    regions: list[Region]
    families: list[Family]
    thresholds: list[Answered]
    causes: list[Cause]


def measure(runs: RunTable, held: HeldOutcomes, level: Floats, spread: Floats, n_boot: int) -> Found:
    draws = group_draws(held.ends["group_id"], n_boot, 0)
    regions, families = [], []
    if held.path and set(KINDS) <= set(held.labels):
        place = fixation.places(level, spread, fixation.held_out_borders(level, spread, held))
        regions = fixation.agreement(held.labels, place, held.task, draws)
        families = fixation.direct(held, level, spread, n_boot)
    differ = [name for name in held.probabilities if name != "task"]  # among runs of one task it says one thing
    one_task = len(set(held.task)) == 1
    return Found(
        held,
        draws,
        held.areas(n_boot, False, differ if one_task else None),
        held.areas(n_boot, True, differ),
        regions,
        families,
        _thresholds(held, draws),
        _causes(runs.table),
    )


def _thresholds(held: HeldOutcomes, draws: Draws) -> list[Answered]:
    """Thresholds by how sure the classifier is, as each fold's training runs set them; last that of an error."""
    answering = {f"answer {words.promise(share)}": held.sureness >= 1 - share for share in ANSWERED}
    answering[f"err in {words.promise(TARGET_ERROR)}"] = held.decided != ABSTAIN
    return [
        Answered(
            aim,
            float(mine.mean()),
            error_of(held, held.answered, mine, draws, True),
            error_of(held, commonest(held.labels), mine, draws, False),
        )
        for aim, mine in answering.items()
    ]


def error_of(
    held: HeldOutcomes, said: NDArray[Any] | str, mine: NDArray[np.bool_], draws: Draws, fitted: bool
) -> Estimate:
    """The share of some runs of which something else is said than they were. fitted: by models that another sample
    would refit."""
    wrong = weighted_mean(np.asarray(said != held.labels, float)[mine], draws.of(mine))
    return Estimate(*interval(refitted(wrong[None], FOLDS, (0, 1)) if fitted else wrong))


def commonest(labels: NDArray[Any]) -> str:
    names, counts = np.unique(labels, return_counts=True)
    return str(names[counts.argmax()])


def _causes(table: pd.DataFrame) -> list[Cause]:
    """Of each outcome, the most frequent first, where judges gave any."""
    found = []
    for outcome in OUTCOME_ORDER:
        mine = table[table["outcome"] == outcome]
        for cause, n in mine.loc[mine["detail"] != "", "detail"].value_counts().items():
            found.append(Cause(outcome, str(cause), Part(int(n), len(mine))))
    return found
