"""Another alpha of a calibrated monitor: as if it had been calibrated with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from trajkit.demo import paths
from trajkit.detection import EarlyFailurePredictor, Monitor
from trajkit.detection.store import load_detectors
from trajkit.errors import InputError

from .test_score_monitor import monitor_of, table
from .world import make_frame, make_runs

ALPHAS = (0.02, 0.05, 0.1, 0.25, 0.5)


def state(monitor: Monitor) -> str:
    return json.dumps(monitor.to_state(), sort_keys=True)


@pytest.mark.parametrize("watches", ["failure", "success"])
@pytest.mark.parametrize("delta", [None, 0.1])
def test_it_is_the_monitor_calibrated_with_that_alpha(
    predictor: EarlyFailurePredictor, watches: str, delta: float | None
) -> None:
    frame = make_frame(make_runs(80, seed=11))
    options = {"watches": watches, "delta": delta, "model": "demo"}
    known = {alpha: Monitor.calibrate(predictor, frame, alpha=alpha, **options) for alpha in ALPHAS}  # type: ignore[arg-type]
    assert len({monitor.threshold for monitor in known.values()}) > 2
    for alpha, monitor in known.items():
        assert state(known[0.1].at(alpha)) == state(monitor)
        assert state(known[0.1].at(0.25).at(alpha)) == state(monitor)


@pytest.mark.parametrize("higher", ["worse", "better"])
def test_of_scores_of_your_own_too(higher: str) -> None:
    frame = table()
    for alpha in ALPHAS:
        expected = monitor_of(frame, alpha=alpha, higher=higher)
        assert state(monitor_of(frame, higher=higher).at(alpha)) == state(expected)


def test_it_survives_the_folder(predictor: EarlyFailurePredictor, tmp_path: Path) -> None:
    monitor = Monitor.calibrate(predictor, make_frame(make_runs(80, seed=11)), model="demo")
    monitor.save(tmp_path)
    assert state(Monitor.load(tmp_path).at(0.3)) == state(monitor.at(0.3))


def test_with_too_few_runs_for_it_it_cannot_alarm_and_says_so() -> None:
    asked = monitor_of(table()).at(0.001)
    assert not asked.can_alarm
    assert "alpha=0.001 needs at least 999 groups" in asked.message


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1])
def test_an_alpha_that_is_none_is_refused(alpha: float) -> None:
    with pytest.raises(InputError, match="'alpha' parameter must be between 0 and 1"):
        monitor_of(table()).at(alpha)


def test_a_monitor_saved_without_its_maxima_says_what_to_do() -> None:
    monitor = monitor_of(table())
    old = json.loads(state(monitor))
    del old["calibration"]["spared"]
    for known in (old, old | {"calibration": None}):
        again = Monitor.from_state(known, None)
        assert again.threshold == monitor.threshold
        with pytest.raises(InputError, match=r"saved by an older trajkit, with its threshold for alpha = 0\.1"):
            again.at(0.2)


def test_maxima_that_are_not_those_of_its_runs_are_refused() -> None:
    monitor = monitor_of(table())
    assert monitor.calibration is not None
    assert monitor.calibration.spared is not None
    short = replace(monitor.calibration, spared=monitor.calibration.spared[1:])
    with pytest.raises(InputError, match="'spared' maxima"):
        Monitor.from_state(replace(monitor, calibration=short).to_state(), None)


def test_the_shipped_detectors_know_theirs() -> None:
    shipped = load_detectors(paths.DETECTORS)
    for monitor in (shipped.monitor, shipped.enough):
        assert monitor is not None
        assert state(monitor.at(monitor.alpha)) == state(monitor)
        assert monitor.at(0.05).threshold >= monitor.threshold >= monitor.at(0.2).threshold
