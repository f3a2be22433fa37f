"""A step by itself, saved or live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trajkit.notebook.graphs import bars
from trajkit.notebook.style import card, facts, told
from trajkit.tables.words import apart, count, metric, score

if TYPE_CHECKING:
    from trajkit.attribution.explainer import LiveStep
    from trajkit.traces.trace import Step

_REGIONS = 6
"""Regions whose effects are drawn."""


def step_html(step: Step) -> str:
    """A Step as a card."""
    return card(told(step.text) or "(empty)", facts(_facts(step)), about=_about(step))


def live_step_html(step: LiveStep) -> str:
    """A LiveStep as a card: also its strongest effects and the verdict."""
    values, verdict = _facts(step), step.verdict
    values.pop("risk", None)
    if verdict is not None:
        risk, limit = apart(verdict.risk, verdict.threshold)
        raised = '<span class="alarm">ALARM</span>, ' if verdict.alarm else ""
        values["verdict"] = f"{raised}risk {risk}, threshold {limit}"
    if step.decision is not None:
        values["policy"] = f"{told(step.decision.action)}: {told(step.decision.reason)}"
    order = np.argsort(-np.abs(step.effects), kind="stable")[:_REGIONS]
    half = step.half_width
    shown = [(f"region {k}", float(step.effects[k]), None if half is None else float(half[k])) for k in order]
    note = "Strongest effects, nats: red supports the step, blue opposes it."
    if half is not None:
        note += " About nine in ten measured effects lie within the whiskers."
    parts = (facts(values), f'<div class="row">{bars(shown, "nats")}</div>', f'<p class="note">{note}</p>')
    return card(told(step.text) or "(empty)", *parts, about=f"step {step.index + 1} · {_about(step)}")


def _about(step: Step) -> str:
    return f"{step.kind} · {count(step.n_tokens, 'token')} [{step.token_start}, {step.token_end})"


def _facts(step: Step) -> dict[str, str]:
    risk = "" if step.risk is None else score(step.risk)
    return {
        "log-probability": "" if step.logprob is None else f"{metric(step.logprob)} nats a token",
        "entropy": "" if step.entropy is None else f"{metric(step.entropy)} nats a token",
        "risk": f'<span class="alarm">{risk}, ALARM</span>' if step.alarm else risk,
    }
