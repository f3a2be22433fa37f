"""Hashes that tell runs of one image and question, or copies of a run, whatever they are called."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 8
FEW = 3
"""Log-probabilities of steps that two runs of the same text hardly share by chance."""
LONG = 200
"""Characters of the thinking of two runs that are hardly alike by chance."""
ENOUGH = 8
"""Effects other than 0 that make a key: fewer may be alike by chance, and effects of 0 are those of any run."""


def keys_of(image_sha256: str, question: str, effects: NDArray[np.float32]) -> list[bytes]:
    """Of the image's hash with the question, where there is one, and of the effects (T, K) of the thinking steps, where
    at least ENOUGH are not 0; KEY_BYTES each."""
    keys = [key("question", image_sha256, question)] if image_sha256 else []
    if np.count_nonzero(effects) >= ENOUGH:
        keys.append(key("effects", str(effects.shape), np.ascontiguousarray(effects, "<f4").tobytes()))
    return keys


def text_keys(question: str, texts: Sequence[str], logprobs: Sequence[float | None]) -> list[bytes]:
    """Of a run without effects, whose image another log may hold in another encoding, or not at all: of the question,
    the thinking steps (T,) and their log-probabilities; one key where the text is LONG, or FEW of these differ from 0
    and each other."""
    told = [value for value in logprobs if value]
    if sum(map(len, texts)) < LONG and len(set(told)) < FEW:
        return []
    return [key("text", question, "\0".join(texts) + repr(np.asarray(told, np.float32).tolist()))]


def key(kind: str, about: str, rest: str | bytes) -> bytes:
    """KEY_BYTES of the SHA-256 of what is said."""
    body = rest if isinstance(rest, bytes) else rest.encode(errors="backslashreplace")
    return hashlib.sha256(f"{kind}\0{about}\0".encode() + body).digest()[:KEY_BYTES]
