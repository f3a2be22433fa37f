"""What trajkit must know of an architecture, and the registry of those it knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trajkit.errors import UnsupportedModelError


@dataclass(frozen=True)
class ProcessorParts:
    """Where transformers keeps an architecture's processor: modules below `transformers.models`, and class names.

    Needed where torchvision is missing, since `AutoProcessor` then fails on the video processor that it always builds.
    """

    module: str
    processor: str
    image_module: str
    image_processor: str


@dataclass(frozen=True)
class Adapter:
    """One architecture.

    model_type: as in `config.json`. text_config_key: the sub-configuration whose attention is tapped. processor: its
    processor's parts. models: public thinking models of this architecture. marks: pieces of text that wrap an answer.
    """

    model_type: str
    text_config_key: str
    processor: ProcessorParts
    models: tuple[str, ...]
    marks: tuple[str, ...] = ("<answer>", "</answer>")


def adapters() -> dict[str, Adapter]:
    """The supported architectures by model type."""
    from trajkit.vlm import glm4v, qwen2_5_vl, qwen3_vl

    return {module.ADAPTER.model_type: module.ADAPTER for module in (qwen3_vl, qwen2_5_vl, glm4v)}


def adapter_for(config: Any) -> Adapter:
    """The adapter of a model's configuration. Raises UnsupportedModelError with the list of supported architectures."""
    known = adapters()
    found = known.get(config.model_type)
    if found is None:
        listed = "; ".join(f"{name} ({', '.join(known[name].models)})" for name in sorted(known))
        raise UnsupportedModelError(
            f"model type {config.model_type!r} is not supported; supported: {listed}. "
            "Use one of these, or add an adapter file in trajkit/vlm/."
        )
    return found
