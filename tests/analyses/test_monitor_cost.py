"""The page on what a monitor costs, on few runs; its times are of the machine, its sizes are not."""

from __future__ import annotations

from dataclasses import replace

from analyses import monitor_cost
from trajkit.demo import paths
from trajkit.detection import load_detectors


def test_memory_of_a_run_is_that_of_two_vectors_at_any_step() -> None:
    monitor = replace(load_detectors(paths.DETECTORS).monitor, calibration=None)
    small, large = (monitor_cost.costs(monitor, k, n_runs=200, repeats=2) for k in (64, 1024))
    assert large["held"] - small["held"] < 1.1 * 2 * 8 * (1024 - 64) / 1e3
    for found in (small, large):
        assert found["later"] < 1.1 * found["held"]
        assert all(value > 0 for value in found.values())


def test_the_page_says_how_to_make_it_again(tmp_path, capsys) -> None:
    monitor_cost.main(["--runs", "150", "--repeats", "2", "--out", str(tmp_path / "page.md")])
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == text.strip()
    assert "`python -m analyses.monitor_cost`" in text
