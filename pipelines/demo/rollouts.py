"""Runs of a model for training on them: many samples of each question at once, and the same runs read with gradients.

A question's prompt is read once and its keys and values serve all its samples. What `generate_runs` of the library
does beside (settings of checkpoints, stop strings, interrupts) is not needed here, and takes twice the time or more:
it reads the prompt, image and all, for every sample, copies all keys and values at each token, and goes on with rows
that have ended until the last one has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from trajkit.attribution.collect import pad_left
from trajkit.attribution.item import Item
from trajkit.vlm.model import VLM, Prompt

Floats = NDArray[np.float32]
_RULED_OUT = -1e9
"""Log-probability of the tokens that stand for images, which no run may hold; finite, so that 0 · log 0 is 0."""
_DROP = 0.85
"""Rows that have ended are dropped when no larger share than this goes on: each time, keys and values are copied."""


@dataclass(frozen=True, eq=False)
class Rollout:
    """One run. prompt: shared by the runs of one question. tokens: (n,) ids, the end token last if it ended. logprob,
    entropy: (n,) nats, of each token as it was drawn and of the distribution it was drawn from."""

    item: Item
    prompt: Prompt
    tokens: list[int]
    logprob: Floats
    entropy: Floats
    ended: bool


@dataclass(frozen=True, eq=False)
class Prompts:
    """Questions as one batch, padded on the left.

    inputs: for the model's pass. positions: (3, Q, P). first: (Q,) position of the first generated token. real: (Q, P)
    which tokens are not padding.
    """

    inputs: dict[str, Tensor]
    positions: Tensor
    first: Tensor
    real: Tensor

    @classmethod
    def of(cls, vlm: VLM, asked: Sequence[Prompt]) -> Prompts:
        each = [prompt.inputs for prompt in asked]
        inputs = pad_left(each, vlm.tokenizer.pad_token_id)
        own = [vlm.position_ids(one) for one in each]  # (3, 1, length)
        length = inputs["input_ids"].shape[1]
        positions = torch.cat([torch.nn.functional.pad(p, (length - p.shape[2], 0)) for p in own], 1)
        first = torch.stack([p.max() + 1 for p in own])
        return cls(inputs, positions, first, inputs["attention_mask"].bool())

    def read(self, model: Any) -> tuple[DynamicCache, Tensor]:
        """Keys and values of the prompts, and the state that the first token is predicted from, (Q, width)."""
        length = self.real.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=self.real.device).tril()
        itself = torch.eye(length, dtype=torch.bool, device=self.real.device)  # padding sees something, or it is NaN
        mask = (causal & self.real[:, None, :] | itself)[:, None]  # (Q, 1, P, P)
        cache = DynamicCache()
        seen = model.model(
            input_ids=self.inputs["input_ids"],
            attention_mask=mask,
            position_ids=self.positions,
            past_key_values=cache,
            pixel_values=self.inputs["pixel_values"],
            image_grid_thw=self.inputs["image_grid_thw"],
        )
        return cache, seen.last_hidden_state[:, -1]


def log_probs(model: Any, hidden: Tensor) -> Tensor:
    """(…, width) states → (…, V) log-probabilities of the next token."""
    logits = model.lm_head(hidden).float()
    placeholders = torch.tensor([model.config.image_token_id, model.config.video_token_id], device=logits.device)
    return logits.index_fill(-1, placeholders, _RULED_OUT).log_softmax(-1)


class _Reserved(DynamicLayer):
    """Keys and values with room for more tokens: adding one copies that one alone, and not all that there are."""

    def __init__(self, keys: Tensor, values: Tensor, room: int) -> None:
        """keys, values: (B, heads, S, d). room: tokens that will come, at most."""
        super().__init__()
        self.lazy_initialization(keys, values)
        self._room = room
        self._take(keys, values)

    def _take(self, keys: Tensor, values: Tensor) -> None:
        self._n = keys.shape[2]
        b, heads, _, d = keys.shape
        self._buffers = [x.new_empty(b, heads, self._n + self._room, d) for x in (keys, values)]
        self._write(0, keys, values)

    def _write(self, start: int, keys: Tensor, values: Tensor) -> None:
        self._n = start + keys.shape[2]
        for buffer, new in zip(self._buffers, (keys, values), strict=True):
            buffer[:, :, start : self._n] = new
        self.keys, self.values = (buffer[:, :, : self._n] for buffer in self._buffers)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        self._write(self._n, key_states, value_states)
        self._room -= key_states.shape[2]
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        self._take(self.keys[indices], self.values[indices])


def _reserved(cache: DynamicCache, samples: int, room: int) -> DynamicCache:
    """`samples` copies of each row, with room for more tokens."""
    cache.batch_repeat_interleave(samples)
    cache.layers = [_Reserved(layer.keys, layer.values, room) for layer in cache.layers]
    return cache


@torch.no_grad()
def roll_out(vlm: VLM, items: Sequence[Item], samples: int, longest: int, seed: int | None) -> list[list[Rollout]]:
    """`samples` runs of each item at temperature 1, of `longest` tokens at most; greedy ones where seed is None.

    The same items, samples and seed give the same runs. Raises InputError for an item that cannot be asked.
    """
    asked = [vlm.prepare(item.image, item.question) for item in items]
    prompts = Prompts.of(vlm, asked)
    drawn = _Drawn(len(items) * samples, longest, vlm)
    generator = None if seed is None else torch.Generator(vlm.model.device).manual_seed(seed)
    cache, hidden = prompts.read(vlm.model)
    cache = _reserved(cache, samples, longest)
    log_p = log_probs(vlm.model, hidden).repeat_interleave(samples, 0)  # (B, V)
    positions = prompts.first.repeat_interleave(samples)
    visible = prompts.real.repeat_interleave(samples, 0)
    visible = torch.nn.functional.pad(visible, (0, longest), value=True)
    for t in range(longest):
        tokens = log_p.argmax(-1) if generator is None else torch.multinomial(log_p.exp(), 1, generator=generator)[:, 0]
        keep = drawn.add(t, tokens, log_p)
        if not drawn.going.any() or t + 1 == longest:
            break
        if keep is not None:
            cache.batch_select_indices(keep)
            tokens, positions, visible = tokens[keep], positions[keep], visible[keep]
        seen = vlm.model.model(
            input_ids=tokens[:, None],
            attention_mask=visible[:, None, None, : prompts.real.shape[1] + t + 1],
            position_ids=(positions + t).expand(3, -1)[..., None],
            past_key_values=cache,
        )
        log_p = log_probs(vlm.model, seen.last_hidden_state[:, -1])
    each = [one for one in zip(items, asked, strict=True) for _ in range(samples)]
    runs = iter(drawn.rollouts(each))
    return [[next(runs) for _ in range(samples)] for _ in items]


class _Drawn:
    """What has been drawn so far, (B, longest), and which of its rows the batch still holds."""

    def __init__(self, n: int, longest: int, vlm: VLM) -> None:
        device = vlm.model.device
        self._ends = torch.tensor(sorted(vlm.end_tokens), device=device)
        self._tokens = torch.zeros(n, longest, dtype=torch.long, device=device)
        self._logprob, self._entropy = (torch.zeros(n, longest, device=device) for _ in range(2))
        self._length = torch.zeros(n, dtype=torch.long, device=device)
        self._ended = torch.zeros(n, dtype=torch.bool, device=device)
        self._rows = torch.arange(n, device=device)

    @property
    def going(self) -> Tensor:
        """Of the rows in the batch, those that have not ended."""
        return ~self._ended[self._rows]

    def add(self, t: int, tokens: Tensor, log_p: Tensor) -> Tensor | None:
        """Take the tokens of the rows in the batch; which of them to keep, where it is time to drop some."""
        going = self.going
        rows = self._rows[going]
        self._tokens[rows, t] = tokens[going]
        self._logprob[rows, t] = log_p.gather(1, tokens[:, None])[going, 0]
        self._entropy[rows, t] = -(log_p.exp() * log_p).sum(-1)[going]
        self._length[rows] = t + 1
        self._ended[rows] = torch.isin(tokens[going], self._ends)
        keep = self.going.nonzero()[:, 0]
        if not 0 < len(keep) <= _DROP * len(self._rows):
            return None
        self._rows = self._rows[keep]
        return keep

    def rollouts(self, of: Sequence[tuple[Item, Prompt]]) -> Iterator[Rollout]:
        tokens, ended = self._tokens.tolist(), self._ended.tolist()
        logprob, entropy = (x.cpu().numpy() for x in (self._logprob, self._entropy))
        for i, n in enumerate(self._length.tolist()):
            yield Rollout(*of[i], tokens[i][:n], logprob[i, :n], entropy[i, :n], ended[i])


@dataclass(frozen=True, eq=False)
class Reading:
    """Runs laid out to be read together. of: (B,) the prompt of each. tokens: (B, L), padded on the right. real: (B, L)
    which are not padding."""

    prompts: Prompts
    of: Tensor
    tokens: Tensor
    real: Tensor

    @classmethod
    def lay_out(cls, vlm: VLM, runs: Sequence[Rollout]) -> Reading:
        """Runs of one question, if they share their prompt, have it read once."""
        device = vlm.model.device
        asked = {id(run.prompt): run.prompt for run in runs}
        number = {name: i for i, name in enumerate(asked)}
        of = torch.tensor([number[id(run.prompt)] for run in runs], device=device)
        tokens = pad_runs([run.tokens for run in runs], device, torch.long)
        lengths = torch.tensor([len(run.tokens) for run in runs], device=device)
        real = torch.arange(tokens.shape[1], device=device) < lengths[:, None]
        return cls(Prompts.of(vlm, list(asked.values())), of, tokens, real)

    def log_probs(self, model: Any) -> Tensor:
        """(B, L, V) log-probabilities from which each token was drawn, with gradients where they are on."""
        cache, first = self.prompts.read(model)
        cache.batch_select_indices(self.of)
        n = self.tokens.shape[1] - 1
        before = self.prompts.real[self.of][:, None].expand(-1, n, -1)  # (B, L-1, P)
        causal = torch.ones(n, n, dtype=torch.bool, device=before.device).tril().expand(len(before), -1, -1)
        at = torch.arange(n, device=before.device)
        seen = model.model(
            input_ids=self.tokens[:, :-1],
            attention_mask=torch.cat([before, causal], 2)[:, None],
            position_ids=(self.prompts.first[self.of][:, None] + at).expand(3, -1, -1),
            past_key_values=cache,
        )
        return log_probs(model, torch.cat([first[self.of][:, None], seen.last_hidden_state], 1))


def pad_runs(rows: Sequence[Any], device: torch.device, dtype: torch.dtype) -> Tensor:
    """(B, longest) rows of numbers, with zeros behind the shorter ones."""
    each = [torch.as_tensor(row, device=device, dtype=dtype) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(each, batch_first=True)
