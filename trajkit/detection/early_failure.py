"""The probability that a run will fail, after each of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.detection.design import DEFAULT_FEATURES, Floats
from trajkit.detection.prefix_model import PrefixModel
from trajkit.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


class EarlyFailurePredictor(PrefixModel):
    """Logistic regression on prefix features, a scikit-learn classifier.

    features: names out of trajectory, concentration, uncertainty, length, task (FEATURE_SETS in design.py), joined by
    '+'. C: inverse strength of the L2 penalty, as in scikit-learn; the default was chosen by Brier score, from 0.003 to
    0.3, in cross-validation over the demo's validation scenes. min_runs: training rows that a step needs for a scale of
    its own; rarer, later steps share one (the capped horizon).

    Rows are runs × steps, as `trajkit.features(traces)` gives, each of the same weight: with weights that depend on the
    run's length, risks would be those of another mix of runs than the one that reaches a step. Features are
    standardised per step, so no feature can win by growing with the step; only the set `length` tells the model how
    long the run has become, and only with it does the mean risk follow the share that fails from step to step.

    See also: `OutcomeClassifier`, `Monitor`, `held_out_risks`.

    >>> known = runs.known().frame  # runs that are known to have succeeded or failed
    >>> failed = known["outcome"] != "success"
    >>> predictor = tk.EarlyFailurePredictor("uncertainty+length").fit(known, failed)
    >>> predictor.predict_proba(known)[:3, 1].round(2)  # the risk after the first three steps of a run
    array([0.49, 0.6 , 0.68])
    """

    def __init__(self, features: str = DEFAULT_FEATURES, C: float = 0.01, min_runs: int = 30) -> None:
        self.features = features
        self.C = C
        self.min_runs = min_runs

    def fit(self, X: pd.DataFrame, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """y: (n,) 1 where the run of that row failed, else 0. Raises InputError on other labels or a single class."""
        labels = np.asarray(y)
        try:
            failed = labels.astype(float)
        except (TypeError, ValueError):
            failed = np.full(len(labels), np.nan)
        if not np.isin(failed, (0.0, 1.0)).all():
            raise InputError(
                "EarlyFailurePredictor.fit needs y of 0 (success) and 1 (failure); drop runs of unknown outcome. "
                f"Found {sorted({str(label) for label in labels} - {'0', '1', 'True', 'False', '0.0', '1.0'})[:3]}."
            )
        self._fit(X, failed.astype(int), sample_weight)
        return self

    def predict(self, X: pd.DataFrame) -> NDArray[np.int64]:
        """(n,) 1 where failure is likelier than not."""
        return (self.predict_proba(X)[:, 1] > 0.5).astype(int)

    def risk(self, row: Mapping[str, float], task_set: str = "", form: str = "") -> float:
        """The probability of failure of one prefix, fast; the same number as `predict_proba(X)[:, 1]`."""
        return float(self.predict_step(row, task_set, form)[1])

    def risks(self, X: pd.DataFrame) -> Floats:
        """(n,) the probability of failure of every row.

        See also: `monitor_runs`.

        >>> detectors.predictor.risks(frame)[:3].round(2)
        array([0.53, 0.81, 0.7 ])
        """
        return self.predict_proba(X)[:, 1]
