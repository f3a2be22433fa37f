"""Attention of a whole pass, seen while the model's own kernel makes its output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from trajkit.attribution.wrapped import AttentionFunction, attention_kernel
from trajkit.vlm.model import VLM


@contextmanager
def attention_seen(vlm: VLM, keep: Callable[[Tensor], Tensor]) -> Iterator[list[Tensor]]:
    """Collect `keep((H, S, S) attention)` of each layer, in order, of a pass over one unpadded sequence.

    The model's own output still comes from its fast kernel; only one layer's matrix is held at a time.
    """
    kept: list[Tensor] = []

    def recording(kernel: AttentionFunction) -> AttentionFunction:
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
