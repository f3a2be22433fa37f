"""Tokens with their log-probabilities, as logs in OpenAI's form tell them."""

from __future__ import annotations

import codecs
import math
from collections.abc import Mapping, Sequence
from typing import Any

from trajkit.errors import InputError
from trajkit.traces.importers.reading import as_list, as_number
from trajkit.traces.importers.run import ToldToken
from trajkit.traces.trace import ROUNDING

IMPOSSIBLE = -1000.0
"""Log-probabilities below stand for none: servers write them in place of minus infinity."""


def told_tokens(entries: Any) -> tuple[ToldToken, ...]:
    """The tokens of `logprobs.content` of a choice: [{"token", "logprob", "bytes", "top_logprobs": […]}, …].

    A character that is spread over several tokens is the text of the last one. Raises InputError on another form.
    """
    if entries is None:
        return ()
    if not isinstance(entries, Sequence) or not all(isinstance(entry, Mapping) for entry in entries):
        raise InputError("its logprobs are no list of tokens.")
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    return tuple(
        ToldToken(_text(entry, decoder), _logprob(entry), _top(entry.get("top_logprobs"))) for entry in entries
    )


def _text(entry: Mapping[str, Any], decoder: codecs.IncrementalDecoder) -> str:
    raw = entry.get("bytes")
    if isinstance(raw, Sequence) and raw and all(isinstance(byte, int) and 0 <= byte < 256 for byte in raw):
        return decoder.decode(bytes(raw))
    decoder.reset()
    return str(entry.get("token") or "")


def _logprob(entry: Mapping[str, Any]) -> float | None:
    value = as_number(entry.get("logprob"))
    return value if value is not None and value > IMPOSSIBLE else None


def _top(entries: Any) -> tuple[float, ...]:
    found = [_logprob(entry) for entry in as_list(entries) if isinstance(entry, Mapping)]
    return tuple(value for value in found if value is not None and value <= ROUNDING)


def entropy_bound(top: Sequence[float]) -> float:
    """−Σ p log p of the told tokens and of all the rest as one more, nats: at most the entropy of the distribution."""
    shares = [math.exp(value) for value in top]
    rest = max(1.0 - sum(shares), 0.0)
    return max(-sum(share * math.log(share) for share in (*shares, rest) if share > 0), 0.0)
