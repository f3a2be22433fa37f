"""Pictures and label maps, small enough to stand in a page."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.errors import InputError
from trajkit.plots.encoded import data_url

if TYPE_CHECKING:
    from PIL import Image

MAX_SIDE = 640
"""Pixels of the longer side; larger pictures and label maps are reduced to it."""

_PNG_LIMIT = 160_000


def picture(data: bytes) -> tuple[str, int, int]:
    """A data URL of the encoded image, decoded and encoded afresh, with its width and height. Raises InputError."""
    from trajkit.traces.images import open_image

    return picture_of(open_image(data))


def picture_of(image: Image.Image) -> tuple[str, int, int]:
    """As `picture`, of an image (RGB) that is open."""
    image = image.copy()
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return data_url(image, _PNG_LIMIT), image.width, image.height


def label_map(regions: NDArray[np.integer[Any]]) -> dict[str, Any]:
    """(H, W) labels as run lengths: base64 of little-endian uint16 pairs (label, count), row by row.

    Raises InputError on a map that is empty, not two-dimensional or has labels outside 0..65535.
    """
    if regions.ndim != 2 or regions.size == 0 or regions.min() < 0 or regions.max() > 0xFFFF:
        raise InputError(f"a label map must be (H, W) with labels from 0 to 65535; got shape {regions.shape}.")
    step = int(np.ceil(max(regions.shape) / MAX_SIDE))
    rows, columns = (slice(min(step, side) // 2, None, step) for side in regions.shape)
    labels = regions[rows, columns]
    flat = labels.ravel()
    starts = np.flatnonzero(np.append(True, flat[1:] != flat[:-1]))
    lengths = np.diff(np.append(starts, len(flat)))
    pieces = -(-lengths // 0xFFFF)  # a count has 16 bits
    counts = np.full(int(pieces.sum()), 0xFFFF)
    counts[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * 0xFFFF
    pairs = np.stack([np.repeat(flat[starts], pieces), counts], axis=1).astype("<u2")
    return {"width": labels.shape[1], "height": labels.shape[0], "runs": base64.b64encode(pairs.tobytes()).decode()}


def quantised(effects: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """(T, K) effects as base64 of int16 and their unit in nats: rounded to 1/32767 of the largest |effect|."""
    largest = float(np.abs(effects).max(initial=0.0))
    unit = largest / 32767 or 1.0
    levels = np.round(np.asarray(effects, dtype=float) / unit).astype("<i2")
    return {"unit": float(f"{unit:.8g}"), "values": base64.b64encode(levels.tobytes()).decode()}
