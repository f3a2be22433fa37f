"""The demo works where trajkit is installed and there is no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trajkit.demo import paths


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder that `pip install .` would put on the path, made from this checkout without touching it."""
    folder = tmp_path_factory.mktemp("installed")
    build = ["egg_info", "--egg-base", str(folder), "build_py", "--build-lib", str(folder / "lib")]
    subprocess.run(
        [sys.executable, "setup.py", "-q", *build], cwd=paths.ROOT, check=True, capture_output=True, text=True
    )
    return folder / "lib"


def run(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(installed), "COLUMNS": "200"}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def test_what_the_demo_needs_is_installed_and_pipelines_are_not(installed):
    data = installed / "trajkit" / "demo" / "data"
    for part in (paths.MODEL, paths.ESTIMATOR, paths.TRACES, paths.DETECTORS):
        files = sorted(file.relative_to(paths.DEMO) for file in part.rglob("*") if file.is_file())
        assert files
        assert all((data / file).stat().st_size == (paths.DEMO / file).stat().st_size for file in files)
    assert sum(file.stat().st_size for file in installed.rglob("*") if file.is_file()) < 60e6
    assert [folder.name for folder in installed.iterdir()] == ["trajkit"]


@pytest.mark.slow
def test_doctor_and_a_run_of_the_demo_find_them_from_anywhere(installed, tmp_path):
    found = run(installed, tmp_path, "-m", "trajkit", "doctor")
    assert found.returncode == 0, found.stdout + found.stderr
    assert str(installed / "trajkit" / "demo" / "data" / "model") in found.stdout
    assert "pipelines" not in found.stdout
    watch = "import sys; from rich.console import Console; from trajkit.cli.demo_runs import show_runs\n"
    shown = run(installed, tmp_path, "-c", watch + "show_runs(Console(file=sys.stdout, width=200), 1, 5)")
    assert shown.returncode == 0, shown.stderr
    assert "truth: " in shown.stdout
    assert "no monitor" not in shown.stdout + shown.stderr


@pytest.mark.slow
def test_a_name_of_the_checkout_is_answered_with_the_place(installed, tmp_path):
    load = "import trajkit as tk; tk.load_vlm('data/demo/model')"
    asked = run(installed, tmp_path, "-c", load)
    assert f"The demo's is in {installed / 'trajkit' / 'demo' / 'data' / 'model'}." in asked.stderr


def test_doctor_names_no_module_that_is_not_installed(monkeypatch):
    assert paths.restore("fit_detectors") == "python -m pipelines.fit_detectors"
    monkeypatch.setattr(paths, "IN_CHECKOUT", False)
    assert "pipelines" not in paths.restore("fit_detectors")


def test_only_what_is_there_and_in_the_demos_folder_is_named():
    assert paths.shipped("data/demo/model") == paths.MODEL
    for name in ("data/demo/none", "data/demo/../../pyproject.toml", "Qwen/Qwen3-VL-8B-Thinking", str(paths.MODEL)):
        assert paths.shipped(name) is None
