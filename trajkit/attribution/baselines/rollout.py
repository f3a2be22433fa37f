"""Attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928): attention followed through all layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from trajkit.attribution.baselines.kernel import attention_seen
from trajkit.attribution.baselines.replayed import by_region, by_step, pass_inputs
from trajkit.attribution.regions import Regions
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import Span


@torch.no_grad()
def rollout(vlm: VLM, prompt: Prompt, tokens: Tensor, spans: Sequence[Span], regions: Regions) -> NDArray[Any]:
    """(T, K) in [0, 1]: the share of a step's flow of attention that starts in a region, mean over its tokens.

    Ã_l = ½ Ā_l + ½ I, with Ā_l the mean over heads and I standing for the residual stream; R = Ã_L ··· Ã_1. Position
    t−1 predicts token t. Kept in memory: one (S, S) matrix a layer.
    """
    with attention_seen(vlm, lambda attention: attention.mean(0)) as layers:
        vlm.model.model(**pass_inputs(vlm, prompt, tokens), use_cache=False)
    flow = torch.eye(len(layers[0]), device=layers[0].device)[prompt.length - 1 : -1]  # (n, S), rows that predict
    for attention in reversed(layers):
        flow = (flow @ attention + flow) / 2
    lengths = torch.tensor([span.end - span.start for span in spans], device=flow.device)
    return by_region((by_step(flow[:, prompt.image_tokens].T, spans) / lengths).T, prompt, regions)
