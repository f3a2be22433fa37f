"""Logs of other tools that hold something else than they should are refused in words, run by run where that can be."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.traces.importers.logs import GOLDEN, QUESTIONS, only
from trajkit.errors import InputError
from trajkit.traces.importers.imported import import_traces

JSON = {
    "openai": only("openai/s00-0.greedy.json"),
    "batch": only("batch/digits_output.jsonl"),
    "lm-eval": only("lm_eval/kept/samples_*.jsonl"),
    "lmms-eval": only("lmms_eval/kept/*_samples_*.jsonl"),
    "vlmevalkit": only("vlmevalkit/demo_Whole.json"),
    "dataset": only("dataset/prompt_completion.jsonl"),
}
BYTES = [
    *(GOLDEN / "vlmevalkit").glob("*.[xt]s[lv]*"),
    only("openai/s01-0.plain.sse"),
    only("lighteval/named/**/*.parquet"),
    only("dataset/completions/*.parquet"),
    only("dataset/digits_arrow/*.arrow"),
]
ODD: list[Any] = [None, True, -1, 10**400, float("nan"), "", "\ud800", "x\0", [], [[]], {}, {"a": 1}, [{}], "9" * 5000]
TRIES = 40


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of each value within a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from places(inner)


def read(path: Path, format: str | None = None) -> int:
    """How many runs there are. InputError alone may be raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return len(import_traces(path, format=format, images=GOLDEN, questions=QUESTIONS))
        except InputError:
            return 0


@pytest.mark.parametrize("format", JSON)
def test_any_value_may_be_another(format: str, tmp_path: Path) -> None:
    source, chance = JSON[format], random.Random(format)
    text = source.read_text()
    whole = [json.loads(text)] if source.suffix == ".json" else list(map(json.loads, text.splitlines()))
    records = whole[0] if isinstance(whole[0], list) else whole
    counts = []
    for _ in range(TRIES):
        changed = json.loads(json.dumps(records))
        container, key = chance.choice(list(places(changed[0])))
        container[key] = chance.choice(ODD)
        path = tmp_path / source.name
        path.write_text("\n".join(map(json.dumps, changed)), encoding="utf-8")
        counts.append(read(path, format))

    assert max(counts) > 0


@pytest.mark.parametrize("source", BYTES, ids=lambda path: path.name)
def test_any_bytes_may_be_missing_or_others(source: Path, tmp_path: Path) -> None:
    chance, whole = random.Random(source.name), source.read_bytes()
    path = tmp_path / source.name
    if source.suffix == ".arrow":
        shutil.copytree(source.parent, tmp_path, dirs_exist_ok=True)
    for number in range(TRIES // 2):
        at, data = chance.randrange(len(whole)), bytearray(whole)
        if number % 2:
            data[at : at + 8] = chance.randbytes(8)
        path.write_bytes(data if number % 2 else data[:at])
        read(tmp_path if source.suffix == ".arrow" else path)
