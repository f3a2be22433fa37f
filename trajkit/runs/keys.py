"""Hashes that tell runs of one image and question, or copies of a run, whatever they are called."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 8
ENOUGH = 8
"""Effects other than 0 that make a key: fewer may be alike by chance, and effects of 0 are those of any run."""


def keys_of(image_sha256: str, question: str, effects: NDArray[np.float32]) -> list[bytes]:
    """Of the image's hash with the question, where there is one, and of the effects (T, K) of the thinking steps, where
    at least 8 are not 0; KEY_BYTES each."""
    keys = [key("question", image_sha256, question)] if image_sha256 else []
    if np.count_nonzero(effects) >= ENOUGH:
        keys.append(key("effects", str(effects.shape), np.ascontiguousarray(effects, "<f4").tobytes()))
    return keys


def key(kind: str, about: str, rest: str | bytes) -> bytes:
    """KEY_BYTES of the SHA-256 of what is said."""
    body = rest if isinstance(rest, bytes) else rest.encode(errors="backslashreplace")
    return hashlib.sha256(f"{kind}\0{about}\0".encode() + body).digest()[:KEY_BYTES]
