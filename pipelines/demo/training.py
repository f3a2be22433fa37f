"""Curriculum of the demo model: see single cells, learn to look, reason freely, settle.

A model trained on free reasoning from the start learns its form and not to look; so looking is taught first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipelines.demo.batches import BatchMaker, Difficulty, draw_scenes
from pipelines.demo.packing import Batch
from pipelines.demo.trainer import Trainer, rate
from trajkit.demo.scene import GRID, Scene


@dataclass(frozen=True)
class Stage:
    """One stage: how many steps of `images` × `questions`, the peak learning rate, and what is drawn.

    The learning rate warms up over 100 steps and falls by a cosine of length `horizon` (or `steps`) to `final` × its
    peak. `cells`: the share of the loss that asks the vision tower for the content and place of every token's cell;
    at 1 the stage trains the tower alone.
    """

    name: str
    steps: int
    images: int
    questions: int
    rate: float
    final: float
    difficulty: Difficulty
    cells: float = 0.0
    horizon: int | None = None

    def rate_at(self, step: int) -> float:
        return rate(step, self.horizon or self.steps, self.rate, self.final, warm=100)


STAGES: tuple[Stage, ...] = (
    Stage("see", 1600, 32, 0, 2e-3, 0.1, Difficulty(0.0, 0.6, 0.0), cells=1.0),
    Stage("look", 3000, 8, 6, 2e-3, 0.4, Difficulty(0.0, 0.25, 0.0), horizon=5500),
    Stage("reason", 2000, 8, 6, 1.5e-3, 0.02, Difficulty(0.0, 1.0, 1.0, stress=3.0), horizon=7500),
    Stage("repeat", 500, 8, 6, 1.25e-3, 0.01, Difficulty(0.0, 1.0, 1.0, stress=3.0), horizon=2000),
    Stage("spell", 1500, 8, 6, 1.5e-3, 0.01, Difficulty(0.0, 1.0, 1.0, stress=3.0, spell_out=True), horizon=3600),
    Stage("settle", 900, 8, 6, 9.5e-4, 0.01, Difficulty(0.0, 1.0, 1.0, stress=3.0, spell_out=True)),
)
SMALL_STAGES: tuple[Stage, ...] = (
    Stage("see", 1600, 32, 0, 2e-3, 0.1, Difficulty(0.0, 0.6, 0.0), cells=1.0),
    Stage("look", 1800, 8, 6, 2e-3, 0.4, Difficulty(0.0, 0.25, 0.0, spell_out=True), cells=0.3, horizon=4500),
    Stage(
        "spell",
        1200,
        8,
        6,
        1.6e-3,
        0.01,
        Difficulty(0.0, 1.0, 1.0, stress=3.0, spell_out=True),
        cells=0.3,
        horizon=3500,
    ),
    Stage("settle", 500, 8, 6, 1e-3, 0.01, Difficulty(0.0, 1.0, 1.0, stress=3.0, spell_out=True), cells=0.3),
)
"""The shorter curriculum of the smaller models of the other architectures.

Trained on sentences alone after the first stage, their towers forget what they saw: with a linear reading, digits of
three cells in four (qwen2_5_vl) and of less than one in two (glm4v) could still be told. So cells are asked for all the
way.
"""
QUICK_STAGES: tuple[Stage, ...] = (
    Stage("see", 12, 4, 0, 2e-3, 0.1, Difficulty(0.0, 0.6, 0.0), cells=1.0),
    Stage("look", 12, 2, 3, 2e-3, 0.4, Difficulty(0.0, 0.25, 0.0), cells=0.3),
    Stage("reason", 12, 2, 3, 1.2e-3, 0.02, Difficulty(0.0, 1.0, 1.0)),
)


class Curriculum:
    """What the stages draw: scenes of training digits with questions."""

    grid = GRID

    def __init__(self, tokenizer: Any, config: Any) -> None:
        self.packer = BatchMaker(tokenizer, config)

    def look(self, rng: np.random.Generator, stage: Stage) -> tuple[list[Scene], NDArray[np.uint8]]:
        return draw_scenes(rng, "train", stage.images, stage.difficulty)

    def draw(self, rng: np.random.Generator, stage: Stage) -> Batch:
        return self.packer.draw(rng, "train", stage.images, stage.questions, stage.difficulty)


def trainer(model: Any, tokenizer: Any, folder: Path, stages: tuple[Stage, ...], seed: int = 0) -> Trainer:
    """The Trainer of a model of these stages, by AdamW."""
    return Trainer(model, Curriculum(tokenizer, model.config), _optimisers, folder, stages, seed)


def _optimisers(named: list[tuple[str, nn.Parameter]]) -> dict[str, torch.optim.Optimizer]:
    weights = list({id(p): p for _, p in named}.values())
    return {"optimiser": torch.optim.AdamW(weights, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.02)}
