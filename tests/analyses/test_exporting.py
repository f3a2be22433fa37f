"""What exporting costs, measured on few runs; the tools themselves are asked where they are installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

import trajkit as tk
from analyses import exporting
from trajkit.demo.paths import TRACES
from trajkit.traces.exporters import FORMATS


@pytest.fixture
def few(tmp_path):
    return tk.write_traces(tk.read_traces(TRACES)[:6], tmp_path / "few.parquet")


def test_each_format_is_written_and_its_cost_measured(tmp_path, few):
    exporting.main(["--traces", str(few), "--out", str(tmp_path / "page.md")])
    said = (tmp_path / "page.md").read_text()
    assert "Regenerate: `python -m analyses.exporting`. 6 runs" in said
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in said.splitlines() if line.startswith("| ")
    ]
    assert [row[0] for row in rows[2:]] == list(FORMATS)
    assert all(float(cell) >= 0 for row in rows[2:] for cell in row[1:])


def test_a_tool_that_does_not_take_its_files_is_an_error(tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        exporting.answers(sys.executable, tmp_path)
