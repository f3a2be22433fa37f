"""How runs are generated: what of a checkpoint's settings a run is made with, and the draw itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from trajkit.errors import InputError
from trajkit.vlm.logits import Draw, Failures, TextLogits
from trajkit.vlm.model import VLM
from trajkit.vlm.settings import OVERRIDDEN, REFUSED, SERVED, check_settings, check_value

DEFAULT_NEW_TOKENS = 4096
GREEDY_BELOW = 1e-6
"""Temperatures below it take the likeliest token: float32 logits next to each other lie about this far apart."""

Loop = Callable[..., Any]
"""Called with model, input_ids, logits_processor, stopping_criteria, generation_config and more, as `_sample` is."""
_WARPERS = ("temperature", "top_h", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
_BAD_SETTING = (ValueError, TypeError, LookupError, OverflowError)
"""What a setting raises that is of another kind than transformers thinks: it reads them unchecked."""


@dataclass(frozen=True)
class Sampling:
    """How to generate. temperature: None for the model's own setting, 0 for greedy. seed: None for another each time.

    Raises InputError for a temperature outside 0 to 10⁶, no new tokens, or a seed outside 0 to 2³² − 1.
    """

    temperature: float | None = None
    max_new_tokens: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None:
            check_value("temperature", self.temperature)
        if self.max_new_tokens is not None:
            check_value("max_new_tokens", self.max_new_tokens)
        if self.seed is not None and not 0 <= self.seed < 2**32:  # torch's generator reads no more on the CPU
            raise InputError(f"seed must be a whole number from 0 to 4294967295 (2³² − 1); got {self.seed}.")

    def greedy(self, vlm: VLM) -> bool:
        """Whether the likeliest token is taken every time."""
        own = vlm.model.generation_config
        if self.temperature is None and not own.do_sample:
            return True
        return self._temperature(vlm) < GREEDY_BELOW

    def check(self, vlm: VLM, samples: int) -> None:
        """Raise InputError when several samples are asked for and the most likely token is taken every time, and as
        `arguments` does."""
        self.arguments(vlm)
        if samples > 1 and self.greedy(vlm):
            raise InputError(
                f"greedy generation gives the same run every time, so {samples} samples would be copies of one; "
                "ask for one sample, or for a temperature above 0."
            )

    def arguments(self, vlm: VLM) -> dict[str, Any]:
        """Every setting that `generate` knows, for this model: nothing is left to the checkpoint or to a default.

        Raises InputError for a setting of the checkpoint that attribution cannot follow.
        """
        own = vlm.model.generation_config
        check_settings(own, vlm.model.get_input_embeddings().num_embeddings)
        chosen = {name: getattr(own, name, None) for name in SERVED} | OVERRIDDEN | REFUSED
        chosen["max_new_tokens"] = self.max_new_tokens or own.max_new_tokens or DEFAULT_NEW_TOKENS
        chosen["stop_strings"] = None  # `generate` would not say where a row of a batch stopped
        chosen["do_sample"] = not self.greedy(vlm)
        if chosen["do_sample"]:
            chosen["temperature"] = self._temperature(vlm)
            chosen["top_k"] = 50 if own.top_k is None else own.top_k  # transformers' own default is 50
        else:
            chosen |= dict.fromkeys(_WARPERS)
        return {name: value for name, value in chosen.items() if hasattr(own, name)}

    def _temperature(self, vlm: VLM) -> float:
        if self.temperature is not None:
            return self.temperature
        own = vlm.model.generation_config.temperature
        return 1.0 if own is None else own


def generate(
    vlm: VLM,
    inputs: Mapping[str, Tensor],
    sampling: Sampling,
    samples: int = 1,
    *,
    loop: Loop | None = None,
    failed: dict[int, InputError] | None = None,
) -> list[list[int]]:
    """`samples` generations of each row of `inputs`, in order, each cut after its end token or stop string.

    The draws come from a generator of their own: they neither depend on torch's global random state nor move it.
    loop: takes the place of transformers' own decoding loop, and is given what that is. failed: filled with the number
    of each row that cannot go on, as by `TextLogits`, `Draw` or a setting that fails on the way, and why; the others are
    what they would have been. Raises that error where there is no `failed`, and InputError for settings of the
    checkpoint that cannot be used.
    """
    arguments = sampling.arguments(vlm) | {"num_return_sequences": samples}
    failures = Failures(raising=failed is None)
    draws: list[LogitsProcessor] = []
    if arguments["do_sample"]:
        generator = torch.Generator(vlm.model.device)
        if sampling.seed is None:
            generator.seed()
        else:
            generator.manual_seed(sampling.seed)
        draws.append(Draw(generator, failures))
    ours = [TextLogits(vlm, failures)]
    begun = False

    def decode(
        model: Any,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: GenerationConfig,
        **model_kwargs: Any,
    ) -> Any:
        """transformers' own loop, with our draw behind the warpers that it made, in its order, for sampling."""
        nonlocal begun
        begun = True
        generation_config.do_sample = False
        made = [one if one in ours else _OfSettings(one, vlm.name, failures) for one in logits_processor]
        logits_processor[:] = made + draws
        return (loop or type(model)._sample)(
            model, input_ids, logits_processor, stopping_criteria, generation_config, **model_kwargs
        )

    strings = getattr(vlm.model.generation_config, "stop_strings", None)
    length = inputs["input_ids"].shape[1]
    try:
        ends = [_StopStrings(vlm.tokenizer, strings, length)] if strings else []
        with torch.inference_mode():
            output = vlm.model.generate(
                **inputs,
                **arguments,
                logits_processor=ours,
                stopping_criteria=[*ends, failures],
                custom_generate=decode,
            )
    except _BAD_SETTING as error:
        if begun:
            raise
        fault = _fault_of_settings(vlm.name, error)
        if failed is None:
            raise fault from error
        n = len(inputs["input_ids"]) * samples
        failed.update(dict.fromkeys(range(n), fault))
        return [[] for _ in range(n)]
    rows: list[list[int]] = output[:, length:].tolist()
    for end in ends:
        rows = [row[: end.lengths.get(i, len(row))] for i, row in enumerate(rows)]
    rows = [_until_end(row, vlm.end_tokens) for row in rows]
    if failed is not None:  # one that had ended before has not failed
        failed.update({i: error for i, (at, error) in failures.at.items() if len(rows[i]) > at - length})
    return rows


class _OfSettings(LogitsProcessor):
    """A processor that transformers made of a generation setting. Every row fails where the setting makes it fail."""

    def __init__(self, made: LogitsProcessor, name: str, failures: Failures) -> None:
        self._made, self._name, self._failures = made, name, failures

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        try:
            return self._made(input_ids, scores)
        except _BAD_SETTING as error:
            fault = _fault_of_settings(self._name, error, f"{type(self._made).__name__}: ")
            return self._failures.end(torch.ones_like(scores[:, 0], dtype=torch.bool), input_ids, scores, fault)


def _fault_of_settings(name: str, error: Exception, where: str = "") -> InputError:
    reason = str(error).rstrip(".")
    return InputError(
        f"{name!r} cannot generate with its settings: {where}{reason}. Mend its generation_config.json, or set "
        "vlm.model.generation_config."
    )


def _until_end(tokens: list[int], ends: frozenset[int]) -> list[int]:
    return tokens[: next((i + 1 for i, token in enumerate(tokens) if token in ends), len(tokens))]


class _StopStrings(StoppingCriteria):
    """Ends a row at the token that completes a stop string. lengths: of the rows that ended so, by their number.

    `generate`'s own criterion needs a tokenizer of particular make, and does not say at which token a row ended.
    """

    def __init__(self, tokenizer: Any, strings: str | list[str], prompt_length: int) -> None:
        self._tokenizer, self._prompt_length = tokenizer, prompt_length
        self._strings = [strings] if isinstance(strings, str) else list(strings)
        self._tail = max(map(len, self._strings)) + 4  # tokens that can hold one: a character is 4 tokens at most
        self.lengths: dict[int, int] = {}

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        generated = input_ids[:, self._prompt_length :]
        for row, tail in enumerate(self._tokenizer.batch_decode(generated[:, -self._tail :])):
            if row not in self.lengths and any(string in tail for string in self._strings):
                self.lengths[row] = generated.shape[1]
        return torch.tensor([row in self.lengths for row in range(len(input_ids))], device=input_ids.device)
