"""Measured runs: a generation with the features of its steps and the measured effects of hiding regions.

They train an estimator (random masks) and test one (single regions and random masks).
"""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from trajkit.attribution.ablation import Ablation, measure_effects, random_masks, single_region_masks
from trajkit.attribution.collect import Item, batched, generate_runs
from trajkit.attribution.estimator import StepExample
from trajkit.attribution.features import Pooling
from trajkit.attribution.regions import Regions, segment
from trajkit.attribution.replay import replay
from trajkit.attribution.stream import Sampling
from trajkit.errors import InputError
from trajkit.traces.atomic import replacing
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import Span, split_steps

_KEPT = ("features", "masks", "effects", "single", "tokens", "seconds")
"""What a file of a measured run holds; its group and task set are the item's."""


@dataclass(frozen=True, eq=False)
class Generation:
    """One generated run, cut into steps, with the regions that its effects will be about. tokens: (n,) ids."""

    item: Item
    prompt: Prompt
    tokens: Tensor
    spans: list[Span]
    texts: list[str]
    regions: Regions


@dataclass(frozen=True)
class Measuring:
    """How runs are measured: n_masks random masks and every region alone, hidden by `ablation`."""

    pooling: Pooling = "sum"
    ablation: Ablation = "mean"
    region_method: str = "vision"
    n_masks: int = 32


@dataclass(frozen=True, eq=False)
class MeasuredRun:
    """A run's measurements.

    features (T, K, F), as by StepFeatures; masks (M, K) with their effects (M, T); single (K, T), each region hidden
    alone; nats. tokens: (n,) generated ids. seconds: what generating and measuring took.
    """

    group_id: str
    task_set: str
    features: NDArray[np.float32]
    masks: NDArray[np.bool_]
    effects: NDArray[np.float64]
    single: NDArray[np.float64]
    tokens: NDArray[np.int64]
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Raises InputError when measurements are not finite."""
        for name in ("features", "effects", "single"):
            if not np.isfinite(getattr(self, name)).all():
                raise InputError(
                    f"{name} of a run of group {self.group_id!r} hold NaN or infinite values, as when float16 "
                    "overflows: load the model with dtype=torch.bfloat16 or torch.float32, or leave this question out."
                )

    def examples(self) -> list[StepExample]:
        """One training example a step."""
        return [
            StepExample(features, self.masks, effects, single, self.group_id)
            for features, effects, single in zip(self.features, self.effects.T, self.single.T, strict=True)
        ]


def generations(
    vlm: VLM, items: Iterable[Item], sampling: Sampling, region_method: str, batch_size: int = 32
) -> Iterator[Generation]:
    """One generation of each item, seeded like `collect`; those without any step have no spans."""
    for item, prompt, runs in chain.from_iterable(
        generate_runs(vlm, batch, 1, sampling) for batch in batched(items, batch_size)
    ):
        spans, texts, _ = split_steps(runs[0], vlm)
        tokens = torch.tensor(runs[0], device=vlm.model.device)
        regions = segment(prompt.canvas.images, region_method, vlm=vlm)
        yield Generation(item, prompt, tokens, spans, texts, regions)


def measure(vlm: VLM, run: Generation, how: Measuring, seed: int = 0, batch_size: int = 64) -> MeasuredRun:
    """Measure one generation: one teacher-forced pass for each mask and each region, `batch_size` at a time.

    The masks are seeded by `seed` and the item's id. Raises InputError, naming the item, when what was measured is not
    finite.
    """
    k = run.regions.k
    masks = random_masks(np.random.default_rng([seed, *run.item.id.encode()]), how.n_masks, k)
    every: NDArray[Any] = np.concatenate([masks, single_region_masks(k)])
    effects = measure_effects(
        vlm, run.prompt, run.tokens, run.spans, run.regions, every, how.ablation, batch_size=batch_size
    )
    try:
        features = replay(vlm, run.prompt, run.tokens, run.spans, run.regions, how.pooling).features
        return MeasuredRun(
            run.item.group_id, run.item.task_set, features, masks, effects[: how.n_masks], effects[how.n_masks :],
            run.tokens.cpu().numpy(),
        )  # fmt: skip
    except InputError as error:
        raise InputError(f"question {run.item.id!r} cannot be measured: {error}") from error


def generation_of(vlm: VLM, item: Item, run: MeasuredRun, region_method: str) -> Generation:
    """The generation that a run was measured on."""
    prompt = vlm.prepare(item.image, item.question)
    spans, texts, _ = split_steps(run.tokens.tolist(), vlm)
    regions = segment(prompt.canvas.images, region_method, vlm=vlm)
    return Generation(item, prompt, torch.from_numpy(run.tokens).to(vlm.model.device), spans, texts, regions)


def measure_runs(
    vlm: VLM,
    items: Iterable[Item],
    how: Measuring,
    *,
    sampling: Sampling | None = None,
    store: MeasuredStore | None = None,
    generate_at_once: int = 32,
    batch_size: int = 64,
    advance: Callable[..., None] = lambda note, steps=1: None,
) -> Iterator[MeasuredRun]:
    """Generate one run of each item and measure all its steps; runs without any step are left out.

    store: where runs are kept, and found again when this is called again with the same items.
    """
    sampling = sampling or Sampling(seed=0)
    for batch in batched(items, generate_at_once):
        kept = {item.id: store.read(item) for item in batch if store.has(item)} if store else {}
        if len(kept) == len(batch):
            yield from (run for run in kept.values() if run is not None)
            advance("already there", len(batch))
            continue
        began = time.perf_counter()
        for item, run in zip(batch, generations(vlm, batch, sampling, how.region_method, len(batch)), strict=True):
            if item.id in kept:
                measured = kept[item.id]
            else:
                measured = measure(vlm, run, how, sampling.seed or 0, batch_size) if run.spans else None
                now = time.perf_counter()
                measured, began = measured and replace(measured, seconds=now - began), now
                if store:
                    store.write(item, measured)
            if measured is not None:
                yield measured
            advance(item.task_set)


class MeasuredStore:
    """A folder of measured runs, one file each, written whole or not at all. No pickle."""

    def __init__(self, folder: str | Path, settings: dict[str, Any]) -> None:
        """Open or begin a folder. Raises InputError when it holds runs that were measured with other settings."""
        self._folder = Path(folder)
        about = self._folder / "settings.json"
        wanted = json.loads(json.dumps(settings))
        if about.is_file():
            try:
                found = json.loads(about.read_text(encoding="utf-8"))
            except ValueError as error:
                raise InputError(f"{about} is damaged ({error}); choose another folder.") from error
            other = [key for key in wanted if found.get(key) != wanted[key]]
            if other and any(self._folder.glob("*.npz")):
                raise InputError(
                    f"{self._folder} holds runs measured with {other[0]} {found.get(other[0])!r}, and these are to be "
                    f"measured with {wanted[other[0]]!r}; go on with the same, or choose another folder."
                )
            if not other:
                return
        with replacing(about) as file:
            file.write((json.dumps(wanted, indent=2) + "\n").encode())

    def has(self, item: Item) -> bool:
        return self._path(item).is_file()

    def read(self, item: Item) -> MeasuredRun | None:
        """The run of an item; None when it has none (yet). Raises InputError when its file is damaged."""
        path = self._path(item)
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            if not arrays:
                return None
            seconds = float(arrays.pop("seconds"))
            return MeasuredRun(item.group_id, item.task_set, **arrays, seconds=seconds)
        except (OSError, ValueError, EOFError, KeyError, TypeError, BadZipFile, zlib.error) as error:
            raise InputError(f"{path} is damaged ({error}); remove it, and its run is measured again.") from error

    def write(self, item: Item, run: MeasuredRun | None) -> None:
        """Keep a run; None for an item whose generation had no step."""
        arrays = {} if run is None else {name: np.asarray(getattr(run, name)) for name in _KEPT}
        with replacing(self._path(item)) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    def _path(self, item: Item) -> Path:
        """One file for an id, a question and its pixels: where any of them changes, so does the file."""
        images = [item.image] if isinstance(item.image, Image.Image) else item.image
        digest = hashlib.sha256(f"{item.id}\0{item.question}".encode())
        for image in images:
            digest.update(f"\0{image.mode} {image.size}".encode() + image.tobytes())
        return self._folder / f"{digest.hexdigest()[:24]}.npz"
