"""`import trajkit` is quick and light; every public name loads when it is asked for."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import trajkit

HEAVY = (
    "torch",
    "transformers",
    "sklearn",
    "scipy",
    "statsmodels",
    "plotly",
    "matplotlib",
    "pandas",
    "numpy",
    "pyarrow",
    "PIL",
)
PUBLIC = (
    "load_vlm",
    "segment",
    "Regions",
    "EffectEstimator",
    "stream",
    "trace",
    "watch",
    "follow",
    "Followers",
    "Policy",
    "import_traces",
    "json_lines",
    "export_traces",
    "write_traces",
    "read_traces",
    "Traces",
    "Trace",
    "Step",
    "features",
    "EarlyFailurePredictor",
    "OutcomeClassifier",
    "Monitor",
    "trajectory",
    "detection",
    "stats",
)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def loaded_after(code: str) -> set[str]:
    return set(run(f"import sys\n{code}\nprint(*{{name.partition('.')[0] for name in sys.modules}})").split())


def test_import_trajkit_loads_nothing_heavy() -> None:
    assert not loaded_after("import trajkit; dir(trajkit); trajkit.__version__") & set(HEAVY)


@pytest.mark.alone
def test_import_trajkit_takes_less_than_three_tenths_of_a_second() -> None:
    code = "import time; start = time.perf_counter(); import trajkit; print(time.perf_counter() - start)"
    assert min(float(run(code)) for _ in range(3)) < 0.3


def test_traces_are_read_without_the_packages_of_other_layers() -> None:
    loaded = loaded_after("import trajkit; trajkit.read_traces, trajkit.Trace, trajkit.write_traces")
    assert not loaded & {"torch", "transformers", "sklearn", "scipy", "statsmodels", "plotly", "pandas"}


def test_submodules_are_reached_without_their_packages() -> None:
    loaded = loaded_after("import trajkit as tk; tk.trajectory, tk.detection, tk.stats")
    assert not loaded & {"torch", "transformers", "sklearn", "statsmodels", "plotly"}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_loads_and_is_listed(name: str) -> None:
    assert getattr(trajkit, name) is not None
    assert name in dir(trajkit)
    assert name in trajkit.__all__


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'trajkit' has no attribute 'load_vml'"):
        trajkit.load_vml  # noqa: B018
    assert not hasattr(trajkit, "__path__x")


def test_the_version_is_that_of_the_project_file() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert trajkit.__version__ == project["project"]["version"]
