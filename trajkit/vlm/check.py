"""Whether a loaded checkpoint can be used at all: its generation settings are numbers, and it sees a picture."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterator
from typing import Any

from PIL import Image

from trajkit.errors import InputError
from trajkit.vlm.model import VLM


def check_usable(vlm: VLM) -> None:
    """Raise InputError where a setting makes no sense, or a small picture and a question do not come through.

    What else is raised comes from files of the checkpoint that do not fit each other.
    """
    rows = vlm.model.get_input_embeddings().num_embeddings
    check_generation_config(vlm.model.generation_config, rows)
    prompt = vlm.prepare(Image.new("RGB", (64, 64), "white"), "?")
    vlm.encode_images(prompt)
    last = int(prompt.inputs["input_ids"].max())
    if last >= rows:
        raise InputError(
            f"the tokenizer of {vlm.name} gives token {last}, and its model knows {rows} tokens. Compare its files "
            "with those of the model that it was made from."
        )


def check_generation_config(config: Any, n_tokens: int) -> None:
    """Raise InputError naming the first setting of a `generation_config.json` that is not of its kind.

    n_tokens: how many tokens the model knows.
    """
    for name, (holds, expected) in _KINDS.items():
        value = getattr(config, name, None)
        if value is not None and not holds(value):
            raise _must_be(name, expected, value)
    for name in _LOOKED_UP:
        value = getattr(config, name, None)
        if max(_whole_numbers(value), default=0) >= n_tokens:
            raise _must_be(name, f"of tokens below {n_tokens}, as many as the model knows", value)


def _must_be(name: str, expected: str, value: Any) -> InputError:
    got = reprlib.repr(value)
    return InputError(f"{name} in the checkpoint's generation_config.json must be {expected}; got {got}.")


def _whole_numbers(value: Any) -> Iterator[int]:
    """All of a nested list."""
    if isinstance(value, list):
        for one in value:
            yield from _whole_numbers(one)
    elif type(value) is int:
        yield value


def _whole(least: int) -> tuple[Callable[[Any], bool], str]:
    return lambda v: type(v) is int and least <= v < 2**31, f"a whole number from {least}"


def _real(low: float, high: float) -> tuple[Callable[[Any], bool], str]:
    """Integers are reals, and truth values are not."""
    return (
        lambda v: type(v) in (int, float) and math.isfinite(v) and low <= v <= high,
        f"a number from {low:g} to {high:g}",
    )


def _token(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _tokens(value: Any) -> bool:
    return isinstance(value, list) and all(map(_token, value))


def _bias(value: Any) -> bool:
    """One sequence of tokens, and what is added to the logit of its last one; -inf rules it out."""
    if not (isinstance(value, list) and len(value) == 2):
        return False
    tokens, bias = value
    return _tokens(tokens) and bool(tokens) and type(bias) is float and bias < math.inf


def _decay(value: Any) -> bool:
    if not (isinstance(value, list | tuple) and len(value) == 2):
        return False
    return _whole(0)[0](value[0]) and _real(0, 1e6)[0](value[1])


def _watermark(value: Any) -> bool:
    hash_key, bias = getattr(value, "hashing_key", 0), getattr(value, "bias", 0)
    return type(hash_key) is int and -(2**63) <= hash_key < 2**63 and _real(-1e6, 1e6)[0](bias)


_ID = (lambda v: _token(v) or _tokens(v), "a token's number, or a list of them")
_LIST = (_tokens, "a list of tokens' numbers")
_SHARE, _PENALTY = _real(0, 1), _real(1e-6, 1e6)
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "eos_token_id": _ID,
    "forced_eos_token_id": _ID,
    "pad_token_id": (_token, "a token's number"),
    "suppress_tokens": _LIST,
    "begin_suppress_tokens": _LIST,
    "bad_words_ids": (
        lambda v: isinstance(v, list) and all(_tokens(word) and word for word in v),
        "a list of lists of tokens' numbers",
    ),
    "do_sample": (lambda v: isinstance(v, bool), "true or false"),
    "temperature": _real(0, 1e6),
    "top_k": _whole(0),
    "top_p": _SHARE,
    "min_p": _SHARE,
    "top_h": _SHARE,
    "typical_p": _SHARE,
    "epsilon_cutoff": _SHARE,
    "eta_cutoff": _SHARE,
    "repetition_penalty": _PENALTY,
    "encoder_repetition_penalty": _PENALTY,
    "no_repeat_ngram_size": _whole(0),
    "encoder_no_repeat_ngram_size": _whole(0),
    "min_length": _whole(0),
    "min_new_tokens": _whole(0),
    "max_length": _whole(1),
    "max_new_tokens": _whole(1),
    "stop_strings": (
        lambda v: isinstance(v, str) or (isinstance(v, list) and all(isinstance(one, str) and one for one in v)),
        "a text or a list of texts that are not empty",
    ),
    "sequence_bias": (
        lambda v: isinstance(v, list) and all(map(_bias, v)),
        "a list of pairs, each a list of tokens' numbers and a decimal number",
    ),
    "exponential_decay_length_penalty": (_decay, "a whole number from 0 and a number from 0 to 1e+06"),
    "watermarking_config": (_watermark, "numbers in its bias and its hashing_key, which is a whole one of 64 bits"),
}
_LOOKED_UP = ("pad_token_id", "forced_eos_token_id", "bad_words_ids", "sequence_bias")
"""Settings whose tokens are looked up in a table of the model's; a biased sequence's number is no whole one."""
