"""Is this run going wrong? Early-failure predictor, outcome classifier, and a monitor with a guarantee.

Names load on first use: `import trajkit.detection` loads no scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trajkit.detection.drift import Drift as Drift
    from trajkit.detection.drift import DriftState as DriftState
    from trajkit.detection.early_failure import EarlyFailurePredictor as EarlyFailurePredictor
    from trajkit.detection.explanation import Reason as Reason
    from trajkit.detection.explanation import explain as explain
    from trajkit.detection.guarantee import confident_threshold as confident_threshold
    from trajkit.detection.guarantee import max_score_threshold as max_score_threshold
    from trajkit.detection.guarantee import runs_needed as runs_needed
    from trajkit.detection.monitor import Monitor as Monitor
    from trajkit.detection.monitor_run import MonitorRun as MonitorRun
    from trajkit.detection.monitor_run import Verdict as Verdict
    from trajkit.detection.outcome import OutcomeClassifier as OutcomeClassifier
    from trajkit.detection.policies import Decision as Decision
    from trajkit.detection.policies import Policy as Policy
    from trajkit.detection.policies import PolicyRun as PolicyRun
    from trajkit.detection.sentence_table import sentence_features as sentence_features
    from trajkit.detection.splits import group_folds as group_folds
    from trajkit.detection.splits import split_by_group as split_by_group
    from trajkit.detection.step_features import SentenceFeatures as SentenceFeatures
    from trajkit.detection.step_predictor import StepPredictor as StepPredictor
    from trajkit.detection.store import Detectors as Detectors
    from trajkit.detection.store import load_detectors as load_detectors
    from trajkit.detection.store import save_detectors as save_detectors

_HOME = {
    "EarlyFailurePredictor": "early_failure",
    "OutcomeClassifier": "outcome",
    "Monitor": "monitor",
    "MonitorRun": "monitor_run",
    "Verdict": "monitor_run",
    "Drift": "drift",
    "DriftState": "drift",
    "max_score_threshold": "guarantee",
    "confident_threshold": "guarantee",
    "runs_needed": "guarantee",
    "StepPredictor": "step_predictor",
    "SentenceFeatures": "step_features",
    "sentence_features": "sentence_table",
    "Policy": "policies",
    "PolicyRun": "policies",
    "Decision": "policies",
    "explain": "explanation",
    "Reason": "explanation",
    "split_by_group": "splits",
    "group_folds": "splits",
    "Detectors": "store",
    "save_detectors": "store",
    "load_detectors": "store",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
