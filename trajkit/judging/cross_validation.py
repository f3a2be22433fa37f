"""Risks of every run from models that have not seen its group: cross-validation by group over whole feature frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trajkit.detection.design import FeatureMap, Rows, parse_features
from trajkit.detection.early_failure import EarlyFailurePredictor
from trajkit.detection.splits import failures, group_folds
from trajkit.errors import InputError
from trajkit.stats.resampling import Floats

if TYPE_CHECKING:
    import pandas as pd

DEALS = 5
"""Deals of the groups to folds that a cross-validated figure is the mean of: it hangs less on one, and its interval
knows how much it does."""
HIDDEN = "hidden"
"""Name of the baseline that reads hidden states, and prefix of their columns in a frame."""


def hidden_columns(frame: pd.DataFrame) -> list[str]:
    """The columns of hidden states, hidden_0 …; none where they were not kept."""
    return [name for name in frame.columns if str(name).startswith(f"{HIDDEN}_")]


def hidden_probe() -> Any:
    """A linear probe on the hidden state of a step: standardised, logistic, as in the literature on failing chains.

    As Zhang et al. 2025 (arXiv 2504.05419), who read the last token of each piece of reasoning; here it is the state
    that a step's last token was predicted from, which is known the moment the step ends.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))


def _with_hidden(names: Sequence[str], fit: pd.DataFrame, failed: Floats, other: pd.DataFrame) -> Floats:
    """Risks of `other` by the probe on hidden states and the design of further feature sets, if any."""
    columns = hidden_columns(fit)
    parts = [(fit[columns].to_numpy(float), other[columns].to_numpy(float))]
    if names:
        predictor = EarlyFailurePredictor("+".join(names))
        sets = parse_features(predictor.features, "held_out_risks")
        rows = Rows.of_frame(fit, sets)
        known = FeatureMap.learn(sets, rows, predictor.min_runs)
        parts.append((known.matrix(rows), known.matrix(Rows.of_frame(other, sets))))
    learned, asked = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    return np.asarray(hidden_probe().fit(learned, failed).predict_proba(asked)[:, 1])


def folds_of(frame: pd.DataFrame, n_splits: int = 5, seed: int = 0) -> NDArray[np.int64]:
    """(n,) the fold, from 0, that each row's group is held out in. Raises InputError as `held_out_risks`.

    Risks of different folds come from different models, whose base rates move against that of the fold: what a fold
    holds out it lacks for training. Compare risks within a fold (`risks.matched_auc`), or chance looks like
    less than chance.

    See also: `held_out_risks`, `group_folds`.

    >>> folds = tk.judging.folds_of(runs.known().frame, n_splits=5)
    >>> np.unique(folds)
    array([0, 1, 2, 3, 4])
    """
    failed = failures(frame)
    if np.isnan(failed).any():
        raise InputError("cross-validation needs runs of known outcome; leave the others out first.")
    runs = frame.drop_duplicates("transcript_id")
    of_kind = [runs["group_id"][failures(runs) == kind].nunique() for kind in (0, 1)]
    if min(of_kind) < 2:
        raise InputError(
            f"cross-validation by group needs successful runs and failing runs, each of at least 2 groups; these have "
            f"successful runs of {of_kind[0]} and failing runs of {of_kind[1]}."
        )
    groups = runs["group_id"].to_numpy(str)
    fold = np.zeros(len(frame), np.int64)
    for number, (_, test) in enumerate(group_folds(failures(runs).astype(int), groups, n_splits, seed)):
        fold[np.isin(frame["group_id"].to_numpy(str), groups[test])] = number
    return fold


def held_out_risks(
    frame: pd.DataFrame,
    sets: Sequence[str],
    n_splits: int = 5,
    seed: int = 0,
    advance: Callable[[str], None] = lambda note: None,
) -> dict[str, Floats]:
    """For each feature set (`EarlyFailurePredictor.features`, `hidden`, or a union), the (n,) risk of every row.

    frame: as `tk.features(traces)` gives. Compare the risks within `folds_of(frame)`.

    Each row's risk is of a model fitted on other groups alone; folds are stratified by failure. Raises InputError where
    an outcome is unknown or there are too few groups.

    See also: `folds_of`, `matched_auc`, `EarlyFailurePredictor`.

    >>> known = runs.known().frame
    >>> risks = tk.judging.held_out_risks(known, ["length", "uncertainty+length"])
    >>> {name: len(risk) == len(known) for name, risk in risks.items()}
    {'length': True, 'uncertainty+length': True}
    """
    return _risks(frame, sets, folds_of(frame, n_splits, seed), advance)


def _risks(
    frame: pd.DataFrame, sets: Sequence[str], fold: NDArray[np.int64], advance: Callable[[str], None]
) -> dict[str, Floats]:
    if any(HIDDEN in name.split("+") for name in sets) and not hidden_columns(frame):
        raise InputError("there are no hidden states in these traces; collect them with --keep-hidden.")
    failed = failures(frame)
    risks = {name: np.full(len(frame), np.nan) for name in sets}
    for number in range(fold.max() + 1):
        test = fold == number
        fit, other = frame[~test], frame[test]
        for name in sets:
            if HIDDEN in (parts := name.split("+")):
                rest = [part for part in parts if part != HIDDEN]
                risks[name][test] = _with_hidden(rest, fit, failed[~test], other)
            else:
                risks[name][test] = EarlyFailurePredictor(name).fit(fit, failed[~test]).risks(other)
            advance(name)
    return risks


class HeldOut(NamedTuple):
    """Cross-validation over several deals of the groups to folds.

    risks: feature set → (R, n) the risk of every row in each deal. folds: (R, n) the fold, from 0, it was held out in.
    """

    risks: dict[str, Floats]
    folds: NDArray[np.int64]

    @property
    def n_folds(self) -> int:
        return int(self.folds.max()) + 1


def cross_validated(
    frame: pd.DataFrame,
    sets: Sequence[str],
    n_splits: int = 5,
    seed: int = 0,
    advance: Callable[[str], None] = lambda note: None,
    deals: int = DEALS,
) -> HeldOut:
    """`held_out_risks` and `folds_of` of as many `deals`, for figures with intervals (`stats.cross_validation`).

    Raises as `held_out_risks`.
    """
    folds = np.stack([folds_of(frame, n_splits, each) for each in range(seed, seed + deals)])
    risks = [_risks(frame, sets, fold, advance) for fold in folds]
    return HeldOut({name: np.stack([deal[name] for deal in risks]) for name in sets}, folds)
