"""Pictures as data URLs, small enough to stand in a page."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


_WAYS: tuple[tuple[str, dict[str, int]], ...] = (("png", {}), *(("jpeg", {"quality": q}) for q in (84, 70, 55, 40)))


def data_url(image: Image.Image, limit: int) -> str:
    """An image (RGB) as PNG, or where that would have more than `limit` bytes as JPEG, the coarser the less it fits."""
    for kind, options in _WAYS:
        stream = io.BytesIO()
        image.save(stream, format=kind, **options)
        if stream.tell() <= limit:
            break
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
