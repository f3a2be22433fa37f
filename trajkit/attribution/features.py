"""Features f_{S,k}: attention from the positions that predict a step to the image tokens of a region, per head.

Position t−1 predicts token t. Rows are normalised over all visible keys before the image tokens are picked out
(pooling by mean over a region's tokens is the paper's, vSTREAM, arXiv 2604.16587; by sum is the natural one for
ablation).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trajkit.attribution.regions import Regions
from trajkit.errors import InputError
from trajkit.vlm.model import Prompt

Pooling = Literal["mean", "sum"]


def token_weights(regions: Regions, prompt: Prompt) -> NDArray[np.float32]:
    """(N, K): the share of the pixels of each image token of a prompt that lies in each region; rows sum to 1."""
    crops = prompt.canvas.crops(regions.labels)
    return np.concatenate(
        [image_weights(labels, regions.k, grid) for labels, grid in zip(crops, prompt.grids, strict=True)]
    )


def image_weights(labels: NDArray[Any], k: int, grid: tuple[int, int]) -> NDArray[np.float32]:
    """(rows·cols, K): as `token_weights`, for one image with (H, W) `labels` and a (rows, cols) grid of tokens.

    A token covers a rectangle of the image, [i·H/rows, (i+1)·H/rows) × [j·W/cols, (j+1)·W/cols); a pixel on a border
    counts to the token that holds its centre.
    """
    height, width = labels.shape
    rows = np.minimum(((np.arange(height) + 0.5) * grid[0] / height).astype(int), grid[0] - 1)
    cols = np.minimum(((np.arange(width) + 0.5) * grid[1] / width).astype(int), grid[1] - 1)
    token = rows[:, None] * grid[1] + cols
    n = grid[0] * grid[1]
    pairs = np.bincount((token * k + labels).ravel(), minlength=n * k)
    weights = pairs.reshape(n, k).astype(np.float32)  # (N, K) pixels
    covered = weights.sum(1, keepdims=True)
    if not covered.all():  # an image with fewer pixels than tokens: take the pixel under the token's centre
        at_row = (np.arange(grid[0]) + 0.5) * height / grid[0]
        at_col = (np.arange(grid[1]) + 0.5) * width / grid[1]
        nearest = labels[at_row.astype(int)[:, None], at_col.astype(int)].ravel()
        empty = np.flatnonzero(covered[:, 0] == 0)
        weights[empty, nearest[empty]] = 1
        covered = weights.sum(1, keepdims=True)
    return weights / covered


def image_attention(
    queries: list[Tensor], keys: list[Tensor], positions: Tensor, image_tokens: Tensor, scaling: float
) -> Tensor:
    """Attention of some rows to the image tokens, (L, H, n, N) float32, each row normalised over all visible keys.

    queries: (H, n, D) per layer; keys: (H_kv, S, D) per layer; positions: (n,) place of each query in the sequence,
    which sees keys 0..position.
    """
    seen = torch.arange(keys[0].shape[1], device=positions.device) <= positions[:, None]  # (n, S)
    return torch.stack([_rows(q, k, seen, image_tokens, scaling) for q, k in zip(queries, keys, strict=True)])


def _rows(query: Tensor, key: Tensor, seen: Tensor, image_tokens: Tensor, scaling: float) -> Tensor:
    heads, n, width = query.shape
    grouped = query.float().reshape(key.shape[0], -1, width)  # (H_kv, H/H_kv · n, D)
    scores = torch.matmul(grouped, key.float().transpose(1, 2)).mul_(scaling)  # (H_kv, H/H_kv · n, S)
    scores = scores.reshape(heads, n, -1).masked_fill_(~seen, float("-inf"))
    peak = scores.amax(-1, keepdim=True)
    total = torch.logsumexp(scores - peak, -1, keepdim=True)
    return torch.exp(scores[..., image_tokens] - peak - total)  # (H, n, N)


def pool(attention: Tensor, weights: Tensor, pooling: Pooling) -> Tensor:
    """(L, H, n, N) attention of a step's n rows and (N, K) token weights → (K, L·H) features of the step.

    Mean over the rows, then over a region's tokens by area (`mean`) or their sum (`sum`).
    """
    if pooling not in get_args(Pooling):
        raise InputError(f"pooling must be 'mean' or 'sum'; got {pooling!r}.")
    regional = attention.mean(2) @ weights  # (L, H, K)
    if pooling == "mean":
        regional = regional / weights.sum(0)
    return regional.flatten(0, 1).T


def raw_attention(features: NDArray[Any]) -> NDArray[Any]:
    """The untrained baseline: attention averaged over layers and heads, (..., K, L·H) → (..., K)."""
    return features.mean(-1)
