"""A replayed run: the model's inputs for one teacher-forced pass, and what comes out of it, for any baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from trajkit.attribution.features import token_weights
from trajkit.attribution.regions import Regions
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import Span


def pass_inputs(vlm: VLM, prompt: Prompt, tokens: Tensor) -> dict[str, Tensor]:
    """Inputs of one pass over prompt and generation, (1, S), with positions.

    Giving the positions keeps the model from storing those of this run on itself.
    """
    with torch.no_grad():
        inputs = prompt.followed_by(tokens)
        return inputs | {"position_ids": vlm.position_ids(inputs)}


def by_step(values: Tensor, spans: Sequence[Span]) -> Tensor:
    """(..., n) values of the generated tokens → (..., T) sums over each step; gradients pass through."""
    return torch.stack([values[..., span.start : span.end].sum(-1) for span in spans], -1)


def by_region(values: Tensor, prompt: Prompt, regions: Regions) -> NDArray[Any]:
    """(T, N) values of the image tokens → (T, K) sums over each region; a shared token is shared out by area."""
    return values.detach().float().cpu().numpy() @ token_weights(regions, prompt)


class StepLogprobs:
    """The log-probability of each step as a function of the pixels: differentiable, and a batch at a time."""

    def __init__(self, vlm: VLM, prompt: Prompt, tokens: Tensor, spans: Sequence[Span]) -> None:
        self._vlm, self._spans = vlm, spans
        self._tokens = tokens.clone()  # autograd cannot save a tensor made in inference mode
        self._inputs = pass_inputs(vlm, prompt, self._tokens)

    def __call__(self, pixel_values: Tensor) -> Tensor:
        """(B, P, C) patches of the prompt's images, B versions of them → (B, T) nats."""
        n = len(pixel_values)
        batch = {k: v.repeat(n, *[1] * (v.ndim - 1)) for k, v in self._inputs.items() if k != "position_ids"}
        batch["position_ids"] = self._inputs["position_ids"].repeat(1, n, 1)
        batch["pixel_values"] = pixel_values.flatten(0, 1)
        logits = self._vlm.model(**batch, use_cache=False, logits_to_keep=len(self._tokens) + 1).logits[:, :-1]
        chosen = logits.float().log_softmax(-1).gather(-1, self._tokens.expand(n, -1)[..., None])[..., 0]  # (B, n)
        return by_step(chosen, self._spans)
