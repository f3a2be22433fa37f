"""Any number of made-up runs on disk, for measuring what size costs. They say nothing about a model.

    python -m analyses.many_runs /tmp/many --runs 1000000   # 10 GB in files of 20,000 runs, ten minutes or so

Runs of 5 to 60 steps over 16 to 128 regions, four of each of some scenes. A few regions carry a step and most effects
are near 0, as effects of a model are; every run has a `meta` of its own. Columns are made as Arrow arrays, a row group
at a time, and written with the schema and the encodings of the store.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analyses.simulated import PER_GROUP
from trajkit.progress import progress
from trajkit.traces.atomic import write_tables
from trajkit.traces.rows import encode_labels
from trajkit.traces.schema import SCHEMA, STEP

STEPS, REGIONS = (5, 60), (16, 128)
FILE, GROUP = 20_000, 4_000
"""Runs of a file and of a row group."""
_SENTENCES = tuple(
    f"{verb} row {row} col {col}." for verb in ("look at", "so", "then") for row in range(9) for col in range(9)
)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--runs", type=int, default=20_000)
    args = parser.parse_args(argv)
    write_many(args.out, args.runs)


def write_many(out: Path, n_runs: int, seed: int = 0) -> Path:
    """Write `n_runs` made-up runs to the folder `out`, FILE of them in a file. A run hangs on `seed` and its number."""
    out.mkdir(parents=True, exist_ok=True)
    with progress("runs", total=n_runs) as bar:

        def groups(first: int, last: int) -> Iterator[pa.Table]:
            for start in range(first, last, GROUP):
                made = many_runs(start, min(GROUP, last - start), seed)
                yield made
                bar.advance("", len(made))

        for number, first in enumerate(range(0, n_runs, FILE)):
            write_tables(groups(first, min(first + FILE, n_runs)), out / f"part-{number:05d}.parquet", GROUP)
    return out


def many_runs(first: int, n: int, seed: int = 0) -> pa.Table:
    """The runs `first` … `first + n − 1`, columns as the trace schema has them."""
    rng = np.random.default_rng([seed, first])
    number = np.arange(first, first + n)
    n_steps, n_regions = rng.integers(*STEPS, n, endpoint=True), rng.integers(*REGIONS, n, endpoint=True)
    outcome = rng.choice(4, n, p=[0.7, 0.15, 0.1, 0.05])
    scene = pa.array(number // PER_GROUP).cast(pa.string())
    form = _picked(["largest", "sum", "present"], number // PER_GROUP % 3)
    group = pc.binary_join_element_wise("scene", scene, "-")
    maps = [encode_labels(np.arange(256).reshape(16, 16) % k, k, "a run") for k in range(REGIONS[1] + 1) if k]
    columns = {
        "transcript_id": pc.binary_join_element_wise("run", pa.array(number).cast(pa.string()), "-"),
        "task_set": _picked(["count", "compare", "locate"], number // PER_GROUP % 9 // 3),
        "task_id": group,
        "task_repeat": pa.array(number % PER_GROUP),
        "model": _same("made up", n),
        "score": pa.array((outcome == 0).astype(float), mask=outcome == 3),
        "success": pa.array(outcome == 0, mask=outcome == 3),
        "group_id": group,
        "question": pc.binary_join_element_wise("what is the", form, "of scene", scene, " "),
        "answer": _picked(["4", "7", "red", "yes"], rng.integers(0, 4, n)),
        "target": _picked(["4", "7", "red", "yes"], number // PER_GROUP % 4),
        "outcome": _picked(["success", "hallucination", "reasoning_failure", "unknown"], outcome),
        "image": pa.nulls(n, pa.binary()),
        "image_sha256": pc.utf8_lpad(scene, 64, "0"),
        "regions": pa.array(maps, pa.binary()).take(pa.array(n_regions - 1)),
        "n_steps": pa.array(n_steps, pa.int32()),
        "n_regions": pa.array(n_regions, pa.int32()),
        "steps": _steps(rng, n_steps),
        "effects": _lists(n_steps * n_regions, pa.array(_effects(rng, np.repeat(n_regions, n_steps)))),
        "effects_kind": _same("estimated", n),
        "meta": pc.binary_join_element_wise(
            '{"kind": "',
            form,
            '", "detail": "", "corrections": 0, "fingerprint": "0123456789abcdef", "temperature": 1.0, '
            '"max_new_tokens": null, "region_method": "vision", "torch": "2.13.0", "python": "3.11", "seed": ',
            pa.array(number).cast(pa.string()),
            "}",
            "",
        ),
        "half_widths": pa.nulls(n, SCHEMA.field("half_widths").type),
        "hidden": pa.nulls(n, SCHEMA.field("hidden").type),
        "tokens": pa.nulls(n, SCHEMA.field("tokens").type),
    }
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _effects(rng: np.random.Generator, width: NDArray[np.int64]) -> NDArray[np.float32]:
    """Flat effects of steps over `width` regions each: noise of the step's own size, and a region that stands out."""
    noise = rng.standard_normal(int(width.sum()), np.float32)
    noise *= np.repeat(np.float32(0.05) * rng.standard_exponential(len(width), np.float32), width)
    ends = np.cumsum(width)
    top = ends - width + rng.integers(0, np.minimum(width, 12))
    noise[top] += 2 * rng.standard_exponential(len(width), np.float32)
    return noise


def _steps(rng: np.random.Generator, n_steps: NDArray[np.int64]) -> pa.ListArray:
    """The last step is the answer; tokens follow each other without a gap."""
    ends = np.cumsum(n_steps)
    n, answer = int(ends[-1]), np.zeros(int(ends[-1]), np.int64)
    answer[ends - 1] = 1
    tokens = rng.integers(4, 30, n)
    after = np.cumsum(tokens)
    after -= np.repeat((after - tokens)[ends - n_steps], n_steps)
    entropy = rng.standard_exponential(n) / 3
    columns: dict[str, Any] = {
        "text": _picked(_SENTENCES, rng.integers(0, len(_SENTENCES), n)),
        "kind": _picked(["thinking", "answer"], answer),
        "token_start": pa.array(after - tokens, pa.int32()),
        "token_end": pa.array(after, pa.int32()),
        "logprob": pa.array(-entropy * rng.random(n)),
        "entropy": pa.array(entropy),
        "seconds": pa.array(tokens / 20),
        "risk": pa.nulls(n, pa.float64()),
        "alarm": pa.nulls(n, pa.bool_()),
    }
    rows = pa.StructArray.from_arrays([columns[field.name] for field in STEP], fields=list(STEP))
    return _lists(n_steps, rows)


def _lists(lengths: NDArray[np.int64], values: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32()), values)


def _picked(words: Any, which: NDArray[np.int64]) -> pa.Array:
    return pa.array(words, pa.string()).take(pa.array(which))


def _same(word: str, n: int) -> pa.Array:
    return pa.repeat(word, n)


if __name__ == "__main__":
    main()
