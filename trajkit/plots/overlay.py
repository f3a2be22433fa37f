"""Overlay: a picture in grey, and over it in red what supports a step, in blue what opposes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

SUPPORT = (235, 45, 45)
OPPOSE = (60, 120, 255)
FAINT = 1.0
"""Nats. No effect below this is drawn at full strength, so that noise stays pale."""
DARK, PALE = (30.0, 120.0), (150.0, 100.0)
"""Grey of the picture's black, and how much brighter its white is: on a terminal, and on a page."""


@dataclass(frozen=True, eq=False)
class Overlay:
    """A picture of some size, and which regions each of its pixels shows.

    grey: (h, w) luminance in [0, 1]. colour: (h, w, 3) uint8. labels: (h, w, S), the regions at S places of a pixel.
    """

    grey: NDArray[np.float64]
    colour: NDArray[np.uint8]
    labels: NDArray[np.integer[Any]]

    @classmethod
    def of(
        cls, image: Image.Image, labels: NDArray[np.integer[Any]], width: int, height: int, samples: int = 8
    ) -> Overlay:
        """`image` at width × height pixels over its (H, W) label map, which is read `samples` times a side of a pixel
        and may be of another size."""
        from PIL import Image as Pillow

        way = Pillow.Resampling.BOX if width <= image.width else Pillow.Resampling.BICUBIC
        colour = np.asarray(image.convert("RGB").resize((width, height), way))
        at_row = ((np.arange(height * samples) + 0.5) * labels.shape[0] / (height * samples)).astype(int)
        at_col = ((np.arange(width * samples) + 0.5) * labels.shape[1] / (width * samples)).astype(int)
        places = np.asarray(labels)[np.ix_(at_row, at_col)]
        places = places.reshape(height, samples, width, samples).swapaxes(1, 2)  # (h, w, s, s)
        grey = colour @ np.array([0.299, 0.587, 0.114]) / 255
        return cls(grey, colour, places.reshape(height, width, -1))

    def strength(self, effects: NDArray[Any], scale: float) -> NDArray[np.float64]:
        """(h, w) the (K,) effects of each pixel's regions, in parts of `scale` nats."""
        found: NDArray[np.float64] = np.asarray(effects, float)[self.labels].mean(axis=-1) / max(scale, 1e-12)
        return found

    def over(
        self,
        effects: NDArray[Any],
        scale: float,
        ground: tuple[float, float] = DARK,
        power: float = 1.0,
        opaque: float = 0.94,
    ) -> NDArray[np.uint8]:
        """(h, w, 3) the picture in grey, red where a region supports the step, blue where it opposes it; full at
        ±`scale`. power: below 1, weaker effects are seen better. opaque: of the full colour."""
        strength = self.strength(effects, scale)
        alpha = opaque * np.clip(np.abs(strength), 0, 1)[..., None] ** power
        base = (ground[0] + ground[1] * self.grey)[..., None]
        tint = np.where((strength > 0)[..., None], SUPPORT, OPPOSE) * (0.55 + 0.45 * self.grey[..., None])
        made: NDArray[np.uint8] = (base + alpha * (tint - base)).round().astype(np.uint8)
        return made

    def outline(self, regions: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """(h, w) the pixels of some regions that have one of no such region beside them, or the picture's edge."""
        within = np.pad(np.isin(self.labels[..., 0], regions), 1)
        inner = within[:-2, 1:-1] & within[2:, 1:-1] & within[1:-1, :-2] & within[1:-1, 2:]
        return within[1:-1, 1:-1] & ~inner


def full_strength(effects: NDArray[np.floating[Any]]) -> float:
    """Nats at full strength: the 99th percentile of the run's |effects|, so that one outlier does not pale the rest."""
    if not effects.size:
        return 1.0
    return float(f"{float(np.percentile(np.abs(effects), 99)) or float(np.abs(effects).max()) or 1.0:.3g}")
