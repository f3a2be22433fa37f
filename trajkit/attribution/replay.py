"""Replay: one teacher-forced pass over a finished generation gives the features of all its steps."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trajkit.attribution.features import Pooling, StepFeatures
from trajkit.attribution.hidden import last_hidden_states, shortened
from trajkit.attribution.regions import Regions
from trajkit.attribution.tap import AttentionTap
from trajkit.attribution.uncertainty import logprob_and_entropy
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import Span


@dataclass(frozen=True, eq=False)
class Replay:
    """features: (T, K, 2·L·H + 3), as by StepFeatures. logprob, entropy: (T,) mean over a step's tokens, nats.

    hidden: (T, at most 128) the last layer's state that each step's last token was predicted from, where asked for.
    """

    features: NDArray[np.float32]
    logprob: NDArray[np.float64]
    entropy: NDArray[np.float64]
    hidden: NDArray[np.float32] | None = None


@torch.inference_mode()
def replay(
    vlm: VLM,
    prompt: Prompt,
    tokens: Tensor,
    spans: Sequence[Span],
    regions: Regions,
    pooling: Pooling,
    keep_hidden: bool = False,
) -> Replay:
    """Features, log-probability and entropy of every step of a generation `tokens`, (n,); hidden states if asked."""
    inputs = prompt.followed_by(tokens)
    keep: AbstractContextManager[list[Tensor]] = last_hidden_states(vlm) if keep_hidden else nullcontext([])
    with AttentionTap(vlm, prompt.first_row) as tap, keep as states:
        logits = vlm.model(**inputs, use_cache=False, logits_to_keep=len(tokens) + 1).logits[0, :-1]
    steps = StepFeatures(regions, prompt, pooling)
    features, logprob, entropy = [], [], []
    for span in spans:  # a step at a time: a whole run's attention or log-probabilities may not fit in memory
        of_tokens = logprob_and_entropy(logits[span.start : span.end], tokens[span.start : span.end])
        logprob.append(of_tokens[0].mean())
        entropy.append(of_tokens[1].mean())
        upto = span.end + prompt.length - 1  # row t−1 predicts token t
        rows, keys = tap.take(upto - steps.next_row), tap.keys(upto)
        facts = (logprob[-1], entropy[-1], torch.tensor(span.end - span.start, device=tokens.device))
        features.append(steps.push(rows, keys, tap.scaling, span.end - span.start, facts))
    return Replay(
        torch.stack(features).cpu().numpy(),
        torch.stack(logprob).double().cpu().numpy(),
        torch.stack(entropy).double().cpu().numpy(),
        shortened(states[0][0, [span.end - 1 for span in spans]]).cpu().numpy() if keep_hidden else None,
    )
