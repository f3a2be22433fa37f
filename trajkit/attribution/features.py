"""Features of a step, for each region: how the step attends to it, directly and through the text written before.

Position t−1 predicts token t; rows are normalised over all visible keys before image tokens are picked out. For every
head there are two numbers, means over the rows that predict the step: the attention to the region's image tokens, as in
vSTREAM (arXiv 2604.16587) and AT2 (arXiv 2504.13752); and the attention to earlier text, weighted by how that text
itself attended to the region (averaged over heads), since a conclusion looks at the sentence that read the image and no
longer at the image. Behind them stand three numbers of the step, the same for all regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trajkit.attribution.regions import Regions
from trajkit.errors import InputError
from trajkit.vlm.model import Prompt

Pooling = Literal["mean", "sum"]
_SCORES_AT_ONCE = 2**24
"""Attention scores of one layer that are in memory together: 64 MiB of them."""


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


class StepFeatures:
    """Turns the rows of one run, handed over in order, into the features of its steps.

    Rows are positions after the last image token: those of the question, then those of the generation.
    """

    def __init__(self, regions: Regions, prompt: Prompt, pooling: Pooling) -> None:
        """Raises InputError for an unknown pooling."""
        if pooling not in get_args(Pooling):
            raise InputError(f"pooling must be 'mean' or 'sum'; got {pooling!r}.")
        weights = torch.from_numpy(token_weights(regions, prompt)).to(prompt.image_tokens.device)  # (N, K)
        self._weights = weights / weights.sum(0) if pooling == "mean" else weights
        self._image_tokens = prompt.image_tokens
        self.first_row = prompt.first_row
        self._grounding = weights.new_zeros(0, regions.k)  # of each row so far: its attention to regions, (rows, K)
        self.working_bytes = 0
        """Most that the latest `push` held for a moment, bytes, about."""

    @property
    def next_row(self) -> int:
        """Position of the first row that has not been handed over."""
        return self.first_row + len(self._grounding)

    @property
    def nbytes(self) -> int:
        """Memory held between steps, bytes."""
        return self._grounding.nbytes + self._weights.nbytes

    def push(
        self, queries: list[Tensor], keys: list[Tensor], scaling: float, step_rows: int, facts: Sequence[Tensor]
    ) -> Tensor:
        """(K, 2·L·H + 3) features of the step predicted by the last `step_rows` of the rows handed over.

        queries: (H, n, D) per layer, of the next n rows; keys: (H_kv, S, D) per layer, S at least the last row's
        position + 1. facts: mean log-probability, mean entropy (nats) and number of tokens of the step.
        Raises InputError when attention is not finite.
        """
        heads, n, _ = queries[0].shape
        first, end, seen = self.next_row, self.next_row + n, keys[0].shape[1]
        columns = torch.cat([self._image_tokens, torch.arange(self.first_row, end, device=self._weights.device)])
        n_image, at_once = len(self._image_tokens), max(1, _SCORES_AT_ONCE // (heads * seen))
        grounding = self._weights.new_zeros(n, self._weights.shape[1])
        direct = self._weights.new_zeros(len(queries), heads, self._weights.shape[1])
        text = self._weights.new_zeros(len(queries), heads, len(columns) - n_image)
        for layer, (query, key) in enumerate(zip(queries, keys, strict=True)):
            for at in range(0, n, at_once):  # all rows of a long step, or of a long question, may not fit in memory
                positions = torch.arange(first + at, min(first + at + at_once, end), device=columns.device)
                attention = attention_rows(query[:, at : at + at_once], key, positions, columns, scaling)
                image = attention[..., :n_image] @ self._weights  # (H, rows, K)
                grounding[at : at + at_once] += image.sum(0)
                own = max(n - step_rows - at, 0)  # rows from here on predict the step
                direct[layer] += image[:, own:].sum(1)
                text[layer] += attention[:, own:, n_image:].sum(1)
        self._grounding = torch.cat([self._grounding, grounding / (len(queries) * heads)])
        self.working_bytes = 4 * heads * min(at_once, n) * (seen + len(columns)) + text.nbytes
        through_text = text @ self._grounding  # (L, H, K)
        both = torch.cat([direct.flatten(0, 1), through_text.flatten(0, 1)]) / step_rows  # (2·L·H, K)
        if not torch.isfinite(both).all():
            raise InputError(
                "the model's attention holds NaN or infinite values, as in an overflow of float16; load it with "
                "dtype=torch.bfloat16 or torch.float32."
            )
        return torch.cat([both.T, torch.stack([f.float() for f in facts]).expand(both.shape[1], -1)], 1)


def attention_rows(query: Tensor, key: Tensor, positions: Tensor, columns: Tensor, scaling: float) -> Tensor:
    """Attention of some rows to some keys in one layer, (H, n, C) float32, normalised over all keys that a row sees.

    query: (H, n, D); key: (H_kv, S, D); positions: (n,) place of each query in the sequence, which sees keys
    0..position; columns: (C,) places of the keys.
    """
    heads, n, width = query.shape
    seen = torch.arange(key.shape[1], device=positions.device) <= positions[:, None]  # (n, S)
    grouped = query.float().reshape(key.shape[0], -1, width)  # (H_kv, H/H_kv · n, D)
    scores = torch.matmul(grouped, key.float().transpose(1, 2)).mul_(scaling)  # (H_kv, H/H_kv · n, S)
    scores = scores.reshape(heads, n, -1).masked_fill_(~seen, float("-inf"))
    peak = scores.amax(-1, keepdim=True)
    total = torch.logsumexp(scores - peak, -1, keepdim=True)
    return torch.exp(scores[..., columns] - peak - total)  # (H, n, C)


def raw_attention(features: NDArray[Any], n_heads: int) -> NDArray[Any]:
    """The untrained baseline: direct attention averaged over `n_heads` = L·H heads, (..., K, F) → (..., K)."""
    return features[..., :n_heads].mean(-1)
