"""How early failure is told: what is fitted and measured, before it is laid out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trajkit.detection.design import FEATURE_SETS
from trajkit.detection.kinds import reduced, told_alike
from trajkit.detection.splits import failures
from trajkit.errors import InputError
from trajkit.judging.cross_validation import HIDDEN, cross_validated, hidden_columns
from trajkit.judging.ranking import Selection, select_fractions, select_steps
from trajkit.judging.risks import calibration, calibration_slope, gains, matched_auc, probability_scores
from trajkit.stats.resampling import numbered
from trajkit.studies.study import Advance
from trajkit.traces.forms import task_labels

if TYPE_CHECKING:
    import pandas as pd

WITHOUT = "uncertainty+length+task"
WITH = "trajectory+concentration+uncertainty+length+task"
PATH = "trajectory+concentration"
PROBED, PROBED_PATH = f"{HIDDEN}+{WITHOUT}", f"{HIDDEN}+{WITH}"
SETS = (PATH, "trajectory", "concentration", "uncertainty", "length", "task", "length+task", WITHOUT, WITH)
TORTUOSITY = "tortuosity alone"
STEPS = (1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 50, 75, 100)
FRACTIONS = tuple(i / 10 for i in range(1, 11))
FOLDS = 5
MIN_RUNS = 100
"""Runs that must have reached a step for it to be shown, where there is such a step."""
CALIBRATED = (1, 3, 8)


@dataclass(frozen=True, eq=False)
class Found:
    """What was measured; frames have the columns of the functions of `judging.risks` that they are named after.

    every, without: all feature sets that the runs have, and those of them that need no effects. by_step, by_fraction:
    AUC of every method, within folds. matched, matched_steps: of some, among runs of equal final length. quality:
    `probability_scores`. gained: `gains` of trajectory and concentration over `without`, None for runs without effects;
    probed: title → the gains that set features beside a probe on hidden states, none where those were not kept, in the
    order of PROBES. curve, slopes: calibration of the risk of all features. first, second: shares of the runs that are
    at their first and their second step at 30 % of the final length. note: what of the runs was not read, or "".
    """

    every: str
    without: str

    by_step: pd.DataFrame
    by_fraction: pd.DataFrame
    matched: pd.DataFrame
    matched_steps: pd.DataFrame
    quality: pd.DataFrame
    gained: pd.DataFrame | None
    probed: Mapping[str, pd.DataFrame]
    curve: pd.DataFrame
    slopes: pd.DataFrame
    first: float
    second: float
    note: str = ""


PROBES = {
    "AUC of all features less that of a linear probe on hidden states (paired)": (WITH, HIDDEN),
    "AUC of trajectory and concentration less that of the probe (paired)": (PATH, HIDDEN),
    "Gain in AUC of trajectory and concentration over the probe, uncertainty, length and task (paired)": (
        PROBED_PATH,
        PROBED,
    ),
}


def sets_to_fit(frame: pd.DataFrame, there: Collection[str] = tuple(FEATURE_SETS)) -> tuple[str, ...]:
    """The feature sets to fit, of those that are `there`: those of the task alone where there are tasks, those of
    hidden states where there are some."""
    one_task = len(set(task_labels(frame))) == 1
    sets = [name for name in SETS if not (one_task and name in ("task", "length+task"))]
    sets += [HIDDEN, PROBED, PROBED_PATH] if hidden_columns(frame) else []
    return tuple(dict.fromkeys(one for name in sets if (one := reduced(name, there))))


def measure(frame: pd.DataFrame, n_boot: int, advance: Advance) -> Found:
    """frame: prefix features of runs that are known to have failed or succeeded; where some have effects and some have
    none, of one kind of them (`kinds.told_alike`)."""
    frame, there, note = told_alike(frame)
    every, without, path = (reduced(name, there) for name in (WITH, WITHOUT, PATH))
    at_risk = select_steps(frame)
    steps = [point for point in at_risk if point.step in STEPS and len(point.rows) >= MIN_RUNS] or at_risk
    if not steps:
        raise InputError("no step is reached by 20 runs of known outcome; collect more runs.")
    risks, fold = held_out = cross_validated(frame, sets_to_fit(frame, there), FOLDS, advance=advance)
    single = {"random": np.random.default_rng(0).random(len(frame))}
    single |= {TORTUOSITY: frame["tortuosity"].to_numpy(float)} if path else {}
    length = frame.groupby("transcript_id")["step"].transform("max").to_numpy()
    of_length = np.stack([numbered(length, deal) for deal in fold])
    advance("intervals")
    fraction = select_fractions(frame, FRACTIONS)
    asked: dict[str, Any] = {"n_boot": n_boot, "n_folds": held_out.n_folds}
    some = {name: risks[name] for name in dict.fromkeys((path, without, every)) if name}
    by_length = {TORTUOSITY: single[TORTUOSITY], path: risks[path]} if path else {every: risks[every]}
    judged = _two_sided(frame, steps)
    calibrated = [point for point in judged if point.step in CALIBRATED] or judged[:1]
    at_30 = np.maximum(1, np.ceil(0.3 * frame.groupby("transcript_id")["step"].max() - 1e-9))
    return Found(
        every=every,
        without=without,
        note=note,
        by_step=matched_auc(frame, risks | single, steps, fold, **asked),
        by_fraction=matched_auc(frame, risks | single, fraction, fold, **asked),
        matched=matched_auc(frame, by_length, fraction, of_length, **asked),
        matched_steps=matched_auc(frame, some, steps, of_length, **asked),
        quality=probability_scores(frame, risks, steps, fold, **asked),
        gained=gains(frame, risks[every], risks[without], steps, fold, **asked) if path else None,
        probed={
            title: gains(frame, risks[better], risks[than], steps, fold, **asked)
            for title, (better, than) in PROBES.items()
            if better in risks and than in risks
        },
        curve=calibration(frame, risks[every][0], calibrated, n_boot=n_boot),
        slopes=calibration_slope(frame, risks[every], steps, **asked),
        first=float((at_30 == 1).mean()),
        second=float((at_30 == 2).mean()),
    )


def _two_sided(frame: pd.DataFrame, steps: list[Selection]) -> list[Selection]:
    """The steps that some failing and some successful runs have reached."""
    failed = failures(frame)
    return [point for point in steps if 0 < failed[point.rows].mean() < 1]
