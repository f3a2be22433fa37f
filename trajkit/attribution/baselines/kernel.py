"""The attention kernel of a model's text stack, replaced for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
from torch import Tensor

from trajkit.vlm.model import VLM

Kernel = Callable[..., Any]
"""As in transformers: (module, query (B, H, S, D), key (B, H_kv, S, D), value, ...) → (output, weights)."""

_names = count()


@contextmanager
def attention_kernel(vlm: VLM, wrap: Callable[[Kernel], Kernel]) -> Iterator[None]:
    """Run the text stack with `wrap(kernel in use)`; on leaving, the model and transformers' registries are as before.

    Holds `vlm.lock`.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    name = f"trajkit_baseline_{next(_names)}"
    with vlm.lock:
        before = vlm.text_config._attn_implementation
        ALL_ATTENTION_FUNCTIONS.register(name, wrap(ALL_ATTENTION_FUNCTIONS[before]))
        # without a mask function of the same name the model would get no mask at all, silently
        ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[before])
        try:
            vlm.model.set_attn_implementation({vlm.adapter.text_config_key: name})
            yield
        finally:
            vlm.model.set_attn_implementation({vlm.adapter.text_config_key: before})
            for registry in (ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS):
                type(registry)._global_mapping.pop(name, None)


@contextmanager
def attention_seen(vlm: VLM, keep: Callable[[Tensor], Tensor]) -> Iterator[list[Tensor]]:
    """Collect `keep((H, S, S) attention)` of each layer, in order, of a pass over one unpadded sequence.

    The model's own output still comes from its fast kernel; only one layer's matrix is held at a time.
    """
    kept: list[Tensor] = []

    def recording(kernel: Kernel) -> Kernel:
        def record(module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
            kept.append(keep(causal_attention(query[0], key[0], module.scaling)))
            return kernel(module, query, key, value, *args, **kwargs)

        return record

    with attention_kernel(vlm, recording):
        yield kept


def causal_attention(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """(H, S, S) softmax of (H, S, D) queries and (H_kv, S, D) keys, float32; row i sees columns 0..i."""
    every = key.repeat_interleave(query.shape[0] // key.shape[0], dim=0)  # (H, S, D)
    scores = query.float() @ every.float().transpose(1, 2) * scaling
    unseen = torch.ones_like(scores[0], dtype=torch.bool).triu(1)
    return scores.masked_fill(unseen, float("-inf")).softmax(-1)
