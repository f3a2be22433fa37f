"""Pixels as the vision tower takes them: a row of `pixel_values` a patch, and the region of every number in it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trajkit.attribution.regions import Regions
from trajkit.vlm.model import VLM, Prompt


def patch_labels(vlm: VLM, prompt: Prompt, regions: Regions) -> NDArray[Any]:
    """(P, p²): the region of every pixel of every patch, in the order of `pixel_values`.

    That order is the same for the three architectures (tested against their processors): patches by blocks of
    merge × merge, and in each patch (channel, time, row, column). Labels are resized to the nearest pixel.
    """
    size, merge = vlm.model.config.vision_config.patch_size, vlm.model.config.vision_config.spatial_merge_size
    found = []
    for labels, (rows, cols) in zip(prompt.canvas.crops(regions.labels), prompt.grids, strict=True):
        height, width = rows * merge * size, cols * merge * size
        at_row = ((np.arange(height) + 0.5) * labels.shape[0] / height).astype(int)
        at_col = ((np.arange(width) + 0.5) * labels.shape[1] / width).astype(int)
        resized = labels[at_row[:, None], at_col].reshape(rows, merge, size, cols, merge, size)
        found.append(resized.transpose(0, 3, 1, 4, 2, 5).reshape(-1, size * size))
    return np.concatenate(found)


def pool_pixels(values: Tensor, labels: NDArray[np.integer[Any]], k: int) -> NDArray[Any]:
    """(P, C·p²) values of `pixel_values` with (P, p²) labels → (K,) sums over each region, signed."""
    pixels = values.detach().float().cpu().numpy().reshape(len(labels), -1, labels.shape[1]).sum(1)  # (P, p²)
    return np.bincount(labels.ravel(), weights=pixels.ravel(), minlength=k)
