"""Measured runs: a generation with the features of its steps and the measured effects of hiding regions.

They train an estimator (random masks) and test one (single regions and random masks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trajkit.attribution.ablation import Ablation, measure_effects, random_masks, single_region_masks
from trajkit.attribution.collect import Item, batched, generate_runs
from trajkit.attribution.estimator import StepExample
from trajkit.attribution.features import Pooling
from trajkit.attribution.regions import Method, segment
from trajkit.attribution.replay import replay
from trajkit.attribution.stream import Sampling
from trajkit.vlm.model import VLM
from trajkit.vlm.sentences import split_steps


@dataclass(frozen=True, eq=False)
class MeasuredRun:
    """features (T, K, L·H); masks (M, K) with their effects (M, T); single (K, T), each region hidden alone; nats."""

    group_id: str
    task_set: str
    features: NDArray[np.float32]
    masks: NDArray[np.bool_]
    effects: NDArray[np.float64]
    single: NDArray[np.float64]

    def examples(self) -> list[StepExample]:
        """One training example a step."""
        return [StepExample(f, self.masks, e) for f, e in zip(self.features, self.effects.T, strict=True)]


def measure_runs(
    vlm: VLM,
    items: Iterable[Item],
    *,
    pooling: Pooling,
    ablation: Ablation = "mean",
    region_method: Method = "vision",
    n_masks: int = 32,
    sampling: Sampling | None = None,
    batch_size: int = 32,
    advance: Callable[[str], None] = lambda note: None,
) -> Iterator[MeasuredRun]:
    """Generate one run of each item and measure `n_masks` random masks and every single region on all its steps.

    Seeded like `collect`. Runs without any step are left out.
    """
    sampling = sampling or Sampling(seed=0)
    for item, prompt, runs in chain.from_iterable(
        generate_runs(vlm, b, 1, sampling) for b in batched(items, batch_size)
    ):
        regions = segment(prompt.canvas.images, region_method, vlm=vlm)
        spans, _, _ = split_steps(runs[0], vlm)
        if spans:
            tokens = torch.tensor(runs[0], device=vlm.model.device)
            masks = random_masks(np.random.default_rng([sampling.seed or 0, *item.id.encode()]), n_masks, regions.k)
            every: NDArray[Any] = np.concatenate([masks, single_region_masks(regions.k)])
            effects = measure_effects(vlm, prompt, tokens, spans, regions, every, ablation)
            features = replay(vlm, prompt, tokens, spans, regions, pooling).features
            yield MeasuredRun(item.group_id, item.task_set, features, masks, effects[:n_masks], effects[n_masks:])
        advance(item.task_set)
