"""Handwritten digit glyphs, split once and for all into train, validation and test."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

GLYPH_PX = 24
_SHARES = {"train": 0.62, "validation": 0.13, "test": 0.25}


@dataclass(frozen=True)
class Glyphs:
    """Digit images of one split.

    images: (n, GLYPH_PX, GLYPH_PX) float32, ink in [0, 1]; labels: (n,) int64 in 0..9; by_digit: rows of each digit.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    by_digit: tuple[NDArray[np.int64], ...]


@cache
def glyphs(split: Split) -> Glyphs:
    """The glyphs of `split`. A digit image belongs to exactly one split (fixed permutation, stratified by digit).

    Source: `sklearn.datasets.load_digits` (1,797 images of 8×8), enlarged with cubic interpolation.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}; got {split!r}")
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits

    data = load_digits()
    chosen: list[NDArray[np.int64]] = []
    rng = np.random.default_rng(20260401)
    for digit in range(10):
        rows = rng.permutation(np.flatnonzero(data.target == digit))
        cuts = np.round(np.cumsum([_SHARES[s] for s in SPLITS]) * len(rows)).astype(int)
        start = 0 if split == "train" else cuts[SPLITS.index(split) - 1]
        chosen.append(rows[start : cuts[SPLITS.index(split)]])
    rows = np.sort(np.concatenate(chosen))
    images = zoom(data.images[rows] / 16.0, (1, GLYPH_PX / 8, GLYPH_PX / 8), order=3)
    labels = data.target[rows].astype(np.int64)
    by_digit = tuple(np.flatnonzero(labels == digit) for digit in range(10))
    return Glyphs(np.clip(images, 0, 1).astype(np.float32), labels, by_digit)
