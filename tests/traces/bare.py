"""Runs as other tools' logs give them: without effects and regions, and without uncertainty where it was not told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trajkit.traces.trace import Trace


def without_effects(trace: Trace) -> Trace:
    """The run as its text alone tells it."""
    empty = np.zeros((trace.n_steps, 0), np.float32)
    return replace(
        trace, effects=empty, effects_kind=None, regions=np.zeros((0, 0), np.uint8), half_widths=None, hidden=None
    )


def without_uncertainty(trace: Trace) -> Trace:
    """The run of a tool that told no log-probabilities."""
    return replace(trace, steps=tuple(replace(step, logprob=None, entropy=None) for step in trace.steps))
