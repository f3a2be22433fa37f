"""TAM, the token activation map (Li et al. 2025, arXiv 2506.23270): where an image already says the word to come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trajkit.attribution.baselines.replayed import by_region, by_step, pass_inputs
from trajkit.attribution.regions import Regions
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import Span


@torch.no_grad()
def tam(vlm: VLM, prompt: Prompt, tokens: Tensor, spans: Sequence[Span], regions: Regions) -> NDArray[Any]:
    """(T, K): mean over a step's tokens of the token's activation map in [0, 1], summed over a region's image tokens.

    The map of a token is its logit at every image token, from the last hidden states, clipped at 0. Less the
    interference of the text before it: the mean of the earlier tokens' maps, weighted by the token's logit at the place
    of each and scaled by least squares; clipped at 0, normalised together with the text's logits, and smoothed by a
    3 × 3 rank Gaussian filter. Earlier tokens equal to it are left out.

    Simplified: text before the image is left out, the prompt's template tokens are not; the first text token's map is
    that of itself, not of the model's guess there; the mean over tokens and the sum over regions are ours, since the
    paper maps single tokens.
    """
    inputs = pass_inputs(vlm, prompt, tokens)
    hidden = vlm.model.model(**inputs, use_cache=False).last_hidden_state[0]  # (S, D)
    ids = inputs["input_ids"][0, prompt.first_row :]  # (m,) text after the image
    classes = vlm.model.lm_head.weight[ids]  # (m, D)
    maps = (hidden[prompt.image_tokens] @ classes.T).T.float().clamp(min=0)  # (m, N): a map for every text token
    # a generated token stands at the place that predicts it, a token of the prompt at its own
    first = prompt.length - prompt.first_row
    place = torch.arange(len(ids), device=ids.device) + prompt.first_row
    place[first:] -= 1
    texts = (classes @ hidden[place].T).float().clamp(min=0)  # (m, m): logit of one token at the place of another

    found = []
    for i in range(first, len(ids)):
        seen = texts[i, :i]
        cleaned = without_interference(maps[i], maps[:i], seen * (ids[:i] != ids[i]))
        both = torch.cat([cleaned, seen])
        cleaned = (cleaned - both.min()) / (both.max() - both.min()).clamp(min=1e-12)
        parts = cleaned.split([rows * cols for rows, cols in prompt.grids])
        found.append(torch.cat([rank_gaussian(p.view(g)).flatten() for p, g in zip(parts, prompt.grids, strict=True)]))
    lengths = torch.tensor([span.end - span.start for span in spans], device=ids.device)
    steps = (by_step(torch.stack(found).T, spans) / lengths).T  # (T, N)
    return by_region(steps, prompt, regions)


def without_interference(activation: Tensor, earlier: Tensor, weights: Tensor) -> Tensor:
    """(N,) map less its estimated causal interference: max(0, a − s·Σ_j w_j e_j / Σ_j w_j).

    earlier: (j, N) maps; weights: (j,), not negative. s makes the squared difference least.
    """
    mixed = weights @ earlier / (weights.sum() + 1e-8)
    scale = (activation @ mixed) / (mixed @ mixed).clamp(min=1e-12)
    return (activation - scale * mixed).clamp(min=0)


def rank_gaussian(values: Tensor, size: int = 3) -> Tensor:
    """(rows, cols) → the same: a mean of each size × size window with Gaussian weights on the *rank* of its values.

    Centred on the median; the width, in ranks, is the window's standard deviation over its mean, so that an even window
    gives its median and an uneven one more nearly its mean. Borders are mirrored.
    """
    half, n = size // 2, size * size
    mirror: Any = np.pad(np.arange(values.numel()).reshape(values.shape), half, mode="reflect")
    padded = values.flatten()[torch.from_numpy(mirror).to(values.device)]
    windows = padded.unfold(0, size, 1).unfold(1, size, 1).flatten(2).sort(-1).values  # (rows, cols, n)
    mean = windows.mean(-1, keepdim=True)
    width = windows.std(-1, correction=0, keepdim=True) / mean.clamp(min=1e-12)
    ranks = torch.arange(n, device=values.device) - n // 2
    weights = torch.exp(-(ranks**2) / (2 * width**2).clamp(min=1e-12))
    smooth = (windows * weights).sum(-1) / weights.sum(-1)
    return torch.where(mean[..., 0] > 0, smooth, 0)
