"""Where the regions of a label map lie."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = list[int]
"""[left, top, right, bottom], pixels, right and bottom being the first outside."""


def boxes_of(labels: NDArray[np.integer[Any]], k: int) -> list[Box]:
    """The box of each region 0..k-1 of an (H, W) label map; [0, 0, 0, 0] of one that has no pixel."""
    from scipy.ndimage import find_objects

    if not labels.size or not k:  # no limit to labels would be meant by k = 0
        return [[0, 0, 0, 0]] * k
    places = find_objects(labels.astype(np.int64) + 1, k)
    return [[0, 0, 0, 0] if at is None else [at[1].start, at[0].start, at[1].stop, at[0].stop] for at in places]


def areas_of(labels: NDArray[np.integer[Any]], k: int) -> list[float]:
    """The share of the image that each region has, four digits."""
    counts = np.bincount(labels.ravel(), minlength=k)[:k]
    return np.round(counts / max(labels.size, 1), 4).tolist()
