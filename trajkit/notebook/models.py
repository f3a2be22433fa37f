"""What is fitted: estimators, predictors, monitors, detectors, policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trajkit.notebook.graphs import dots
from trajkit.notebook.style import card, facts, figure, model_name, told
from trajkit.tables.names import outcome_name
from trajkit.tables.words import count, listed, metric, promise, share

if TYPE_CHECKING:
    from trajkit.attribution.estimator import EffectEstimator
    from trajkit.detection.monitor import Monitor
    from trajkit.detection.outcome import OutcomeClassifier
    from trajkit.detection.policies import Policy
    from trajkit.detection.prefix_model import PrefixModel
    from trajkit.detection.step_predictor import StepPredictor
    from trajkit.detection.store import Detectors

_MEASURES = {
    "r2": "r² of held-out effects, all steps",
    "lds": "LDS: rank correlation over random masks, held-out",
    "trained_on_runs": "runs it was trained on",
    "held_out": "runs held out",
    "steps": "steps",
    "passes": "passes of the model to measure them",
}
"""Of an estimator's card, what people are told."""
_ORDER = "fit calibration test"
_KINDS = {"network": "a small network over each region’s attention", "linear": "one weight for each attention head"}


def estimator_html(estimator: EffectEstimator) -> str:
    """An EffectEstimator of either kind as a card: what it fits, and how good it was on held-out runs."""
    bound, kept = estimator.binding, estimator.card
    revision = f" at {told(bound.revision, 40)}" if bound.revision else ""
    values = {
        "kind": f"{told(estimator.kind)}: {_KINDS.get(estimator.kind, '')}",
        "only for": f"{model_name(bound.model)}{revision} (weights {told(bound.fingerprint, 40)})",
        "regions": told(bound.region_method, 80),
        "effects": f"of hiding a region by {told(bound.ablation)}; attention pooled by {told(bound.pooling)}",
        "intervals": "yes, about nine in ten measured effects lie within" if estimator.has_intervals else "none",
        "size": count(sum(array.size for array in estimator.arrays.values()), "number"),
    }
    values |= {said: _number(kept[name]) for name, said in _MEASURES.items() if _is_number(kept.get(name))}
    note = "Before you believe it on your images: trajkit evaluate, which puts raw attention beside it."
    return card(type(estimator).__name__, facts(values), f'<p class="note">{note}</p>')


def prefix_model_html(model: PrefixModel) -> str:
    """A predictor or classifier as a card: what it reads, and what it was fitted to tell."""
    values = {"reads": listed(model.features.split("+")), "C": f"{model.C:g}"}
    if not hasattr(model, "coef_"):
        return card(f"{type(model).__name__}, not fitted yet", facts({n: told(v) for n, v in values.items()}))
    classes = [outcome_name(str(name)) for name in model.classes_]
    tells = "the probability of failure after each step" if classes == ["0", "1"] else listed(classes)
    values |= {"tells": tells, "coefficients": f"{model.coef_.size:,}"}
    return card(type(model).__name__, facts({n: told(v) for n, v in values.items()} | _abstention(model)))


def step_predictor_html(model: StepPredictor) -> str:
    """A StepPredictor as a card: what it reads, and what of a sentence it was fitted to tell."""
    if not hasattr(model, "trees_"):
        return card("StepPredictor, not fitted yet", facts({"reads": told(model.features)}))
    values = {
        "reads": model.features,
        "of a sentence": listed([name.replace("_", " ") for name in model.columns_]),
        "tells": listed([f"how likely it is {name}" for name in model.classes_ if name]),
        "trees": f"{model.trees_.roots.size:,}",
    }
    return card("StepPredictor", facts({name: told(value, 300) for name, value in values.items()}))


def _abstention(model: Any) -> dict[str, str]:
    """Of an outcome classifier: when it answers, and how often it was then wrong on held-out folds."""
    if not hasattr(model, "threshold_"):
        return {}
    if not np.isfinite(model.threshold_):
        return {"answers": "never: its target error was not reached on held-out folds"}
    wrong = "" if np.isnan(model.error_) else f", {share(model.error_)} of them wrong"
    return {
        "answers": f"where its top probability is at least {model.threshold_:.2f}",
        "on held-out folds": f"answered {share(model.coverage_)}{wrong}",
    }


def monitor_html(monitor: Monitor) -> str:
    """A Monitor as a card: what it promises, and the scores that its threshold came from."""
    return card("Monitor" if monitor.can_alarm else "Monitor that cannot alarm", _monitor(monitor))


def _monitor(monitor: Monitor) -> str:
    limit = monitor.score_of(monitor.threshold)
    turned = monitor.predictor is None and limit != monitor.threshold
    side: Literal["above", "below"] = "below" if turned else "above"
    values = {
        "watches for": monitor.watches,
        "alarms": f"{side} {metric(limit)}" if monitor.can_alarm else "never",
        "model": model_name(monitor.model),
        "scores": "your own" if monitor.predictor is None else told(monitor.predictor.features),
    }
    seen = monitor.calibration
    graph = ""
    if seen is not None and seen.spared:
        scores = [-score if turned else score for score in seen.spared]
        ends = (limit if turned else monitor.threshold) if monitor.can_alarm else None
        said = f"the {'smallest' if turned else 'largest'} score of each calibration run that counts ({len(scores)})"
        graph = f'<div class="row">{figure(dots(scores, ends, side), said, 420)}</div>'
    return f'{facts(values)}{graph}<p class="note">{told(monitor.message, 1000)}</p>'


def detectors_html(detectors: Detectors) -> str:
    """Detectors as a card: predictor, classifier, monitor, and the runs that they come from."""
    kept, outcome = detectors.card, detectors.outcome
    values = {
        "model": model_name(detectors.model),
        "runs (groups)": _parts(kept),
        "predictor": told(detectors.predictor.features),
        "outcome classifier": "none" if outcome is None else _classifier(outcome),
        "monitor of success": "" if detectors.enough is None else _enough(detectors.enough),
    }
    return card("Detectors", facts(values), "<h4>Monitor</h4>", _monitor(detectors.monitor))


def _enough(monitor: Monitor) -> str:
    """A monitor of success in few words."""
    if not monitor.can_alarm:
        return "cannot speak: too few groups"
    return f"speaks above {metric(monitor.threshold)}, on at most {promise(monitor.alpha)} of failing runs"


def _classifier(outcome: OutcomeClassifier) -> str:
    return told(
        "; ".join([listed([outcome_name(str(name)) for name in outcome.classes_]), *_abstention(outcome).values()])
    )


def _parts(kept: Mapping[str, Any]) -> str:
    runs, groups = kept.get("runs"), kept.get("groups")
    if not isinstance(runs, Mapping) or not isinstance(groups, Mapping):
        return ""
    return told(
        ", ".join(
            f"{part} {_number(runs[part])} ({_number(groups.get(part))})" for part in sorted(runs, key=_ORDER.find)
        )
    )


def policy_html(policy: Policy) -> str:
    """A Policy as a card."""
    does = {
        "flag": "says so, and goes on",
        "stop": "stops the run",
        "answer now": "ends the thinking and has the model answer",
        "ask again": f"asks again, {count(policy.tries, 'time')} at most",
    }[policy.on_alarm]
    again = policy.on_alarm == "ask again"
    values = {
        "at an alarm": does,
        "begins": ("from the last good step on" if policy.start == "last good step" else "anew") if again else "",
        "hint": told(policy.hint) if again else "",
        "enough": "nothing ends the thinking early" if policy.enough is None else _enough(policy.enough),
    }
    return card("Policy", facts(values))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _number(value: Any) -> str:
    if not _is_number(value):
        return "–"
    return f"{value:,}" if isinstance(value, int | np.integer) else metric(float(value))
