"""What became of a run: success, hallucination or reasoning failure, or no answer when too unsure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from trajkit.detection.design import DEFAULT_FEATURES, Floats
from trajkit.detection.prefix_model import PrefixModel
from trajkit.detection.splits import group_folds, told_apart
from trajkit.detection.state import read_number
from trajkit.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

ABSTAIN = "abstain"
_LEAST_ANSWERED = 10  # an error rate over fewer runs says nothing


class OutcomeClassifier(PrefixModel):
    """Multinomial logistic regression on the last thinking step's prefix features (`runs.table.last_steps`).

    features, C, min_runs: as in EarlyFailurePredictor. target_error: the error rate allowed among the runs it does
    answer, None to answer always. n_splits, random_state: the grouped folds on whose held-out probabilities the
    abstention threshold is learned. Every sign is learned, that of concentration included: published evidence
    disagrees on it.

    After fit: `threshold_`, the least top probability at which it answers (+inf: it always abstains), `coverage_` and
    `error_`, the share answered and the error among them on the held-out folds (NaN where nothing was held out), and
    `held_out_`, the top probabilities there that they were learned on.

    See also: `EarlyFailurePredictor`, `explain`, `outcome_auc`.

    >>> last = runs.last
    >>> told = last["outcome"].isin(["success", "hallucination"])
    >>> classifier = tk.OutcomeClassifier().fit(last[told], last["outcome"][told])
    >>> classifier.classes_.tolist(), round(classifier.coverage_, 2)  # the share of runs that it answers
    (['hallucination', 'success'], 1.0)
    >>> str(classifier.decide(classifier.predict_proba(last))[0])
    'hallucination'
    """

    def __init__(
        self,
        features: str = DEFAULT_FEATURES,
        C: float = 0.01,
        min_runs: int = 30,
        target_error: float | None = 0.2,
        n_splits: int = 5,
        random_state: int = 0,
    ) -> None:
        self.features = features
        self.C = C
        self.min_runs = min_runs
        self.target_error = target_error
        self.n_splits = n_splits
        self.random_state = random_state

    def fit(
        self, X: pd.DataFrame, y: ArrayLike, sample_weight: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> Self:
        """y: (n,) outcomes; rows of those that cannot be compared are dropped (`splits.told_apart`). groups: (n,), X's
        column group_id when not given.

        Raises InputError where a class has runs of fewer than two groups, so that nothing can be held out.
        """
        labels = np.asarray(y, dtype=str)
        keep = told_apart(labels)
        if groups is None:
            if "group_id" not in X.columns:
                raise InputError(
                    "OutcomeClassifier.fit needs `groups`, or a column 'group_id' in X; neither was given."
                )
            groups = X["group_id"].to_numpy(str)
        X, labels, ids = X[keep], labels[keep], np.asarray(groups)[keep].astype(str)
        weight = None if sample_weight is None else np.asarray(sample_weight, dtype=float)[keep]
        self._fit(X, labels, weight)
        if self.target_error is None:
            self.threshold_, self.coverage_, self.error_, self.held_out_ = 0.0, 1.0, math.nan, np.zeros(0)
            return self
        held_out = np.zeros((len(X), len(self.classes_)))
        for train, test in group_folds(labels, ids, self.n_splits, self.random_state):
            inner = clone(self)
            inner._fit(X.iloc[train], labels[train], None if weight is None else weight[train])
            held_out[test] = inner.predict_proba(X.iloc[test])
        wrong = self.classes_[held_out.argmax(axis=1)] != labels
        self.held_out_ = held_out.max(axis=1)
        self.threshold_, self.coverage_, self.error_ = _abstention(self.held_out_, wrong, self.target_error)
        return self

    def predict(self, X: pd.DataFrame) -> NDArray[Any]:
        """(n,) the likeliest class, or 'abstain' where its probability is below `threshold_`."""
        return self.decide(self.predict_proba(X))

    def decide(self, proba: Floats) -> NDArray[Any]:
        """(n, C) probabilities → (n,) class or 'abstain'."""
        best = self.classes_[proba.argmax(axis=1)].astype(object)
        best[proba.max(axis=1) < self.threshold_] = ABSTAIN
        return best

    def to_state(self) -> dict[str, Any]:
        """Everything learned, JSON-ready; an infinite threshold is null."""
        threshold = None if math.isinf(self.threshold_) else self.threshold_
        error = None if math.isnan(self.error_) else self.error_
        return super().to_state() | {"threshold": threshold, "coverage": self.coverage_, "error": error}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The classifier that `to_state` described."""
        model = super().from_state(state)
        model.threshold_ = read_number(state, "threshold", 0, 1, null=math.inf)
        model.coverage_ = read_number(state, "coverage", 0, 1)
        model.error_ = read_number(state, "error", 0, 1, null=math.nan)
        return model


def _abstention(confidence: Floats, wrong: NDArray[np.bool_], target_error: float) -> tuple[float, float, float]:
    """The lowest threshold whose answered runs err at most at `target_error`; the share answered; their error."""
    order = np.argsort(-confidence, kind="stable")
    error = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    closes = np.append(np.diff(confidence[order]) != 0, True)  # a threshold takes all runs of equal confidence
    good = np.flatnonzero((error <= target_error) & closes & (np.arange(len(order)) + 1 >= _LEAST_ANSWERED))
    if not len(good):
        return math.inf, 0.0, math.nan
    last = int(good[-1])
    return float(confidence[order[last]]), (last + 1) / len(order), float(error[last])
