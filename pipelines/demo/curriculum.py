"""Trains the demo model in stages: see single cells, find them by name, reason one way, then freely.

A model trained on long reasoning from the start learns its form and not to look; so looking is taught first.
Every step draws its own batch from (seed, stage, step), so a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.demo.rows import Draw, RowMaker, cell_targets, image_grids, patches, picture_scene
from pipelines.demo.state import load_state, save_state
from trajkit.demo.grid import GRID, Scene
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
        warm = min(1.0, (step + 1) / 50)
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.rate * warm * (self.final + (1 - self.final) * cosine)


_SETTLE = Draw(0.0, 1.0, freedom=1.0, habit=0.5, families=("math", "math", "math", *FAMILIES))
"""Sorting is the hardest to learn."""
STAGES: tuple[Stage, ...] = (
    Stage("see", 500, 24, 0, 0, 2e-3, 0.1, Draw(0.0, 0.6), cells=1.0),
    Stage("address", 700, 10, 0, 36, 2e-3, 0.5, Draw(0.0, 0.4), cells=0.2),
    Stage("reason", 600, 14, 330, 3, 2e-3, 0.4, Draw(0.0, 0.4), cells=0.1),
    Stage("freely", 2800, 14, 330, 2, 1.5e-3, 0.02, Draw(0.0, 1.0, freedom=1.0, habit=0.5), cells=0.1),
    Stage("settle", 2000, 14, 330, 1, 1.2e-3, 0.01, _SETTLE, cells=0.05),
)
QUICK_STAGES: tuple[Stage, ...] = (
    Stage("see", 4, 4, 0, 0, 2e-3, 0.1, Draw(0.0, 0.6), cells=1.0),
    Stage("address", 4, 2, 0, 4, 2e-3, 0.4, Draw(0.0, 0.4), cells=0.2),
    Stage("freely", 4, 2, 300, 1, 1.2e-3, 0.02, Draw(0.0, 1.0, freedom=1.0)),
)


def _optimisers(named: list[tuple[str, nn.Parameter]]) -> dict[str, torch.optim.Optimizer]:
    """Muon for the matrices of the text layers, which learn to find cells by name in fewer steps with it; AdamW."""
    matrices = [p for name, p in named if "language_model.layers" in name and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = list({id(p): p for _, p in named if id(p) not in chosen}.values())
    return {
        "muon": torch.optim.Muon(matrices, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        "adamw": torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.02),
    }


class CellHeads(nn.Module):
    """Linear readings of digit, colour, row and column from an image token; used by the first stage alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {n: nn.Linear(width, k) for n, k in {"digit": 11, "colour": 5, "row": GRID, "col": GRID}.items()}
        )

    def forward(self, tokens: Tensor, targets: dict[str, Tensor]) -> tuple[Tensor, float]:
        """(N, width) tokens → mean cross-entropy over the four readings, and the share of digits read right."""
        logits = {name: head(tokens) for name, head in self.heads.items()}
        loss = sum(nn.functional.cross_entropy(logits[n], targets[n]) for n in logits)
        assert isinstance(loss, Tensor)
        return loss, float((logits["digit"].argmax(-1) == targets["digit"]).float().mean())


class Trainer:
    """Model, optimisers and place in the curriculum; saved to and resumed from `folder`/state.safetensors."""

    def __init__(self, model: Any, tokenizer: Any, folder: Path, stages: tuple[Stage, ...], seed: int = 0) -> None:
        self.model, self.folder, self.stages, self.seed = model, folder, stages, seed
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(seed)
        self.cells = CellHeads(model.config.text_config.hidden_size)
        self.model.to(self.device)
        self.cells.to(self.device)
        self.rows = RowMaker(tokenizer, model.config)
        self.parameters = [*self.model.parameters(), *self.cells.parameters()]
        self.optimisers = _optimisers([*self.model.named_parameters(), *self.cells.named_parameters()])
        self.stage = 0
        self.step = 0

    @property
    def state_file(self) -> Path:
        return self.folder / "state.safetensors"

    def plan(self) -> str:
        """What this run trains, as text: a checkpoint of another plan is not resumed."""
        return json.dumps([self.seed, *(asdict(s) for s in self.stages)])

    def save(self) -> None:
        """Write the state, whole or not at all. Raises WriteError when it cannot be written."""
        place = {"stage": str(self.stage), "step": str(self.step)}
        save_state(self.state_file, self._modules, self.optimisers, self.plan(), place)

    def resume(self) -> bool:
        """Continue from the saved state, when there is one of the same plan. Raises ValueError for another plan."""
        place = load_state(self.state_file, self._modules, self.optimisers, self.plan())
        if place is not None:
            self.stage, self.step = int(place["stage"]), int(place["step"])
        return place is not None

    @property
    def _modules(self) -> dict[str, nn.Module]:
        return {"model": self.model, "cells": self.cells}

    def compile(self) -> None:
        """Fuse the layers of the text stack with `torch.compile` (needs a C++ compiler; a fifth faster on a CPU)."""
        for layer in self.model.model.language_model.layers:
            layer.compile(dynamic=True)

    def run(self, report: Callable[[Stage, int, float, float], None], save_every: int = 500) -> None:
        """Train to the end, calling `report(stage, step, loss, share of targets right)` after each step."""
        self.model.train()
        while self.stage < len(self.stages):
            stage = self.stages[self.stage]
            while self.step < stage.steps:
                rng = np.random.default_rng([self.seed, self.stage, self.step])
                loss, right = self._loss(stage, rng)
                for optimiser in self.optimisers.values():
                    for group in optimiser.param_groups:
                        group["lr"] = stage.rate_at(self.step)
                    optimiser.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(self.parameters, 1.0)
                for optimiser in self.optimisers.values():
                    optimiser.step()
                self.step += 1
                report(stage, self.step, float(loss.detach()), right)
                if self.step % save_every == 0:
                    self.save()
            self.stage, self.step = self.stage + 1, 0
            self.save()

    def _loss(self, stage: Stage, rng: np.random.Generator) -> tuple[Tensor, float]:
        if stage.cells == 1:
            pictured = [picture_scene(rng, stage.draw) for _ in range(stage.images)]
            pixels = patches(np.stack([p.image for p in pictured])).to(self.device)
            seen = self.model.model.visual(pixels, grid_thw=image_grids(len(pictured)).to(self.device))
            return self._cell_loss(seen.pooler_output, [p.scene for p in pictured])
        batch = self.rows.draw(rng, stage.images, stage.tokens, stage.addresses, stage.draw)
        inputs = {k: v.to(self.device) for k, v in batch.inputs.items()}
        targets, weights = batch.targets.to(self.device), batch.weights.to(self.device)
        tower: list[Tensor] = []  # what the tower says of the image tokens within the pass
        hook = self.model.model.visual.register_forward_hook(lambda *args: tower.append(args[-1].pooler_output))
        hidden = self.model.model(**inputs).last_hidden_state[:, :-1]  # (B, S-1, width)
        hook.remove()
        counted = weights > 0
        logits = self.model.lm_head(hidden[counted])
        loss = nn.functional.cross_entropy(logits, targets[counted], reduction="none")
        loss = (loss * weights[counted]).sum() / weights.sum()
        if stage.cells:
            loss = (1 - stage.cells) * loss + stage.cells * self._cell_loss(tower[0], batch.scenes)[0]
        return loss, float((logits.argmax(-1) == targets[counted]).float().mean())

    def _cell_loss(self, seen: Tensor, scenes: list[Scene]) -> tuple[Tensor, float]:
        return self.cells(seen, {k: v.to(self.device) for k, v in cell_targets(scenes).items()})
