"""`trajkit demo`, on the shipped model with small stand-ins for the shipped traces and detectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trajkit.demo import paths
from trajkit.demo.runs import demo_items


@pytest.fixture
def small_demo(monkeypatch, tmp_path, make_trace, model_and_estimator):
    """Points the demo at an estimator, traces and detectors of a few seconds' making."""
    from trajkit.detection.fit import fit_detectors
    from trajkit.detection.store import save_detectors
    from trajkit.traces.store import read_traces, write_traces

    rng = np.random.default_rng(4)
    runs = [
        make_trace(g, r, bool(rng.random() < 0.4), rng, model=str(paths.MODEL)) for g in range(60) for r in range(2)
    ]
    write_traces(runs, tmp_path / "traces" / "traces.parquet")
    fitted = fit_detectors(read_traces(tmp_path / "traces"), compared=("length",), n_boot=20)
    save_detectors(tmp_path / "detectors", fitted.detectors)
    monkeypatch.setattr(paths, "ESTIMATOR", Path(model_and_estimator[-1]))
    monkeypatch.setattr(paths, "TRACES", tmp_path / "traces")
    monkeypatch.setattr(paths, "DETECTORS", tmp_path / "detectors")


def test_demo_shows_runs_with_their_truth_then_the_monitor_and_writes_the_report(cli, small_demo, tmp_path):
    result = cli("demo", "--runs", "2", "--seed", "5", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    for item in demo_items("test", 2, 5):  # the first two scenes of the seed, none left out
        assert f"question: {item.question}" in result.out
        assert f"truth: {item.target}  →  " in result.out
    assert "none is picked by how its run ends" in " ".join(result.out.split())
    assert "held-out runs only" in " ".join(result.out.split())
    assert "False alarms on successful runs" in result.out
    assert "risk 0." in result.out
    assert result.out.rstrip().endswith(str(tmp_path / "out" / "index.html"))
    assert (tmp_path / "out" / "index.html").is_file()


def test_the_same_seed_gives_the_same_runs(small_demo, capsys):
    import io

    from rich.console import Console

    from trajkit.cli.demo import show_runs

    def lines() -> list[str]:
        console = Console(file=io.StringIO(), width=200)
        show_runs(console, 2, 7)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        return [line for line in text.splitlines() if "tokens in" not in line]

    assert lines() == lines()


def test_demo_without_its_data_says_what_to_restore(cli, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "MODEL", tmp_path / "model")
    cli("demo").assert_one_line_error("the demo's model is not in", "data/demo")


def test_readme_picture_needs_no_external_font_and_draws_pictures_as_rectangles(small_demo, tmp_path):
    from analyses.readme_picture import main

    main(["--out", str(tmp_path / "picture.svg"), "--width", "80"])
    text = (tmp_path / "picture.svg").read_text(encoding="utf-8")
    assert "@font-face" not in text
    assert "url(http" not in text
    assert "▀" not in text
    assert "crispEdges" in text
    assert "thinking" not in text  # the spinner
