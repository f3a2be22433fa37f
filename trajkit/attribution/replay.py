"""Replay: one teacher-forced pass over a finished generation gives the features of all its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trajkit.attribution.ablation import full_inputs
from trajkit.attribution.features import Pooling, image_attention, pool, token_weights
from trajkit.attribution.regions import Regions
from trajkit.attribution.tap import AttentionTap
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import Span


@dataclass(frozen=True, eq=False)
class Replay:
    """features: (T, K, L·H) float32. logprob, entropy: (T,) mean over the tokens of each step, nats."""

    features: NDArray[np.float32]
    logprob: NDArray[np.float64]
    entropy: NDArray[np.float64]


@torch.inference_mode()
def replay(
    vlm: VLM, prompt: Prompt, tokens: Tensor, spans: Sequence[Span], regions: Regions, pooling: Pooling
) -> Replay:
    """Features, log-probability and entropy of every step of a generation `tokens`, (n,)."""
    inputs = full_inputs(vlm, prompt, tokens)
    with AttentionTap(vlm, last_only=False) as tap:
        logits = vlm.model(**inputs, use_cache=False, logits_to_keep=len(tokens) + 1).logits[0, :-1]
    queries, keys = tap.take(0, tap.n_passes)
    weights = torch.from_numpy(token_weights(regions, prompt)).to(tokens.device)
    features, logprob, entropy = [], [], []
    for span in spans:  # a step at a time: a whole run's attention or log-probabilities may not fit in memory
        logp = torch.log_softmax(logits[span.start : span.end].float(), -1)  # (n, V)
        logprob.append(logp.gather(-1, tokens[span.start : span.end, None]).mean())
        entropy.append(-(logp.exp() * logp).sum(-1).mean())
        rows = torch.arange(span.start, span.end, device=tokens.device) + prompt.length - 1  # row t−1 predicts token t
        attention = image_attention(
            [q[0, :, rows] for q in queries], [k[0] for k in keys], rows, prompt.image_tokens, tap.scaling
        )  # (L, H, n, N)
        features.append(pool(attention, weights, pooling))
    return Replay(
        torch.stack(features).cpu().numpy(),
        torch.stack(logprob).double().cpu().numpy(),
        torch.stack(entropy).double().cpu().numpy(),
    )
