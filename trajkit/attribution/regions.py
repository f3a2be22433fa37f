"""Regions: a partition of an image into connected sets of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Regions:
    """A partition of an image.

    labels: (H, W) integers in 0..k-1, each value in use. k: how many regions. method: how they were made.
    """

    labels: NDArray[np.integer[Any]]
    k: int
    method: str = ""
