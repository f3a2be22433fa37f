"""What the `meta` of saved runs says that tables of runs hold."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from trajkit.strict_json import parse_json
from trajkit.traces.forms import form_of

KEPT = 4096
"""Texts that are remembered: those of a batch, which are asked for when it is checked and when it is read."""


class Meta(NamedTuple):
    """form: of the question (`forms.form_of`). fingerprint: of the model, detail: the cause of the outcome, "" where
    there is none. counted_in: what its steps count, "tokens" or "words"; entropy_is: "" where entropies are of the
    whole distribution, else which lower bound."""

    form: str
    fingerprint: str
    detail: str
    counted_in: str
    entropy_is: str


@lru_cache(maxsize=KEPT)
def parse_meta(text: str) -> Meta:
    """Of a JSON object. Raises ValueError on anything else, saying no more where it is JSON of another kind."""
    meta = parse_json(text)
    if not isinstance(meta, dict):
        raise ValueError
    return Meta(
        form_of(meta),
        str(meta.get("fingerprint") or ""),
        str(meta.get("detail") or ""),
        "words" if meta.get("counted_in") == "words" else "tokens",
        str(meta.get("entropy") or ""),
    )
