"""Regions: the label map in colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.notebook.style import card, facts, figure, told
from trajkit.plots.encoded import data_url
from trajkit.tables.words import count

if TYPE_CHECKING:
    from trajkit.attribution.regions import Regions

_SIDE = 480


def regions_html(regions: Regions) -> str:
    """Regions as a card: the map, each region in a colour of its own with a dark edge."""
    height, width = regions.labels.shape
    sizes = np.bincount(regions.labels.ravel(), minlength=regions.k) / regions.labels.size
    about = {
        "method": told(regions.method),
        "picture": f"{width} × {height} pixels",
        "smallest, median and largest region": " · ".join(
            f"{100 * share:.2g} %" for share in (sizes.min(), np.median(sizes), sizes.max())
        ),
    }
    picture = f'<img src="{map_url(regions.labels)}" alt="the map of regions">'
    body = f'<div class="row">{figure(picture, "one colour a region", 240)}<div class="grow">'
    return card(count(regions.k, "region"), f"{body}{facts(about)}</div></div>")


def map_url(labels: NDArray[np.integer[Any]]) -> str:
    """A label map as a small PNG."""
    from PIL import Image

    scale = _SIDE / max(labels.shape)
    rows, columns = (
        ((np.arange(max(1, round(side * scale))) + 0.5) / scale).astype(int).clip(0, side - 1) for side in labels.shape
    )
    shown = labels[np.ix_(rows, columns)]
    pixels = _colours(int(labels.max()) + 1)[shown]
    edge = np.zeros(shown.shape, bool)
    edge[:, 1:] |= shown[:, 1:] != shown[:, :-1]
    edge[1:] |= shown[1:] != shown[:-1]
    pixels[edge] = (60, 68, 76)
    return data_url(Image.fromarray(pixels).quantize(256).convert("P"), 1 << 20)


def _colours(k: int) -> NDArray[np.uint8]:
    """(K, 3) colours of which those of near numbers are far apart."""
    turn = (np.arange(k) * 0.618034) % 1.0 * 2 * np.pi
    light = 0.72 + 0.12 * (np.arange(k) % 3 - 1)
    made = light[:, None] + 0.17 * np.cos(turn[:, None] - np.array([0.0, 2.1, 4.2]))
    colours: NDArray[np.uint8] = (255 * made.clip(0, 1)).round().astype(np.uint8)
    return colours
