"""A run: its image with what it rested on, its risk, its steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from trajkit.notebook.graphs import number_line, risk_line
from trajkit.notebook.pictures import GROUNDED, SMALL, Pictures, strongest_of
from trajkit.notebook.style import card, facts, figure, joined, model_name, outcome_of, outcome_tag, told
from trajkit.tables.words import count, score, signed

if TYPE_CHECKING:
    from trajkit.traces.trace import Step, Trace

DRAWN = 16
"""Steps that have a picture of their own: those with the strongest effects, where there are more."""
TOLD = 60
"""Steps that are shown at all."""


def trace_html(trace: Trace) -> str:
    """A Trace as a card."""
    pictures = Pictures.of(trace)
    about = joined(
        (
            f"run {told(trace.transcript_id, 60)}",
            model_name(trace.model),
            count(int(trace.thinking.sum()), "thinking step"),
            f"{count(trace.n_regions, 'region')}, {trace.effects_kind} effects" if trace.effects_kind else "no effects",
        )
    )
    title = f"{outcome_tag(outcome_of(trace))} {told(trace.question, 300) or 'a run without a question'}"
    return card(
        title,
        f'<div class="row">{_images(trace, pictures)}<div class="grow">{_verdict(trace)}</div></div>',
        _steps(trace, pictures),
        f'<p class="note">{told(pictures.note)}</p>' if pictures.note else "",
        about=about,
    )


def _images(trace: Trace, pictures: Pictures) -> str:
    """The image, and over it each region's strongest effect on a thought."""
    plain = pictures.plain()
    made = figure(plain, "the image", 208) if plain else ""
    effects = strongest_of(trace)
    if effects is not None and (over := pictures.over(effects, "regions by their strongest effect on a thought")):
        keys = (("up", "supports a thought"), ("down", "opposes it"))
        key = " ".join(f'<span class="key"><span class="{way}">■</span> {said}</span>' for way, said in keys)
        made += figure(over, f"strongest effect of each region {key}", 208)
    return made


def _verdict(trace: Trace) -> str:
    """Answer and target, what the monitor said, and a graph of it."""
    risks = np.array([math.nan if step.risk is None else step.risk for step in trace.steps], float)
    answer = "<b>" + told(trace.answer, 200) + "</b>" if trace.answer else '<span class="muted">none</span>'
    said = {"answer": answer, "target": told(trace.target, 200)}
    if np.isfinite(risks).any():
        return facts(said | {"monitor": _said(trace, risks)}) + _risk_graph(trace, risks)
    return facts(said) + _graph_without_monitor(trace)


def _said(trace: Trace, risks: np.ndarray) -> str:
    threshold, watches = trace.watched or (None, "failure")
    what = "probability of success" if watches == "success" else "risk"
    alarm = next((at for at, step in enumerate(trace.steps) if step.alarm), None)
    most = int(np.nanargmax(risks))
    limit = "" if threshold is None else f", threshold {score(threshold)}"
    if alarm is None:
        return f"no alarm: highest {what} {score(risks[most])} after step {most + 1}{limit}"
    word = "speaks" if watches == "success" else "ALARM"
    at = risks[alarm] if math.isfinite(risks[alarm]) else risks[most]
    return f'<span class="alarm">{word} after step {alarm + 1}</span>: {what} {score(at)}{limit}'


def _risk_graph(trace: Trace, risks: np.ndarray) -> str:
    alarm = next((at for at, step in enumerate(trace.steps) if step.alarm), None)
    thinks = risks[: int(np.flatnonzero(trace.thinking)[-1]) + 1] if trace.thinking.any() else risks
    threshold, watches = trace.watched or (None, "failure")
    what = "probability of success" if watches == "success" else "risk of failure"
    caption = f"{what} after each step" + (", dashed: alarm above" if threshold is not None else "")
    return figure(risk_line(thinks, threshold, alarm), caption, 380)


def _graph_without_monitor(trace: Trace) -> str:
    """Concentration where there are effects, else the mean log-probability of each step's tokens, where it is known."""
    if not trace.thinking.any():
        return ""
    if trace.effects_kind and trace.effects.size:
        from trajkit.trajectory import concentration

        values = concentration(trace.effects[trace.thinking])
        said = "concentration of support on few regions (HHI), by step; no monitor watched this run"
    else:
        kept = [step.logprob for step in trace.steps if step.kind == "thinking"]
        values = np.array([math.nan if value is None else value for value in kept], float)
        said = "mean log-probability of the tokens of each step, nats"
    return figure(number_line(values, said), said, 380) if np.isfinite(values).any() else ""


def _steps(trace: Trace, pictures: Pictures) -> str:
    strength = np.abs(trace.effects).max(axis=1, initial=0.0)
    drawn = set(np.argsort(-strength, kind="stable")[:DRAWN].tolist())
    shown = [_step(trace, at, pictures if at in drawn else None) for at in range(min(trace.n_steps, TOLD))]
    notes = []
    if trace.n_steps > DRAWN and pictures.labels is not None:
        notes.append(f"Pictures: the {DRAWN} steps with the strongest effects.")
    if trace.n_steps > TOLD:
        notes.append(f"{count(trace.n_steps - TOLD, 'more step')} not shown.")
    note = f'<p class="note">{" ".join(notes)}</p>' if notes else ""
    return f'<div class="steps">{"".join(shown)}</div>{note}' if shown else ""


def _step(trace: Trace, at: int, pictures: Pictures | None) -> str:
    step, effects = trace.steps[at], trace.effects[at]
    picture = "" if pictures is None or not effects.size else pictures.over(effects, f"step {at + 1}", SMALL)
    name = "answer" if step.kind == "answer" else f"step {at + 1}"
    said = told(step.text, 240 if picture else 160) or "(empty)"
    return (
        f'<div class="step{" alarmed" if step.alarm else ""}"><div class="n"><span>{name}</span>'
        f"<span>{_numbers(step)}</span></div>{picture}"
        f'<div class="said{" answer" if step.kind == "answer" else ""}">{said}</div>'
        f"{strongest(effects)}</div>"
    )


def _numbers(step: Step) -> str:
    if step.alarm:
        return f'<span class="alarm">ALARM {"" if step.risk is None else score(step.risk)}</span>'
    return f"risk {score(step.risk)}" if step.risk is not None and step.kind == "thinking" else ""


def strongest(effects: Any) -> str:
    """The effect that is largest in size, and of which region, HTML; "" where there is none."""
    if not len(effects):
        return ""
    top = int(np.argmax(np.abs(effects)))
    if abs(effects[top]) < GROUNDED:
        return f'<div class="muted">{signed(float(effects[top]))} nats: hardly rests on the image</div>'
    way = "up" if effects[top] > 0 else "down"
    return f'<div class="muted"><span class="{way}">{signed(float(effects[top]))}</span> nats, region {top}</div>'
