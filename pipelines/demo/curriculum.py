"""Curriculum of the demo model: see single cells, find them by name, reason one way, then freely.

A model trained on long reasoning from the start learns its form and not to look; so looking is taught first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipelines.demo.packing import Batch
from pipelines.demo.rows import Draw, RowMaker, picture_scene
from pipelines.demo.trainer import Trainer, rate
from trajkit.demo.grid import Scene
from trajkit.demo.questions import FAMILIES


@dataclass(frozen=True)
class Stage:
    """One stage: how many steps of `images` rows of up to `tokens` tokens of reasoning and `addresses` single cells.

    The learning rate warms up over 50 steps to `rate` and falls by a cosine to `final` × it. `cells`: the share of the
    loss that asks the vision tower for the content and place of every token's cell; at 1 the stage trains the tower
    alone.
    """

    name: str
    steps: int
    images: int
    tokens: int
    addresses: int
    rate: float
    final: float
    draw: Draw
    cells: float = 0.0

    def rate_at(self, step: int) -> float:
        return rate(step, self.steps, self.rate, self.final, warm=50)


_FREELY = Draw(0.0, 1.0, freedom=1.0, habit=0.5, families=("general", "general", "math", "math", "code", *FAMILIES))
"""Searching, sorting and walking are the hardest to learn."""
_HARDEST = replace(_FREELY, families=tuple(f for f in FAMILIES for _ in range(1 if f == "document" else 3)))
STAGES: tuple[Stage, ...] = (
    Stage("see", 500, 24, 0, 0, 2e-3, 0.1, Draw(0.0, 0.6), cells=1.0),
    Stage("address", 700, 10, 0, 36, 2e-3, 0.5, Draw(0.0, 0.4), cells=0.2),
    Stage("reason", 600, 14, 330, 3, 2e-3, 0.4, Draw(0.0, 0.4), cells=0.1),
    Stage("freely", 2000, 14, 330, 2, 1.5e-3, 0.4, _FREELY, cells=0.1),
    Stage("well", 1200, 14, 330, 2, 1.2e-3, 0.01, _HARDEST, cells=0.1),
)
QUICK_STAGES: tuple[Stage, ...] = (
    Stage("see", 4, 4, 0, 0, 2e-3, 0.1, Draw(0.0, 0.6), cells=1.0),
    Stage("address", 4, 2, 0, 4, 2e-3, 0.4, Draw(0.0, 0.4), cells=0.2),
    Stage("freely", 4, 2, 300, 1, 1.2e-3, 0.02, Draw(0.0, 1.0, freedom=1.0)),
)


class Curriculum:
    """What the stages draw: scenes of training digits with cells and questions."""

    def __init__(self, tokenizer: Any, config: Any) -> None:
        self.packer = RowMaker(tokenizer, config)

    def look(self, rng: np.random.Generator, stage: Stage) -> tuple[list[Scene], NDArray[np.uint8]]:
        pictured = [picture_scene(rng, stage.draw) for _ in range(stage.images)]
        return [p.scene for p in pictured], np.stack([p.image for p in pictured])

    def draw(self, rng: np.random.Generator, stage: Stage) -> Batch:
        return self.packer.draw(rng, stage.images, stage.tokens, stage.addresses, stage.draw)


def trainer(
    model: Any, tokenizer: Any, folder: Path, stages: tuple[Stage, ...], seed: int = 0, workers: int = 0
) -> Trainer:
    """The Trainer of a model of these stages."""
    return Trainer(model, Curriculum(tokenizer, model.config), _optimisers, folder, stages, seed, workers)


def _optimisers(named: list[tuple[str, nn.Parameter]]) -> dict[str, torch.optim.Optimizer]:
    """Muon for the matrices of the text layers, which learn to find cells by name in fewer steps with it; AdamW."""
    matrices = [p for name, p in named if "language_model.layers" in name and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = list({id(p): p for _, p in named if id(p) not in chosen}.values())
    return {
        "muon": torch.optim.Muon(matrices, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        "adamw": torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.02),
    }
