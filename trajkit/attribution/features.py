"""Features of a step, for each region: how the step attends to it, directly and through the text written before.

Position t−1 predicts token t; rows are normalised over all visible keys before image tokens are picked out. For every
head there are two numbers, means over the rows that predict the step: the attention to the region's image tokens, as in
vSTREAM (arXiv 2604.16587) and AT2 (arXiv 2504.13752); and the attention to earlier text, weighted by how that text
itself attended to the region (averaged over heads), since a conclusion looks at the sentence that read the image and no
longer at the image. Behind them stand three numbers of the step, the same for all regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trajkit.attribution.kernels import row_lse, scores_of_rows
from trajkit.attribution.regions import Regions
from trajkit.attribution.rows import Rows
from trajkit.errors import InputError
from trajkit.vlm.model import Prompt

Pooling = Literal["mean", "sum"]
_SCORES_AT_ONCE, _SCORES_ON_GPU = 2**19, 2**24
"""Attention of one layer that is in memory together: 2 MiB, about what a core's cache holds; on a GPU 64."""
_KEYS_AT_ONCE = 1024
"""Keys that a block spans where rows are many."""
_ROWS_AT_FIRST = 1024
"""Rows that there is room for before it is doubled."""
_GAP = 64
"""Tokens between images that are rather read with them than left out."""


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


class _Attention(NamedTuple):
    """Of n rows. by_row: (n, N') to the image, summed over heads and layers. to_image, to_text: (H, N') and (H, C) of
    each layer, summed over rows."""

    by_row: Tensor
    to_image: list[Tensor]
    to_text: list[Tensor]


class StepFeatures:
    """Turns the rows of one run, handed over in order, into the features of its steps.

    Rows are positions after the last image token: those of the question, then those of the generation. They are
    normalised by their log-sum-exp, so that only keys of the image are read; for rows of a step also those of the text.
    """

    def __init__(self, regions: Regions, prompt: Prompt, pooling: Pooling) -> None:
        """Raises InputError for an unknown pooling."""
        if pooling not in get_args(Pooling):
            raise InputError(f"pooling must be 'mean' or 'sum'; got {pooling!r}.")
        weights = torch.from_numpy(token_weights(regions, prompt)).to(prompt.image_tokens.device)  # (N, K)
        if pooling == "mean":
            weights = weights / weights.sum(0)
        self.first_row = prompt.first_row
        self._images = _stretches(prompt.image_tokens.tolist())
        places = torch.cat([torch.arange(one.start, one.stop) for one in self._images]).to(weights.device)
        self._weights = weights.new_zeros(len(places), regions.k)  # (N', K): 0 for text between images
        self._weights[torch.searchsorted(places, prompt.image_tokens)] = weights
        self._grounding = weights.new_empty(_ROWS_AT_FIRST, regions.k)  # of each row: its attention to regions
        self._n_rows = 0
        self.working_bytes = 0
        """Most that the latest `push` held for a moment, bytes, about."""

    @property
    def next_row(self) -> int:
        """Position of the first row that has not been handed over."""
        return self.first_row + self._n_rows

    @property
    def nbytes(self) -> int:
        """Memory held between steps, bytes."""
        return self._grounding.nbytes + self._weights.nbytes

    def read(self, rows: Rows, keys: Sequence[Tensor], scaling: float) -> None:
        """Take the next rows, which predict no step: what they see of the image is kept, for steps that see them.

        keys: (H_kv, S, D) per layer, S at least the last row's position + 1.
        """
        at_once = max(1, _SCORES_AT_ONCE // len(self._weights))
        for at in range(0, rows.n, at_once):
            some = rows.part(at, min(at + at_once, rows.n))
            self._add(some, self._attend(some, keys, scaling).by_row)

    def push(
        self, rows: Rows, keys: Sequence[Tensor], scaling: float, step_rows: int, facts: Sequence[Tensor]
    ) -> Tensor:
        """(K, 2·L·H + 3) features of the step predicted by the last `step_rows` of the next rows.

        keys: (H_kv, S, D) per layer, S at least the last row's position + 1. facts: mean log-probability, mean entropy
        (nats) and number of tokens of the step. Raises InputError when attention is not finite.
        """
        before = rows.n - step_rows
        self.read(rows.part(0, before), keys, scaling)
        rows = rows.part(before, rows.n)
        seen = self._attend(rows, keys, scaling, slice(self.first_row, self.next_row + rows.n))
        self._add(rows, seen.by_row)
        to_image, to_text = torch.cat(seen.to_image), torch.cat(seen.to_text)
        self.working_bytes = 8 * _SCORES_AT_ONCE + 2 * (seen.by_row.nbytes + to_image.nbytes + to_text.nbytes)
        both = torch.cat([to_image @ self._weights, to_text @ self._grounding[: self._n_rows]])  # (2·L·H, K)
        both /= step_rows
        if not torch.isfinite(both).all():
            raise InputError(
                "the model's attention holds NaN or infinite values, as in an overflow of float16; load it with "
                "dtype=torch.bfloat16 or torch.float32."
            )
        return torch.cat([both.T, torch.stack([f.float() for f in facts]).expand(both.shape[1], -1)], 1)

    def _attend(self, rows: Rows, keys: Sequence[Tensor], scaling: float, text: slice | None = None) -> _Attention:
        """Attention of rows; without `text`, of which the rows' own positions are the last, to the image alone."""
        zeros, n_image = self._weights.new_zeros, len(self._weights)
        by_row, to_image, to_text = zeros(rows.n, n_image), [], []
        for (query, lse), key in zip(rows.layers(), keys, strict=True):
            if lse is None:
                lse = row_lse(query, key[:, : self.next_row + rows.n], scaling)
            if text is not None:
                to_image.append(zeros(len(query), n_image))
                to_text.append(zeros(len(query), text.stop - text.start))
                add_attention(query, lse, key[:, text], scaling, to_text[-1], own_last=True)
            column = 0
            for image in self._images:
                own = slice(column, column := column + image.stop - image.start)
                by_head = None if text is None else to_image[-1][:, own]
                add_attention(query, lse, key[:, image], scaling, by_head, by_row[:, own])
        return _Attention(by_row, to_image, to_text)

    def _add(self, rows: Rows, by_row: Tensor) -> None:
        """Keep what rows see of the regions: (n, N') attention, summed over heads and layers, pooled and averaged."""
        end = self._n_rows + rows.n
        if end > len(self._grounding):
            more = self._grounding.new_empty(max(end, 2 * len(self._grounding)), self._grounding.shape[1])
            more[: self._n_rows] = self._grounding[: self._n_rows]
            self._grounding = more
        self._grounding[self._n_rows : end] = by_row @ self._weights / rows.n_heads
        self._n_rows = end


def _stretches(positions: Sequence[int]) -> list[slice]:
    """Slices that together hold rising positions; those with less than `_GAP` between them are joined."""
    starts = [i for i, at in enumerate(positions) if i == 0 or at - positions[i - 1] > _GAP]
    ends = [*starts[1:], len(positions)]
    return [slice(positions[a], positions[b - 1] + 1) for a, b in zip(starts, ends, strict=True)]


def add_attention(
    query: Tensor,
    lse: Tensor,
    key: Tensor,
    scaling: float,
    by_head: Tensor | None,
    by_row: Tensor | None = None,
    own_last: bool = False,
) -> None:
    """Add the attention of n rows to C keys of one layer, exp(score − lse), to its sums.

    query: (H, n, D); lse: (H, n) float32 over all keys that the row sees; key: (H_kv, C, D). by_head: (H, C), over
    rows; by_row: (n, C), over heads. own_last: the last n keys are the rows' own, of which none sees those after its
    own. A block at a time, that stays in the processor's cache.
    """
    heads, n, width = query.shape
    groups, n_keys, _ = key.shape
    at_once = _SCORES_AT_ONCE if key.is_cpu else _SCORES_ON_GPU
    n_rows = min(n, max(1, at_once // (heads * min(n_keys, _KEYS_AT_ONCE))))
    n_columns = max(1, at_once // (heads * n_rows))
    for row in range(0, n, n_rows):
        some = slice(row, row + n_rows)
        rows = (query[:, some].float() * scaling).reshape(groups, -1, width)  # (H_kv, H/H_kv · rows, D)
        total = -lse[:, some].reshape(groups, -1, 1)
        for column in range(0, n_keys, n_columns):
            part = slice(column, column + n_columns)
            columns = key[:, part].float()
            attention = torch.baddbmm(total, rows, columns.transpose(1, 2)).exp_()
            attention = attention.view(heads, -1, columns.shape[1])  # (H, rows, C)
            if own_last and column + n_columns > n_keys - n:
                first = n_keys - n + row - column  # of the block, the key of its first row
                later = torch.ones(attention.shape[1:], dtype=torch.bool, device=key.device).triu(first + 1)
                attention.masked_fill_(later, 0)
            if by_head is not None:
                by_head[:, part] += attention.sum(1)
            if by_row is not None:
                by_row[some, part] += attention.sum(0)


def attention_rows(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """Attention of the last n positions in one layer, (H, n, S) float32; 0 for positions after the row's own.

    query: (H, n, D), of positions S−n … S−1; key: (H_kv, S, D), of all of them. Normalised here, by all keys.
    """
    return torch.softmax(scores_of_rows(query, key, scaling), -1)


def raw_attention(features: NDArray[Any], n_heads: int) -> NDArray[Any]:
    """The untrained baseline: direct attention averaged over `n_heads` = L·H heads, (..., K, F) → (..., K)."""
    return features[..., :n_heads].mean(-1)
