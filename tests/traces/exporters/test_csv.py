"""Two tables that pandas and spreadsheets open; nothing in them is run."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pandas as pd
import pytest

from trajkit.traces.exporters import export_traces
from trajkit.trajectory import concentration

from .samples import FORMULA, samples

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    return export_traces(samples(), tmp_path / "tables", format="csv")


@pytest.mark.parametrize("name", ["runs.csv", "steps.csv"])
def test_tables_are_those_of_the_golden_files(tables: Path, name: str) -> None:
    assert (tables / name).read_bytes() == (GOLDEN / name).read_bytes()


def test_a_row_a_run_and_a_row_a_step(tables: Path) -> None:
    runs, steps = pd.read_csv(tables / "runs.csv"), pd.read_csv(tables / "steps.csv")
    assert runs["transcript_id"].tolist() == [trace.transcript_id for trace in samples()]
    assert runs["risk"].fillna(-1).tolist() == [0.75, -1, -1, -1]
    assert runs["alarm_step"].fillna(-1).tolist() == [2, -1, -1, -1]
    assert runs.loc[0, ["temperature", "max_tokens", "seed", "n_tokens"]].tolist() == [0.5, 64, 7, 42]
    assert runs.loc[0, "began"] == "2026-09-21T14:13:20+00:00"
    assert len(steps) == sum(trace.n_steps for trace in samples())
    first = steps[steps["transcript_id"] == "run-0000"]
    trace = samples()[0]
    assert first["step"].tolist() == [1, 2, 3]
    assert first["top_region"].tolist() == trace.effects.argmax(1).tolist()
    assert first["top_effect"].to_numpy() == pytest.approx(trace.effects.max(1), abs=1e-6)
    assert first["concentration"].to_numpy() == pytest.approx(concentration(trace.effects), abs=1e-6)
    box = first[["top_left", "top_top", "top_right", "top_bottom"]].iloc[0].tolist()
    assert box == [first["top_region"].iloc[0], 0, first["top_region"].iloc[0] + 22, 20]  # stripes of a pixel
    bare = steps[steps["transcript_id"] == "imported"]
    assert bare[["logprob", "entropy", "concentration", "top_region", "risk"]].isna().all().all()


def test_no_cell_is_a_formula_and_none_breaks_its_row(tables: Path) -> None:
    for name in ("runs.csv", "steps.csv"):
        with open(tables / name, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        assert {len(row) for row in rows} == {len(rows[0])}
        cells = [cell for row in rows for cell in row]
        assert not [cell for cell in cells if cell.lstrip().startswith(("=", "@", "+"))]
        assert not re.search("[\x00-\x09\x0b-\x1f]", "".join(cells))
    runs = pd.read_csv(tables / "runs.csv")
    assert runs["question"][1] == f"'{FORMULA}"
    assert runs["target"][1] == "'@SUM(A1)"
    assert runs["answer"][1] == "-3"  # a number is none
