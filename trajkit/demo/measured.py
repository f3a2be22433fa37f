"""Measured runs of the demo world, kept below runs/ so that pipelines and analyses measure each of them once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from trajkit.attribution.measure import MeasuredRun, MeasuredStore, Measuring, measure_runs
from trajkit.demo.digits import Split
from trajkit.demo.items import MIX, demo_items
from trajkit.vlm.generation import Sampling
from trajkit.vlm.model import VLM

SAMPLING = Sampling(1.0, seed=0)
"""How the demo's runs are drawn. Scenes and their ids differ by a seed of their own."""
WORK = Path("runs/measured")
TRAIN_SEED, TEST_SEED = 2, 409
"""Seeds of the runs that estimators are trained on (validation digits) and tested on (test digits). Nothing is chosen
by the second: forms of estimators are compared on validation digits."""


def demo_store(vlm: VLM, how: Measuring, sampling: Sampling, folder: Path = WORK) -> MeasuredStore:
    """The folder of a model's measured demo runs."""
    settings = asdict(how) | {"temperature": sampling.temperature, "fingerprint": vlm.fingerprint, "mix": asdict(MIX)}
    return MeasuredStore(folder / f"{vlm.fingerprint}-{how.region_method}-{how.pooling}-{how.ablation}", settings)


def measured_demo_runs(
    vlm: VLM,
    split: Split,
    n: int,
    how: Measuring | None = None,
    advance: Callable[..., None] = lambda note, steps=1: None,
) -> list[MeasuredRun]:
    """The first `n` runs of a split, sampled at temperature 1 on the shipped mix, measured or read again."""
    how = how or Measuring()
    seed = TEST_SEED if split == "test" else TRAIN_SEED
    items = demo_items(split, n, seed)
    store = demo_store(vlm, how, SAMPLING)
    return list(measure_runs(vlm, items, how, sampling=SAMPLING, mask_seed=seed, store=store, advance=advance))
