"""Damage every file that trajkit reads, and see that it is refused in words or read as it was: to the same value.

    python -m tests.fuzz --minutes 30 [--seed 1] [--only traces]

Prints each input that ends otherwise, kept below --keep. `tests/test_fuzz.py` runs a small seeded part.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.traces.factory import make_trace, png
from trajkit.attribution.estimator import EffectEstimator
from trajkit.attribution.item import Item
from trajkit.attribution.measure import MeasuredRun, MeasuredStore
from trajkit.demo import paths
from trajkit.detection.store import load_detectors
from trajkit.errors import TrajkitError
from trajkit.traces.images import open_image
from trajkit.traces.questions import read_questions
from trajkit.traces.store import read_traces, write_traces

Read = Callable[[], object]
"""Reads what was made."""

ITEM = Item("a", Image.new("RGB", (16, 16)), "how many?", "g")
SETTINGS = {"ablation": "mean", "n_masks": 5}
HOSTILE = (
    b"[" * 100_000,
    b"[]",
    b"{}",
    b"null",
    b"NaN",
    b"1e999",
    b"9" * 5000,
    b'"\\ud800"',
    b"\0",
    b"\xff\xfe",
    b'"\x1b[2J"',
)
"""Pieces that are put into a file, or take its place."""


def traces(folder: Path) -> tuple[list[Path], Read]:
    path = write_traces([make_trace(i) for i in range(5)], folder / "runs.parquet")
    return [path], lambda: list(read_traces(path))


def questions(folder: Path) -> tuple[list[Path], Read]:
    path = folder / "questions.jsonl"
    row = {"image": "a.png", "target": 2, "group_id": "g"}
    path.write_text("".join(json.dumps(row | {"id": i, "question": f"how many {i}?"}) + "\n" for i in range(5)))
    return [path], lambda: read_questions(path, None, lambda number, error: None)


def estimator(folder: Path) -> tuple[list[Path], Read]:
    shutil.copytree(paths.ESTIMATOR, folder, dirs_exist_ok=True)
    return sorted(folder.iterdir()), lambda: EffectEstimator.load(folder)


def detectors(folder: Path) -> tuple[list[Path], Read]:
    shutil.copytree(paths.DETECTORS, folder, dirs_exist_ok=True)

    def read() -> object:
        found = load_detectors(folder)
        outcome = None if found.outcome is None else found.outcome.to_state()
        enough = None if found.enough is None else found.enough.to_state()
        return found.card, found.predictor.to_state(), outcome, found.monitor.to_state(), enough

    return sorted(folder.iterdir()), read


def measured(folder: Path) -> tuple[list[Path], Read]:
    run = MeasuredRun(
        "g", "", np.ones((2, 3, 4), np.float32), np.ones((5, 3), bool), np.ones((5, 2)), np.ones((3, 2)), np.arange(7)
    )
    store = MeasuredStore(folder, SETTINGS)
    store.write(ITEM, run)
    store.close()
    return sorted(folder.glob("*.*")), lambda: MeasuredStore(folder, SETTINGS).read(ITEM)


def images(folder: Path) -> tuple[list[Path], Read]:
    made = []
    for kind in ("png", "jpeg", "webp", "bmp", "gif", "tiff"):
        made.append(folder / f"a.{kind}")
        open_image(png(0, (60, 60))).save(made[-1], format=kind)
    return made, lambda: {path.name: _pixels(path) for path in made}


def _pixels(path: Path) -> object:
    """Size and bytes of an image in RGB; None of one that is refused."""
    try:
        image = open_image(path)
    except TrajkitError:
        return None
    assert image.mode == "RGB"
    return image.size, image.tobytes()


def checkpoint(folder: Path) -> tuple[list[Path], Read]:
    from transformers.utils import logging

    from trajkit.vlm.generation import Sampling, generate
    from trajkit.vlm.load import load_vlm

    logging.set_verbosity_error()
    shutil.copytree(paths.MODEL, folder, dirs_exist_ok=True)
    small = [path for path in sorted(folder.iterdir()) if path.name != "model.safetensors"]
    picture, greedy = open_image(png(0, (128, 128))), Sampling(temperature=0, max_new_tokens=2)

    def run() -> object:
        vlm = load_vlm(folder, device="cpu")
        return vlm.fingerprint, generate(vlm, vlm.prepare(picture, "sort row 2 up.").inputs, greedy)

    return small, run


FORMATS: dict[str, Callable[[Path], tuple[list[Path], Read]]] = {
    "traces": traces,
    "questions": questions,
    "estimator": estimator,
    "detectors": detectors,
    "measured": measured,
    "images": images,
    "checkpoint": checkpoint,
}


def plain(value: Any) -> Any:
    """`value` as what can be compared: records as dicts, arrays by their bytes."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def same(name: str, found: Any, whole: Any, path: Path, before: bytes) -> bool:
    """Whether a damaged file was read as it should be: to its old value, or, where a format has no checksum, to what
    stands in it now. found, whole: `plain` of what was read from it and from the whole one, `before`."""
    if name == "questions":  # lines that are as they were, but for those whose id another line now has
        lines, now = before.splitlines(), path.read_bytes().splitlines()
        read = {question["id"]: question | {"line": 0} for question in found}
        kept = [old | {"line": 0} for old, line in zip(whole, lines, strict=True) if line in now]
        others = [line for line in now if line not in lines]
        return all(read.get(old["id"]) == old or (others and old["id"] in read) for old in kept)
    if name == "images":  # of these formats PNG has one
        return found["a.png"] in (None, whole["a.png"]) and all(
            found[other] == whole[other] for other in whole if other not in ("a.png", path.name)
        )
    if name == "checkpoint":  # other tokens are another model's
        return found[1] == whole[1] or found[0] != whole[0]
    return found == whole


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """`data` with bits flipped, bytes set, a piece cut out, doubled, swapped or put in, its end cut off, or all of it
    something else."""
    at, until = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    near = min(at + int(rng.integers(1, 9)), len(data))
    piece = HOSTILE[int(rng.integers(len(HOSTILE)))]
    kind = int(rng.integers(9))
    if kind == 0 and data:
        changed = bytearray(data)
        for place in rng.integers(0, len(data), int(rng.integers(1, 6))):
            changed[place] ^= 1 << int(rng.integers(8))
        return bytes(changed)
    return [
        data[:at] + rng.bytes(near - at) + data[near:],
        data[:at],
        data[:at] + data[until:],
        data[:near] + data[at:],
        data[:at] + piece + data[near:],
        data[:at] + bytes(near - at) + data[near:],
        piece,
        _other_json(data, rng),
        data[:at] + data[at:near][::-1] + data[near:],
    ][kind]


def _other_json(data: bytes, rng: np.random.Generator) -> bytes:
    """JSON with one value of another kind; other data with its last bytes gone."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return data[: -int(rng.integers(1, 20))]
    parent, key = None, None
    node: Any = value
    while isinstance(node, dict | list) and node and (parent is None or rng.random() < 0.8):
        keys = list(node) if isinstance(node, dict) else range(len(node))
        parent, key = node, keys[int(rng.integers(len(keys)))]
        node = parent[key]
    other: list[Any] = [None, [], {}, "", "x", -1, 0, 1e300, 10**30, True, [1, "a"], {"a": []}, float("nan")]
    chosen = other[int(rng.integers(len(other)))]
    if parent is None:
        return json.dumps(chosen).encode()
    parent[key] = chosen
    return json.dumps(value).encode()


def attack(name: str, rng: np.random.Generator, folder: Path) -> str | None:
    """Damage one file of a format; what went wrong, or None."""
    whole = folder / "whole"
    if not whole.exists():
        whole.mkdir(parents=True)
    made, read = FORMATS[name](whole)
    before = plain(read())
    path = made[int(rng.integers(len(made)))]
    data = path.read_bytes()
    path.write_bytes(damaged(data, rng))
    try:
        if same(name, plain(read()), before, path, data):
            return None
        return f"{path.name}: read as something else than it was"
    except TrajkitError as error:
        return None if str(error).strip() else f"{path.name}: refused without a word"
    except BaseException as error:
        return f"{path.name}: {type(error).__name__}: {str(error)[:200]}"
    finally:
        shutil.copyfile(path, folder / "last")
        path.write_bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=FORMATS, action="append")
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"))
    chosen = parser.parse_args()
    rng = np.random.default_rng(chosen.seed)
    names = chosen.only or list(FORMATS)
    until, counts, faults = time.monotonic() + 60 * chosen.minutes, dict.fromkeys(names, 0), 0
    with tempfile.TemporaryDirectory() as work:
        while time.monotonic() < until:
            for name in names:
                counts[name] += 1
                fault = attack(name, rng, Path(work) / name)
                if fault:
                    faults += 1
                    chosen.keep.mkdir(parents=True, exist_ok=True)
                    kept = chosen.keep / f"{name}-{chosen.seed}-{counts[name]}"
                    shutil.copyfile(Path(work) / name / "last", kept)
                    print(f"{name} {fault} ({kept})", flush=True)
    print(f"{counts}: {faults} faults")


if __name__ == "__main__":
    main()
