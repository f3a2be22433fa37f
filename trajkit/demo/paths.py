"""Where the embedded demo's files are: `data/demo` of a checkout, or the copy that an installation brings along."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
IN_CHECKOUT = (ROOT / "pyproject.toml").is_file()
IN_TREE = Path("data", "demo")
"""The demo's folder as commands and pages name it, from the root of a checkout."""
DEMO = ROOT / IN_TREE if IN_CHECKOUT else Path(__file__).parent / "data"
MODEL = DEMO / "model"
ESTIMATOR = DEMO / "estimator"
TRACES = DEMO / "traces"
DETECTORS = DEMO / "detectors"
MODELS = ("qwen3_vl", "qwen2_5_vl", "glm4v")
"""Architectures that a demo model is trained for; the first is the one that everything else uses, and is installed."""


def model(architecture: str) -> Path:
    """The demo model of an architecture."""
    return MODEL if architecture == MODELS[0] else DEMO / architecture


def estimator(architecture: str, kind: str = "network") -> Path:
    """The estimator of a kind for the demo model of an architecture."""
    name = "estimator" if architecture == MODELS[0] else f"{architecture}-estimator"
    return DEMO / (name if kind == "network" else f"{name}-{kind}")


def shipped(name: str) -> Path | None:
    """The file or folder that `name`, such as "data/demo/model", means seen from a checkout; None where there is none.

    For whoever stands in another folder, or has no checkout at all.
    """
    path = Path(name)
    if not path.is_relative_to(IN_TREE) or ".." in path.parts:
        return None
    found = DEMO / path.relative_to(IN_TREE)
    return found if found.exists() else None


def restore(pipeline: str) -> str:
    """How to get demo files that are missing: the command that makes them, or a new installation."""
    return f"python -m pipelines.{pipeline}" if IN_CHECKOUT else "pip install --force-reinstall --no-deps trajkit"
