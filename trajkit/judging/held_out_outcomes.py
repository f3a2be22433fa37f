"""Outcomes of every run from classifiers that have not seen its group, one for each feature set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.detection.explanation import Reason, explain
from trajkit.detection.kinds import reduced, told_alike
from trajkit.detection.outcome import ABSTAIN, OutcomeClassifier
from trajkit.detection.splits import group_folds
from trajkit.judging.ranking import outcome_auc
from trajkit.stats.resampling import Floats, numbered
from trajkit.traces.forms import task_labels

if TYPE_CHECKING:
    import pandas as pd

ALL = "trajectory+concentration+uncertainty+length+task"
PATH = "trajectory+concentration"
WITHOUT = "uncertainty+length+task"
SETS = (PATH, "uncertainty", "length", "task", WITHOUT, ALL)
FOLDS = 5
TARGET_ERROR = 0.2


@dataclass(frozen=True, eq=False)
class HeldOutcomes:
    """n runs of known outcome, C outcomes.

    every, without, path: all feature sets that the runs have, those of them that need no effects, and those that do; ""
    for none. note: what of the runs was not read, or "".
    ends: prefix features at their last thinking step. labels: (n,) what they were. task: (n,) family and form. fold:
    (n,) held out in. probabilities: feature set, or `chance` → (n, C) in the order of `classes`. decided: (n,) by all
    features, with abstention. sureness: (n,) the share of its classifier's training runs, each held out there in turn,
    of which all features are less sure, so that a threshold of it is chosen without the run. reasons: of each run, for
    what all features say.
    """

    ends: pd.DataFrame
    labels: NDArray[Any]
    task: NDArray[Any]
    fold: NDArray[np.int64]
    classes: list[str]
    probabilities: dict[str, Floats]
    decided: NDArray[Any]
    sureness: Floats
    reasons: list[list[Reason]]
    every: str
    without: str
    path: str
    note: str

    @property
    def answered(self) -> NDArray[Any]:
        """(n,) the likeliest outcome by all features."""
        return np.array(self.classes)[self.probabilities[self.every].argmax(1)]

    def areas(
        self, n_boot: int, within_task: bool, names: Sequence[str] | None = None, of: NDArray[np.bool_] | None = None
    ) -> pd.DataFrame:
        """`outcome_auc` of those feature sets over pairs of one fold, and of one family and form with `within_task`.

        of: (n,) some of the runs. Intervals are those of cross-validated figures.
        """
        mine = np.ones(len(self.labels), bool) if of is None else of
        strata = numbered(self.task, self.fold) if within_task else self.fold
        chosen = {name: self.probabilities[name][mine] for name in names or self.probabilities}
        groups = self.ends["group_id"].to_numpy(str)[mine]
        return outcome_auc(self.labels[mine], chosen, self.classes, groups, n_boot, strata=strata[mine], n_folds=FOLDS)


def held_out_outcomes(ends: pd.DataFrame, advance: Callable[[str], None]) -> HeldOutcomes:
    """ends: a run a row, of known outcome (`last_steps`); where some have effects and some have none, of one kind of
    them (`kinds.told_alike`). Raises InputError where there are too few groups to fold."""
    ends, there, note = told_alike(ends)
    every, without, path = (reduced(name, there) for name in (ALL, WITHOUT, PATH))
    sets = [one for one in dict.fromkeys(reduced(name, there) for name in SETS) if one]
    labels, groups = ends["outcome"].to_numpy(str), ends["group_id"].to_numpy(str)
    classes, shape = sorted(set(labels)), (len(ends), len(set(labels)))
    probabilities = {name: np.zeros(shape) for name in sets} | {"chance": np.random.default_rng(0).random(shape)}
    decided = np.full(len(ends), ABSTAIN, object)
    sureness = np.zeros(len(ends))
    reasons: list[list[Reason]] = [[] for _ in labels]
    fold = np.zeros(len(ends), np.int64)
    for number, (fit, test) in enumerate(group_folds(labels, groups, FOLDS, 0)):
        fold[test] = number
        for name in sets:
            target = TARGET_ERROR if name == every else None
            classifier = OutcomeClassifier(name, target_error=target).fit(ends.iloc[fit], labels[fit])
            proba = classifier.predict_proba(ends.iloc[test])
            probabilities[name][test] = proba
            if name == every:
                decided[test] = classifier.decide(proba)
                others = np.sort(classifier.held_out_)
                sureness[test] = np.searchsorted(others, proba.max(axis=1)) / len(others)
                for i, found in zip(test, explain(classifier, ends.iloc[test]), strict=True):
                    reasons[i] = found
            advance(name)
    return HeldOutcomes(
        ends=ends,
        labels=labels,
        task=task_labels(ends),
        fold=fold,
        classes=classes,
        probabilities=probabilities,
        decided=decided,
        sureness=sureness,
        reasons=reasons,
        every=every,
        without=without,
        path=path,
        note=note,
    )
