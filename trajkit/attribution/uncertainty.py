"""Uncertainty of the model's own next-token distributions: log-probability of what was taken, and entropy."""

from __future__ import annotations

import torch
from torch import Tensor


def logprob_and_entropy(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """(..., V) logits and the (...) token taken after each → log-probability and entropy, (...) float32, nats.

    Logits of -inf (tokens ruled out) have probability 0 and add nothing to the entropy.
    """
    logits = logits.float()
    p = torch.softmax(logits, -1)
    log_total = logits.amax(-1) - p.amax(-1).log()  # of any token, but p of the likeliest cannot underflow
    return logits.gather(-1, tokens[..., None])[..., 0] - log_total, torch.special.entr(p).sum(-1)
