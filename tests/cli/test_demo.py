"""`trajkit demo`, on what is shipped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from trajkit.demo import paths
from trajkit.demo.runs import demo_items


def test_demo_shows_runs_with_their_truth_then_the_monitor_and_writes_the_report(cli, tmp_path):
    result = cli("demo", "--runs", "2", "--seed", "5", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    for item in demo_items("test", 2, 5):  # the first two scenes of the seed, none left out
        assert f"question: {item.question}" in result.out
        assert f"truth: {item.target}  →  " in result.out
    assert "difficulty drawn evenly from 0.45 to 1" in " ".join(result.out.split())
    assert "none is picked by how its run ends" in " ".join(result.out.split())
    assert "scenes of digits that nothing has seen" in " ".join(result.out.split())
    assert "False alarms on successful runs" in result.out
    assert "risk 0." in result.out
    assert result.out.rstrip().endswith(str(tmp_path / "out" / "index.html"))
    assert (tmp_path / "out" / "index.html").is_file()


def test_the_same_seed_gives_the_same_runs():
    import io

    from rich.console import Console

    from trajkit.cli.demo import show_runs

    def lines() -> list[str]:
        console = Console(file=io.StringIO(), width=200)
        show_runs(console, 2, 7)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        return [line for line in text.splitlines() if "tokens in" not in line]

    assert lines() == lines()


@pytest.mark.parametrize("threshold", [0.0, 2.0])
def test_a_run_that_the_monitor_misjudged_says_so_and_the_end_counts_them(threshold, monkeypatch, model_and_estimator):
    """A monitor that alarms on every run, and one that alarms on none."""
    import io
    from types import SimpleNamespace

    from rich.console import Console

    from trajkit.cli.demo import show_runs
    from trajkit.detection.store import load_detectors

    shipped = load_detectors(paths.DETECTORS)
    always = SimpleNamespace(monitor=replace(shipped.monitor, threshold=threshold))
    monkeypatch.setattr("trajkit.cli.loading.load_detectors_for", lambda folder, vlm: always)
    monkeypatch.setattr(paths, "ESTIMATOR", Path(model_and_estimator[-1]))
    console = Console(file=io.StringIO(), width=200)
    show_runs(console, 6, 5)
    *_, summary = [line for line in console.file.getvalue().splitlines() if line]  # type: ignore[attr-defined]
    truths = [line for line in console.file.getvalue().splitlines() if line.startswith("truth: ")]  # type: ignore[attr-defined]
    right = sum("→  right" in line for line in truths)
    assert 0 < right < 6
    for line in truths:
        assert ("false alarm" in line) == ("→  right" in line and threshold < 1)
        assert ("missed" in line) == ("→  right" not in line and threshold > 1)
    alarms = "6 alarms" if threshold < 1 else "0 alarms"
    false, missed = (right, 0) if threshold < 1 else (0, 6 - right)
    assert summary == f"6 runs: {right} right, {6 - right} wrong; {alarms}, {false} false; {missed} missed."


def test_demo_without_its_data_says_what_to_restore(cli, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "MODEL", tmp_path / "model")
    cli("demo").assert_one_line_error("the demo's model is not in", "data/demo")


def test_readme_picture_needs_no_external_font_and_draws_pictures_as_rectangles(tmp_path):
    from analyses.readme_picture import main

    main(["--out", str(tmp_path / "picture.svg"), "--width", "80"])
    text = (tmp_path / "picture.svg").read_text(encoding="utf-8")
    assert "@font-face" not in text
    assert "url(http" not in text
    assert "▀" not in text
    assert "crispEdges" in text
    assert "thinking" not in text  # the spinner
