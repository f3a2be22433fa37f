"""Chances of every sentence from predictors that have not seen its group, beside trivial baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from trajkit.detection.splits import group_folds
from trajkit.detection.step_features import CONFIDENT, KINDS, NAMED
from trajkit.detection.step_predictor import READ, StepPredictor
from trajkit.errors import InputError
from trajkit.judging.ranking import Selection
from trajkit.stats.resampling import Floats
from trajkit.traces.forms import task_labels
from trajkit.traces.step_labels import STEP_LABELS

if TYPE_CHECKING:
    import pandas as pd

DEALS = 3
"""Deals of the groups to folds that a figure is the mean of."""
WRONG = "wrong"
"""Either of `false` and `lost`."""
POSITION, LENGTH, TASK = "position", "length", "task"
"""Baselines: the share of training sentences that are wrong at the same step, of as many tokens, of the same family and
form."""
LEAST_EFFECT, LEAST_LOGPROB = "largest effect", "log-probability"
"""Baselines without a fit: the less, the likelier wrong."""
ALL, SURE, READINGS, SURE_READINGS = "all", "confident", "readings", "confident readings"
_PRIOR = 10.0
"""Sentences of the mean share that a rate is shrunk by."""


@dataclass(frozen=True, eq=False)
class HeldOutSteps:
    """n sentences that have a label and all that is read, cross-validated in R deals of their groups to folds.

    frame: their rows of `sentence_features`. classes: C labels. chances: method → (R, n, C), of the kinds of features
    and of POSITION, LENGTH and TASK. folds: (R, n) the fold it was held out in. left_out: sentences without a label, or
    without what is read.

    See also: `held_out_steps`, `step_areas`.

    >>> held.targets, held.left_out
    (('false', 'lost', 'wrong'), 0)
    >>> f"{held.score('both', 'false').mean():.2f} where {held.is_it('false').mean():.2f} are false"
    '0.04 where 0.05 are false'
    >>> {name.within[1]: len(name.rows) for name in held.selections()}
    {'all': 5846, 'confident': 5117, 'readings': 5209, 'confident readings': 4485}
    """

    frame: pd.DataFrame
    classes: tuple[str, ...]
    chances: dict[str, Floats]
    folds: NDArray[np.int64]
    left_out: int

    @property
    def n_folds(self) -> int:
        return int(self.folds.max()) + 1

    @property
    def targets(self) -> tuple[str, ...]:
        """What is told from the rest: each label but "", and WRONG, any of them, where there are two."""
        each = tuple(name for name in self.classes if name)
        return (*each, WRONG) if len(each) > 1 else each

    @property
    def methods(self) -> tuple[str, ...]:
        """The kinds of features first, then the baselines."""
        return (*self.chances, *(name for name, column in _RAW.items() if self.frame[column].notna().all()))

    def is_it(self, target: str) -> NDArray[np.bool_]:
        """(n,) whether a sentence is what `target` says."""
        label = self.frame["label"].to_numpy(str)
        return label != "" if target == WRONG else label == target

    def score(self, method: str, target: str) -> Floats:
        """(R, n) chances of the target, or the (n,) of a baseline without a fit; higher is likelier."""
        if method in _RAW:
            return -self.frame[_RAW[method]].to_numpy(float)
        wanted = [name != "" if target == WRONG else name == target for name in self.classes]
        return np.asarray(self.chances[method][..., np.array(wanted)].sum(axis=-1))

    def selections(self) -> list[Selection]:
        """ALL sentences, and the SURE ones, which are CONFIDENT; READINGS, those that name a place, where that is
        known, and the SURE_READINGS. Of sure ones there are none where the log-probability of a sentence is not known,
        or no sentence is sure."""
        logprob = self.frame["logprob"].to_numpy(float)
        sure = (logprob >= np.log(CONFIDENT)) & ~np.isnan(logprob).any()
        rows = {ALL: np.full(len(sure), True), SURE: sure}
        if NAMED in self.frame:
            named = self.frame[NAMED].to_numpy(float) == 1
            rows |= {READINGS: named, SURE_READINGS: named & sure}
        return [
            Selection(np.flatnonzero(some), within=("sentences", name))
            for name, some in rows.items()
            if some.any() or name in (ALL, READINGS)
        ]


def held_out_steps(
    frame: pd.DataFrame,
    kinds: Sequence[str] = tuple(KINDS),
    n_splits: int = 5,
    seed: int = 0,
    deals: int = DEALS,
    model: StepPredictor | None = None,
    advance: Callable[[str], None] = lambda note: None,
) -> HeldOutSteps:
    """frame: as `sentence_features` gives, with labels. kinds: of `StepPredictor`; all are judged on the sentences that
    have what each reads. model: whose parameters are taken, but for `features`. advance: told of each fit.

    Compare chances within a fold: those of different folds come from different models. Raises InputError where there
    are too few groups with a wrong sentence, and without.

    See also: `StepPredictor`, `step_areas`, `first_wrong`.

    >>> found = tk.judging.held_out_steps(sentences, ["uncertainty"], n_splits=3, deals=1)
    >>> found.methods[:2], found.chances["uncertainty"].shape  # a deal, sentences, classes
    (('uncertainty', 'position'), (1, 5846, 3))
    """
    needed = sorted({name for kind in kinds for name in READ[kind]})
    absent = [name for name in ("label", "group_id", "transcript_id", *needed) if name not in frame]
    if absent:
        raise InputError(
            f"judging sentences needs their features and labels, as `detection.sentence_features` gives; missing: "
            f"{', '.join(absent)}."
        )
    told = (frame["label"].notna() & frame[needed].notna().all(axis=1)).to_numpy(bool)
    kept = frame[told].reset_index(drop=True)
    label, groups = kept["label"].to_numpy(str), kept["group_id"].to_numpy(str)
    classes = tuple(name for name in STEP_LABELS if (label == name).any())
    shape = (deals, len(kept), len(classes))
    chances = {name: np.zeros(shape) for name in (*kinds, *_keys(kept))}
    folds = np.zeros(shape[:2], np.int64)
    for deal in range(deals):
        for number, (fit, test) in enumerate(group_folds(label, groups, n_splits, seed + deal)):
            folds[deal, test] = number
            for kind in kinds:
                fitted = clone(model or StepPredictor()).set_params(features=kind).fit(kept.iloc[fit], label[fit])
                chances[kind][deal, test] = fitted.predict_proba(kept.iloc[test])
                advance(kind)
            for name, key in _keys(kept).items():
                chances[name][deal, test] = _rates(key, label, classes, fit, test)
    return HeldOutSteps(kept, classes, chances, folds, int((~told).sum()))


_RAW = {LEAST_EFFECT: "largest", LEAST_LOGPROB: "logprob"}


def _keys(frame: pd.DataFrame) -> dict[str, NDArray[Any]]:
    return {POSITION: frame["step"].to_numpy(), LENGTH: frame["tokens"].to_numpy(), TASK: task_labels(frame)}


def _rates(
    key: NDArray[Any], label: NDArray[np.str_], classes: Sequence[str], fit: NDArray[np.int64], test: NDArray[np.int64]
) -> Floats:
    """(test, C) shares of each class among the fitted sentences of the same key, shrunk to those among all."""
    number = np.unique(key, return_inverse=True)[1]
    hot = (label[fit, None] == np.array(classes)).astype(float)
    n = np.bincount(number[fit], minlength=number.max() + 1)
    counts = np.stack([np.bincount(number[fit], column, len(n)) for column in hot.T], axis=1)
    return ((counts + _PRIOR * hot.mean(axis=0)) / (n + _PRIOR)[:, None])[number[test]]
