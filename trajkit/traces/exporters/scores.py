"""What an inspect log says of a run beside its messages: scores, each with its value after every step.

answer: C or I, as the run was judged. outcome: which kind of wrong. risk: the largest that the monitor said, and alarm:
whether it was raised, of runs that one watched. concentration: mean over the thinking steps, of runs with effects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trajkit.tables.names import outcome_name
from trajkit.text import clean, escaped
from trajkit.traces.exporters.said import ended, has_effects, rounded, steps_of, verdict_of, was_watched
from trajkit.traces.trace import Trace

MEANINGS: Mapping[str, str] = {
    "answer": "Whether the answer is right.",
    "outcome": "How the run ended: success, hallucination, reasoning failure, failure.",
    "risk": "Largest probability, after any step, of failure, or of success where the monitor watched for that.",
    "alarm": "Whether the monitor raised its alarm, and where.",
    "concentration": "How concentrated the effects of image regions are, HHI in [0, 1], mean over the thinking steps.",
}
_STEP = (
    "step",
    "kind",
    "text",
    "logprob",
    "entropy",
    "risk",
    "alarm",
    "concentration",
    "top_region",
    "top_effect",
    "top_box",
)


def scores_of(trace: Trace) -> dict[str, dict[str, Any]]:
    """Name → score, in inspect's form; those that the run has none of are left out."""
    steps = [{name: step[name] for name in _STEP} for step in steps_of(trace)]
    scores: dict[str, dict[str, Any]] = {}
    detail = str(trace.meta.get("detail") or "")
    if trace.success is not None:
        value = "C" if trace.success else "I"
        scores["answer"] = {"value": value, "answer": trace.answer, "metadata": {"score": rounded(trace.score)}}
    if ended(trace) != "unknown":
        scores["outcome"] = {"value": outcome_name(ended(trace)), "explanation": escaped(clean(detail)) or None}
    if was_watched(trace):
        verdict = verdict_of(trace)
        enough = trace.watched is not None and trace.watched.watches == "success"
        about = "Probability of success, which its monitor watched for," if enough else "Risk of failure"
        scores["risk"] = _stepwise("risk", verdict["risk"], steps, f"{about} after each step.")
        at = verdict["alarm_step"]
        said = f"Raised after step {at} of {trace.n_steps}." if at else "Not raised."
        scores["alarm"] = {"value": "raised" if at else "not raised", "explanation": said, "metadata": {"step": at}}
    if has_effects(trace):
        levels = [s["concentration"] for s in steps if s["kind"] == "thinking" and s["concentration"] is not None]
        mean = rounded(sum(levels) / len(levels)) if levels else None
        about = f"Of each step: concentration, and the region with the largest effect ({trace.effects_kind}, nats)."
        scores["concentration"] = _stepwise("concentration", mean, steps, about)
    return {name: score for name, score in scores.items() if score["value"] is not None}


def _stepwise(name: str, value: float | None, steps: list[dict[str, Any]], about: str) -> dict[str, Any]:
    """A score with a table of its value after each step, in Markdown, and the same as data."""
    extra = ("region", "effect") if name == "concentration" else ()
    head = f"| step | {' | '.join((name, *extra))} | text |"
    rows = [
        f"| {step['step']} | {' | '.join(_figure(step[key]) for key in (name, *(f'top_{e}' for e in extra)))} | "
        f"{escaped(clean(step['text']))} |"
        for step in steps
    ]
    table = "\n".join([head, "|" + "---|" * (len(extra) + 3), *rows])
    return {"value": value, "explanation": f"{about}\n\n{table}", "metadata": {"steps": steps}}


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


@dataclass
class Totals:
    """Scores of many runs, added up. numbers: name → sum and count. words: name → how often each word came."""

    runs: int = 0
    numbers: dict[str, tuple[float, int]] = field(default_factory=dict)
    words: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, scores: Mapping[str, Mapping[str, Any]]) -> None:
        self.runs += 1
        for name, score in scores.items():
            value = {"C": 1.0, "I": 0.0}.get(score["value"], score["value"])
            if isinstance(value, str):
                self.words.setdefault(name, Counter())[value] += 1
            else:
                total, n = self.numbers.get(name, (0.0, 0))
                self.numbers[name] = total + value, n + 1

    def results(self) -> dict[str, Any]:
        """`results` of a log: means of numbers, and the share of each word."""
        scores = []
        for name in MEANINGS:
            if name in self.numbers:
                total, n = self.numbers[name]
                found = {"accuracy" if name == "answer" else "mean": total / n}
            elif name in self.words:
                n = self.words[name].total()
                found = {word: k / n for word, k in sorted(self.words[name].items())}
            else:
                continue
            counted = {"scored_samples": n, "unscored_samples": self.runs - n}
            metrics: dict[str, Any] = {
                key: {"name": key, "value": rounded(value), "params": {}} for key, value in found.items()
            }
            scores.append({"name": name, "scorer": name, "params": {}, "metrics": metrics, **counted})
        return {"total_samples": self.runs, "completed_samples": self.runs, "scores": scores}
