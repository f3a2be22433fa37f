"""The attention tap: keeps what is needed to recompute attention to the image, and changes nothing.

Asking a model for its attention weights switches it to slow kernels that can change its output. The tap instead wraps
the kernel in use, hands its result through untouched, and keeps the queries and keys that it was given (after norm and
rotary embedding). Attention is recomputed from them later, off the generation's path, for the few rows that matter
(`features.StepFeatures`; tests compare it with eager attention and the tokens with and without the tap).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from threading import get_ident
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from trajkit.attribution.features import attention_rows
from trajkit.errors import InputError
from trajkit.vlm.model import VLM

_names = count()
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}
"""Largest difference between the kernel's averages of values and ours that is rounding, by the model's precision."""


class AttentionTap:
    """Context manager that records queries and keys of a model's text stack while it reads or writes one sequence.

    Kept are the queries of the positions from `first_row` on, in order, until `take` hands them over, and the keys of
    the latest pass: a cache hands over all keys so far, so the latest hold the earlier ones too. That is checked, at
    every pass by the number of rows and keys, and at passes 1, 2, 4, 8 … by what the kernel returned: see `_follow`.
    Taps nest, on one model or several; leaving one restores what it found. A tap records the passes of the thread that
    entered it; taps of one model in several threads take turns.
    Raises InputError where keys or attention are not what is read here, as with a cache that drops keys, several
    sequences at once, sliding windows or attention sinks.
    """

    def __init__(self, vlm: VLM, first_row: int = 0) -> None:
        self._vlm, self._first_row = vlm, first_row
        self._name = f"trajkit_tap_{next(_names)}"
        self.scaling = 1.0
        layers = vlm.text_config.num_hidden_layers
        self._queries: list[list[Tensor]] = [[] for _ in range(layers)]
        self._keys: list[Tensor | None] = [None] * layers
        self._rows = [0] * layers
        """Rows that each layer has seen."""
        self._passes = 0
        self._undo = ExitStack()

    def __enter__(self) -> AttentionTap:
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        check_windows(self._vlm.text_config)
        with ExitStack() as undo:  # the last done is undone first, each whatever becomes of the others
            self._vlm.lock.acquire()
            undo.callback(self._vlm.lock.release)
            previous = self._vlm.text_config._attn_implementation
            if previous not in ALL_ATTENTION_FUNCTIONS:
                raise InputError(
                    f"the attention tap needs a model on a fast kernel (sdpa or flash attention); this one is on "
                    f"{previous!r}. Load it with tk.load_vlm."
                )
            # without a mask function of the same name the model would get no mask at all, silently
            for registry, function in (
                (ALL_ATTENTION_FUNCTIONS, self._tapped(ALL_ATTENTION_FUNCTIONS[previous])),
                (ALL_MASK_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS[previous]),
            ):
                undo.callback(type(registry)._global_mapping.pop, self._name, None)
                registry.register(self._name, function)
            undo.callback(self._set, previous)
            self._set(self._name)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def _tapped(self, kernel: Callable[..., Any]) -> Callable[..., Any]:
        """The kernel, with what it is given kept and its result handed through."""
        own = get_ident()

        def tapped(module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
            if get_ident() != own:
                return kernel(module, query, key, value, *args, **kwargs)
            layer, before = module.layer_idx, self._keys[module.layer_idx]
            self.scaling = module.scaling
            self._count(layer, query, key)
            skipped = self._first_row - (key.shape[2] - query.shape[2])  # rows of this pass that are not asked for
            if skipped < query.shape[2]:
                kept = query[:, :, skipped:].clone() if skipped > 0 else query  # a view would hold the whole prompt
                self._queries[layer].append(kept)
            self._keys[layer] = key
            result = kernel(module, query, key, value, *args, **kwargs)
            if self._passes & (self._passes - 1) == 0:
                self._follow(layer, before, query, key, value, result[0])
            return result

        return tapped

    def _count(self, layer: int, query: Tensor, key: Tensor) -> None:
        """Check that a pass goes on, in one sequence, where this layer and all others left off."""
        rows, seen = query.shape[2], self._rows[layer]
        if layer == 0:
            self._passes += 1
            if len(set(self._rows)) > 1:
                raise _unlike(f"a pass began after layers had seen {sorted(set(self._rows))} rows")
        if len(query) != 1:
            raise _unlike(f"a pass was of {len(query)} sequences at once, where one is expected")
        if key.shape[2] != seen + rows:
            raise _unlike(
                f"a pass of {rows} rows came with {key.shape[2]} keys in layer {layer}, where {seen} + {rows} = "
                f"{seen + rows} are expected"
            )
        self._rows[layer] = seen + rows

    def _follow(
        self, layer: int, before: Tensor | None, query: Tensor, key: Tensor, value: Tensor, output: Tensor
    ) -> None:
        """Check that earlier keys are as they were, and that the last row's attention gives what the kernel returned.

        query: (1, H, n, D); key, value: (1, H_kv, S, D); output: (1, n, H, D); before: the keys of the pass before.
        Equal but for rounding, as a part of the largest value that is averaged.
        """
        if before is not None and not torch.equal(key[:, :, : before.shape[2]], before):
            raise _unlike(f"the keys of earlier rows have changed in layer {layer}")
        attention = attention_rows(query[0, :, -1:], key[0], self.scaling)  # (H, 1, S)
        grouped = attention.reshape(value.shape[1], -1, value.shape[2])  # (H_kv, H/H_kv, S)
        ours = torch.matmul(grouped, value[0].float()).flatten(0, 1)  # (H, D)
        error = float((ours - output[0, -1].float()).abs().max() / value.abs().max().clamp(min=1e-30))
        if error > _TOLERANCE[query.dtype]:  # NaN is reported by `StepFeatures`
            raise _unlike(
                f"attention recomputed in layer {layer} gives values that differ from the kernel's by {error:.2g} of "
                f"the largest, where {_TOLERANCE[query.dtype]:.2g} is rounding"
            )

    def _set(self, name: str) -> None:
        self._vlm.model.set_attn_implementation({self._vlm.adapter.text_config_key: name})

    def take(self, n: int) -> list[Tensor]:
        """Queries of the next `n` rows, (B, H, n, D) per layer. They are forgotten here."""
        taken = []
        for i, layer in enumerate(self._queries):
            whole = torch.cat(layer, dim=2) if len(layer) > 1 else layer[0]
            taken.append(whole[:, :, :n])
            self._queries[i] = [whole[:, :, n:].clone()] if n < whole.shape[2] else []
        return taken

    def keys(self, end: int) -> list[Tensor]:
        """Keys of the positions before `end`, (B, H_kv, end, D) per layer; views, safe while the model runs on."""
        return [key[:, :, :end] for key in self._keys if key is not None]


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


def _unlike(seen: str) -> InputError:
    from transformers import __version__

    return InputError(
        f"attention cannot be recomputed from what this model (on transformers {__version__}) hands over: {seen}. "
        "Effects would be wrong. Generate one sequence at a time with a cache that keeps every key, or use a version "
        "of transformers that trajkit was tested with."
    )
