"""Packed passes: pieces of several sequences, one behind the other, go through a model's text stack as one row.

All but attention treats each token by itself, so that pieces of any length share a pass without padding. Attention is
computed for each piece from the keys of its own sequence: by the fused kernel over the keys from before and over its
own, joined by the log-sum-exp that both tell, so that no mask is made. Sequences join and leave between passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from threading import get_ident
from typing import Any

import torch
from torch import Tensor

from trajkit.attribution.kernels import attention
from trajkit.attribution.rows import Pass, Rows
from trajkit.attribution.tap import check_windows
from trajkit.attribution.wrapped import attention_kernel
from trajkit.errors import InputError
from trajkit.vlm.model import VLM, Prompt

ROWS_AT_ONCE = 8192
"""Rows of several pieces that one pass takes; a longer piece has one of its own."""
_ROOM = 256
"""Keys that there is room for at first."""


class ReadSequence:
    """A prompt and what follows it, as far as a model has read it: keys and values of every layer."""

    def __init__(self, vlm: VLM, prompt: Prompt) -> None:
        self.prompt = prompt
        self.n = 0
        """Positions read."""
        self.scaling = 1.0
        self._positions = vlm.position_ids(prompt.inputs)[:, 0]  # (3, P)
        self._kept: list[tuple[Tensor, Tensor]] = []  # (H_kv, room, D) keys and values of each layer

    @property
    def nbytes(self) -> int:
        """Memory of keys and values, bytes."""
        return sum(one.nbytes for pair in self._kept for one in pair)

    def keys(self, end: int, sequence: int = 0) -> list[Tensor]:
        """Keys of the positions before `end`, (H_kv, end, D) per layer."""
        return [keys[:, :end] for keys, _ in self._kept]

    def put(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all positions, with those of the next m, (H_kv, m, D), behind. They count as read once
        `n` says so: what a pass that failed has put is written over."""
        end = self.n + key.shape[1]
        if layer == len(self._kept):
            self._kept.append((_room(key, end), _room(value, end)))
        if end > self._kept[layer][0].shape[1]:
            self._kept[layer] = tuple(_room(own, end, self.n) for own in self._kept[layer])  # type: ignore[assignment]
        for own, new in zip(self._kept[layer], (key, value), strict=True):
            own[:, self.n : end] = new
        return self._kept[layer][0][:, :end], self._kept[layer][1][:, :end]

    def positions(self, end: int) -> Tensor:
        """(3, m) rotary positions of the positions from `n` on: those of the prompt, then one after the other."""
        length = self._positions.shape[1]
        further = torch.arange(1, max(end - length, 0) + 1, device=self._positions.device)
        return torch.cat([self._positions, self._positions[:, -1:] + further], 1)[:, self.n : end]


def _room(like: Tensor, end: int, n: int = 0) -> Tensor:
    """Room for `end` keys and a quarter more, the first `n` of `like` copied there."""
    room = like.new_empty(like.shape[0], max(end + end // 4, _ROOM), like.shape[2])
    room[:, :n] = like[:, :n]
    return room


@dataclass(frozen=True, eq=False)
class Piece:
    """The next `tokens`, (m,), of a sequence; the first of them all hold its images. first_row: position from which its
    rows are kept."""

    sequence: ReadSequence
    tokens: Tensor
    first_row: int


@dataclass(eq=False)
class Seen:
    """What a pass gave for a piece: the rows that were kept, and the hidden state of each token, (m, D)."""

    rows: Rows
    hidden: Tensor = field(repr=False)


@torch.inference_mode()
def read_pieces(vlm: VLM, pieces: Sequence[Piece]) -> Iterator[Seen]:
    """Read the pieces, of sequences that differ, in as few passes as `ROWS_AT_ONCE` allows; of each, in order, what was
    seen, before the next pass is made.

    Raises InputError where the text stack's attention is not that over all earlier tokens.
    """
    check_windows(vlm.text_config)
    for group in _groups(pieces):
        packed = _PackedPass(group)
        with attention_kernel(vlm, packed.attention):
            hidden = vlm.model.model(**_inputs(group), use_cache=False).last_hidden_state[0]
        yield from packed.finish(hidden)


def _groups(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    for piece in pieces:
        if group and sum(len(one.tokens) for one in [*group, piece]) > ROWS_AT_ONCE:
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def _inputs(pieces: Sequence[Piece]) -> dict[str, Tensor]:
    """Inputs of one pass; images go with the piece that begins their sequence."""
    inputs = {
        "input_ids": torch.cat([piece.tokens for piece in pieces])[None],
        "position_ids": torch.cat([p.sequence.positions(p.sequence.n + len(p.tokens)) for p in pieces], 1)[:, None],
    }
    begun = [piece.sequence.prompt.inputs for piece in pieces if piece.sequence.n == 0]
    for name in ("pixel_values", "image_grid_thw") if begun else ():
        inputs[name] = torch.cat([prompt[name] for prompt in begun])
    return inputs


class _PackedPass:
    """One pass over pieces, each attending to its own sequence."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self._pieces = pieces
        self._passes = [Pass(piece.sequence.n, len(piece.tokens)) for piece in pieces]
        for piece, own in zip(pieces, self._passes, strict=True):
            own.skip(piece.first_row - own.start)
        ends = torch.tensor([0, *(len(piece.tokens) for piece in pieces)]).cumsum(0).tolist()
        self._slices = [slice(a, b) for a, b in pairwise(ends)]

    def attention(self, kernel: Callable[..., Any]) -> Callable[..., Any]:
        """What takes the place of `kernel` in this pass; passes of other threads are as they were."""
        own = get_ident()

        def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any) -> Any:
            if get_ident() != own:
                return kernel(module, query, key, value, mask, **kwargs)
            _check_plain(kwargs)
            outputs = []
            for piece, seen, at in zip(self._pieces, self._passes, self._slices, strict=True):
                rows, sequence = query[:, :, at], piece.sequence
                keys, values = sequence.put(module.layer_idx, key[0, :, at], value[0, :, at])
                out, lse = last_rows(rows, keys[None], values[None], module.scaling)
                sequence.scaling = module.scaling
                seen.add(rows, lse)
                outputs.append(out)
            return torch.cat(outputs, 2).transpose(1, 2).contiguous(), None

        return attend

    def finish(self, hidden: Tensor) -> list[Seen]:
        """Count the pieces as read. hidden: (all rows, D)."""
        for piece in self._pieces:
            piece.sequence.n += len(piece.tokens)
        return [Seen(Rows((own,), 0, own.n), hidden[at]) for own, at in zip(self._passes, self._slices, strict=True)]


def last_rows(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> tuple[Tensor, Tensor | None]:
    """Attention of the last n positions to all of S: (1, H, n, D), and the log-sum-exp of its rows, (1, H, n) or None.

    query: (1, H, n, D); key, value: (1, H_kv, S, D). Without a mask: over the S − n keys before, and the rows' own.
    """
    n, end = query.shape[2], key.shape[2]
    attend = partial(attention, query, scale=scaling, enable_gqa=query.shape[1] != key.shape[1])
    if n in (1, end):
        return attend(key, value, is_causal=n > 1)
    before, before_lse = attend(key[:, :, : end - n], value[:, :, : end - n])
    own, own_lse = attend(key[:, :, end - n :], value[:, :, end - n :], is_causal=True)
    if before_lse is None or own_lse is None:
        mask = torch.ones(n, end, dtype=torch.bool, device=key.device).tril(end - n)
        return attend(key, value, attn_mask=mask)
    lse = torch.logaddexp(before_lse, own_lse)
    shares = [(one - lse).exp()[..., None] for one in (before_lse, own_lse)]
    return (before * shares[0] + own * shares[1]).to(query.dtype), lse


_MORE = ("sliding_window", "softcap", "s_aux", "sinks")
"""What models hand to a kernel beside queries, keys, values and scaling, where their attention is of another kind."""


def _check_plain(kwargs: dict[str, Any]) -> None:
    found = [name for name in _MORE if kwargs.get(name) is not None]
    if found:
        raise InputError(
            f"the model's attention has {', '.join(found)}, and tokens can be followed only where attention is over "
            "all earlier tokens. Use another model."
        )
