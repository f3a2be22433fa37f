"""Faithfulness: how well scores of regions predict what hiding the regions really does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from trajkit.attribution.estimator import StepExample

Array = NDArray[Any]
GROUNDED = 0.5
"""Nats: a step depends on the image when its largest effect is at least this: some region supports it so much."""


def r_squared(predicted: Array, actual: Array) -> float:
    """r², the squared Pearson correlation over all values, in [0, 1]; NaN when either does not vary."""
    x, y = predicted.ravel() - predicted.mean(), actual.ravel() - actual.mean()
    scale = float((x**2).sum() * (y**2).sum())
    return float((x * y).sum()) ** 2 / scale if scale > 0 else float("nan")


def signed_r_squared(predicted: Array, actual: Array) -> float:
    """r·|r| of the Pearson correlation r, in [−1, 1]: as r², and negative when the sign is wrong.

    0 when only `predicted` does not vary, since it answers nothing; NaN when `actual` does not: there is no question.
    """
    x, y = predicted.ravel() - predicted.mean(), actual.ravel() - actual.mean()
    if not (y**2).sum() > 0:
        return float("nan")
    covariance, scale = float((x * y).sum()), float((x**2).sum() * (y**2).sum())
    return covariance * abs(covariance) / scale if scale > 0 else 0.0


def lds(scores: Array, masks: Array, effects: Array) -> float:
    """Linear datamodelling score of one step: Spearman correlation over masks, in [−1, 1].

    scores: (K,) effects of single regions; masks: (M, K); effects: (M,) measured. A mask is predicted by the sum of
    the scores that it hides. 0 when only these sums do not vary, NaN when the effects do not.
    """
    from scipy.stats import rankdata

    x, y = rankdata(masks.astype(float) @ scores), rankdata(effects)
    x, y = x - x.mean(), y - y.mean()
    if not (y**2).sum() > 0:
        return float("nan")
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / scale if scale > 0 else 0.0


def mean_lds(scores: Sequence[Array], examples: Sequence[StepExample]) -> float:
    """Mean `lds` of the steps whose effects vary over their masks, NaN where there is none. scores: (K,) of each."""
    ranks = [lds(own, example.masks, example.effects) for own, example in zip(scores, examples, strict=True)]
    known = [rank for rank in ranks if not np.isnan(rank)]
    return float(np.mean(known)) if known else float("nan")


def top_agreement(scores: Array, effects: Array) -> Array:
    """(T,) whether each step's top region by (T, K) scores is one with the largest of its (T, K) effects, in [0, 1].

    Scores that tie at the top share the hit; scores that are all alike answer nothing, 0. NaN where the effects of a
    step do not vary, as with one region: there is no question.
    """
    best = scores == scores.max(1, keepdims=True)
    right = best & (effects == effects.max(1, keepdims=True))
    hit = right.sum(1) / best.sum(1) * (np.ptp(scores, axis=1) > 0)
    return np.where(np.ptp(effects, axis=1) > 0, hit, np.nan)


def step_gate(scores: Array, sizes: Array) -> Array:
    """(T, K): of each step its top region by (T, K) scores has the number of the step in (T,) sizes, the others 0.

    A baseline for figures over all steps, which reward knowing how much a step depends on the image: one number a step
    is all it says.
    """
    gate = np.zeros(scores.shape)
    np.put_along_axis(gate, scores.argmax(1)[:, None], np.asarray(sizes, float)[:, None], axis=1)
    return gate
