"""What trajkit must know of an architecture, and the registry of those it knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from trajkit.errors import UnsupportedModelError


@dataclass(frozen=True)
class Adapter:
    """One architecture.

    model_type: as in `config.json`. text_config_key: the sub-configuration whose attention is tapped.
    token_grid(config, image_grid_thw (n, 3)) → (rows, cols) of image tokens, for each image.
    image_features(model, pixel_values, image_grid_thw) → (N, D) features of the image tokens, from its own tower.
    position_inputs: inputs of the full-length forward that grow with the sequence and how a text token is marked there.
    """

    model_type: str
    text_config_key: str
    token_grid: Callable[[Any, Tensor], list[tuple[int, int]]]
    image_features: Callable[[Any, Tensor, Tensor], Tensor]
    position_inputs: dict[str, int]


def adapter_for(config: Any) -> Adapter:
    """The adapter of a model's configuration. Raises UnsupportedModelError with the list of supported architectures."""
    from trajkit.vlm import qwen3_vl

    known = {a.model_type: a for a in (qwen3_vl.ADAPTER,)}
    found = known.get(config.model_type)
    if found is None:
        raise UnsupportedModelError(
            f"model type {config.model_type!r} is not supported; supported: {', '.join(sorted(known))}. "
            "Use one of these, or add an adapter file in trajkit/vlm/."
        )
    return found
