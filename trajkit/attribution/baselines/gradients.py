"""Gradients of a step's log-probability with respect to the image, by captum.

Taken at `pixel_values`, not at the image embeddings: the vision tower mixes patches, so an embedding no longer stands
for its own pixels alone; Qwen3-VL feeds the image into several layers, and all of them start at the pixels; and pixels
are what the ablation changes, so that integrated gradients explain exactly what hiding everything would cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from trajkit.attribution.ablation import Ablation, fill
from trajkit.attribution.baselines.captum import captum_attr
from trajkit.attribution.baselines.pixels import patch_labels, pool_pixels
from trajkit.attribution.baselines.replayed import StepLogprobs
from trajkit.attribution.regions import Regions
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import Span


def input_x_gradient(
    vlm: VLM, prompt: Prompt, tokens: Tensor, spans: Sequence[Span], regions: Regions, ablation: Ablation = "mean"
) -> NDArray[np.float64]:
    """(T, K) nats: Σ over the numbers of a region's pixels of (x − x′) · ∂log p(step)/∂x, signed.

    x′ is the image filled as the ablation fills it, which is what a region's pixels count from; from the processor's
    own zero, a grey, the scores say far less of what hiding does. One forward and one backward pass a step.
    Shrikumar et al. 2016 (arXiv 1605.01713).
    """
    method = captum_attr().Saliency(StepLogprobs(vlm, prompt, tokens, spans))
    away = prompt.inputs["pixel_values"] - _filled(vlm, prompt, ablation)
    return _scores(
        vlm, prompt, regions, spans, lambda image, step: away * method.attribute(image, target=step, abs=False)
    )


def integrated_gradients(
    vlm: VLM,
    prompt: Prompt,
    tokens: Tensor,
    spans: Sequence[Span],
    regions: Regions,
    steps: int = 32,
    batch_size: int = 16,
    ablation: Ablation = "mean",
) -> NDArray[np.float64]:
    """(T, K) nats: Σ over a region's pixels of (x − x′) · mean of ∂log p(step)/∂x on the line from x′ to x, signed.

    x′ is the image filled as the ablation fills it, so that a row sums to about the effect of hiding every region at
    once. A step costs `steps` passes, at Gauss-Legendre points of the line, `batch_size` at a time.
    Sundararajan et al. 2017 (arXiv 1703.01365).
    """
    method = captum_attr().IntegratedGradients(StepLogprobs(vlm, prompt, tokens, spans))
    filled = _filled(vlm, prompt, ablation)
    settings = {"baselines": filled[None], "n_steps": steps, "internal_batch_size": batch_size}
    return _scores(vlm, prompt, regions, spans, lambda image, step: method.attribute(image, target=step, **settings))


def _filled(vlm: VLM, prompt: Prompt, ablation: Ablation) -> Tensor:
    return vlm.pixel_values([Image.fromarray(fill(image, ablation)) for image in prompt.canvas.images])


def _scores(
    vlm: VLM, prompt: Prompt, regions: Regions, spans: Sequence[Span], attribute: Callable[[Tensor, int], Tensor]
) -> NDArray[np.float64]:
    """(T, K) sums over each region's pixels. attribute: pixels (1, P, C) and a step → what it says of them, alike."""
    labels = patch_labels(vlm, prompt, regions)
    image = prompt.inputs["pixel_values"][None].clone().requires_grad_()
    return np.stack([pool_pixels(attribute(image, step)[0], labels, regions.k) for step in range(len(spans))])
