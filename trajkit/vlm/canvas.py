"""Canvas: the images of a prompt as one picture, side by side, so that one label map covers them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trajkit.errors import InputError

Images: TypeAlias = Image.Image | Sequence[Image.Image]
"""What a question is about: one image, or several in order."""

MAX_ASPECT = 200
"""Longest side over shortest that the image processors of Qwen take."""

PADDING = (128, 128, 128)
"""Colour below an image that is less tall than the tallest."""


def check_image(image: Any, max_aspect: float = float("inf")) -> None:
    """Raise InputError unless this is an image whose sides differ by less than `max_aspect` times."""
    if not isinstance(image, Image.Image):
        raise InputError(
            f"expected an image (PIL.Image.Image), or several; got {type(image).__name__}. Open a file with "
            "PIL.Image.open; video is not supported: pass single frames."
        )
    if max(image.size) >= max_aspect * min(image.size):
        raise InputError(
            f"the image is {image.width} × {image.height}; its sides must differ by less than {max_aspect:g} times. "
            "Crop it."
        )


@dataclass(frozen=True, eq=False)
class Canvas:
    """Images (RGB) from left to right, tops aligned. One image is its own canvas."""

    images: tuple[Image.Image, ...]

    @cached_property
    def picture(self) -> Image.Image:
        """All of them as one image."""
        if len(self.images) == 1:
            return self.images[0]
        whole = Image.new("RGB", (sum(i.width for i in self.images), max(i.height for i in self.images)), PADDING)
        for image, left in zip(self.images, self._lefts, strict=True):
            whole.paste(image, (left, 0))
        return whole

    def crops(self, pixels: NDArray[Any]) -> list[NDArray[Any]]:
        """The part of a (H, W, ...) map of the canvas that belongs to each image."""
        return [
            pixels[: image.height, left : left + image.width]
            for image, left in zip(self.images, self._lefts, strict=True)
        ]

    def join(self, label_maps: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """(H, W): label maps of the images as one map, labels of later images counted on from those before.

        Below a shorter image its last row goes on.
        """
        height, before, columns = max(labels.shape[0] for labels in label_maps), 0, []
        for labels in label_maps:
            columns.append(np.pad(labels, ((0, height - labels.shape[0]), (0, 0)), mode="edge") + before)
            before += int(labels.max()) + 1
        return np.concatenate(columns, axis=1)

    @property
    def _lefts(self) -> list[int]:
        return np.cumsum([0, *(image.width for image in self.images[:-1])]).tolist()
