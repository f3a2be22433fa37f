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
from torch.nn.functional import pad, scaled_dot_product_attention

from trajkit.attribution.regions import Regions
from trajkit.errors import InputError
from trajkit.vlm.model import Prompt

Pooling = Literal["mean", "sum"]
_SCORES_AT_ONCE = 2**24
"""Attention scores of one layer that are in memory together: 64 MiB of them."""
_ROWS_AT_ONCE = 256
"""Rows that the fused kernel is given together: the keys after the last of them need no work."""


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
        if pooling == "mean":
            weights = weights / weights.sum(0)
        self.first_row = prompt.first_row
        self._image = slice(int(prompt.image_tokens[0]), self.first_row)  # with the text between images
        self._weights = weights.new_zeros(self._image.stop - self._image.start, regions.k)
        self._weights[prompt.image_tokens - self._image.start] = weights
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
        end, before, k = self.next_row + n, n - step_rows, self._weights.shape[1]
        at_once = max(1, _SCORES_AT_ONCE // (heads * end))
        pooled = self._weights.new_zeros(before, k)  # of the question's rows; summed over heads and layers
        by_row = self._weights.new_zeros(step_rows, end)  # of the step's; summed over heads and layers
        by_head = self._weights.new_zeros(len(queries), heads, end)  # the same, summed over rows
        values = self._weights  # of every key that the question's rows see, (end−rows, K)
        if before:
            values = pad(values, (0, 0, self._image.start, end - step_rows - self._image.stop))
        for layer, (query, key) in enumerate(zip(queries, keys, strict=True)):
            if before:  # rows of the question predict no step: only what they saw of the image is asked for
                pooled += pooled_rows(query[:, :before], key[:, : end - step_rows], values, scaling)
            for at in range(0, step_rows, at_once):  # all rows of a long step may not fit in memory
                rows = query[:, before + at : before + at + at_once]
                seen = end - step_rows + at + rows.shape[1]
                attention = attention_rows(rows, key[:, :seen], scaling)
                by_row[at : at + at_once, :seen] += attention.sum(0)
                by_head[layer, :, :seen] += attention.sum(1)
        pooled = torch.cat([pooled, by_row[:, self._image] @ self._weights]) / (len(queries) * heads)
        self._grounding = torch.cat([self._grounding, pooled])
        self.working_bytes = 8 * heads * min(at_once, step_rows) * end + by_row.nbytes + by_head.nbytes + values.nbytes
        direct = by_head[..., self._image] @ self._weights  # (L, H, K)
        through_text = by_head[..., self.first_row :] @ self._grounding
        both = torch.cat([direct.flatten(0, 1), through_text.flatten(0, 1)]) / step_rows  # (2·L·H, K)
        if not torch.isfinite(both).all():
            raise InputError(
                "the model's attention holds NaN or infinite values, as in an overflow of float16; load it with "
                "dtype=torch.bfloat16 or torch.float32."
            )
        return torch.cat([both.T, torch.stack([f.float() for f in facts]).expand(both.shape[1], -1)], 1)


def attention_rows(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """Attention of the last n positions in one layer, (H, n, S) float32; 0 for positions after the row's own.

    query: (H, n, D), of positions S−n … S−1; key: (H_kv, S, D), of all of them.
    """
    heads, n, width = query.shape
    grouped = query.float().reshape(key.shape[0], -1, width)  # (H_kv, H/H_kv · n, D)
    scores = torch.matmul(grouped, key.float().transpose(1, 2)).mul_(scaling)  # (H_kv, H/H_kv · n, S)
    scores = scores.view(heads, n, -1)
    later = torch.ones(n, n, dtype=torch.bool, device=key.device).triu(1)
    scores[..., -n:].masked_fill_(later, float("-inf"))
    return torch.softmax(scores, -1)


def pooled_rows(query: Tensor, key: Tensor, values: Tensor, scaling: float) -> Tensor:
    """Attention of the last n positions times `values` (S, K), summed over the heads of one layer: (n, K) float32.

    The same as `attention_rows(query, key, scaling) @ values` by the fused kernel, which holds no attention in memory.
    """
    heads, n, width = query.shape
    n_keys, n_values = values.shape
    group, wide = heads // key.shape[0], max(width, n_values)  # the kernel asks for values as wide as keys
    grouped = pad(query.float(), (0, wide - width)).unflatten(0, (-1, group))  # (H_kv, H/H_kv, n, wide)
    key, values = pad(key.float(), (0, wide - width))[None], pad(values, (0, wide - n_values))
    pooled = []
    for at in range(0, n, _ROWS_AT_ONCE):
        rows = grouped[:, :, at : at + _ROWS_AT_ONCE]
        seen = n_keys - n + at + rows.shape[2]
        mask = torch.ones(rows.shape[2], seen, dtype=torch.bool, device=key.device).tril(seen - rows.shape[2])
        out = scaled_dot_product_attention(
            rows.flatten(1, 2)[None],
            key[:, :, :seen],
            values[:seen].expand(1, key.shape[1], -1, -1),
            attn_mask=mask.repeat(group, 1),
            scale=scaling,
        )
        pooled.append(out.unflatten(2, (group, -1)).sum((0, 1, 2))[:, :n_values])
    return torch.cat(pooled)


def raw_attention(features: NDArray[Any], n_heads: int) -> NDArray[Any]:
    """The untrained baseline: direct attention averaged over `n_heads` = L·H heads, (..., K, F) → (..., K)."""
    return features[..., :n_heads].mean(-1)
