"""The recipe of AT2 (Cohen-Wang et al. 2025, arXiv 2504.13752): a linear map of attention, fitted to logits.

Attention is averaged over a step's tokens and pooled over a region's; the target is the drop of the logit of the step's
probability, log p/(1 − p), under random masks; the objective is the correlation within steps alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajkit.attribution.estimator import Binding, StepExample
from trajkit.attribution.linear import LinearEstimator


def at2(examples: Sequence[StepExample], binding: Binding, n_heads: int, **fitting: Any) -> LinearEstimator:
    """A linear estimator by AT2's recipe. fitting: as in `LinearEstimator.fit`. Its predictions are not in nats."""
    return LinearEstimator.fit([logit_example(e) for e in examples], binding, n_heads, scale_weight=0.0, **fitting)


def logit_example(example: StepExample) -> StepExample:
    """The example with drops of the logit of the step's probability in place of drops of its log-probability."""
    mean_logprob, _, n_tokens = example.features[0, -3:]
    intact = float(mean_logprob * n_tokens)
    masked = np.minimum(intact - example.effects, 0.0)
    return replace(example, effects=_logit(np.float64(intact)) - _logit(masked))


def _logit(logprob: NDArray[np.float64] | np.float64) -> NDArray[Any]:
    """log p/(1 − p) of p = exp(logprob), clipped where p rounds to 1."""
    return logprob - np.log(np.maximum(-np.expm1(logprob), 1e-9))
