"""Uncertainty of the model's own next-token distributions: log-probability of what was taken, and entropy."""

from __future__ import annotations

import torch
from torch import Tensor

from trajkit.vlm.model import VLM

LOGITS_AT_ONCE = 2**27
"""Numbers in the largest block of logits that is made at once: half a gigabyte in float32."""

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


def uncertainty_after(vlm: VLM, hidden: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """(n, D) hidden states and the (n,) tokens after them → log-probability and entropy, (n,) float32, nats."""
    at_once = max(1, LOGITS_AT_ONCE // vlm.text_config.vocab_size)
    parts = [
        logprob_and_entropy(vlm.model.lm_head(rows), after)
        for rows, after in zip(hidden.split(at_once), tokens.split(at_once), strict=True)
    ]
    return torch.cat([logprob for logprob, _ in parts]), torch.cat([entropy for _, entropy in parts])
