"""One JSON object a line: a run with its steps, and the effects of every region on each.

All that a trace file has but pictures (image, map of the regions) and hidden states. Steps have the names that
`trajkit stream --json` gives them, and regions the boxes that its `start` line gives.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trajkit.files import replacing
from trajkit.traces.backing import LIGHT
from trajkit.traces.boxes import areas_of, boxes_of
from trajkit.traces.exporters.export import Export
from trajkit.traces.exporters.said import has_effects, json_text, rounded
from trajkit.traces.trace import Trace


def write(export: Export, path: Path) -> None:
    """To one file. Raises WriteError where it cannot be written."""
    with replacing(path) as file:
        for trace in export.runs():
            file.write(json_text(line_of(trace)).encode("ascii") + b"\n")


def line_of(trace: Trace) -> dict[str, Any]:
    """A run as JSON can hold it; numbers have six digits."""
    steps = [step.to_dict() for step in trace.steps]
    if has_effects(trace):
        for step, effects in zip(steps, _digits(trace.effects), strict=True):
            step["effects"] = effects
    if trace.half_widths is not None:
        for step, widths in zip(steps, _digits(trace.half_widths), strict=True):
            step["half_widths"] = widths
    shapes = zip(boxes_of(trace.regions, trace.n_regions), areas_of(trace.regions, trace.n_regions), strict=True)
    return {
        **{name: getattr(trace, name) for name in LIGHT},
        "score": rounded(trace.score),
        "regions": [{"box": box, "area": area} for box, area in shapes] if trace.regions.size else [],
        "steps": steps,
        "tokens": None if trace.tokens is None else trace.tokens.tolist(),
        "meta": dict(trace.meta),
    }


def _digits(values: Any) -> list[list[float]]:
    return np.round(np.asarray(values, np.float64), 6).tolist()
