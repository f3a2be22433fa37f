"""captum's FeatureAblation over regions: an independent way to the measured effect of each region by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from trajkit.attribution.ablation import Ablation, fill
from trajkit.attribution.baselines.captum import captum_attr
from trajkit.attribution.baselines.replayed import StepLogprobs
from trajkit.attribution.regions import Regions
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import Span


def feature_ablation(
    vlm: VLM,
    prompt: Prompt,
    tokens: Tensor,
    spans: Sequence[Span],
    regions: Regions,
    batch_size: int = 32,
    ablation: Ablation = "mean",
) -> NDArray[Any]:
    """(T, K) nats: log p(step) less log p(step) with a region filled with the image's mean colour.

    The features that captum ablates are the regions themselves, 1 where shown and 0 where hidden. It must equal
    `ablation.measure_effects` of single regions, whose code it does not share (tested).
    """
    logprobs = StepLogprobs(vlm, prompt, tokens, spans)
    images, crops = prompt.canvas.images, prompt.canvas.crops(regions.labels)

    def shown(regions_shown: Tensor) -> Tensor:  # (B, K) → (B, T)
        versions = []
        for row in regions_shown.bool().cpu().numpy():
            pictures = [
                Image.fromarray(np.where(row[labels][..., None], np.asarray(image), fill(image, ablation)))
                for image, labels in zip(images, crops, strict=True)
            ]
            versions.append(vlm.pixel_values(pictures))
        return logprobs(torch.stack(versions))

    method = captum_attr().FeatureAblation(shown)
    everything = torch.ones(1, regions.k, device=tokens.device)
    return method.attribute(everything, baselines=0, perturbations_per_eval=batch_size).cpu().numpy()
