"""A whole saved run as the page reads it: a Trace, its row and its verdicts in, JSON-ready out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from trajkit.errors import InputError
from trajkit.live.pixels import label_map, picture, quantised
from trajkit.live.query import Row, rounded
from trajkit.live.verdicts import Verdicts, why_alarmed
from trajkit.plots.overlay import full_strength
from trajkit.traces.trace import Trace


def document(trace: Trace, row: Row, verdicts: Verdicts) -> dict[str, Any]:
    """The run `row` with its picture, regions, steps and effects, and what is missing in words."""
    image, no_image = _image(trace)
    regions, no_map = _regions(trace)
    usable = trace.effects_kind is not None and trace.effects.size > 0
    highest = verdicts.highest
    notes = (no_image, no_map if usable else "This run has no effects to draw.", verdicts.note)
    words = {"n_tokens": 0} if trace.meta.get("counted_in") == "words" else {}  # of tokens, none is known
    return (
        dict(row)
        | words
        | {
            "risk": rounded(highest.risk),
            "alarm": highest.alarm,
            "image": image,
            "map": regions,
            "n_regions": trace.n_regions,
            "effects_kind": trace.effects_kind,
            "scale": full_strength(trace.effects) if usable else 1.0,
            "threshold": rounded(verdicts.threshold),
            "watches": verdicts.watches,
            "notes": [note for note in notes if note],
            "reading": verdicts.reading,
            "seen": verdicts.seen,
            "steps": _steps(trace, verdicts, row["label"] == "success"),
            "effects": quantised(trace.effects) if usable else None,
            "half_widths": None if trace.half_widths is None or not usable else quantised(trace.half_widths),
        }
    )


def _steps(trace: Trace, verdicts: Verdicts, fine: bool) -> list[dict[str, Any]]:
    from trajkit.trajectory import concentration

    known = trace.effects.size and trace.effects_kind
    level = concentration(trace.effects) if known else np.full(trace.n_steps, math.nan)
    number = np.cumsum(trace.thinking).tolist()  # thinking steps up to each
    attempt, wrong = _attempt(trace), trace.meta.get("first_wrong")
    decision = _decision(trace, attempt)
    records = []
    for at, step in enumerate(trace.steps):
        thinks = step.kind == "thinking"
        decided = decision if thinks and decision is not None and decision.get("step") == number[at] else None
        alarm = at == verdicts.alarm
        records.append(
            {
                "index": at,
                "kind": step.kind,
                "text": step.text,
                "tokens": [step.token_start, step.token_end],
                "concentration": rounded(float(level[at])),
                "risk": rounded(float(verdicts.risks[at])),
                "alarm": alarm,
                "reason": _reason(verdicts, decided) if alarm else "",
                "wrong": not fine and thinks and wrong == number[at] - 1 and not isinstance(wrong, bool),
                "attempt": attempt,
                "decision": decided,
                "delay": None,
            }
        )
    return records


def _reason(verdicts: Verdicts, decided: dict[str, Any] | None) -> str:
    if decided is not None and isinstance(decided.get("reason"), str):
        return decided["reason"]
    risk = float(verdicts.risks[verdicts.alarm]) if verdicts.alarm is not None else math.nan
    if not math.isfinite(verdicts.threshold) or math.isnan(risk):
        return "the monitor that watched the run raised its alarm here"
    return why_alarmed(verdicts.watches, risk, verdicts.threshold)


def _attempt(trace: Trace) -> int:
    attempt = trace.meta.get("attempt", 0)
    return attempt if isinstance(attempt, int) else 0


def _decision(trace: Trace, attempt: int) -> dict[str, Any] | None:
    """The policy's in the attempt that was saved: it comes to one in each at most."""
    made = trace.meta.get("decisions")
    decision = made[attempt] if isinstance(made, list) and 0 <= attempt < len(made) else None
    return decision if isinstance(decision, dict) else None


def _image(trace: Trace) -> tuple[dict[str, Any] | None, str]:
    """The run's picture, and words where there is none."""
    if trace.image is None:
        return None, "This run was saved without its image."
    try:
        url, width, height = picture(trace.image)
    except InputError as error:
        return None, f"The image cannot be shown: {error}"
    return {"url": url, "width": width, "height": height}, ""


def _regions(trace: Trace) -> tuple[dict[str, Any] | None, str]:
    try:
        return label_map(np.asarray(trace.regions)), ""
    except InputError:
        return None, "This run has no map of regions, so its effects cannot be drawn over the image."
