"""Trains a demo model stage by stage; interrupted, it goes on as if it had not been.

Every step draws its own batch from (seed, stage, step), so a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pipelines.demo.packing import Batch, cell_targets, image_grids, patches
from pipelines.demo.state import load_state, save_state
from trajkit.demo.grid import GRID, Scene


class Stage(Protocol):
    """One stage of a curriculum, a dataclass. cells: the share of the loss that asks the vision tower for the content
    and place of every token's cell; at 1 the stage trains the tower alone."""

    name: str
    steps: int
    cells: float

    def rate_at(self, step: int) -> float: ...


class Curriculum(Protocol):
    """What the training draws."""

    def look(self, rng: np.random.Generator, stage: Any) -> tuple[Sequence[Scene], NDArray[np.uint8]]:
        """Scenes and their pictures, for a stage that trains the tower alone."""

    def draw(self, rng: np.random.Generator, stage: Any) -> Batch:
        """The batch of a step."""


def rate(step: int, steps: int, peak: float, final: float, warm: int) -> float:
    """A learning rate that warms up to `peak` over `warm` steps and falls by a cosine of `steps` to `final` × it."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return peak * min(1.0, (step + 1) / warm) * (final + (1 - final) * cosine)


class CellHeads(nn.Module):
    """Linear readings of digit, colour, row and column from an image token; used in training alone."""

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


class _Draws(Dataset[Any]):
    """What the steps of a stage train on, by the step's number."""

    def __init__(self, curriculum: Curriculum, stage: Any, seed: tuple[int, int]) -> None:
        self.curriculum, self.stage, self.seed = curriculum, stage, seed

    def __getitem__(self, step: int) -> Any:
        rng = np.random.default_rng([*self.seed, step])
        return (self.curriculum.look if self.stage.cells == 1 else self.curriculum.draw)(rng, self.stage)


def _as_it_is(drawn: Any) -> Any:
    return drawn


Optimisers = Callable[[list[tuple[str, nn.Parameter]]], dict[str, torch.optim.Optimizer]]
"""Named parameters → the optimisers that train them, by name."""


class Trainer:
    """Model, optimisers and place in the curriculum; saved to and resumed from `folder`/state.safetensors."""

    def __init__(
        self,
        model: Any,
        curriculum: Curriculum,
        optimisers: Optimisers,
        folder: Path,
        stages: Sequence[Any],
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        """workers: processes that draw batches beside the training; 0: it draws them itself."""
        self.workers = workers
        self.model, self.curriculum, self.folder, self.stages, self.seed = model, curriculum, folder, stages, seed
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(seed)
        self.cells = CellHeads(model.config.text_config.hidden_size)
        self.model.to(self.device)
        self.cells.to(self.device)
        self.parameters = [*self.model.parameters(), *self.cells.parameters()]
        self.optimisers = optimisers([*self.model.named_parameters(), *self.cells.named_parameters()])
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

    def run(self, report: Callable[[Any, int, float, float], None], save_every: int = 500) -> None:
        """Train to the end, calling `report(stage, step, loss, share of targets right)` after each step."""
        self.model.train()
        while self.stage < len(self.stages):
            stage = self.stages[self.stage]
            drawn = _Draws(self.curriculum, stage, (self.seed, self.stage))
            steps = range(self.step, stage.steps)
            for draw in DataLoader(drawn, None, sampler=steps, num_workers=self.workers, collate_fn=_as_it_is):
                loss, right = self._loss(stage, draw)
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

    def _loss(self, stage: Stage, drawn: Any) -> tuple[Tensor, float]:
        """drawn: what `_Draws` gives for the step."""
        if stage.cells == 1:
            scenes, images = drawn
            grids = image_grids(len(scenes)).to(self.device)
            seen = self.model.model.visual(patches(images).to(self.device), grid_thw=grids)
            return self._cell_loss(seen.pooler_output, scenes)
        batch: Batch = drawn
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

    def _cell_loss(self, seen: Tensor, scenes: Sequence[Scene]) -> tuple[Tensor, float]:
        return self.cells(seen, {k: v.to(self.device) for k, v in cell_targets(scenes).items()})
