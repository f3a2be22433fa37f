"""The design of one prefix at a time, as a running generation asks for it, to the last bit that of many at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trajkit.detection.design import TORTUOSITY_CAP, Z_CAP, FeatureMap, Floats, Rows, columns_of, tamed
from trajkit.detection.state import HUGE
from trajkit.traces.forms import task_label


class _Here(NamedTuple):
    """Of one step: (F,) mean and sd of its bin, (3,) 1, s and s², and (P,) the design but for its features."""

    mean: Floats
    sd: Floats
    curve: Floats
    design: Floats


class StepDesign:
    """Rows of `FeatureMap.matrix`, one by one; what a step alone says is worked out once."""

    def __init__(self, known: FeatureMap) -> None:
        self._map = known
        self._columns = columns_of(known.sets)
        self._reads_task = "task" in known.sets
        self._horizon = float(known.first_steps[-1])
        self._places: dict[float, _Here] = {}

    def vector(self, row: Mapping[str, float], task_set: str = "", form: str = "") -> Floats:
        """(P,) the row of `matrix` for one prefix. row: its features by name, and its step."""
        x = np.array([row[name] for name in self._columns])
        if self._reads_task:
            rows = Rows(x[None], np.array([row["step"]], float), (task_label(task_set, form),))
            return self._map.matrix(rows)[0]
        here = self._here(row["step"])
        least, most, logarithmic = _limits(self._columns)
        x = np.minimum(np.maximum(x, least), most)
        np.log1p(x, out=x, where=logarithmic)
        known = None if all(map(math.isfinite, x.tolist())) else np.isfinite(x)
        x = np.minimum(np.maximum(x, -HUGE), HUGE)
        z = np.minimum(np.maximum((x - here.mean) / here.sd, -Z_CAP), Z_CAP)
        design = here.design.copy()
        if known is not None:
            z = np.where(known, z, 0.0)
            flags = ~known[self._map.flagged]
            design[3 * len(z) : 3 * len(z) + len(flags)] += flags
        np.multiply(z[:, None], here.curve, out=design[: 3 * len(z)].reshape(len(z), 3))
        return design

    def _here(self, step: float) -> _Here:
        capped = min(step, self._horizon)
        if capped not in self._places:
            known = self._map
            bins, curve, levels = known.at(np.array([capped], float))
            absent = -known.missing[bins[0], known.flagged]
            length = levels[0] if "length" in known.sets else ()
            design = np.concatenate([np.zeros(3 * len(known.flagged)), absent, length])
            self._places[capped] = _Here(known.mean[bins[0]], known.sd[bins[0]], curve[0], design)
        return self._places[capped]


@cache
def _limits(columns: tuple[str, ...]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """(F,) each: the least and the most that a value counts as, and whether it is read by its logarithm."""
    capped, logarithmic = tamed(columns)
    least, most, logs = np.full(len(columns), -np.inf), np.full(len(columns), np.inf), np.zeros(len(columns), bool)
    least[logarithmic], most[capped], logs[logarithmic] = 0.0, TORTUOSITY_CAP, True
    return least, most, logs
