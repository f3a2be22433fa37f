"""Where the embedded demo's files are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "data" / "demo"
MODEL = DEMO / "model"
ESTIMATOR = DEMO / "estimator"
TRACES = DEMO / "traces"
DETECTORS = DEMO / "detectors"
