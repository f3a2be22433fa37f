"""What another engine tells of its run, checked before anything is made of it."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from operator import index
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from trajkit.errors import InputError
from trajkit.traces.trace import ROUNDING
from trajkit.vlm.beginnings import check_tokens

if TYPE_CHECKING:
    from trajkit.vlm.model import VLM

Tokens: TypeAlias = int | Sequence[int]
"""One token's number, or several in order."""
Logprobs: TypeAlias = float | Sequence[float]
"""One token's log-probability, nats, or several in order."""


def check_prompt(ours: Sequence[int], theirs: Sequence[int]) -> None:
    """Raise InputError where two engines made other tokens of a prompt."""
    if list(ours) == list(theirs):
        return
    at = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
    where = f"{len(ours)} and {len(theirs)} tokens" if at is None else f"{ours[at]} and {theirs[at]} at position {at}"
    raise InputError(
        f"the other engine's prompt is not the one made here: {where}. Give both the same image, question, system "
        "prompt and chat template."
    )


def checked_tokens(vlm: VLM, tokens: Tokens, n_before: int) -> list[int]:
    """As a list. n_before: tokens of the prompt and the generation before them.

    Raises InputError for tokens that this model cannot have written, and for more than its context has room for.
    """
    try:
        ids = [index(token) for token in np.atleast_1d(np.asarray(tokens, dtype=object))]
    except TypeError as error:
        raise InputError(f"tokens must be numbers, one or a list; got {reprlib.repr(tokens)}.") from error
    config = vlm.model.config
    known = vlm.model.get_input_embeddings().num_embeddings
    check_tokens(ids, known, {config.image_token_id, config.video_token_id})
    limit = vlm.text_config.max_position_embeddings
    if (total := n_before + len(ids)) > limit:
        raise InputError(f"prompt and generation have {total} tokens, and the model's context ends at {limit}.")
    return ids


def checked_logprobs(logprobs: Logprobs | None, n: int, expected: bool) -> list[float]:
    """As a list. n: tokens that they are of. expected: whether there must be some.

    Raises InputError for another number of them, and for what is no log-probability.
    """
    given = [] if logprobs is None else [float(one) for one in np.atleast_1d(np.asarray(logprobs, dtype=float))]
    if len(given) != (n if expected else 0):
        raise InputError(f"logprobs must be one for each token, from the first on, or none; got {len(given)} for {n}.")
    if wrong := [one for one in given if not -np.inf < one <= ROUNDING]:
        raise InputError(f"logprobs must be numbers of at most 0; got {wrong[0]}.")
    return given
