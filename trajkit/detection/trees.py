"""Boosted trees as plain numbers: fitted by scikit-learn, kept as JSON, and read here, one row or many alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajkit.detection.state import HUGE, read_array, read_number
from trajkit.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_ROWS = 1 << 11
"""Rows that go through all trees at a time."""
_DEEPEST = 64
_STEEPEST = 1e6
"""No leaf is steeper, in log-odds: sums stay finite."""


@dataclass(frozen=True, eq=False)
class Trees:
    """Log-odds of C classes from F features, each the sum of a start and of one leaf a tree.

    All nodes of all trees one after another, (N,): a row goes to `left` where its `feature` is at most `threshold`, or
    is missing and `missing_left` is set; else to `right`. A leaf leads to itself and holds `value`. roots: (trees, C)
    first node of each tree. start: (C,). depth: the longest way from a root to a leaf. Of two classes there is one
    column, the log-odds of the second against the first.
    """

    feature: Integers
    threshold: Floats
    missing_left: NDArray[np.bool_]
    left: Integers
    right: Integers
    value: Floats
    roots: Integers
    start: Floats
    depth: int

    @classmethod
    def of(cls, fitted: Any) -> Trees:
        """Of a HistGradientBoostingClassifier without categories. It keeps its trees to itself: what is read of them
        here is held to its own `decision_function` by a test (test_trees.py)."""
        trees = [tree.nodes for stage in fitted._predictors for tree in stage]
        first = np.concatenate([[0], np.cumsum([len(tree) for tree in trees])]).astype(np.int64)
        nodes, own = np.concatenate(trees), np.repeat(first[:-1], np.diff(first))
        at, is_leaf = np.arange(len(nodes)), nodes["is_leaf"].astype(bool)
        return cls(
            feature=np.where(is_leaf, 0, nodes["feature_idx"]).astype(np.int64),
            threshold=np.clip(np.where(is_leaf, 0.0, nodes["num_threshold"]), -HUGE, HUGE),
            missing_left=nodes["missing_go_to_left"].astype(bool) & ~is_leaf,
            left=np.where(is_leaf, at, nodes["left"] + own).astype(np.int64),
            right=np.where(is_leaf, at, nodes["right"] + own).astype(np.int64),
            value=np.where(is_leaf, nodes["value"], 0.0),
            roots=first[:-1].reshape(len(fitted._predictors), -1),
            start=np.asarray(fitted._baseline_prediction, float).ravel(),
            depth=int(nodes["depth"].max()),
        )

    def log_odds(self, x: Floats) -> Floats:
        """(n, F), NaN where missing → (n, C). A row's numbers do not hang on the rows beside it."""
        parts = [self._part(x[first : first + _ROWS]) for first in range(0, len(x), _ROWS)]
        return np.concatenate([np.zeros((0, len(self.start))), *parts])

    def _part(self, x: Floats) -> Floats:
        at = np.broadcast_to(self.roots.ravel(), (len(x), self.roots.size))
        row = np.arange(len(x))[:, None]
        for _ in range(self.depth):
            asked = x[row, self.feature[at]]
            goes_left = np.where(np.isnan(asked), self.missing_left[at], asked <= self.threshold[at])
            at = np.where(goes_left, self.left[at], self.right[at])
        leaves = self.value[at].reshape(len(x), *self.roots.shape)
        found = np.tile(self.start, (len(x), 1))
        for stage in range(len(self.roots)):  # in one order, whatever n is
            found += leaves[:, stage]
        return found

    def to_state(self) -> dict[str, Any]:
        """JSON-ready."""
        arrays = ("feature", "threshold", "missing_left", "left", "right", "value", "roots", "start")
        return {name: getattr(self, name).tolist() for name in arrays} | {"depth": self.depth}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], n_features: int, n_classes: int) -> Trees:
        """Raises InputError on a missing or misshapen part, and where a way does not end."""
        columns = 1 if n_classes == 2 else n_classes
        threshold = read_array(state, "threshold", (None,))
        n = len(threshold)
        roots = _whole(state, "roots", (None, columns), n)
        trees = cls(
            feature=_whole(state, "feature", (n,), n_features),
            threshold=threshold,
            missing_left=_whole(state, "missing_left", (n,), 2).astype(bool),
            left=_whole(state, "left", (n,), n),
            right=_whole(state, "right", (n,), n),
            value=read_array(state, "value", (n,), -_STEEPEST, _STEEPEST),
            roots=roots,
            start=read_array(state, "start", (columns,), -_STEEPEST, _STEEPEST),
            depth=int(read_number(state, "depth", 0, _DEEPEST)),
        )
        reached = np.unique(roots)
        for _ in range(trees.depth):
            reached = np.unique(np.concatenate([trees.left[reached], trees.right[reached]]))
        if (trees.left[reached] != reached).any() or (trees.right[reached] != reached).any():
            raise InputError(
                f"a saved detector must hold trees whose ways end after 'depth' nodes, {trees.depth}; some do not. "
                "Fit the detectors again."
            )
        return trees


def _whole(state: Mapping[str, Any], key: str, shape: tuple[int | None, ...], below: int) -> Integers:
    """Whole numbers from 0 to `below`, that excluded."""
    values = read_array(state, key, shape, 0, below - 1)
    if (values != np.floor(values)).any():
        raise InputError(f"a saved detector must hold whole numbers in {key!r}. Fit the detectors again.")
    return values.astype(np.int64)
