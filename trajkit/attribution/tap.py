"""The attention tap: keeps what is needed to recompute attention to the image, and changes nothing.

Asking a model for its attention weights switches it to slow kernels that can change its output. The tap instead wraps
the kernel in use, hands its result through untouched, and keeps the queries and keys that it was given (after norm and
rotary embedding). Attention is recomputed from them later, off the generation's path, for the few rows that matter
(`features.StepFeatures`; tests compare it with eager attention and the tokens with and without the tap).
"""

from __future__ import annotations

from itertools import count
from threading import get_ident
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from trajkit.errors import InputError
from trajkit.vlm.model import VLM

_names = count()


class AttentionTap:
    """Context manager that records queries and keys of a model's text stack while it runs.

    Kept are the queries of the positions from `first_row` on, in order, until `take` hands them over, and the keys of
    the latest pass: a cache hands over all keys so far, so the latest hold the earlier ones too.
    Taps nest, on one model or several; leaving one restores what it found. A tap records the passes of the thread that
    entered it; taps of one model in several threads take turns.
    """

    def __init__(self, vlm: VLM, first_row: int = 0) -> None:
        self._vlm, self._first_row = vlm, first_row
        self._name = f"trajkit_tap_{next(_names)}"
        self._previous = ""
        self.scaling = 1.0
        layers = vlm.text_config.num_hidden_layers
        self._queries: list[list[Tensor]] = [[] for _ in range(layers)]
        self._keys: list[Tensor | None] = [None] * layers

    def __enter__(self) -> AttentionTap:
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        self._vlm.lock.acquire()
        self._previous = self._vlm.text_config._attn_implementation
        if self._previous not in ALL_ATTENTION_FUNCTIONS:
            self._vlm.lock.release()
            raise InputError(
                f"the attention tap needs a model on a fast kernel (sdpa or flash attention); this one is on "
                f"{self._previous!r}. Load it with tk.load_vlm."
            )
        kernel = ALL_ATTENTION_FUNCTIONS[self._previous]

        own = get_ident()

        def tapped(module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
            if get_ident() != own:
                return kernel(module, query, key, value, *args, **kwargs)
            layer = module.layer_idx
            self.scaling = module.scaling
            skipped = self._first_row - (key.shape[2] - query.shape[2])  # rows of this pass that are not asked for
            if skipped < query.shape[2]:
                kept = query[:, :, skipped:].clone() if skipped > 0 else query  # a view would hold the whole prompt
                self._queries[layer].append(kept)
            self._keys[layer] = key
            return kernel(module, query, key, value, *args, **kwargs)

        try:
            ALL_ATTENTION_FUNCTIONS.register(self._name, tapped)
            # without a mask function of the same name the model would get no mask at all, silently
            ALL_MASK_ATTENTION_FUNCTIONS.register(self._name, ALL_MASK_ATTENTION_FUNCTIONS[self._previous])
            self._set(self._name)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        self._set(self._previous)
        for registry in (ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS):
            type(registry)._global_mapping.pop(self._name, None)
        self._vlm.lock.release()

    def _set(self, name: str) -> None:
        self._vlm.model.set_attn_implementation({self._vlm.adapter.text_config_key: name})

    @property
    def n_rows(self) -> int:
        """Rows seen and not yet taken."""
        return sum(query.shape[2] for query in self._queries[-1])

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
