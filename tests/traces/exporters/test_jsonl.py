"""A line a run, which any reader of JSON takes, with all effects."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from trajkit.traces.backing import LIGHT
from trajkit.traces.exporters import export_traces

from .samples import samples

GOLDEN = Path(__file__).parent / "golden" / "runs.jsonl"


def test_lines_are_those_of_the_golden_file(tmp_path: Path) -> None:
    assert export_traces(samples(), tmp_path / "runs.jsonl").read_bytes() == GOLDEN.read_bytes()


def test_a_line_says_all_of_a_run_but_its_pictures() -> None:
    lines = [json.loads(line) for line in GOLDEN.read_text(encoding="ascii").splitlines()]
    for trace, line in zip(samples(), lines, strict=True):
        assert {name: line[name] for name in LIGHT} == {name: getattr(trace, name) for name in LIGHT}
        for step, said in zip(trace.steps, line["steps"], strict=True):
            assert {name: said[name] for name in step.to_dict()} == step.to_dict()
        assert line["meta"] == dict(trace.meta)
    watched, odd, imported, _ = lines
    np.testing.assert_allclose([step["effects"] for step in watched["steps"]], samples()[0].effects, atol=1e-6)
    np.testing.assert_allclose([step["half_widths"] for step in watched["steps"]], samples()[0].half_widths, atol=1e-6)
    assert watched["tokens"] == list(range(42))
    assert [region["box"] for region in odd["regions"]] == [[k, 0, 22 + k, 20] for k in range(3)]
    assert sum(region["area"] for region in odd["regions"]) == 0.9999
    assert (imported["regions"], imported["tokens"]) == ([], None)
    assert "effects" not in imported["steps"][0]
