"""What images may be given as, and the canvas: those of a prompt side by side, so that one label map covers all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trajkit.errors import InputError
from trajkit.traces.images import check_size, open_image

Picture: TypeAlias = Image.Image | str | Path | bytes | NDArray[Any]
"""One image: open, a file's path, the bytes of one, or (H, W, 3) of uint8 or of floats in [0, 1]."""
Images: TypeAlias = Picture | Sequence[Picture]
"""What a question is about: one image, or several in order."""

MAX_ASPECT = 200
"""Longest side over shortest that the image processors of Qwen take."""

_VIDEO = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")

PADDING = (128, 128, 128)
"""Colour below an image that is less tall than the tallest."""


def opened(image: Any, max_aspect: float = float("inf")) -> Image.Image:
    """One image, RGB. Raises InputError on what is none (`Picture`), one of a size that `traces.images` refuses, and
    one whose sides differ by `max_aspect` times or more."""
    if isinstance(image, str | Path | bytes):
        made = open_image(_local(image))
    elif isinstance(image, np.ndarray):
        made = _of_array(image)
    elif isinstance(image, Image.Image):
        check_size(image.size, "the image")
        made = image.convert("RGB")
    else:
        more = " Of a tensor (3, H, W) take tensor.permute(1, 2, 0).numpy()." if hasattr(image, "permute") else ""
        raise InputError(
            "expected an image, or several in a list: a path, bytes, a PIL.Image.Image or an array (H, W, 3); got "
            f"{type(image).__name__}.{more} Video is not supported: pass single frames."
        )
    if max(made.size) >= max_aspect * min(made.size):
        raise InputError(
            f"the image is {made.width} × {made.height}; its sides must differ by less than {max_aspect:g} times. "
            "Crop it."
        )
    return made


def is_one(images: Any) -> bool:
    """Whether this is a single image, and not several."""
    return isinstance(images, Image.Image | str | Path | bytes | np.ndarray)


def opened_all(images: Images, max_aspect: float = float("inf")) -> tuple[Image.Image, ...]:
    """One image or several, each as `opened`."""
    if is_one(images) or not isinstance(images, Iterable) or hasattr(images, "permute"):
        return (opened(images, max_aspect),)
    return tuple(opened(image, max_aspect) for image in images)


def check_order(images: Any, question: Any) -> None:
    """Raise InputError where the question was given for the image, and the image for the question."""
    asked_image = is_one(question) and not isinstance(question, str)
    if isinstance(question, str) and isinstance(images, str):
        asked_image = not Path(images).exists() and Path(question).is_file()
    if isinstance(images, str) and asked_image:
        raise InputError("image and question have changed places: the image comes first, then the question.")


def _local(image: str | Path | bytes) -> str | Path | bytes:
    """Raises InputError on an address, and on the name of a video."""
    if not isinstance(image, bytes) and Path(image).suffix.lower() in _VIDEO:
        raise InputError(f"{image} is a video; video is not supported: pass single frames as images.")
    if isinstance(image, str) and image.lower().startswith(("http://", "https://", "data:", "file:")):
        raise InputError(f"{image[:60]!r} is an address, and nothing is fetched; download the image and give its path.")
    return image


def _of_array(pixels: NDArray[Any]) -> Image.Image:
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        hint = " Several images are given in a list; video is not supported." if pixels.ndim == 4 else ""
        raise InputError(f"an array of an image must be (height, width, 3); got shape {pixels.shape}.{hint}")
    check_size((pixels.shape[1], pixels.shape[0]), "the image")
    if np.issubdtype(pixels.dtype, np.floating):
        if not ((pixels >= 0) & (pixels <= 1)).all():  # NaN is neither
            raise InputError(
                f"an array of floats must hold 0 to 1; got {pixels.min():.4g} to {pixels.max():.4g}. Divide by its "
                "largest value, or give uint8 from 0 to 255."
            )
        pixels = np.round(pixels * 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise InputError(f"an array of an image must be of uint8, or of floats in [0, 1]; got {pixels.dtype}.")
    return Image.fromarray(np.ascontiguousarray(pixels))


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
