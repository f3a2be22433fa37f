"""Where the embedded demo's files are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "data" / "demo"
MODEL = DEMO / "model"
ESTIMATOR = DEMO / "estimator"
TRACES = DEMO / "traces"
DETECTORS = DEMO / "detectors"
MODELS = ("qwen3_vl", "qwen2_5_vl", "glm4v")
"""Architectures that a demo model is shipped for; the first is the one that everything else uses."""


def model(architecture: str) -> Path:
    """The demo model of an architecture."""
    return MODEL if architecture == MODELS[0] else DEMO / architecture


def estimator(architecture: str, kind: str = "network") -> Path:
    """The estimator of a kind for the demo model of an architecture."""
    name = "estimator" if architecture == MODELS[0] else f"{architecture}-estimator"
    return DEMO / (name if kind == "network" else f"{name}-{kind}")
