"""Baselines: published ways to score regions, to stand beside measured and estimated effects in a table.

Each is a function `(vlm, prompt, tokens, spans, regions) -> (T, K)` of scores, higher: the region supports the step.
The single head needs training examples first: `partial(single_head, head=best_head(examples, vlm.n_features))`.
Gradients and captum's ablation need captum (`pip install 'trajkit[baselines]'`), imported when they are called.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from numpy.typing import NDArray
from torch import Tensor

from trajkit.attribution.ablation import Ablation
from trajkit.attribution.baselines.attnlrp import attnlrp
from trajkit.attribution.baselines.contextcite import contextcite
from trajkit.attribution.baselines.feature_ablation import feature_ablation
from trajkit.attribution.baselines.gradients import input_x_gradient, integrated_gradients
from trajkit.attribution.baselines.rollout import rollout
from trajkit.attribution.baselines.single_head import best_head, single_head
from trajkit.attribution.baselines.tam import tam
from trajkit.attribution.regions import Regions
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import Span


class Baseline(Protocol):
    """tokens: (n,) generated ids. Returns (T, K) scores, a row a span."""

    def __call__(
        self, vlm: VLM, prompt: Prompt, tokens: Tensor, spans: Sequence[Span], regions: Regions
    ) -> NDArray[Any]: ...


def baselines(ablation: Ablation = "mean") -> dict[str, Baseline]:
    """By the name that a table shows. ablation: how those that hide regions, or start from an image without any, do it.

    `tokens` hides no pixels, so that those which work on pixels are left out.
    """
    found: dict[str, Baseline] = {
        "attention rollout": rollout,
        "AttnLRP": attnlrp,
        "TAM": tam,
        "ContextCite, 32 masks": partial(contextcite, n_masks=32, ablation=ablation),
        "ContextCite, 64 masks": partial(contextcite, n_masks=64, ablation=ablation),
    }
    if ablation != "tokens":
        found["input × gradient"] = partial(input_x_gradient, ablation=ablation)
        found["integrated gradients"] = partial(integrated_gradients, ablation=ablation)
        found["feature ablation"] = partial(feature_ablation, ablation=ablation)
    return found


__all__ = ["Baseline", "baselines", "best_head", "single_head"]
