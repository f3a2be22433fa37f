"""Measured runs: a generation with the features of its steps and the measured effects of hiding regions.

They train an estimator (random masks) and test one (single regions and random masks).
"""

from __future__ import annotations

import hashlib
import json
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trajkit.aside import aside
from trajkit.attribution.ablation import Ablation, measure_effects, random_masks, single_region_masks
from trajkit.attribution.collect import batched, generate_runs
from trajkit.attribution.estimator import StepExample
from trajkit.attribution.features import Pooling
from trajkit.attribution.item import Item, SetAside
from trajkit.attribution.regions import Regions, segment
from trajkit.attribution.replay import replay
from trajkit.errors import InputError
from trajkit.files import hold, remove_left_over, replacing
from trajkit.fingerprints import difference
from trajkit.strict_json import parse_json
from trajkit.vlm.canvas import opened_all
from trajkit.vlm.generation import Sampling
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

    def fault(self) -> str | None:
        """What is wrong with it: parts that do not fit together, or values that are no numbers."""
        parts = (self.features, self.masks, self.effects, self.single, self.tokens)
        if [part.ndim for part in parts] != [3, 2, 2, 2, 1]:
            return "its parts have other shapes"
        (t, k), m = self.features.shape[:2], len(self.masks)
        if self.masks.shape != (m, k) or self.effects.shape != (m, t) or self.single.shape != (k, t):
            return "its parts do not fit together"
        for name in ("features", "effects", "single"):
            if not np.isfinite(getattr(self, name)).all():
                return f"its {name} hold NaN or infinite values"
        return None

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
    for batch in batched(items, batch_size):
        for item, prompt, runs in generate_runs(vlm, batch, 1, sampling):
            yield _generation(vlm, item, prompt, runs[0], region_method)


def _generation(vlm: VLM, item: Item, prompt: Prompt, tokens: list[int], region_method: str) -> Generation:
    spans, texts, _ = split_steps(tokens, vlm)
    regions = segment(prompt.canvas.images, region_method, vlm=vlm)
    return Generation(item, prompt, torch.tensor(tokens, device=vlm.model.device), spans, texts, regions)


def measure(vlm: VLM, run: Generation, how: Measuring, seed: int = 0, batch_size: int = 64) -> MeasuredRun:
    """Measure one generation: one teacher-forced pass for each mask and each region, `batch_size` at a time.

    The masks are seeded by `seed` and the item's id. Raises InputError when the measurements are no numbers.
    """
    k = run.regions.k
    masks = random_masks(np.random.default_rng([seed, *run.item.id.encode()]), how.n_masks, k)
    every: NDArray[Any] = np.concatenate([masks, single_region_masks(k)])
    effects = measure_effects(
        vlm, run.prompt, run.tokens, run.spans, run.regions, every, how.ablation, batch_size=batch_size
    )
    features = replay(vlm, run.prompt, run.tokens, run.spans, run.regions, how.pooling).features
    measured = MeasuredRun(
        run.item.group_id,
        run.item.task_set,
        features,
        masks,
        effects[: how.n_masks],
        effects[how.n_masks :],
        run.tokens.cpu().numpy(),
    )
    fault = measured.fault()
    if fault:
        raise InputError(
            f"run {run.item.id!r}: {fault}, as in an overflow of float16; load the model in bfloat16 or float32, or "
            "leave the question out."
        )
    return measured


def generation_of(vlm: VLM, item: Item, run: MeasuredRun, region_method: str) -> Generation:
    """The generation that a run was measured on."""
    return _generation(vlm, item, vlm.prepare(item.image, item.question), run.tokens.tolist(), region_method)


def measure_runs(
    vlm: VLM,
    items: Iterable[Item],
    how: Measuring,
    *,
    sampling: Sampling | None = None,
    mask_seed: int | None = None,
    store: MeasuredStore | None = None,
    generate_at_once: int = 32,
    batch_size: int = 64,
    set_aside: SetAside | None = None,
    advance: Callable[..., None] = lambda note, steps=1: None,
) -> Iterator[MeasuredRun]:
    """Generate one run of each item and measure all its steps; runs without any step are left out.

    mask_seed: of the random masks; None for the seed of the generations. store: where runs are kept, and found again
    when this is called again with the same items. set_aside: called for an item whose run cannot be made or measured,
    and the others go on. advance: called for every item, whatever comes of it. Raises InputError for such an item where
    there is no set_aside, and for settings of the checkpoint with which nothing can be generated.
    """
    sampling = sampling or Sampling(seed=0)
    sampling.check(vlm, 1)
    mask_seed = sampling.seed or 0 if mask_seed is None else mask_seed
    for batch in batched(items, generate_at_once):
        kept = {item.id: store.read(item) for item in batch if store.has(item)} if store else {}
        if len(kept) == len(batch):
            yield from (run for run in kept.values() if run is not None)
            advance("already there", len(batch))
            continue
        if store:
            store.hold()
        began = time.perf_counter()
        drawn = {item.id: (prompt, runs[0]) for item, prompt, runs in generate_runs(vlm, batch, 1, sampling, set_aside)}
        generating = (time.perf_counter() - began) / max(len(drawn), 1)
        for item in batch:
            measured = kept.get(item.id)
            if item.id in drawn and item.id not in kept:
                began = time.perf_counter()
                with aside(item, set_aside):
                    run = _generation(vlm, item, *drawn[item.id], how.region_method)
                    measured = measure(vlm, run, how, mask_seed, batch_size) if run.spans else None
                    seconds = generating + time.perf_counter() - began
                    measured = measured and replace(measured, seconds=seconds)
                    if store:
                        store.write(item, measured)
            if measured is not None:
                yield measured
            advance(item.task_set)


class MeasuredStore:
    """A folder of measured runs, one file each, written whole or not at all. No pickle.

    Each file says how its run was measured, and so does settings.json for all of them. Many may read a folder at once,
    one process at a time writes to it.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any]) -> None:
        """Open a folder. Raises InputError when it holds runs that were measured with other settings."""
        self._folder = Path(folder)
        self._settings = json.loads(json.dumps(settings))
        self._lock: IO[bytes] | None = None
        self._check_settings()

    def hold(self) -> None:
        """Take the folder for writing, until this store is closed or gone; done by the first `write` otherwise.

        Raises InputError when another process has it.
        """
        if self._lock is not None:
            return
        self._lock = hold(self._folder)
        try:
            self._check_settings()  # again: they may have come since
            remove_left_over(self._folder)
            with replacing(self._folder / "settings.json") as file:
                file.write((json.dumps(self._settings, indent=2) + "\n").encode())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another process write."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _check_settings(self) -> None:
        about = self._folder / "settings.json"
        if not about.is_file():
            return
        try:
            found = parse_json(about.read_text(encoding="utf-8"))
            if not isinstance(found, dict):
                raise ValueError("it is no object")
        except (OSError, ValueError) as error:
            raise InputError(f"{about} is damaged ({error}); choose another folder.") from error
        if any(self._folder.glob("*.npz")):
            self._compare(found, self._folder)

    def _compare(self, found: dict[str, Any], where: Path) -> None:
        other = [key for key in self._settings if found.get(key) != self._settings[key]]
        if other:
            theirs, ours = found.get(other[0]), self._settings[other[0]]
            why = difference(str(theirs), str(ours), True) if other[0] == "fingerprint" else ""
            raise InputError(
                f"{where} holds runs measured with {other[0]} {theirs!r}, and these are to be measured with "
                f"{ours!r}.{why} Go on with the same, or choose another folder."
            )

    def has(self, item: Item) -> bool:
        return self._path(item).is_file()

    def read(self, item: Item) -> MeasuredRun | None:
        """The run of an item; None when it has none (yet). Raises InputError when its file is damaged, or was measured
        with other settings."""
        path = self._path(item)
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            settings = parse_json(str(arrays.pop("settings")))
            if not isinstance(settings, dict):
                raise ValueError("its settings are no object")
            run = None
            if arrays:
                seconds = float(arrays.pop("seconds"))
                run = MeasuredRun(item.group_id, item.task_set, **arrays, seconds=seconds)
                if fault := run.fault():
                    raise ValueError(fault)
        except (
            OSError,
            ValueError,
            EOFError,
            KeyError,
            TypeError,
            AttributeError,
            IndexError,
            NotImplementedError,
            RuntimeError,
            BadZipFile,
            zlib.error,
            struct.error,
        ) as error:
            raise InputError(f"{path} is damaged ({error}); remove it, and its run is measured again.") from error
        except MemoryError as error:  # of a whole file too: it must not be thrown away for that
            raise InputError(
                f"not enough memory to read {path} ({error}). Free some; if there is far more than the file has, it is "
                "damaged: remove it, and its run is measured again."
            ) from error
        self._compare(settings, path)
        return run

    def write(self, item: Item, run: MeasuredRun | None) -> None:
        """Keep a run; None for an item whose generation had no step."""
        self.hold()
        arrays = {} if run is None else {name: np.asarray(getattr(run, name)) for name in _KEPT}
        arrays["settings"] = np.array(json.dumps(self._settings))
        with replacing(self._path(item)) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    def _path(self, item: Item) -> Path:
        """One file for an id, a question and its pixels: where any of them changes, so does the file."""
        digest = hashlib.sha256(f"{item.id}\0{item.question}".encode())
        for image in opened_all(item.image):
            digest.update(f"\0{image.mode} {image.size}".encode() + image.tobytes())
        return self._folder / f"{digest.hexdigest()[:24]}.npz"
