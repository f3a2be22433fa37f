"""docs/columns.md says what the schema says, and its examples run as they stand."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pyarrow as pa
import pytest

from trajkit.traces.schema import SCHEMA, STEP, STEP_NULLABLE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "columns.md").read_text(encoding="utf-8")


def table_of(heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    part = f"\n{PAGE}".split(f"\n{heading}\n")[1].split("\n## ")[0]
    lines = re.findall(r"^\|(.*)\|$", part, re.M)
    return [[cell.strip() for cell in line.split("|")] for line in lines[2:]]


def said(type_: pa.DataType) -> str:
    if pa.types.is_list(type_):
        return f"list<{said(type_.value_type)}>"
    return "struct" if pa.types.is_struct(type_) else {"double": "float64"}.get(str(type_), str(type_))


def test_every_column_stands_there_with_the_schemas_own_sentence() -> None:
    expected = [
        [f"`{field.name}`", said(field.type), "yes" * field.nullable, field.metadata[b"description"].decode()]
        for field in SCHEMA
    ]
    assert table_of("# Columns of a trace file") == expected


def test_every_field_of_a_step_stands_there() -> None:
    found = [row[:3] for row in table_of("## Steps")]
    assert found == [[f"`{f.name}`", said(f.type), "yes" * (f.name in STEP_NULLABLE)] for f in STEP]


def test_the_examples_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for tools that are not installed."""
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    ran = 0
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S):
        if all(importlib.util.find_spec(name) for name in re.findall(r"^import (\w+)", block, re.M)):
            exec(compile(block, "docs/columns.md", "exec"), names)
            ran += 1
    assert ran >= 3
    assert names["effects"].shape == (32, 35)
    assert len(names["steps"]) == 98119
    assert [*names["steps"].columns][:6] == ["transcript_id", *(field.name for field in STEP)][:6]
    assert names["picture"].size == (192, 192)
