"""Reports of made-up runs, and a real browser to open them in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.runs import make_runs
from trajkit.report import write_report


@pytest.fixture(scope="session")
def runs():
    return make_runs(40, 3)


@pytest.fixture(scope="session")
def fitted(runs):
    """Detectors of those runs, and their tables."""
    from trajkit.judging.fit import fit_detectors

    return fit_detectors(runs, n_boot=20, compared=("length", "uncertainty", "trajectory+concentration"))


@pytest.fixture(scope="session")
def full_report(runs, fitted, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    return write_report(runs, folder, fitted.detectors, fitted.evaluation, title="<i>Demo</i> & more", max_runs=9)
