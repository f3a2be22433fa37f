"""Failure told at absolute steps by models that have not seen a run's group, nor were the sentence risks they read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from trajkit.detection.step_predictor import StepPredictor
from trajkit.judging.ranking import Selection
from trajkit.stats.resampling import Floats, Integers

if TYPE_CHECKING:
    import pandas as pd

Design = Callable[[Selection, int], Floats]
"""(selection, fold) → (r, F) what is known of its r rows where that fold is held out; NaN and ±inf are taken."""
_PENALTY, _CAP = 0.1, 5.0


def nested_risks(
    frame: pd.DataFrame, fold: Integers, model: StepPredictor, advance: Callable[[str], None] = lambda note: None
) -> Floats:
    """(F, n) the risk of each sentence, where each of F folds is held out; NaN where it cannot be judged.

    frame: as `sentence_features` gives, with labels; rows without one are judged and not fitted on. fold: (n,) of the
    sentence's group. Where fold b is held out, its own sentences are judged by a predictor of all other folds, and
    those of another fold a by one that has seen neither a nor b. So what is fitted on the risks of the others learns
    from risks as they are of new groups, and nothing of b is in them. F (F + 1) / 2 fits.
    """
    label = np.asarray(frame["label"], object)
    n_folds = int(fold.max()) + 1
    found = np.full((n_folds, len(frame)), np.nan)
    for b in range(n_folds):
        for a in range(b + 1):
            train = (fold != a) & (fold != b)
            fitted = clone(model).fit(frame[train], label[train])
            for held, of in {(a, b), (b, a)}:
                found[held, fold == of] = fitted.risks(frame[fold == of])
            advance(model.features)
    return found


def told_at(failed: Floats, fold: Integers, selected: Sequence[Selection], design: Design) -> Floats:
    """(n,) log-odds of failure of the rows of each selection, by a logistic regression of the other folds' rows of that
    selection; NaN of the other rows, and where a class is missing among those that it would be fitted on.

    failed, fold: (n,). What is missing is an average one, and known to be missing.
    """
    found = np.full(len(failed), np.nan)
    for selection in selected:
        rows = selection.rows
        for b in np.unique(fold[rows]):
            test = fold[rows] == b
            y = failed[rows[~test]]
            if 0 < y.sum() < len(y):
                found[rows[test]] = _logistic(_finite(design(selection, int(b)), ~test), y, test).round(9)
    return found


def _logistic(x: Floats, y: Floats, test: NDArray[np.bool_]) -> Floats:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=_PENALTY, max_iter=1000).fit(x[~test], y)
    return np.asarray(model.decision_function(x[test]))


def _finite(x: Floats, train: NDArray[np.bool_]) -> Floats:
    """Signed logarithms, standardised and capped by the rows of `train`; and which columns of missing ones vary."""
    x = np.where(np.isnan(x), np.nan, np.sign(x) * np.log1p(np.minimum(np.abs(x), 1e3)))
    missing = np.isnan(x)
    known = np.maximum((~missing[train]).sum(axis=0), 1)
    mean = np.where(missing[train], 0.0, x[train]).sum(axis=0) / known
    off = np.where(missing, 0.0, x - mean)
    sd = np.sqrt((off[train] ** 2).sum(axis=0) / known)
    flags = missing[:, missing[train].any(axis=0) & ~missing[train].all(axis=0)].astype(float)
    return np.concatenate([np.clip(off / np.where(sd > 1e-9, sd, 1.0), -_CAP, _CAP), flags], axis=1)
