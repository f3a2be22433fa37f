"""Attention by the model's own kernel, with the log-sum-exp of each row that it knows anyway.

A row's attention to a key is exp(score − lse), so whoever keeps the log-sum-exp of a row need not read all keys to
normalise it. transformers asks torch for the output alone; the call is made here instead, by the same kernel with the
same arguments, so that the output is the same to the bit. A kernel that does not tell its log-sum-exp is called as it
is, and None stands in its place (`row_lse` then goes through all keys).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

_SCORES_AT_ONCE = 2**22
"""Scores that `row_lse` holds in memory together: 16 MiB of them."""


class Attended(NamedTuple):
    """result: what transformers' attention function returned, first of all (B, n, H, D). lse: (B, H, n) float32, nats:
    the log-sum-exp of each row's scaled scores over the keys that it sees; None where the kernel does not tell it."""

    result: Any
    lse: Tensor | None


Kernel = Callable[..., Attended]


def with_lse(kernel: Callable[..., Any]) -> Kernel:
    """transformers' attention function `kernel`, telling the log-sum-exp too where it calls torch's attention."""
    if hasattr(kernel, "with_lse"):  # one that is wrapped already
        return kernel.with_lse

    def attend(module: Any, query: Tensor, *args: Any, **kwargs: Any) -> Attended:
        with _Overheard() as heard:
            result = kernel(module, query, *args, **kwargs)
        lse = heard.lse
        if lse is None and _is_lse(result[1], query):  # as flex attention returns it
            lse = result[1]
        return Attended(result, None if lse is None else lse.reshape(query.shape[:3]))

    return attend


def one_row(query: Tensor, key: Tensor, value: Tensor, scaling: float, mask: Tensor | None = None) -> Attended:
    """What transformers' `sdpa_attention_forward` does for one row, without its detours.

    They cost more than it costs to keep the row, and decoding is mostly this. mask: None, or (B, 1, 1, S).
    """
    batch, heads, n, width = query.shape
    groups = key.shape[1]
    if mask is None or groups == heads:
        out, lse = attention(query, key, value, mask, scale=scaling, enable_gqa=groups != heads)
    else:  # rows of the heads that share their keys, as rows of one head
        out, lse = attention(query.view(batch, groups, -1, width), key, value, mask, scale=scaling)
        out = out.reshape(batch, heads, n, width)
        lse = None if lse is None else lse.reshape(batch, heads, n)
    return Attended((out.transpose(1, 2).contiguous(), None), lse)


def scores_of_rows(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """Scaled scores of the last n positions in one layer, (H, n, S) float32; -inf for positions after the row's own.

    query: (H, n, D), of positions S−n … S−1; key: (H_kv, S, D), of all of them.
    """
    heads, n, width = query.shape
    grouped = query.float().reshape(key.shape[0], -1, width)  # (H_kv, H/H_kv · n, D)
    scores = torch.matmul(grouped, key.float().transpose(1, 2)).mul_(scaling).view(heads, n, -1)
    later = torch.ones(n, n, dtype=torch.bool, device=key.device).triu(1)
    scores[..., -n:].masked_fill_(later, float("-inf"))
    return scores


def row_lse(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """(H, n) float32: the log-sum-exp of `scores_of_rows`, some rows at a time: what a kernel did not tell."""
    n, end = query.shape[1], key.shape[1]
    at_once = max(1, _SCORES_AT_ONCE // (len(query) * end))
    lse = []
    for at in range(0, n, at_once):
        some = query[:, at : at + at_once]
        scores = scores_of_rows(some, key[:, : end - n + at + some.shape[1]], scaling)
        lse.append(torch.logsumexp(scores, -1))
    return torch.cat(lse, 1)


def _is_lse(found: Any, query: Tensor) -> bool:
    return isinstance(found, Tensor) and found.shape == query.shape[:3] and found.dtype == torch.float32


class _Overheard(TorchFunctionMode):
    """Inside, calls of torch's attention leave the log-sum-exp of the latest in `lse`."""

    def __init__(self) -> None:
        super().__init__()
        self.lse: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        out, self.lse = attention(*args, **(kwargs or {}))
        return out


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """`scaled_dot_product_attention`, the same to the bit, and the log-sum-exp of its rows, (B, H, n) float32 or None.

    query: (B, H, n, D); key, value: (B, H_kv, S, D).
    """
    given = (query, key, value, attn_mask, dropout_p, is_causal)
    fused = None
    if query.device.type in _DEVICES:
        chosen = torch._fused_sdp_choice(*given, scale=scale, enable_gqa=enable_gqa)
        fused = _FUSED.get((query.device.type, chosen))
    padded = attn_mask is not None or query.shape[-1] % 8  # torch pads masks and heads for its kernels on a GPU
    if fused is None or dropout_p or (padded and not query.is_cpu):
        return scaled_dot_product_attention(*given, scale=scale, enable_gqa=enable_gqa), None
    out, lse = fused(query, key, value, attn_mask, is_causal, scale)
    return out, lse.view(query.shape[:3]) if lse.shape[2:] == (query.shape[2], 1) else lse[..., : query.shape[2]]


def _on_cpu(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool, scale: float | None
) -> tuple[Tensor, Tensor]:
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, float("-inf"))
    return torch._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, is_causal, attn_mask=mask, scale=scale
    )


def _flash(query: Tensor, key: Tensor, value: Tensor, mask: None, is_causal: bool, scale: float | None) -> Any:
    return torch._scaled_dot_product_flash_attention(query, key, value, 0.0, is_causal, scale=scale)[:2]


def _efficient(query: Tensor, key: Tensor, value: Tensor, mask: None, is_causal: bool, scale: float | None) -> Any:
    return torch._scaled_dot_product_efficient_attention(query, key, value, None, True, 0.0, is_causal, scale=scale)[:2]


def _cudnn(query: Tensor, key: Tensor, value: Tensor, mask: None, is_causal: bool, scale: float | None) -> Any:
    return torch._scaled_dot_product_cudnn_attention(query, key, value, None, True, 0.0, is_causal, scale=scale)[:2]


_FUSED: dict[tuple[str, int], Callable[..., Any]] = {
    ("cpu", SDPBackend.FLASH_ATTENTION.value): _on_cpu,
    ("cuda", SDPBackend.FLASH_ATTENTION.value): _flash,
    ("cuda", SDPBackend.EFFICIENT_ATTENTION.value): _efficient,
    ("cuda", SDPBackend.CUDNN_ATTENTION.value): _cudnn,
}
"""What torch's attention calls where it chooses so; each returns output and log-sum-exp first."""
_DEVICES = {device for device, _ in _FUSED}
