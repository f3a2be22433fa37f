"""Open a user's image safely, as upright RGB pixels; encode one as PNG."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trajkit.errors import InputError
from trajkit.files import read_plain

if TYPE_CHECKING:
    from PIL import Image

MIN_SIDE = 16
"""Pixels. A smaller image has less than one patch of any supported model."""

MAX_PIXELS = 40_000_000
"""Larger images are refused before they are decoded: thousands of image tokens, and how a bomb would look."""

MAX_BYTES = 2**28
"""Larger files are refused before they are read: no encoding of MAX_PIXELS needs as much."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""What is opened. Pillow knows more; some of those start other programs."""


def open_image(source: str | Path | bytes) -> Image.Image:
    """The image of a file, or of encoded bytes, as RGB: EXIF rotation applied, transparency laid on white.

    Raises InputError when there is no such file, it is a folder, pipe or device, not one of FORMATS or damaged, a side
    is shorter than MIN_SIDE, or it has more than MAX_PIXELS or MAX_BYTES.
    """
    from PIL import Image

    name = "the image" if isinstance(source, bytes) else str(source)
    try:
        data = source if isinstance(source, bytes) else read_plain(Path(source), MAX_BYTES)
    except FileNotFoundError as error:
        raise InputError(f"{name} does not exist; expected an image file ({', '.join(FORMATS)}).") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise InputError(
            f"{name} cannot be read ({getattr(error, 'strerror', None) or error}); expected an image file."
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                check_size(image.size, name)
                return _upright_rgb(image)
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(_too_large(name, "many more")) from error
    except Image.UnidentifiedImageError as error:
        if _is_video(data):
            raise InputError(f"{name} is a video; video is not supported: pass single frames as images.") from error
        raise InputError(
            f"{name} is not an image that can be opened; expected one of {', '.join(FORMATS)}, "
            f"got {len(data)} bytes of something else. Convert it, or leave it out."
        ) from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        raise InputError(
            f"{name} is damaged and cannot be decoded ({error}). Copy it again, or leave it out."
        ) from error


def _is_video(data: bytes) -> bool:
    """Whether a file begins as MP4 or MOV, Matroska or WebM, or AVI do."""
    mp4 = data[4:8] == b"ftyp" and data[8:12].startswith((b"iso", b"mp4", b"avc1", b"qt", b"M4V", b"3g", b"dash"))
    return mp4 or data[:4] == b"\x1aE\xdf\xa3" or (data[:4] == b"RIFF" and data[8:12] == b"AVI ")


def to_png(image: Image.Image) -> bytes:
    """The image as PNG, as small as Pillow makes it."""
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def check_size(size: tuple[int, int], name: str) -> None:
    """Raise InputError unless an image of that width and height is large enough for a model, and not too large."""
    width, height = size
    if min(size) < MIN_SIDE:
        raise InputError(
            f"{name} must be at least {MIN_SIDE} pixels a side, got {width} x {height}: too small for one image token. "
            "Use a larger picture, or enlarge it."
        )
    if width * height > MAX_PIXELS:
        raise InputError(_too_large(name, f"{width} x {height} = {width * height / 1e6:.0f} million"))


def _too_large(name: str, got: str) -> str:
    return (
        f"{name} must have at most {MAX_PIXELS / 1e6:.0f} million pixels, got {got}. Resize it first: "
        'from PIL import Image; i = Image.open("in.png"); i.thumbnail((4096, 4096)); i.save("out.png")'
    )


def _upright_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):  # convert() would clip 16-bit grey at 255
        return Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8)).convert("RGB")
    if upright.has_transparency_data:
        layer = upright.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return upright.convert("RGB")


def confined(path: str | Path, root: str | Path) -> Path:
    """`path` with all its links followed. Raises InputError when that is not within `root`, or cannot be followed."""
    try:
        inside, real = Path(root).resolve(strict=True), Path(path).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # no such root, a null in the name, a loop of links
        raise InputError(f"{path} cannot be looked for within {root} ({error}); check both paths.") from error
    if not real.is_relative_to(inside):
        raise InputError(f"{path} lies outside {root} (at {real}); move it there, or name a root that holds it.")
    return real
