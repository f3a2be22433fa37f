"""The probability that a sentence says something that is not so, or goes the wrong way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from trajkit.detection.state import HUGE, read, read_number
from trajkit.detection.step_features import KINDS
from trajkit.detection.trees import Trees
from trajkit.errors import EstimatorMismatchError, InputError
from trajkit.traces.step_labels import STEP_LABELS

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.ensemble import HistGradientBoostingClassifier

Floats = NDArray[np.float64]
READ = {"effects": ("largest",), "uncertainty": ("logprob",), "both": ("largest", "logprob")}
"""Of each kind: what a sentence must have to be read."""
_SAID = {"effects": "effects", "uncertainty": "log-probabilities", "both": "effects and log-probabilities"}


class StepPredictor(ClassifierMixin, BaseEstimator):
    """Boosted trees on sentence features, a scikit-learn classifier of the classes "", `false` and `lost`, those of
    them that it was fitted on.

    features: `effects`, `uncertainty` or `both`. max_iter, learning_rate, max_leaf_nodes, min_samples_leaf: as in
    scikit-learn's HistGradientBoostingClassifier; the defaults were chosen among seven by likelihood, in
    cross-validation over 100 and 520 scenes of grids of 4 × 4. Sentences are of several kinds, told apart by how long
    and how sure they are, and what is right in one is wrong in another: a linear model of the same features is behind
    (`reports/step_detection.md`).

    Rows are sentences, as `sentence_features` gives. What each question is about is not read. A sentence that has no
    effects (or no log-probability), where those are read, is left out of the fit and has NaN probabilities.

    After fit: `classes_`, `columns_` that are read, `trees_`.

    See also: `sentence_features`, `SentenceFeatures`, `EarlyFailurePredictor`, `held_out_steps`.

    >>> predictor = tk.StepPredictor("both").fit(sentences, sentences["label"])
    >>> predictor.classes_.tolist()
    ['', 'false', 'lost']
    >>> predictor.risks(sentences)[:3].round(2), predictor.predict(sentences)[:3].tolist()
    (array([0.  , 0.02, 0.01]), ['', '', ''])
    >>> row = sentences.iloc[0].to_dict()  # as `SentenceFeatures.update` gives it
    >>> bool(predictor.risk(row) == predictor.risks(sentences)[0])
    True
    >>> predictor.save(folder / "mine").name
    'steps.json'
    >>> tk.StepPredictor.load(folder / "mine")
    StepPredictor()
    """

    def __init__(
        self,
        features: str = "both",
        max_iter: int = 100,
        learning_rate: float = 0.05,
        max_leaf_nodes: int = 8,
        min_samples_leaf: int = 50,
    ) -> None:
        self.features = features
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.max_leaf_nodes = max_leaf_nodes
        self.min_samples_leaf = min_samples_leaf

    def fit(self, X: pd.DataFrame, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """y: (n,) the label of each sentence; rows whose label is None are left out.

        Raises InputError on other labels, where a column is missing, and where there are not two classes among the
        sentences that can be read.
        """
        labels = _labels(y, len(X))
        self.columns_ = _columns(X, self.features)
        rows = np.array([label is not None for label in labels], bool) & ~self.lacks(X)
        found = np.unique(labels[rows].astype(str))
        if len(found) < 2 or "" not in found:
            raise InputError(
                "StepPredictor.fit needs sentences of at least two labels, '' among them, with "
                f"{_SAID[self.features]}; of {len(X)} rows {int(rows.sum())} can be read, labelled "
                f"{', '.join(map(repr, found.tolist())) or 'none'}."
            )
        weight = None if sample_weight is None else np.asarray(sample_weight, float)[rows]
        fitted = self.unfitted_trees().fit(self._numbers(X)[rows], labels[rows].astype(str), weight)
        self.classes_, self.trees_ = fitted.classes_, Trees.of(fitted)
        self.n_features_in_ = X.shape[1]
        self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        return self

    def unfitted_trees(self) -> HistGradientBoostingClassifier:
        """What `fit` fits, not fitted yet: to be fitted on other columns than those of KINDS."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(
            max_iter=self.max_iter,
            learning_rate=self.learning_rate,
            max_leaf_nodes=self.max_leaf_nodes,
            min_samples_leaf=self.min_samples_leaf,
            early_stopping=False,
            random_state=0,
        )

    def lacks(self, X: pd.DataFrame) -> NDArray[np.bool_]:
        """(n,) which sentences have not what is read of them: effects, or log-probabilities."""
        return np.asarray(X[list(READ[self.features])].isna().any(axis=1), bool)

    def _html_repr(self) -> str:  # what scikit-learn shows in a notebook
        from trajkit.notebook.models import step_predictor_html

        return step_predictor_html(self)

    def predict_proba(self, X: pd.DataFrame) -> Floats:
        """(n, C) probabilities in the order of `classes_`; NaN for a sentence that `lacks` what is read."""
        self._check_fitted()
        found = np.full((len(X), len(self.classes_)), np.nan)
        absent = [name for name in self.columns_ if name not in X]
        if absent:
            raise InputError(f"this StepPredictor was fitted on columns that are missing here: {', '.join(absent)}.")
        rows = ~self.lacks(X)
        found[rows] = self._proba(self._numbers(X)[rows])
        return found

    def predict(self, X: pd.DataFrame) -> NDArray[Any]:
        """(n,) the likeliest class, "" where a sentence cannot be judged."""
        proba = self.predict_proba(X)
        return np.where(np.isnan(proba[:, 0]), "", self.classes_[np.nan_to_num(proba).argmax(axis=1)])

    def risks(self, X: pd.DataFrame) -> Floats:
        """(n,) the probability that a sentence is wrong in any way; NaN where it cannot be judged."""
        return self.predict_proba(X)[:, self.classes_ != ""].sum(axis=1)

    def risk(self, row: Mapping[str, float]) -> float:
        """Of one sentence (`SentenceFeatures.update`), fast: the same number as `risks`."""
        self._check_fitted()
        if any(row[name] != row[name] for name in READ[self.features]):
            return float("nan")
        x = _tamed(np.array([[row[name] for name in self.columns_]], float))
        return float(self._proba(x)[:, self.classes_ != ""].sum(axis=1)[0])

    def _proba(self, x: Floats) -> Floats:
        log_odds = self.trees_.log_odds(x)
        if len(self.classes_) == 2:
            log_odds = np.concatenate([np.zeros((len(x), 1)), log_odds], axis=1)
        odds = np.exp(log_odds - log_odds.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def _numbers(self, X: pd.DataFrame) -> Floats:
        return _tamed(X[list(self.columns_)].to_numpy(float))

    def _check_fitted(self) -> None:
        if not hasattr(self, "trees_"):
            raise NotFittedError(f"This {type(self).__name__} is not fitted yet; call fit first.")

    def save(self, folder: str | Path) -> Path:
        """Write `folder`/steps.json and return its path. `load` reads it."""
        from trajkit.detection.store import save_step_predictor

        return save_step_predictor(folder, self)

    @classmethod
    def load(cls, folder: str | Path) -> StepPredictor:
        """What `save` wrote. Raises InputError where it is missing, damaged or changed, EstimatorMismatchError where it
        reads other features than ours."""
        from trajkit.detection.store import load_step_predictor

        return load_step_predictor(folder)

    def to_state(self) -> dict[str, Any]:
        """Everything learned, JSON-ready."""
        self._check_fitted()
        return {
            "params": self.get_params(),
            "columns": list(self.columns_),
            "classes": self.classes_.tolist(),
            "trees": self.trees_.to_state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The predictor that `to_state` described. Raises InputError where it is damaged, EstimatorMismatchError where
        it reads other features than ours."""
        params = read(state, "params", dict)
        try:
            model = cls(**params)
        except TypeError as error:
            raise InputError(
                f"a saved {cls.__name__} has parameters that this version does not know: {error}."
            ) from error
        if not isinstance(model.features, str) or model.features not in KINDS:
            raise InputError(f"a saved {cls.__name__} must read one of {', '.join(KINDS)}; found {model.features!r}.")
        for name in ("max_iter", "max_leaf_nodes", "min_samples_leaf"):
            read_number(params, name, 1, HUGE)
        columns, classes = read(state, "columns", list), read(state, "classes", list)
        if not columns or any(name not in KINDS[model.features] for name in columns):
            raise EstimatorMismatchError(
                f"the saved {cls.__name__} reads the features {columns}, which this version of trajkit does not "
                "compute; fit it again."
            )
        if len(set(columns)) < len(columns):
            raise InputError(f"a saved {cls.__name__} must read each of its columns once; found {columns}.")
        if len(classes) < 2 or classes != [label for label in STEP_LABELS if label in classes]:
            raise InputError(f"a saved {cls.__name__} must know at least two of {STEP_LABELS}; found {classes}.")
        model.columns_, model.classes_ = tuple(columns), np.array(classes)
        model.trees_ = Trees.from_state(read(state, "trees", dict), len(columns), len(classes))
        return model


def _columns(X: pd.DataFrame, features: str) -> tuple[str, ...]:
    """The columns of X that a kind of features reads. Raises InputError where it lacks one that is always there."""
    if not isinstance(features, str) or features not in KINDS:
        raise InputError(
            f"The 'features' parameter of StepPredictor must be one of {', '.join(KINDS)}. Got {features!r} instead."
        )
    there = tuple(name for name in KINDS[features] if name in getattr(X, "columns", ()))
    absent = [name for name in READ[features] if name not in there]
    if absent:
        raise InputError(
            "Sentence features must be a DataFrame as `trajkit.detection.sentence_features(traces)` gives; its missing "
            f"columns: {', '.join(absent)}."
        )
    return there


def _labels(y: ArrayLike, n: int) -> NDArray[Any]:
    """(n,) labels, None where there is none."""
    labels = np.array([None if label is None or label != label else label for label in np.asarray(y, object)], object)
    strange = sorted({repr(label) for label in labels if label is not None and label not in STEP_LABELS})
    if strange or len(labels) != n:
        raise InputError(
            f"StepPredictor.fit needs a label a row, each '', 'false', 'lost' or None; got {len(labels)} labels for "
            f"{n} rows{', among them ' + ', '.join(strange[:3]) if strange else ''}."
        )
    return labels


def _tamed(x: Floats) -> Floats:
    """Infinities are missing, and no number is larger than HUGE."""
    return np.where(np.isfinite(x), np.clip(x, -HUGE, HUGE), np.nan)
