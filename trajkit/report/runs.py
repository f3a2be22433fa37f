"""Single runs as the page's script reads them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trajkit.errors import InputError
from trajkit.plots import metrics_by_step, trajectory_3d
from trajkit.plots.style import OUTCOME_COLOURS
from trajkit.report.collection import Collection, choose
from trajkit.live.pixels import label_map, picture, quantised
from trajkit.tables.names import outcome_name

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from trajkit.detection.store import Detectors
    from trajkit.traces.trace import Trace

BUDGET = 6_000_000
"""Characters that the runs, their pictures and label maps may take; plotly itself takes five million more."""


def run_payload(
    traces: Sequence[Trace], collection: Collection, detectors: Detectors | None, max_runs: int
) -> dict[str, Any]:
    """JSON-ready: `runs`, and the `images` and `maps` that they share by position; as many as BUDGET allows."""
    shared: dict[str, dict[str, Any]] = {"images": {}, "maps": {}}
    runs: list[dict[str, Any]] = []
    size = 0
    for at in choose(collection, max_runs):
        trace = traces[at]
        before = {name: len(found) for name, found in shared.items()}
        run = _run(trace, str(collection.runs["outcome"].iloc[at]), collection, detectors, shared)
        new = [entry for name, found in shared.items() for entry in list(found.values())[before[name] :]]
        size += len(json.dumps([run, new]))
        if size > BUDGET and runs:
            break
        runs.append(run)
    order = list(OUTCOME_COLOURS)
    runs.sort(key=lambda run: order.index(run["outcome"]))
    return {"runs": runs} | {name: list(found.values()) for name, found in shared.items()}


def _run(
    trace: Trace, outcome: str, collection: Collection, detectors: Detectors | None, shared: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    from trajkit.trajectory import Space

    rows = collection.rows(trace.transcript_id)
    threshold = detectors.monitor.threshold if detectors is not None else math.inf
    image, no_image = _image(trace, shared["images"])
    labels, no_map = _labels(trace, shared["maps"])
    thinking = trace.thinking
    usable = trace.effects_kind is not None and trace.effects.size > 0
    run = {
        "id": trace.transcript_id,
        "group": trace.group_id,
        "task": trace.task_set,
        "question": trace.question,
        "answer": trace.answer,
        "target": trace.target,
        "outcome": outcome,
        "outcomeName": outcome_name(outcome),
        "colour": OUTCOME_COLOURS[outcome],
        "success": trace.success,
        "seen": None if collection.held_out is None else trace.group_id not in collection.held_out,
        "effectsKind": trace.effects_kind,
        "image": image,
        "map": labels,
        "notes": [note for note in (no_image, no_map if usable else "This run has no effects to draw.") if note],
        "regions": trace.n_regions,
        "steps": _steps(trace, rows, threshold),
        "effects": quantised(trace.effects) if usable else None,
        "scale": _scale(trace.effects) if usable else 1.0,
        "path": None,
        "metrics": None,
        "reading": "" if detectors is None or rows.empty else _reading(rows, detectors),
    }
    if usable and thinking.any():
        said = [step.text for step in trace.steps if step.kind == "thinking"]
        space = Space.fit(trace.effects[thinking], top=32)
        run["path"] = figure_json(trajectory_3d(trace.effects[thinking], said, space))
        run["metrics"] = figure_json(metrics_by_step(rows, threshold))
        share = 100 * space.explained.sum()
        run["pathNote"] = f"These three axes hold {share:.0f} % of the variance of this run's effects."
    return run


def _reading(rows: pd.DataFrame, detectors: Detectors) -> str:
    """What the outcome classifier makes of a run after its last thinking step, and which features speak for it."""
    from trajkit.detection.explanation import explain
    from trajkit.detection.outcome import ABSTAIN

    classifier, last = detectors.outcome, rows.tail(1)
    if classifier is None:
        return ""
    proba = classifier.predict_proba(last)
    order = np.argsort(-proba[0])
    shares = ", ".join(f"{outcome_name(str(classifier.classes_[i]))} {100 * proba[0, i]:.0f} %" for i in order)
    unsure = ", so it abstains" * (classifier.decide(proba)[0] == ABSTAIN)
    reasons = "; ".join(reason.words for reason in explain(classifier, last)[0]) or "no feature by itself"
    likeliest = outcome_name(str(classifier.classes_[order[0]]))
    return (
        f"The outcome classifier, from features after the last thought: {shares}{unsure}. For {likeliest}: {reasons}."
    )


def _steps(trace: Trace, rows: Any, threshold: float) -> list[dict[str, Any]]:
    """A record per sentence; alarm is true on the one that raises it."""
    from trajkit.detection.alarm import alarm_rows
    from trajkit.trajectory import concentration

    level = (
        concentration(trace.effects) if trace.effects.size and trace.effects_kind else np.full(trace.n_steps, np.nan)
    )
    known = rows["risk"].to_numpy(float) if "risk" in rows else np.zeros(0)
    risks, alarm_at = iter(known), int(alarm_rows(known, threshold)[0])
    wrong, number = trace.meta.get("first_wrong"), 0
    records = []
    for step, concentrated in zip(trace.steps, level, strict=True):
        thinks = step.kind == "thinking"
        risk = next(risks, None) if thinks else None
        records.append(
            {
                "text": step.text,
                "kind": step.kind,
                "tokens": step.n_tokens,
                "conc": _rounded(concentrated),
                "risk": _rounded(risk),
                "alarm": thinks and number == alarm_at,
                "wrong": thinks and wrong == number and not isinstance(wrong, bool),
            }
        )
        number += thinks
    return records


def _image(trace: Trace, images: dict[str, Any]) -> tuple[int | None, str]:
    """Position in `images` of the run's picture, and words where there is none."""
    if trace.image is None:
        return None, "This run was saved without its image."
    if trace.image_sha256 not in images:
        try:
            url, width, height = picture(trace.image)
        except InputError as error:
            return None, f"The image cannot be shown: {error}"
        images[trace.image_sha256] = {"url": url, "width": width, "height": height}
    return list(images).index(trace.image_sha256), ""


def _labels(trace: Trace, maps: dict[str, Any]) -> tuple[int | None, str]:
    regions = np.asarray(trace.regions)
    name = hashlib.sha256(repr(regions.shape).encode() + np.ascontiguousarray(regions, np.int64).tobytes()).hexdigest()
    if name not in maps:
        try:
            maps[name] = label_map(regions)
        except InputError:
            return None, "This run has no map of regions, so its effects cannot be drawn over the image."
    return list(maps).index(name), ""


def _scale(effects: np.ndarray) -> float:
    """Nats at full colour: the 99th percentile of the run's |effects|, so that one outlier does not pale the rest."""
    return float(f"{float(np.percentile(np.abs(effects), 99)) or float(np.abs(effects).max()) or 1.0:.3g}")


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 4)


def figure_json(figure: go.Figure) -> dict[str, Any]:
    """Data and layout as plotly.js takes them; NaN becomes null."""
    parsed: dict[str, Any] = json.loads(figure.to_json())
    return {"data": parsed["data"], "layout": parsed["layout"]}
