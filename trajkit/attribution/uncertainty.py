"""Uncertainty of the model's own next-token distributions: log-probability of what was taken, and entropy."""

from __future__ import annotations

import torch
from torch import Tensor

_NOTHING = -87.0
"""Nats below the likeliest token, where its share is just a normal float32 number: with smaller ones exp is fifty times
slower, and 0 × -inf is no number."""


def logprob_and_entropy(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """(..., V) logits and the (...) token taken after each → log-probability and entropy, (...) float32, nats.

    Logits of -inf (tokens ruled out) have probability 0 and add nothing to the entropy.
    """
    logits = logits.float()
    top = logits.amax(-1, keepdim=True)
    below = (logits - top).clamp_(min=_NOTHING)
    share = below.exp()
    total = share.sum(-1)
    log_total = total.log()
    logprob = (logits.gather(-1, tokens[..., None]) - top)[..., 0] - log_total
    return logprob, log_total - torch.linalg.vecdot(share, below) / total
