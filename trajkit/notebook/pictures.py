"""Pictures of a run: its image, and the same with effects over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.errors import InputError
from trajkit.plots.encoded import data_url
from trajkit.plots.overlay import FAINT, PALE, Overlay, full_strength

if TYPE_CHECKING:
    from PIL import Image

    from trajkit.traces.trace import Trace

LARGE, SMALL = 416, 176
"""Pixels of the longer side: more than are shown, for screens of twice the density."""
GROUNDED = 0.5
"""Nats: a step of which no effect is as large hardly depends on the image."""
_BYTES = {LARGE: 18_000, SMALL: 5_500}
"""What a picture may take, so that a run stays below 200 kB."""
_POWER, _OPAQUE = 0.7, 0.72
"""So that a tenth of the largest effect is seen, and through the largest the picture."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """What can be drawn of a run. note: why there is no picture, or no effects over it, in words; else ""."""

    image: Image.Image | None
    labels: NDArray[np.integer[Any]] | None
    scale: float
    note: str = ""

    @classmethod
    def of(cls, trace: Trace) -> Pictures:
        """The pictures of a run; one whose image cannot be opened has none."""
        from trajkit.traces.images import open_image

        scale = max(full_strength(trace.effects), FAINT)
        if trace.image is None:
            return cls(None, None, scale, "This run was saved without its image.")
        try:
            image = open_image(trace.image)
        except InputError as error:
            return cls(None, None, scale, f"The image cannot be shown: {error}")
        if trace.effects_kind is None or not trace.effects.size:
            return cls(image, None, scale, "This run has no effects, so nothing is drawn over its image.")
        if not trace.regions.size:
            return cls(image, None, scale, "This run has no map of regions, so nothing is drawn over its image.")
        return cls(image, trace.regions, scale)

    def plain(self, side: int = LARGE) -> str:
        """The image as it is, HTML; "" where there is none."""
        if self.image is None:
            return ""
        width, height = _size(self.image, side)
        return _img(self.image.resize((width, height)), "the image", side)

    def over(self, effects: NDArray[Any], said: str, side: int = LARGE) -> str:
        """The image in grey with (K,) effects over it, HTML; the region of the strongest support is outlined where the
        step rests on it."""
        if self.image is None or self.labels is None:
            return ""
        from PIL import Image

        overlay = Overlay.of(self.image, self.labels, *_size(self.image, side), samples=1)
        pixels = overlay.over(effects, self.scale, PALE, _POWER, _OPAQUE)
        top = int(np.argmax(effects))
        if effects[top] >= GROUNDED:
            thick = max(1, round(side / 160))
            edge = overlay.outline(np.array([top]))
            for _ in range(thick - 1):
                edge = _wider(edge)
            pixels[edge] = (16, 22, 28)
        return _img(Image.fromarray(pixels), said, side)


def strongest_of(trace: Trace) -> NDArray[np.float32] | None:
    """(K,) of each region the effect that is largest in size on a thought, nats; None where there are no effects."""
    rows = trace.effects[trace.thinking] if trace.thinking.any() else trace.effects
    return rows[np.abs(rows).argmax(0), np.arange(rows.shape[1])] if rows.size else None


def _wider(edge: NDArray[np.bool_]) -> NDArray[np.bool_]:
    out = edge.copy()
    out[1:] |= edge[:-1]
    out[:, 1:] |= edge[:, :-1]
    return out


def _size(image: Image.Image, side: int) -> tuple[int, int]:
    """Width and height with the longer one `side`; small images are enlarged."""
    scale = side / max(image.size)
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def _img(image: Image.Image, said: str, side: int) -> str:
    return f'<img src="{data_url(image.convert("RGB"), _BYTES[side])}" alt="{said}">'
