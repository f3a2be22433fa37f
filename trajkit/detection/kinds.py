"""Runs of two kinds, with effects and without: which features they have, and which of them a predictor can judge."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trajkit.detection.design import EFFECT_SETS, FEATURE_SETS, PATH
from trajkit.errors import InputError
from trajkit.runs.said import HOW_TO_GET_EFFECTS
from trajkit.tables.words import count, listed

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from trajkit.detection.early_failure import EarlyFailurePredictor
    from trajkit.detection.prefix_model import PrefixModel


class Told(NamedTuple):
    """frame: prefix features of some runs. sets: the feature sets that they have. note: which runs were left out, or
    which sets are not there, in words; empty where all is."""

    frame: pd.DataFrame
    sets: tuple[str, ...]
    note: str


def told_alike(frame: pd.DataFrame) -> Told:
    """The runs of which the same is known, for a model that reads the same of all of them: those with effects where
    they are half of them or more; else all of them, without what is about effects."""
    sets, notes = list(FEATURE_SETS), []
    has = ~frame.groupby("transcript_id")[PATH].first().isna() if PATH in frame else np.array([True])
    n, some = len(has), int(has.sum())
    if 0 < n <= 2 * some < 2 * n:
        frame = frame[frame[PATH].notna()].reset_index(drop=True)
        notes.append(f"{count(n - some, 'run')} of {n:,} {_has(n - some)} no effects and {_is(n - some)} left out.")
    elif some < n:
        sets = [name for name in sets if name not in EFFECT_SETS]
        whose = f"{n - some:,} of {count(n, 'run')} have" if some else "No run has"
        notes.append(f"{whose} {'no ' if some else ''}effects, so none are read: {HOW_TO_GET_EFFECTS}.")
    columns = [name for name in FEATURE_SETS["uncertainty"] if name in frame]
    if columns and len(frame) and frame[columns].isna().all(axis=None):
        sets.remove("uncertainty")
        notes.append("No run has log-probabilities of its tokens, so uncertainty is not read.")
    elif n := _partly(frame, [name for name in columns if frame[name].notna().any()]):
        notes.append(
            f"{n:,} of {count(frame['transcript_id'].nunique(), 'run')} {_has(n)} no log-probability or entropy of "
            "some step, which is read as an average one that is missing."
        )
    return Told(frame, tuple(sets), " ".join(notes))


def _partly(frame: pd.DataFrame, columns: list[str]) -> int:
    """How many runs lack one of the columns in some row."""
    return int(frame.loc[frame[columns].isna().any(axis=1), "transcript_id"].nunique())


def reduced(features: str, sets: Collection[str]) -> str:
    """What is left of feature sets joined by '+' where only `sets` are there; "" for nothing."""
    return "+".join(name for name in map(str.strip, features.split("+")) if name in sets or name not in FEATURE_SETS)


def judgeable(predictor: PrefixModel, frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of the runs that have what a fitted predictor reads, and in words why not the others; "" where all have.

    Raises InputError where none has.
    """
    lacks = predictor.lacks(frame)
    if not lacks.any():
        return frame, ""
    bare = frame["transcript_id"].isin(set(frame["transcript_id"][lacks]))
    n, of = frame["transcript_id"][bare].nunique(), frame["transcript_id"].nunique()
    why = why_not(predictor, frame)
    if n == of:
        raise InputError(f"none of {count(of, 'run')} can be judged: {why}")
    return frame[~bare].reset_index(drop=True), f"{n:,} of {count(of, 'run')} {_is(n)} left out: {why}"


def known_risks(predictor: EarlyFailurePredictor, frame: pd.DataFrame) -> NDArray[np.float64]:
    """(n,) the risk of every row, NaN of runs that lack what the predictor reads."""
    risks = predictor.risks(frame)
    lacks = predictor.lacks(frame)
    if lacks.any():
        risks[frame["transcript_id"].isin(set(frame["transcript_id"][lacks]))] = np.nan
    return risks


def why_not(predictor: PrefixModel, frame: pd.DataFrame) -> str:
    """Why some runs of a frame cannot be judged, as a sentence; "" where all can."""
    lacks = predictor.lacks(frame)
    if not lacks.any():
        return ""
    first = frame[lacks].iloc[0]
    return cannot(predictor, [name for name in predictor.required if name in frame and first[name] != first[name]])


def cannot(predictor: PrefixModel, missing: Collection[str]) -> str:
    """Why runs without the features `missing` cannot be judged, and what to do, as a sentence."""
    read = listed([name for name in predictor.map_.sets if name != "length"] or ["length"])
    if PATH in missing:
        lack, todo = "effects", f"{HOW_TO_GET_EFFECTS}, or fit detectors on runs without effects (`trajkit fit`)"
    else:
        lack, todo = "log-probabilities and entropies of every step", "fit detectors on runs like these (`trajkit fit`)"
    return f"these detectors read {read}, and without {lack} they cannot: {todo}."


def _has(n: int) -> str:
    return "has" if n == 1 else "have"


def _is(n: int) -> str:
    return "is" if n == 1 else "are"
