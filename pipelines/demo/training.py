"""Trains the demo model in stages: see single cells, learn to look, reason freely, settle.

A model trained on free reasoning from the start learns its form and not to look; so looking is taught first.
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

from pipelines.demo.batches import BatchMaker, Difficulty, cell_targets, draw_scenes, patches
from pipelines.demo.state import load_state, save_state
from trajkit.demo.scene import Scene


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
        warm = min(1.0, (step + 1) / 100)
        cosine = 0.5 * (1 + math.cos(math.pi * step / (self.horizon or self.steps)))
        return self.rate * warm * (self.final + (1 - self.final) * cosine)


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


class CellHeads(nn.Module):
    """Linear readings of digit, colour, row and column from an image token; used by the first stage alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {n: nn.Linear(width, k) for n, k in {"digit": 11, "colour": 5, "row": 4, "col": 4}.items()}
        )

    def forward(self, tokens: Tensor, targets: dict[str, Tensor]) -> tuple[Tensor, float]:
        """(N, width) tokens → mean cross-entropy over the four readings, and the share of digits read right."""
        logits = {name: head(tokens) for name, head in self.heads.items()}
        loss = sum(nn.functional.cross_entropy(logits[n], targets[n]) for n in logits)
        assert isinstance(loss, Tensor)
        return loss, float((logits["digit"].argmax(-1) == targets["digit"]).float().mean())


class Trainer:
    """Model, optimiser and place in the curriculum; saved to and resumed from `folder`/state.safetensors."""

    def __init__(self, model: Any, tokenizer: Any, folder: Path, stages: tuple[Stage, ...], seed: int = 0) -> None:
        self.model, self.folder, self.stages, self.seed = model, folder, stages, seed
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(seed)
        self.cells = CellHeads(model.config.text_config.hidden_size)
        self.model.to(self.device)
        self.cells.to(self.device)
        self.batches = BatchMaker(tokenizer, model.config)
        self.parameters = [*self.model.parameters(), *self.cells.parameters()]
        self.optimiser = torch.optim.AdamW(self.parameters, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.02)
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
        save_state(self.state_file, self._modules, {"optimiser": self.optimiser}, self.plan(), place)

    def resume(self) -> bool:
        """Continue from the saved state, when there is one of the same plan. Raises ValueError for another plan."""
        place = load_state(self.state_file, self._modules, {"optimiser": self.optimiser}, self.plan())
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
                for group in self.optimiser.param_groups:
                    group["lr"] = stage.rate_at(self.step)
                self.optimiser.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(self.parameters, 1.0)
                self.optimiser.step()
                self.step += 1
                report(stage, self.step, float(loss.detach()), right)
                if self.step % save_every == 0:
                    self.save()
            self.stage, self.step = self.stage + 1, 0
            self.save()

    def _loss(self, stage: Stage, rng: np.random.Generator) -> tuple[Tensor, float]:
        if stage.cells == 1:
            scenes, images = draw_scenes(rng, "train", stage.images, stage.difficulty)
            grid = torch.tensor([[1, 8, 8]] * len(scenes), device=self.device)
            seen = self.model.model.visual(patches(images).to(self.device), grid_thw=grid)
            return self._cell_loss(seen.pooler_output, scenes)
        batch = self.batches.draw(rng, "train", stage.images, stage.questions, stage.difficulty)
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
