"""A checkpoint's generation settings: which are taken, of what kind each must be, and which cannot be served.

A checkpoint's `generation_config.json` is written by others and can hold anything that transformers knows: caches that
drop or round keys, several beams, a second model that drafts. Attribution reads the keys and queries of one sequence
whose tokens come one by one, so every setting is one of three kinds: served as it is; overridden, where that changes
no token; or refused by name. A setting that is in none of the lists below is refused, too.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from transformers import DynamicCache, GenerationConfig

from trajkit.errors import InputError

Kind = tuple[Callable[[Any], bool], str]
"""(whether a value is of the kind, what is expected)."""


def check_values(config: GenerationConfig, n_tokens: int) -> None:
    """Raise InputError naming the first setting that is served and not of its kind.

    n_tokens: how many tokens the model knows.
    """
    for name in SERVED:
        value = getattr(config, name, None)
        if value is not None:
            check_value(name, value, "the {} in the checkpoint's generation_config.json")
        if name in _LOOKED_UP and max(_whole_numbers(value), default=0) >= n_tokens:
            expected = f"of tokens below {n_tokens}, as many as the model knows"
            raise _must_be(f"the {name} in the checkpoint's generation_config.json", expected, value)


def check_value(name: str, value: Any, called: str = "{}") -> None:
    """Raise InputError unless `value` is what the served setting `name` may be. called: how the message names it."""
    holds, expected = SERVED[name]
    if not holds(value):
        raise _must_be(called.format(name), expected, value)


def check_settings(config: GenerationConfig, n_tokens: int) -> None:
    """As `check_values`, and for a setting with which attribution would be of other tokens or keys."""
    check_values(config, n_tokens)
    for name, value in vars(config).items():
        if name.startswith("_") or name == "transformers_version" or name in SERVED:
            continue
        if name == "cache_implementation":
            idle = value in _CACHES
        elif name in OVERRIDDEN:
            idle = True
        elif name in REFUSED:
            idle = value is None or value == REFUSED[name]
        else:
            idle = value is None or value == getattr(GenerationConfig(), name, None)
        if not idle:
            raise InputError(
                f"the checkpoint's generation settings hold {name} = {value!r}, with which a run cannot be "
                f"attributed as it is generated: expected one sequence, drawn token by token, with every key kept as "
                f"it is. Take {name} out of its generation_config.json, or set vlm.model.generation_config.{name} = "
                f"{REFUSED.get(name)!r}."
            )


def check_call(config: GenerationConfig, assistant: Any, cache: Any) -> None:
    """Raise InputError where a call of `generate` cannot be followed token by token.

    config: as it was prepared. assistant: a model that drafts. cache: that the call writes to.
    """
    found = [
        (name, value)
        for name, idle in REFUSED.items()
        if name not in _FREE and (value := getattr(config, name, None)) is not None and value != idle
    ]
    found += [("assistant_model", type(assistant).__name__)] if assistant is not None else []
    found += [
        (name, getattr(config, name, None)) for name, kept in _KEPT.items() if getattr(config, name, None) not in kept
    ]
    if cache is not None and (type(cache) is not DynamicCache or cache.get_seq_length()):
        found.append(("past_key_values", f"a {type(cache).__name__} of {cache.get_seq_length()} tokens"))
    if found:
        said = ", ".join(f"{name} = {value!r}" for name, value in found)
        raise InputError(
            f"generate was called with {said}, and with that a run cannot be attributed as it is generated: expected "
            "sequences that are drawn token by token, from their beginning, with every key kept as it is. Leave it out."
        )


def _must_be(called: str, expected: str, value: Any) -> InputError:
    return InputError(f"{called} must be {expected}; got {reprlib.repr(value)}.")


def _whole_numbers(value: Any) -> Iterator[int]:
    """All of a nested list."""
    if isinstance(value, list):
        for one in value:
            yield from _whole_numbers(one)
    elif type(value) is int:
        yield value


def _whole(least: int) -> Kind:
    most = 2**31 - 1

    def holds(v: Any) -> bool:
        return isinstance(v, int | np.integer) and not isinstance(v, bool) and bool(least <= v <= most)

    return holds, f"a whole number from {least} to {most}"


def _real(low: float, high: float) -> Kind:
    """Whole numbers are real ones, and truth values are not; NaN is in no range."""

    def holds(v: Any) -> bool:
        number = isinstance(v, int | float | np.integer | np.floating) and not isinstance(v, bool)
        return number and bool(low <= v <= high)

    return holds, f"a number from {low:g} to {high:g}"


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
    fields = value if isinstance(value, dict) else getattr(value, "__dict__", None)
    if fields is None:
        return False
    hash_key, bias = fields.get("hashing_key", 0), fields.get("bias", 0)
    return type(hash_key) is int and -(2**63) <= hash_key < 2**63 and _real(-1e6, 1e6)[0](bias)


_ID = (lambda v: _token(v) or _tokens(v), "a token's number, or a list of them")
_TOKEN = (_token, "a token's number")
_LIST = (_tokens, "a list of tokens' numbers")
_TRUTH = (lambda v: isinstance(v, bool), "true or false")
_SHARE, _PENALTY = _real(0, 1), _real(1e-6, 1e6)
SERVED: dict[str, Kind] = {
    "do_sample": _TRUTH,
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
    "max_new_tokens": _whole(1),
    "stop_strings": (
        lambda v: isinstance(v, str) or (isinstance(v, list) and all(isinstance(one, str) and one for one in v)),
        "a text or a list of texts that are not empty",
    ),
    "eos_token_id": _ID,
    "pad_token_id": _TOKEN,
    "bos_token_id": _ID,
    "decoder_start_token_id": _ID,
    "forced_bos_token_id": _TOKEN,
    "forced_eos_token_id": _ID,
    "suppress_tokens": _LIST,
    "begin_suppress_tokens": _LIST,
    "bad_words_ids": (
        lambda v: isinstance(v, list) and all(_tokens(word) and word for word in v),
        "a list of lists of tokens' numbers",
    ),
    "sequence_bias": (
        lambda v: isinstance(v, list) and all(map(_bias, v)),
        "a list of pairs, each a list of tokens' numbers and a decimal number",
    ),
    "exponential_decay_length_penalty": (_decay, "a whole number from 0 and a number from 0 to 1e+06"),
    "renormalize_logits": _TRUTH,
    "watermarking_config": (_watermark, "numbers in its bias and its hashing_key, which is a whole one of 64 bits"),
}
"""With what each may be."""
_LOOKED_UP = ("pad_token_id", "forced_bos_token_id", "forced_eos_token_id", "bad_words_ids", "sequence_bias")
"""Settings whose tokens are looked up in a table of the model's; a biased sequence's number is no whole one."""
OVERRIDDEN: dict[str, Any] = {
    "max_length": None,  # runs end by `max_new_tokens`, which transformers lets win as well
    "use_cache": True,
    "cache_implementation": "dynamic",
    "cache_config": None,
    "max_cache_len": None,
    "prefill_chunk_size": None,
    "compile_config": None,
    "disable_compile": True,
    "low_memory": None,
    "remove_invalid_values": False,  # logits that are not finite are reported
    "return_dict_in_generate": False,
    "output_attentions": False,
    "output_hidden_states": False,
    "output_scores": False,
    "output_logits": False,
    # without beams and without a model that drafts, which are refused, these do nothing
    "early_stopping": None,
    "length_penalty": None,
    "num_assistant_tokens": None,
    "num_assistant_tokens_schedule": None,
    "assistant_confidence_threshold": None,
    "assistant_lookbehind": None,
    "target_lookbehind": None,
    "max_matching_ngram_size": None,
}
REFUSED: dict[str, Any] = {
    "num_beams": 1,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "diversity_penalty": 0,
    "constraints": None,
    "force_words_ids": None,
    "penalty_alpha": 0,
    "dola_layers": None,
    "guidance_scale": 1,
    "token_healing": False,
    "prompt_lookup_num_tokens": None,
    "is_assistant": False,
    "assistant_early_exit": None,
    "assistant_ensemble_weight": None,
    "speculation_type": None,
    "use_mtp": False,
    "max_time": None,
    "continuous_batching_config": None,
}
"""With the value at which each does nothing."""
_FREE = ("num_return_sequences", "max_time")
"""Of these, what a call of somebody else's may ask for: no one has to make the run again."""
_KEPT = {"use_cache": (True,), "cache_implementation": (None, "dynamic", "dynamic_full"), "prefill_chunk_size": (None,)}
"""Settings of such a call by which keys would be others than the model's own, with what they may be."""
_CACHES = (
    None,
    "dynamic",
    "dynamic_full",
    "offloaded",
    "static",
    "offloaded_static",
    "sliding_window",
    "hybrid",
    "hybrid_chunked",
    "offloaded_hybrid",
    "offloaded_hybrid_chunked",
)
"""Caches that hold every key as it was computed, in a model without sliding windows (`AttentionTap` refuses those)."""
