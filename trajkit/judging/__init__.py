"""What judges detectors, and every comparison of runs: ranking, risks, cross-validation, alarms, and `fit_detectors`.

Names load on first use: `import trajkit.judging` loads no scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trajkit.judging.alarms import Replay as Replay
    from trajkit.judging.alarms import false_alarms as false_alarms
    from trajkit.judging.alarms import false_alarms_by_length as false_alarms_by_length
    from trajkit.judging.alarms import monitor_runs as monitor_runs
    from trajkit.judging.alarms import power as power
    from trajkit.judging.alarms import replay as replay
    from trajkit.judging.alarms import tokens_saved as tokens_saved
    from trajkit.judging.comparison import Comparison as Comparison
    from trajkit.judging.comparison import compare_runs as compare_runs
    from trajkit.judging.cross_validation import folds_of as folds_of
    from trajkit.judging.cross_validation import held_out_risks as held_out_risks
    from trajkit.judging.evaluation import Evaluation as Evaluation
    from trajkit.judging.fit import FitResult as FitResult
    from trajkit.judging.fit import fit_detectors as fit_detectors
    from trajkit.judging.held_out_sentences import HeldOutSteps as HeldOutSteps
    from trajkit.judging.held_out_sentences import held_out_steps as held_out_steps
    from trajkit.judging.policies import SavedRuns as SavedRuns
    from trajkit.judging.ranking import auc_by_fraction as auc_by_fraction
    from trajkit.judging.ranking import auc_by_step as auc_by_step
    from trajkit.judging.ranking import outcome_auc as outcome_auc
    from trajkit.judging.risks import calibration as calibration
    from trajkit.judging.risks import gains as gains
    from trajkit.judging.risks import matched_auc as matched_auc
    from trajkit.judging.risks import probability_scores as probability_scores
    from trajkit.judging.step_scores import first_wrong as first_wrong
    from trajkit.judging.step_scores import step_areas as step_areas
    from trajkit.judging.step_scores import step_calibration as step_calibration
    from trajkit.judging.step_scores import step_gains as step_gains
    from trajkit.judging.step_scores import step_probabilities as step_probabilities
    from trajkit.judging.worth import Worth as Worth

_HOME = {
    "auc_by_step": "ranking",
    "auc_by_fraction": "ranking",
    "outcome_auc": "ranking",
    "compare_runs": "comparison",
    "Comparison": "comparison",
    "held_out_risks": "cross_validation",
    "folds_of": "cross_validation",
    "probability_scores": "risks",
    "gains": "risks",
    "matched_auc": "risks",
    "calibration": "risks",
    "HeldOutSteps": "held_out_sentences",
    "held_out_steps": "held_out_sentences",
    "step_areas": "step_scores",
    "step_gains": "step_scores",
    "step_probabilities": "step_scores",
    "step_calibration": "step_scores",
    "first_wrong": "step_scores",
    "monitor_runs": "alarms",
    "false_alarms": "alarms",
    "false_alarms_by_length": "alarms",
    "power": "alarms",
    "tokens_saved": "alarms",
    "replay": "alarms",
    "Replay": "alarms",
    "SavedRuns": "policies",
    "Worth": "worth",
    "fit_detectors": "fit",
    "FitResult": "fit",
    "Evaluation": "evaluation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
