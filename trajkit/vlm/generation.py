"""How runs are generated: what of a checkpoint's settings a run is made with, and the draw itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from trajkit.errors import InputError
from trajkit.vlm.beginnings import Beginnings, Budget
from trajkit.vlm.logits import Draw, Failures, TextLogits
from trajkit.vlm.model import VLM
from trajkit.vlm.settings import OVERRIDDEN, REFUSED, SERVED, check_settings, check_value

DEFAULT_NEW_TOKENS = 4096
GREEDY_BELOW = 1e-6
"""Temperatures below it take the likeliest token: float32 logits next to each other lie about this far apart."""

Loop = Callable[..., Any]
"""Called with model, input_ids, logits_processor, stopping_criteria, generation_config and more, as `_sample` is."""
_WARPERS = ("temperature", "top_h", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
_FURTHER = ("top_p", "top_k", "stop_strings")
_BAD_SETTING = (ValueError, TypeError, LookupError, OverflowError)
"""What a setting raises that is of another kind than transformers thinks: it reads them unchecked."""


@dataclass(frozen=True)
class Sampling:
    """How to generate; None for the model's own setting each time. temperature: 0 for greedy, for which top_p and top_k
    do nothing. seed: None for another each time. top_p: only the likeliest tokens that together are this likely are
    drawn from. top_k: only so many of the likeliest, 0 for all. stop_strings: texts, one or several, that end a run;
    () for none.

    Raises InputError for a temperature outside 0 to 10⁶, no new tokens, a seed outside 0 to 2³² − 1, a top_p outside 0
    to 1, a negative top_k, or an empty stop string.
    """

    temperature: float | None = None
    max_new_tokens: int | None = None
    seed: int | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_strings: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.stop_strings, str):
            object.__setattr__(self, "stop_strings", (self.stop_strings,))
        for name, value in self.to_dict().items():
            if name != "seed" and value is not None:
                check_value(name, value)
        seed = self.seed
        whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
        if seed is not None and not (whole and 0 <= seed < 2**32):  # torch's generator reads no more on the CPU
            raise InputError(f"seed must be a whole number from 0 to 4294967295 (2³² − 1); got {seed!r}.")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        strings = self.stop_strings
        return vars(self) | {"stop_strings": None if strings is None else list(strings)}

    @property
    def drawn(self) -> str:
        """What tells runs of one prompt apart by the way in which they were drawn, but for those without a seed."""
        further = {name: value for name in _FURTHER if (value := self.to_dict()[name]) is not None}
        return f"{self.seed} {self.temperature} {self.max_new_tokens}" + (f" {json.dumps(further)}" if further else "")

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
            of_model = 50 if own.top_k is None else own.top_k  # transformers' own default is 50
            chosen["top_k"] = of_model if self.top_k is None else self.top_k
            chosen["top_p"] = own.top_p if self.top_p is None else self.top_p
        else:
            chosen |= dict.fromkeys(_WARPERS)
        return {name: value for name, value in chosen.items() if hasattr(own, name)}

    def stops(self, vlm: VLM) -> list[str]:
        """The texts that end a run."""
        own = getattr(vlm.model.generation_config, "stop_strings", None)
        strings = own if self.stop_strings is None else self.stop_strings
        return [strings] if isinstance(strings, str) else list(strings or ())

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
    begun: Sequence[Sequence[int]] = (),
    loop: Loop | None = None,
    failed: dict[int, InputError] | None = None,
    ended: dict[int, list[int]] | None = None,
) -> list[list[int]]:
    """`samples` generations of each row of `inputs`, in order, each cut after its end token or stop string.

    The draws come from a generator of their own: they neither depend on torch's global random state nor move it.
    begun: for each row of `inputs` the tokens that its generation begins with, and which it holds. It goes on from
    there as if the model had written them: with the same seed the same tokens follow, and `max_new_tokens` counts them.
    (Where some rows begin with more than others, settings that count tokens from the beginning take all for as far as
    the longest.) loop: takes the place of transformers' own decoding loop, and is given what that is. failed: filled
    with the number of each row that cannot go on, as by `TextLogits`, `Draw` or a setting that fails on the way, and
    why; the others are what they would have been. ended: filled, where an interrupt (Ctrl-C) stops all of them, with
    those that had ended by then; the interrupt is raised. Raises that error where there is no `failed`, and InputError
    for settings of the checkpoint that cannot be used, and as `Beginnings` does.
    """
    arguments = sampling.arguments(vlm) | {"num_return_sequences": samples}
    n, length = len(inputs["input_ids"]) * samples, inputs["input_ids"].shape[1]
    each = [row for row in begun for _ in range(samples)] or [()] * n
    beginnings = Beginnings(vlm, each, length, arguments["max_new_tokens"])
    budget = Budget(beginnings, arguments["max_new_tokens"], vlm.model.device)
    arguments["max_new_tokens"] += beginnings.uneven
    failures = Failures(raising=failed is None)
    draws: list[Draw] = []
    if arguments["do_sample"]:
        generator = torch.Generator(vlm.model.device)
        if sampling.seed is None:
            generator.seed()
        else:
            generator.manual_seed(sampling.seed)
        draws.append(Draw(generator, failures))
    ours = [TextLogits(vlm, failures)]
    started = False

    def decode(
        model: Any,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: GenerationConfig,
        **model_kwargs: Any,
    ) -> Any:
        """transformers' own loop, with our draw behind the warpers that it made, in its order, for sampling."""
        nonlocal started
        started = True
        input_ids, model_kwargs = beginnings.put(model, input_ids, model_kwargs)
        for draw in draws:
            draw.skip(beginnings.longest, (n, vlm.text_config.vocab_size))
        generation_config.do_sample = False
        made = [one if one in ours else _OfSettings(one, vlm.name, failures) for one in logits_processor]
        logits_processor[:] = made + draws
        return (loop or type(model)._sample)(
            model, input_ids, logits_processor, stopping_criteria, generation_config, **model_kwargs
        )

    strings, latest = sampling.stops(vlm), _Latest()
    ends = [_StopStrings(vlm.tokenizer, strings, beginnings)] if strings else []
    lengths: dict[int, int] = ends[0].lengths if ends else {}

    def written(output: Tensor) -> list[list[int]]:
        rows = []
        for i, (row, start, own) in enumerate(zip(output.tolist(), beginnings.starts, beginnings.rows, strict=True)):
            new = row[start : min(start + budget.n, lengths.get(i, len(row)))][len(own) :]
            rows.append(own + _until_end(new, vlm.end_tokens))
        return rows

    try:
        with torch.inference_mode():
            output = vlm.model.generate(
                **inputs,
                **arguments,
                logits_processor=ours,
                stopping_criteria=[*ends, budget, failures, latest],
                custom_generate=decode,
            )
    except KeyboardInterrupt:
        if ended is not None and latest.tokens is not None:
            for i, row in enumerate(written(latest.tokens)):
                if i not in failures.at and (i in lengths or (row and row[-1] in vlm.end_tokens)):
                    ended[i] = row
        raise
    except _BAD_SETTING as error:
        if started:
            raise
        fault = _fault_of_settings(vlm.name, error)
        if failed is None:
            raise fault from error
        failed.update(dict.fromkeys(range(n), fault))
        return [[] for _ in range(n)]
    rows = written(output)
    if failed is not None:  # one that had ended before has not failed
        starts = beginnings.starts
        failed.update({i: error for i, (at, error) in failures.at.items() if len(rows[i]) > at - starts[i]})
    return rows


class _Latest(StoppingCriteria):
    """Ends nothing. tokens: (B, S), all that there is of a batch so far."""

    tokens: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        self.tokens = input_ids
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


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
    """Ends a row at the token that completes a stop string. lengths: of the rows that ended so, by their number, with
    all that stands before them in the batch.

    `generate`'s own criterion needs a tokenizer of particular make, and does not say at which token a row ended.
    """

    def __init__(self, tokenizer: Any, strings: list[str], beginnings: Beginnings) -> None:
        self._tokenizer, self._strings = tokenizer, strings
        self._tail = max(map(len, self._strings)) + 4  # tokens that can hold one: a character is 4 tokens at most
        self._from = [  # the column from which a row is looked at: a string that it begins with has ended nothing
            start + (len(row) if self._holds(row[-self._tail :]) else 0)
            for start, row in zip(beginnings.starts, beginnings.rows, strict=True)
        ]
        self.lengths: dict[int, int] = {}

    def _holds(self, tokens: Sequence[int]) -> bool:
        text = self._tokenizer.decode(tokens)
        return any(string in text for string in self._strings)

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        end = input_ids.shape[1]
        for row, tokens in enumerate(input_ids[:, -self._tail :].tolist()):
            own = tokens[max(0, self._from[row] - end + len(tokens)) :]
            if row not in self.lengths and self._holds(own):
                self.lengths[row] = end
        return torch.tensor([row in self.lengths for row in range(len(input_ids))], device=input_ids.device)
