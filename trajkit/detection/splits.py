"""Groups into fit, calibration and test: no image or question is ever on two sides."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.errors import InputError
from trajkit.tables.words import count
from trajkit.traces.forms import task_labels
from trajkit.traces.trace import FAILURES

if TYPE_CHECKING:
    import pandas as pd

_PARTS = ("fit", "calibration", "test")


@dataclass(frozen=True)
class Split:
    """group_ids of each part, disjoint, sorted."""

    fit: tuple[str, ...]
    calibration: tuple[str, ...]
    test: tuple[str, ...]

    def rows(self, frame: pd.DataFrame, part: str) -> pd.DataFrame:
        """The rows of `frame` whose group is in that part, renumbered from 0."""
        return frame[frame["group_id"].isin(getattr(self, part))].reset_index(drop=True)


def failures(frame: pd.DataFrame) -> NDArray[np.float64]:
    """(n,) 1 failed, 0 succeeded, NaN unknown: from `success` where it is known, else from `outcome`."""
    outcome = frame["outcome"].astype(str).to_numpy() if "outcome" in frame else np.full(len(frame), "unknown")
    failed = np.select([outcome == "success", np.isin(outcome, FAILURES)], [0.0, 1.0], np.nan)
    if "success" in frame:
        success = np.array([np.nan if value is None or value != value else float(value) for value in _plain(frame)])
        failed = np.where(np.isnan(success), failed, 1.0 - success)
    return failed


def told_apart(outcomes: ArrayLike) -> NDArray[np.bool_]:
    """(n,) which of these outcomes can be compared: all but `unknown`, which says nothing, and but `failure` where some
    failures have a known kind, of which it is a mixture."""
    labels = np.asarray(outcomes, dtype=str)
    kinds = np.isin(labels, FAILURES[1:])
    return (labels != "unknown") & ~(kinds.any() & (labels == FAILURES[0]))


def compared_outcomes(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose outcomes can be compared (`told_apart`). A run that `success` says is wrong, of unknown outcome,
    is a `failure`."""
    wrong = (failures(frame) == 1) & (frame["outcome"] == "unknown").to_numpy(bool)
    frame = frame.assign(outcome=frame["outcome"].mask(wrong, FAILURES[0])) if wrong.any() else frame
    return frame[told_apart(frame["outcome"])]


def _plain(frame: pd.DataFrame) -> list[Any]:
    return frame["success"].astype(object).where(frame["success"].notna(), None).tolist()


def split_by_group(
    frame: pd.DataFrame,
    fractions: Sequence[float] = (0.5, 0.25, 0.25),
    seed: int = 0,
    test: Collection[str] | None = None,
) -> Split:
    """Deal the groups of `frame` (columns group_id, outcome or success, optionally task_set and form) to three parts.

    Stratified by task (family and form) and by whether none, some or all runs of the group failed: within a stratum
    each part gets its share to ±1. test: the groups that are the test part (a held-out set that exists already); the
    others are dealt to fit and calibration in proportion to their fractions. Raises InputError when a part is empty,
    has no successful run, or (fit, test) no failed one.

    See also: `group_folds`, `fit_detectors`.

    >>> parts = tk.detection.split_by_group(runs.last)
    >>> len(parts.fit), len(parts.calibration), len(parts.test)
    (33, 17, 16)
    >>> set(parts.fit) & set(parts.test)
    set()
    """
    import pandas as pd

    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise InputError(
            f"The 'fractions' parameter must be three positive numbers that sum to 1. Got {fractions!r} instead."
        )
    runs = pd.DataFrame({"group": frame["group_id"].astype(str).to_numpy(), "failed": failures(frame)})
    runs["task"] = task_labels(frame)
    groups = runs.groupby("group").agg(task=("task", "first"), failed=("failed", "mean"))  # sorted by group
    kind = np.select([groups["failed"] == 0, groups["failed"] == 1], ["none", "all"], "some")
    strata = (groups["task"] + "/" + kind).to_numpy(str)
    order = np.random.default_rng(seed).permutation(len(groups))
    order = order[np.argsort(strata[order], kind="stable")]
    quota, dealt = np.asarray(fractions, dtype=float), np.zeros(3)
    part = np.zeros(len(groups), dtype=int)
    if test is not None:
        held_out = groups.index.isin(list(test))
        part[held_out] = 2
        order = order[~held_out[order]]
        quota = quota * (1, 1, 0) / quota[:2].sum()
    for place, group in enumerate(order):
        part[group] = int(np.argmax(quota * (place + 1) - dealt))
        dealt[part[group]] += 1
    names = groups.index.to_numpy(str)
    split = Split(*(tuple(names[part == i].tolist()) for i in range(3)))
    for name in _PARTS:
        _check_part(name, runs[runs["group"].isin(getattr(split, name))])
    return split


def _check_part(name: str, runs: pd.DataFrame) -> None:
    succeeded, failed = int((runs["failed"] == 0).sum()), int((runs["failed"] == 1).sum())
    if succeeded == 0 or (failed == 0 and name != "calibration"):
        raise InputError(
            f"the {name} part of the split has {count(runs['group'].nunique(), 'group')} with "
            f"{'no' if succeeded == 0 else 'some'} successful and {'no' if failed == 0 else 'some'} failed runs; "
            "it needs both. Collect runs on more images or questions, so that every part gets some."
        )


def group_folds(
    y: ArrayLike, groups: ArrayLike, n_splits: int = 5, seed: int = 0
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(train, test) row numbers of stratified grouped folds, each training side with every class of y.

    StratifiedGroupKFold alone may return an empty fold or one whose training side lacks a class; that is an InputError
    here. Fewer folds are made where a class has fewer groups than `n_splits`.

    See also: `split_by_group`, `folds_of`.

    >>> last = runs.known().last
    >>> folds = tk.detection.group_folds(last["outcome"] == "success", last["group_id"])
    >>> len(folds), all(set(last["group_id"].iloc[a]).isdisjoint(last["group_id"].iloc[b]) for a, b in folds)
    (5, True)
    """
    from sklearn.model_selection import StratifiedGroupKFold

    labels, ids = np.asarray(y), np.asarray(groups)
    per_class = {str(label): len(np.unique(ids[labels == label])) for label in np.unique(labels)}
    least = min(per_class.values(), default=0)
    if least < 2 or len(per_class) < 2:
        raise InputError(
            "cross-validation by group needs at least two classes, each with runs in at least two groups; "
            f"found {_in_words(per_class)}. Collect more runs."
        )
    folder = StratifiedGroupKFold(min(n_splits, least), shuffle=True, random_state=seed)
    folds = [(train, test) for train, test in folder.split(np.zeros(len(labels)), labels, ids)]
    for number, (train, test) in enumerate(folds):
        if len(test) == 0 or len(np.unique(labels[train])) < len(per_class):
            raise InputError(
                f"fold {number + 1} of {len(folds)} is empty or leaves a class without training runs "
                f"({_in_words(per_class)}). Use fewer folds or collect more runs."
            )
    return folds


def _in_words(per_class: Mapping[str, int]) -> str:
    return ", ".join(f"{count(n, 'group')} of {label}" for label, n in per_class.items()) or "none"
