"""Soft ranks: ranks of numbers that a gradient passes through, and the rank correlation made of them.

Spearman's correlation asks only for the order of values, and its gradient is 0 nearly everywhere. Counting for each
value how many are smaller, by a sigmoid of the difference and not by its sign, makes it smooth (Qin et al. 2010, doi
10.1007/s10791-009-9124-x); as the temperature falls the count becomes the rank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.attribution.linear import pearson

if TYPE_CHECKING:
    from torch import Tensor


def centred_ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """(..., M) values → (..., M) ranks less their mean, within ±(M − 1)/2; ties have the mean of their ranks."""
    from scipy.stats import rankdata

    return rankdata(values, axis=-1) - (values.shape[-1] + 1) / 2


def soft_ranks(values: Tensor, temperature: float) -> Tensor:
    """(..., M) values → (..., M): towards temperature 0 their `centred_ranks`.

    temperature: of the sigmoid, as a share of the standard deviation of the M values, so that a factor changes nothing.
    Values that do not vary all have rank 0. Takes the memory of (..., M, M).
    """
    import torch

    deviation = (values.var(-1, keepdim=True, correction=0) + 1e-12).sqrt()
    scaled = values / (temperature * deviation)
    return torch.sigmoid(scaled[..., :, None] - scaled[..., None, :]).sum(-1) - values.shape[-1] / 2


def soft_spearman(values: Tensor, ranks: Tensor, temperature: float) -> Tensor:
    """(...,) correlation in [−1, 1] of the soft ranks of (..., M) values with (..., M) `centred_ranks` of others.

    Towards temperature 0 it is `scipy.stats.spearmanr`; 0 where either does not vary.
    """
    return pearson(soft_ranks(values, temperature), ranks)
