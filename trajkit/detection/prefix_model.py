"""Regularised logistic regression on prefix features, the base of both detectors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from trajkit.detection.design import ALWAYS, EFFECT_SETS, PATH, FeatureMap, Floats, Rows, columns_of, parse_features
from trajkit.detection.logistic import fit_logistic
from trajkit.detection.state import HUGE, read, read_array, read_number
from trajkit.detection.step_design import StepDesign
from trajkit.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


_NEWTON = 1000
"""Coefficients of several classes up to which Newton's method is the faster."""
_ROWS = 1 << 14
"""Rows whose design is laid out at a time where they are asked for a probability."""
_STEEPEST = 1e6
"""No coefficient is larger, in log-odds a standard deviation: with the design's own bounds, sums stay finite."""


class PrefixModel(ClassifierMixin, BaseEstimator):
    """Base: `features`, `C` and `min_runs` are set by the subclass's __init__.

    State after fit: `map_` (FeatureMap), `coef_` (C−1 or C, P), `intercept_`, `classes_` (C,), `centre_`
    (P,) the mean design over training rows, which explanations start from. With two classes only
    the second has coefficients (its log-odds against the first).
    """

    features: str
    C: float
    min_runs: int

    def _fit(self, X: pd.DataFrame, y: NDArray[Any], sample_weight: ArrayLike | None) -> None:
        name = type(self).__name__
        sets = parse_features(self.features, name)
        if not hasattr(X, "columns"):
            Rows.of_frame(X, sets)
        if len(X) != len(y):
            raise InputError(f"{name}.fit needs one label per row; got {len(X)} rows and {len(y)} labels.")
        labels = np.unique(y)
        if len(labels) < 2:
            found = ", ".join(str(label) for label in labels) or "none"
            raise InputError(f"{name}.fit needs runs of at least two classes; found {found} in {len(y)} rows.")
        rows = Rows.of_frame(X, sets)
        self.map_ = FeatureMap.learn(sets, rows, self.min_runs)
        self.step_design_ = StepDesign(self.map_)
        weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
        self.classes_ = labels
        if len(labels) == 2:
            self._fit_two(rows, y == labels[1], weight)
        else:
            self._fit_several(rows, y, weight)
        self.n_features_in_ = X.shape[1]
        self.feature_names_in_ = np.asarray(X.columns, dtype=object)

    def _fit_two(self, rows: Rows, y: NDArray[np.bool_], weight: Floats) -> None:
        parts = list(self.map_.parts(rows))
        fitted = fit_logistic(parts, self.map_.width, y.astype(float), weight, self.C)
        self.coef_, self.intercept_, self.centre_ = fitted.coef[None], np.array([fitted.intercept]), fitted.centre

    def _fit_several(self, rows: Rows, y: NDArray[Any], weight: Floats) -> None:
        from sklearn.linear_model import LogisticRegression

        design = self.map_.matrix(rows)
        small = design.shape[1] * len(self.classes_) <= _NEWTON  # a few exact steps; else many cheap ones
        model = LogisticRegression(C=self.C, max_iter=2000, solver="newton-cholesky" if small else "lbfgs")
        model.fit(design, y, sample_weight=weight)
        self.centre_ = np.average(design, axis=0, weights=weight)
        self.coef_, self.intercept_ = np.ascontiguousarray(model.coef_), model.intercept_

    def _html_repr(self) -> str:  # what scikit-learn shows in a notebook
        from trajkit.notebook.models import prefix_model_html

        return prefix_model_html(self)

    def predict_proba(self, X: pd.DataFrame) -> Floats:
        """(n, C) probabilities in the order of `classes_`; finite for any input, rows of one step included."""
        self._check_fitted()
        return self._proba(Rows.of_frame(X, self.map_.sets))

    @property
    def required(self) -> tuple[str, ...]:
        """The features of ALWAYS that are read and that every training row had. A row without one of them is of another
        kind of run: one without effects, say, or without log-probabilities."""
        missing = dict(zip(columns_of(self.map_.sets), np.any(self.map_.missing > 0, axis=0).tolist(), strict=True))
        known = tuple(name for name in ALWAYS if not missing.get(name, True))
        return known if PATH in known or not EFFECT_SETS & {*self.map_.sets} else (PATH, *known)

    def lacks(self, X: pd.DataFrame) -> NDArray[np.bool_]:
        """(n,) which rows lack a feature of `required`."""
        needed = [name for name in self.required if name in X]
        return np.asarray(X[needed].isna().any(axis=1), bool)

    def predict_step(self, row: Mapping[str, float], task_set: str = "", form: str = "") -> Floats:
        """(C,) probabilities of one prefix, without a DataFrame; equal to the row of `predict_proba`. task_set, form:
        family and form of the question, read only with the feature set `task`."""
        design = self.step_design_.vector(row, task_set, form)
        logits = [0.0] if len(self.coef_) == 1 else []
        logits += [np.add.reduce(design * coef) + self.intercept_[c] for c, coef in enumerate(self.coef_)]
        odds = np.exp(np.array(logits) - max(logits))
        return np.asarray(odds / np.add.reduce(odds))

    def _proba(self, rows: Rows) -> Floats:
        if len(rows.steps) > _ROWS:
            starts = range(0, len(rows.steps), _ROWS)
            return np.concatenate([self._proba(rows.part(slice(at, at + _ROWS))) for at in starts])
        design = self.map_.matrix(rows)
        # A matrix product may round a row differently by its neighbours; a sum along the row does not, so that the
        # online score is the batch score (test_early_failure.py).
        logits = np.zeros((len(design), len(self.classes_)))  # of two classes the first keeps 0
        for column, coef, intercept in zip(logits.T[-len(self.coef_) :], self.coef_, self.intercept_, strict=True):
            column[:] = (design * coef).sum(axis=1) + intercept
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def _check_fitted(self) -> None:
        if not hasattr(self, "coef_"):
            raise NotFittedError(f"This {type(self).__name__} is not fitted yet; call fit first.")

    def to_state(self) -> dict[str, Any]:
        """Everything learned, JSON-ready."""
        self._check_fitted()
        return {
            "params": self.get_params(),
            "map": self.map_.to_state(),
            "coef": self.coef_.tolist(),
            "intercept": self.intercept_.tolist(),
            "centre": self.centre_.tolist(),
            "classes": [label if isinstance(label, str) else int(label) for label in self.classes_],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The estimator that `to_state` described. Raises InputError or EstimatorMismatchError."""
        params = read(state, "params", dict)
        try:
            model = cls(**params)
        except TypeError as error:
            raise InputError(
                f"a saved {cls.__name__} has parameters that this version does not know: {error}."
            ) from error
        read_number(params, "C", 0, math.inf, open_ends=True)
        read_number(params, "min_runs", 1, HUGE)
        model.map_ = FeatureMap.from_state(read(state, "map", dict))
        model.step_design_ = StepDesign(model.map_)
        if parse_features(model.features, f"a saved {cls.__name__}") != model.map_.sets:
            raise InputError(f"a saved {cls.__name__} must read one list of features; found two in its parts.")
        classes = read(state, "classes", list)
        known = all(isinstance(name, str) for name in classes) or classes == [0, 1]
        if len(classes) < 2 or not known or len(set(classes)) < len(classes):
            raise InputError(
                f"a saved {cls.__name__} must know at least two classes, names or 0 and 1; found 'classes' {classes}."
            )
        model.classes_ = np.array(classes)
        rows = 1 if len(classes) == 2 else len(classes)
        model.coef_ = read_array(state, "coef", (rows, model.map_.width), -_STEEPEST, _STEEPEST)
        model.intercept_ = read_array(state, "intercept", (rows,), -_STEEPEST, _STEEPEST)
        model.centre_ = read_array(state, "centre", (model.map_.width,))
        return model
