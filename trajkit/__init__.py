"""trajkit: which image regions ground each step of a vision-language model's reasoning, and is the run going wrong.

Names load on first use: `import trajkit` loads no torch, scikit-learn, statsmodels, plotly or pandas.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trajkit import detection as detection
    from trajkit import judging as judging
    from trajkit import plots as plots
    from trajkit import stats as stats
    from trajkit import trajectory as trajectory
    from trajkit.attribution.attribute import attribute as attribute
    from trajkit.attribution.collect import trace as trace
    from trajkit.attribution.estimator import EffectEstimator as EffectEstimator
    from trajkit.attribution.follow import Followers as Followers
    from trajkit.attribution.follow import follow as follow
    from trajkit.attribution.linear import LinearEstimator as LinearEstimator
    from trajkit.attribution.network import NetworkEstimator as NetworkEstimator
    from trajkit.attribution.regions import Regions as Regions
    from trajkit.attribution.regions import segment as segment
    from trajkit.attribution.stream import stream as stream
    from trajkit.attribution.watch import watch as watch
    from trajkit.detection.early_failure import EarlyFailurePredictor as EarlyFailurePredictor
    from trajkit.detection.monitor import Monitor as Monitor
    from trajkit.detection.outcome import OutcomeClassifier as OutcomeClassifier
    from trajkit.detection.policies import Policy as Policy
    from trajkit.detection.step_predictor import StepPredictor as StepPredictor
    from trajkit.events import json_lines as json_lines
    from trajkit.runs.features import features as features
    from trajkit.runs.table import RunTable as RunTable
    from trajkit.runs.table import run_table as run_table
    from trajkit.traces.exporters import export_traces as export_traces
    from trajkit.traces.importers.imported import import_traces as import_traces
    from trajkit.traces.store import Traces as Traces
    from trajkit.traces.store import read_traces as read_traces
    from trajkit.traces.store import write_traces as write_traces
    from trajkit.traces.trace import Step as Step
    from trajkit.traces.trace import Trace as Trace
    from trajkit.vlm.load import load_vlm as load_vlm

__version__ = "0.1.0"
logging.getLogger(__name__).addHandler(logging.NullHandler())

_HOME = {
    "EarlyFailurePredictor": "trajkit.detection.early_failure",
    "EffectEstimator": "trajkit.attribution.estimator",
    "Followers": "trajkit.attribution.follow",
    "LinearEstimator": "trajkit.attribution.linear",
    "Monitor": "trajkit.detection.monitor",
    "NetworkEstimator": "trajkit.attribution.network",
    "OutcomeClassifier": "trajkit.detection.outcome",
    "Policy": "trajkit.detection.policies",
    "RunTable": "trajkit.runs.table",
    "Regions": "trajkit.attribution.regions",
    "Step": "trajkit.traces.trace",
    "StepPredictor": "trajkit.detection.step_predictor",
    "Trace": "trajkit.traces.trace",
    "Traces": "trajkit.traces.store",
    "attribute": "trajkit.attribution.attribute",
    "export_traces": "trajkit.traces.exporters",
    "features": "trajkit.runs.features",
    "follow": "trajkit.attribution.follow",
    "import_traces": "trajkit.traces.importers.imported",
    "json_lines": "trajkit.events",
    "load_vlm": "trajkit.vlm.load",
    "run_table": "trajkit.runs.table",
    "read_traces": "trajkit.traces.store",
    "segment": "trajkit.attribution.regions",
    "stream": "trajkit.attribution.stream",
    "trace": "trajkit.attribution.collect",
    "watch": "trajkit.attribution.watch",
    "write_traces": "trajkit.traces.store",
}
_SUBMODULES = ("detection", "judging", "plots", "stats", "trajectory")

__all__ = ["__version__", *_HOME, *_SUBMODULES]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"trajkit.{name}")
    if name in _HOME:
        value = globals()[name] = getattr(import_module(_HOME[name]), name)
        return value
    raise AttributeError(f"module 'trajkit' has no attribute {name!r}; {_instead(name)}")


def _instead(name: str) -> str:
    """Where a name is that is not here, or the nearest one that is."""
    from difflib import get_close_matches

    for room in () if name.startswith("_") else _SUBMODULES:
        if name in dir(import_module(f"trajkit.{room}")):
            return f"it is trajkit.{room}.{name}"
    near = get_close_matches(name, __all__, 1)
    return f"did you mean {near[0]}?" if near else f"it has {', '.join(__all__)}"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
