"""The attention tap: keeps what is needed to recompute attention to the image, and changes nothing.

Asking a model for its attention weights switches it to slow kernels that can change its output. The tap instead wraps
the kernel in use, hands its result through untouched, and keeps the queries and keys that it was given (after norm and
rotary embedding) and the log-sum-exp of each row, by which attention to any keys can be had without the others
(`kernels`). It is recomputed later, off the generation's path, for the rows and keys that matter
(`features.StepFeatures`; tests compare it with eager attention and the tokens with and without the tap).
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from threading import get_ident
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from trajkit.attribution.kernels import Attended, Kernel, one_row, scores_of_rows, with_lse
from trajkit.attribution.rows import ROOM, Pass, Rows, ShortPasses
from trajkit.attribution.wrapped import attention_kernel
from trajkit.errors import InputError
from trajkit.vlm.model import VLM

_TOLERANCE = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}
"""Largest difference between the kernel's averages of values and ours that is rounding, by the model's precision."""


class AttentionTap:
    """Context manager that records queries and keys of a model's text stack while it reads or writes sequences.

    One sequence, or several as a batch padded at the left. Kept are the queries of each sequence's positions from its
    first row on, in order, until `take` hands them over, and the keys of the latest pass: a cache hands over all keys
    so far, so the latest hold the earlier ones too. That is checked, at every pass by the number of rows and keys, and
    at passes 1, 2, 4, 8 … by what the kernel returned: see `_follow`.
    Taps nest, on one model or several; leaving one restores what it found. A tap records the passes of the thread that
    entered it; taps of one model in several threads take turns.
    Raises InputError where keys or attention are not what is read here, as with a cache that drops keys, more
    sequences than were said, sliding windows or attention sinks. Warns where the kernel keeps its log-sum-exp to
    itself: attention is then normalised by a pass over all keys.
    """

    def __init__(self, vlm: VLM, first_row: int | Sequence[int] = 0, padding: Sequence[int] = (0,)) -> None:
        """padding: for each sequence, the pad tokens at its left. first_row: of each, or of all, its first position
        that is kept. Positions are of a sequence without its padding, here and below."""
        self._vlm, self._padding = vlm, tuple(padding)
        firsts = [first_row] * len(self._padding) if isinstance(first_row, int) else first_row
        self._next: list[int | None] = [first + pad for first, pad in zip(firsts, self._padding, strict=True)]
        """Of each sequence, the first row in the batch that has not been taken; None where none will be."""
        self.scaling = 1.0
        layers = vlm.text_config.num_hidden_layers
        self._passes: deque[Pass] = deque()
        self._keys: list[Tensor | None] = [None] * layers
        self._rows = [0] * layers
        """Rows that each layer has seen."""
        self._n_passes = 0
        self._looking = self._resting = False
        self._quick = self._said = False
        self._undo = ExitStack()

    def __enter__(self) -> AttentionTap:
        check_windows(self._vlm.text_config)
        self._undo.enter_context(attention_kernel(self._vlm, self._tapped))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def _tapped(self, kernel: Callable[..., Any]) -> Callable[..., Any]:
        """The kernel, with what it is given kept and its result handed through."""
        own, telling = get_ident(), with_lse(kernel)
        self._quick = self._vlm.text_config._attn_implementation == "sdpa"

        def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Attended:
            if self._resting:
                return telling(module, query, key, value, *args, **kwargs)
            layer, before = module.layer_idx, self._keys[module.layer_idx]
            self._count(layer, query, key)
            attended = self._attend(telling, module, query, key, value, *args, **kwargs)
            self._keep(layer, query, key, attended.lse)
            if self._looking:
                self._follow(layer, before, query, key, value, attended)
            return attended

        def tapped(*args: Any, **kwargs: Any) -> Any:
            if self._resting or get_ident() != own:
                return kernel(*args, **kwargs)
            return attend(*args, **kwargs).result

        tapped.with_lse = attend  # type: ignore[attr-defined]
        return tapped

    def _attend(
        self,
        telling: Kernel,
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Attended:
        """The kernel's own result; of one row, by the shorter way, if that gave the same before."""
        self.scaling = module.scaling
        short = self._quick and query.shape[2] == 1 and (mask is None or mask.shape[1:3] == (1, 1))
        if short and not self._looking:
            return one_row(query, key, value, module.scaling, mask)
        attended = telling(module, query, key, value, mask, *args, **kwargs)
        if short:
            self._quick = torch.equal(one_row(query, key, value, module.scaling, mask).result[0], attended.result[0])
        return attended

    def _count(self, layer: int, query: Tensor, key: Tensor) -> None:
        """Check that a pass goes on, in the sequences told of, where this layer and all others left off."""
        (batch, _, rows, _), seen = query.shape, self._rows[layer]
        if layer == 0:
            self._n_passes += 1
            self._looking = self._n_passes & (self._n_passes - 1) == 0
            if len(set(self._rows)) > 1:
                raise _unlike(f"a pass began after layers had seen {sorted(set(self._rows))} rows")
            self._begin(seen, rows)
        if batch != (expected := len(self._padding)):
            raise _unlike(f"a pass was of {batch} sequences at once, where {expected} is expected")
        if key.shape[2] != seen + rows:
            raise _unlike(
                f"a pass of {rows} rows came with {key.shape[2]} keys in layer {layer}, where {seen} + {rows} = "
                f"{seen + rows} are expected"
            )
        self._rows[layer] = seen + rows

    def _begin(self, seen: int, rows: int) -> None:
        """Make place for the rows of a pass, of which those are kept that a sequence needs."""
        needed, latest = self._needed, self._passes[-1] if self._passes else None
        if rows > ROOM or needed is None or needed > seen:
            self._passes.append(Pass(seen, rows))
            self._passes[-1].skip(rows if needed is None else needed - seen)
        elif not (isinstance(latest, ShortPasses) and latest.begin(rows)):
            self._passes.append(short := ShortPasses(seen, len(self._rows)))
            short.begin(rows)

    def _keep(self, layer: int, query: Tensor, key: Tensor, lse: Tensor | None) -> None:
        if lse is None and query.shape[2] == 1 and not self._said:
            _warn_of_no_lse(self._vlm.name)
            self._said = True
        self._passes[-1].add(query, lse)
        self._keys[layer] = key

    def _follow(
        self, layer: int, before: Tensor | None, query: Tensor, key: Tensor, value: Tensor, attended: Attended
    ) -> None:
        """Check that earlier keys are as they were, and that the last row's attention gives what the kernel returned.

        query: (B, H, n, D); key, value: (B, H_kv, S, D); the kernel's output: (B, n, H, D); before: the keys of the
        pass before. Equal but for rounding, as a part of the largest value that is averaged.
        """
        if before is not None and not torch.equal(key[:, :, : before.shape[2]], before):
            raise _unlike(f"the keys of earlier rows have changed in layer {layer}")
        tolerance = _TOLERANCE[query.dtype]
        for i, pad in enumerate(self._padding):
            keys, values = key[i, :, pad:], value[i, :, pad:]
            scores = scores_of_rows(query[i, :, -1:], keys, self.scaling)  # (H, 1, S)
            grouped = scores.softmax(-1).reshape(values.shape[0], -1, values.shape[1])  # (H_kv, H/H_kv, S)
            ours = torch.matmul(grouped, values.float()).flatten(0, 1)  # (H, D)
            error = float((ours - attended.result[0][i, -1].float()).abs().max() / values.abs().max().clamp(min=1e-30))
            if error > tolerance:  # NaN is reported by `StepFeatures`
                raise _unlike(
                    f"attention recomputed in layer {layer} gives values that differ from the kernel's by {error:.2g} "
                    f"of the largest, where {tolerance:.2g} is rounding"
                )
            if attended.lse is not None:
                off = float((scores.logsumexp(-1)[:, 0] - attended.lse[i, :, -1]).abs().max())
                if off > tolerance:
                    raise _unlike(
                        f"the kernel's log-sum-exp in layer {layer} differs from that of its scores by {off:.2g}, "
                        f"where {tolerance:.2g} is rounding"
                    )

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Within, passes are of other sequences than those that are recorded here, and are let through."""
        self._resting = True
        try:
            yield
        finally:
            self._resting = False

    def take(self, n: int, sequence: int = 0) -> Rows:
        """The next `n` rows of a sequence. They are forgotten here."""
        at = self._next[sequence]
        if at is None:
            raise InputError(f"sequence {sequence} was released, its rows are no longer kept.")
        rows = Rows.of_passes(self._passes, at, n, sequence)
        self._next[sequence] = at + n
        self._forget()
        return rows

    def release(self, sequence: int) -> None:
        """Keep no more rows of a sequence, which has ended."""
        self._next[sequence] = None
        self._forget()

    def waiting(self, sequence: int = 0) -> int:
        """Rows of a sequence that were seen and not taken."""
        at = self._next[sequence]
        return 0 if at is None else max(self._rows[-1] - at, 0)

    @property
    def _needed(self) -> int | None:
        """The first row of the batch that a sequence has not taken; None where all were released."""
        return min((at for at in self._next if at is not None), default=None)

    def _forget(self) -> None:
        """Drop passes that no sequence needs."""
        needed = self._needed
        while self._passes and (needed is None or self._passes[0].end <= needed):
            if needed is not None and isinstance(self._passes[0], ShortPasses) and not self._passes[0].full:
                break  # the latest, which has room for more
            self._passes.popleft()
        if self._passes and needed is not None and needed - self._passes[0].start >= ROOM:
            self._passes[0] = self._passes[0].after(needed)

    def keys(self, end: int, sequence: int = 0) -> list[Tensor]:
        """Keys of a sequence's positions before `end`, (H_kv, end, D) per layer: views, safe while the model runs."""
        pad = self._padding[sequence]
        return [key[sequence, :, pad : pad + end] for key in self._keys if key is not None]


def check_windows(config: Any) -> None:
    """Raise InputError where a text stack has layers that do not attend to all keys; config: its configuration."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        found = [f"layer_types {kind!r}" for kind in sorted({*kinds} - {"full_attention"})]
    elif getattr(config, "use_sliding_window", True):
        limits = {name: getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")}
        found = [f"{name} {value}" for name, value in limits.items() if value is not None]
    else:
        found = []
    if found:
        raise InputError(
            f"the model's text stack has {', '.join(found)}; attribution needs layers that attend to all earlier "
            "tokens (full_attention in all layers). Use another model, or switch the windows off in its config.json if "
            "it was trained without them."
        )


def _warn_of_no_lse(name: str) -> None:
    warnings.warn(
        f"the attention kernel of {name} keeps the log-sum-exp of its rows to itself, so attention is normalised by a "
        "pass over all keys: the cost of watching grows with the context. Load the model with attention='sdpa'.",
        stacklevel=2,
    )


def _unlike(seen: str) -> InputError:
    from transformers import __version__

    return InputError(
        f"attention cannot be recomputed from what this model (on transformers {__version__}) hands over: {seen}. "
        "Effects would be wrong. Generate without beams, with a cache that keeps every key, or use a version of "
        "transformers that trajkit was tested with."
    )
