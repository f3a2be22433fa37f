"""Is this run going wrong? Early-failure predictor, outcome classifier, and a monitor with a guarantee.

Names load on first use: `import trajkit.detection` loads no scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trajkit.detection.early_failure import EarlyFailurePredictor as EarlyFailurePredictor
    from trajkit.detection.evaluation import auc_by_fraction as auc_by_fraction
    from trajkit.detection.evaluation import auc_by_step as auc_by_step
    from trajkit.detection.evaluation import outcome_auc as outcome_auc
    from trajkit.detection.explanation import Reason as Reason
    from trajkit.detection.explanation import explain as explain
    from trajkit.detection.fit import FitResult as FitResult
    from trajkit.detection.fit import fit_detectors as fit_detectors
    from trajkit.detection.guarantee import confident_threshold as confident_threshold
    from trajkit.detection.guarantee import max_score_threshold as max_score_threshold
    from trajkit.detection.guarantee import runs_needed as runs_needed
    from trajkit.detection.held_out import folds_of as folds_of
    from trajkit.detection.held_out import held_out_risks as held_out_risks
    from trajkit.detection.monitor import Monitor as Monitor
    from trajkit.detection.monitor import MonitorRun as MonitorRun
    from trajkit.detection.monitor import Verdict as Verdict
    from trajkit.detection.monitoring import false_alarms as false_alarms
    from trajkit.detection.monitoring import false_alarms_by_length as false_alarms_by_length
    from trajkit.detection.monitoring import monitor_runs as monitor_runs
    from trajkit.detection.monitoring import power as power
    from trajkit.detection.monitoring import tokens_saved as tokens_saved
    from trajkit.detection.outcome import OutcomeClassifier as OutcomeClassifier
    from trajkit.detection.probabilities import calibration as calibration
    from trajkit.detection.probabilities import gains as gains
    from trajkit.detection.probabilities import matched_auc as matched_auc
    from trajkit.detection.probabilities import probability_scores as probability_scores
    from trajkit.detection.splits import group_folds as group_folds
    from trajkit.detection.splits import split_by_group as split_by_group
    from trajkit.detection.store import Detectors as Detectors
    from trajkit.detection.store import load_detectors as load_detectors
    from trajkit.detection.store import save_detectors as save_detectors

_HOME = {
    "EarlyFailurePredictor": "early_failure",
    "OutcomeClassifier": "outcome",
    "Monitor": "monitor",
    "MonitorRun": "monitor",
    "Verdict": "monitor",
    "max_score_threshold": "guarantee",
    "confident_threshold": "guarantee",
    "runs_needed": "guarantee",
    "auc_by_step": "evaluation",
    "auc_by_fraction": "evaluation",
    "outcome_auc": "evaluation",
    "explain": "explanation",
    "Reason": "explanation",
    "held_out_risks": "held_out",
    "folds_of": "held_out",
    "probability_scores": "probabilities",
    "gains": "probabilities",
    "matched_auc": "probabilities",
    "calibration": "probabilities",
    "monitor_runs": "monitoring",
    "false_alarms": "monitoring",
    "false_alarms_by_length": "monitoring",
    "power": "monitoring",
    "tokens_saved": "monitoring",
    "split_by_group": "splits",
    "group_folds": "splits",
    "fit_detectors": "fit",
    "FitResult": "fit",
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
