"""Folders of many runs: copies that are runs of their own, and what a command costs on them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from analyses import large_folders
from tests.detection.world import make_runs, make_trace
from trajkit.detection.copies import keyed, one_group
from trajkit.runs.kernel import Wanted
from trajkit.runs.table import RunTable, run_table
from trajkit.traces.store import read_traces, write_traces


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    return write_traces([make_trace(run) for run in make_runs(40)], folder / "runs.parquet").parent


@pytest.fixture(scope="module")
def copies(source, tmp_path_factory) -> RunTable:
    folder = tmp_path_factory.mktemp("copies") / "traces"
    large_folders.write_copies(source, folder, 300)
    assert len(list(folder.iterdir())) == 3
    return run_table(folder, Wanted(keys=True))


def test_copies_are_runs_of_groups_of_their_own(source, copies: RunTable) -> None:
    once = run_table(source)
    assert len(copies) == 300
    assert copies.table["transcript_id"].nunique() == 300
    assert copies.table["group_id"].nunique() == 40 + 40 + 20
    assert (copies.table["outcome"][:120] == once.table["outcome"]).all()
    taken = one_group(keyed(copies))  # by what runs hold, whatever they are called
    assert all(group == as_one for group, as_one in taken.items())


def test_copies_have_other_effects_and_some_have_a_step_less(source, copies: RunTable) -> None:
    once = run_table(source)
    shorter = once.table["n_steps"] - copies.table["n_steps"][:120]
    assert set(shorter) == {0, 1}
    assert 0.05 < shorter.mean() < 0.4
    same = (shorter == 0) & (once.table["n_steps"] > 2)
    ratio = (copies.table["path_length"][:120] / once.table["path_length"])[same]
    assert (ratio != 1).all()
    np.testing.assert_allclose(ratio, 1, atol=0.3)


def test_what_a_command_costs_is_measured_once_and_kept(source, tmp_path, capsys) -> None:
    arguments = [str(source), "--runs", "130", "--only", "analyze", "--keep", str(tmp_path), "--out"]
    large_folders.main([*arguments, str(tmp_path / "first.md")])
    assert len(read_traces(tmp_path / "130" / "traces")) == 130
    text = capsys.readouterr().out.strip()
    assert text == (tmp_path / "first.md").read_text(encoding="utf-8").strip()
    assert "Regenerate: `python -m analyses.large_folders --runs 130`" in text
    kept = json.loads((tmp_path / "130" / "analyze.json").read_text())
    assert 0.05 < kept["gigabytes"] < 20  # a factor of 1,024 would show; how much it takes depends on the machine
    assert 0 < kept["of_cpu"] <= 8 * kept["minutes"] < 80
    large_folders.main([*arguments, str(tmp_path / "second.md")])
    assert (tmp_path / "second.md").read_text() == (tmp_path / "first.md").read_text()
