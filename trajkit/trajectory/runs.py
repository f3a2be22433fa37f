"""The metrics of many runs at once, from their steps one after another in one array. NumPy only.

What each metric is stands in `geometry` and `concentration`, which say it of one path; these agree (tests). Passes
over the effects are those of `terms`; what they leave of a step, a few numbers, is summed up by run without a loop over
runs. Parts of the runs go side by side in threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.errors import InputError
from trajkit.trajectory.concentration import MEASURES
from trajkit.trajectory.geometry import ANGLE_BINS, angle_bin, histogram_entropy, lags_of, without_rounding
from trajkit.trajectory.terms import Asked, Buffers, Floats, StepTerms, step_terms

Columns = dict[str, Floats]
Part = TypeVar("Part")

SUMMARIES = ("level", "slope", "spread")
"""Of each measure of concentration over the steps of a run: its mean, its trend a step, its sd (divided by n)."""
RUN_METRICS: tuple[str, ...] = (
    "n_steps",
    "path_length",
    "net_displacement",
    "tortuosity",
    "straightness",
    "mean_step",
    "mean_cosine",
    "turning_entropy",
    "sinuosity",
    "e_max",
    "msd_exponent",
    "switch_rate",
    "revisit_rate",
    "dwell_time",
    "recurrence_rate",
    *(f"{measure}_{summary}" for measure in MEASURES for summary in SUMMARIES),
)
"""recurrence_rate: of top regions. hhi_level … top_share_spread: over the steps that some region supports; NaN without
one, the slope also where there is one only."""
_PART_SIZE = 2**18
"""Numbers that are worth a thread of their own."""
_STEPS = 2**13
"""Of the runs that are summed up at a time: what is made of so many stays in the cache."""


def run_metrics(values: ArrayLike, offsets: ArrayLike) -> Columns:
    """RUN_METRICS of R runs, each (R,) float64; units, ranges and what a short run has, as in `geometry`.

    For traces with one number of regions: `run_metrics(np.concatenate([t.effects[t.thinking] for t in traces]),
    np.cumsum([0, *(t.thinking.sum() for t in traces)]))`.

    values: (N, K), the effect vectors of all runs' steps (or points in any space, where only the geometry means
    anything). offsets: (R+1,), run i has rows offsets[i] … offsets[i+1]−1; a run may be empty.
    Raises InputError when they do not fit each other.

    See also: `RUN_METRICS`, `run_table`, `compare_runs`.

    >>> some = [one.effects[one.thinking] for one in (traces[0], traces[1])]  # of one image, so of as many regions
    >>> found = tk.trajectory.run_metrics(np.concatenate(some), np.cumsum([0, *map(len, some)]))
    >>> len(found), found["path_length"].round(1)
    (27, array([267.8, 251.8]))
    """
    rows, ends = as_runs(values, offsets)
    asked = asked_of_runs(int(np.diff(ends).max(initial=0)), nets=False)
    return joined(in_parts(rows, ends, lambda mine, own: _metrics(mine, own, asked)))


def as_runs(values: ArrayLike, offsets: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """(N, K) numbers, its rows one after another, and (R+1,) int64. Raises InputError when they do not fit."""
    try:
        rows, ends = np.asarray(values), np.asarray(offsets)
    except ValueError as error:
        raise InputError(
            "values must be one array (N, K), the steps of all runs one after another: np.concatenate(runs)."
        ) from error
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise InputError(f"values must be numbers (N, K), one row a step; got {rows.dtype} of shape {rows.shape}.")
    fits = ends.ndim == 1 and len(ends) and ends.dtype.kind in "iu" and ends[0] == 0 and ends[-1] == len(rows)
    if not fits or (np.diff(ends.astype(np.int64)) < 0).any():
        raise InputError(f"offsets must rise from 0 to the {len(rows)} rows of values, whole numbers; got {ends}.")
    return np.ascontiguousarray(rows), ends.astype(np.int64)  # as sums round by how it lies in memory


def in_parts(
    rows: NDArray[Any], ends: NDArray[np.int64], work: Callable[[NDArray[Any], NDArray[np.int64]], Part]
) -> list[Part]:
    """`work` of the rows and offsets of parts of whole runs, in order, side by side in threads."""
    n_parts = min(4, os.cpu_count() or 1, rows.size // _PART_SIZE + 1)
    middle = np.searchsorted(ends, len(rows) * np.arange(1, n_parts) / n_parts)
    borders = [0, *middle.tolist(), len(ends) - 1]  # about as many steps in each

    def part(first: int, last: int) -> Part:
        start = int(ends[first])
        return work(rows[start : int(ends[last])], ends[first : last + 1] - start)

    if n_parts == 1:
        return [part(*borders)]
    with ThreadPoolExecutor(n_parts) as pool:
        return list(pool.map(part, borders[:-1], borders[1:]))


def asked_of_runs(longest: int, nets: bool) -> Asked:
    """What `metrics_of_terms` needs of each step, of runs of up to so many steps. nets: as in `Asked`."""
    return Asked(MEASURES, tuple(sorted({1, *lags_of(longest).tolist()})), turns=True, nets=nets)


def _metrics(rows: NDArray[Any], ends: NDArray[np.int64], asked: Asked) -> Columns:
    """RUN_METRICS of runs that have steps over the same regions, some runs at a time."""
    buffers, found = Buffers(), []
    for first, last in pairwise(_cuts(ends)):
        own, mine = ends[first : last + 1] - ends[first], rows[ends[first] : ends[last]]
        reach = np.zeros(len(own) - 1)
        some = np.flatnonzero(np.diff(own))
        between = np.subtract(mine[own[some + 1] - 1], mine[own[some]], dtype=np.float64)
        reach[some] = np.sqrt(np.einsum("rk,rk->r", between, between))
        found.append(_by_run(step_terms(mine, own, asked, buffers), own, reach))
    return joined(found)


def metrics_of_terms(terms: StepTerms, ends: NDArray[np.int64]) -> Columns:
    """RUN_METRICS, each (R,), of runs that may differ in regions, from the terms of their steps, `asked_of_runs`."""
    found = []
    for first, last in pairwise(_cuts(ends)):
        own, mine = ends[first : last + 1] - ends[first], terms.of(ends[first], ends[last])
        reach = np.zeros(len(own) - 1)
        some = np.flatnonzero(np.diff(own))
        reach[some] = mine.net[own[some + 1] - 1]
        found.append(_by_run(mine, own, reach))
    return joined(found)


def joined(parts: list[Columns]) -> Columns:
    """The columns of several parts of the runs, one after another."""
    return {name: np.concatenate([part[name] for part in parts]) for name in RUN_METRICS}


def _cuts(ends: NDArray[np.int64]) -> list[int]:
    """Where to cut R runs into parts of about _STEPS steps or a whole run: 0 … R, one part at least."""
    of = np.searchsorted(ends, np.arange(_STEPS, ends[-1], _STEPS))
    return [0, *np.unique(of[(of > 0) & (of < len(ends) - 1)]).tolist(), len(ends) - 1]


class _Sums:
    """Sums over the steps of each run of some that lie one after another."""

    def __init__(self, ends: NDArray[np.int64]) -> None:
        self.lengths = np.diff(ends)
        self.some = np.flatnonzero(self.lengths)
        self.starts = ends[:-1][self.some]

    def __call__(self, terms: NDArray[Any]) -> Floats:
        """(N,) → (R,), 0 for a run without steps."""
        sums = np.zeros(len(self.lengths))
        if len(self.some):
            sums[self.some] = np.add.reduceat(terms, self.starts)
        return sums

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """(R,) → (N,): of the run of each step."""
        return np.repeat(values, self.lengths)


def _by_run(terms: StepTerms, ends: NDArray[np.int64], net: Floats) -> Columns:
    """net: (R,) distance from the first step to the last."""
    total = _Sums(ends)
    lengths = total.lengths
    place = np.arange(ends[-1]) - total.spread(ends[:-1])  # of a step in its run, from 0
    with np.errstate(divide="ignore", invalid="ignore"):
        out = {"n_steps": lengths.astype(np.float64)} | _shape(terms, total, place, net)
        return out | _visits(terms, total, place) | _concentrations(terms, total, place)


def _shape(terms: StepTerms, total: _Sums, place: NDArray[np.int64], net: Floats) -> Columns:
    """The geometry of paths."""
    lengths, starts = total.lengths, total.starts
    n_runs, steps = len(lengths), lengths.astype(np.float64)
    move = terms.move.copy()
    move[starts] = 0
    length = total(move)
    longest = np.where(np.isnan(length), np.nan, np.maximum(length, net))
    step = length / np.where(lengths > 1, steps - 1, np.nan)

    scale = np.zeros(len(move))
    np.multiply(move[1:], move[:-1], out=scale[1:])  # 0 for the first two steps of a run, as the first move is
    turned = scale > 0
    cosine = np.divide(terms.turn, scale, out=np.zeros(len(move)), where=turned)
    np.clip(cosine, -1, 1, out=cosine)
    c = without_rounding(total(cosine) / total(turned.astype(np.float64)))
    run = total.spread(np.arange(n_runs) * ANGLE_BINS)
    bins = np.bincount(run[turned] + angle_bin(np.arccos(cosine[turned])), minlength=n_runs * ANGLE_BINS)

    apart = total.spread(step)
    np.subtract(move, apart, out=apart)
    np.multiply(apart, apart, out=apart)
    apart[starts] = 0
    variance = total(apart) / (steps - 2)
    bent = 2 / np.sqrt(step * ((1 + c) / (1 - c) + variance / step**2))
    lags = terms.asked.lags
    squares = [move * move, *(np.where(place >= lag, of, 0) for of, lag in zip(terms.squares, lags[1:], strict=True))]
    return {
        "path_length": length,
        "net_displacement": net,
        "tortuosity": longest / net,
        "straightness": net / longest,
        "mean_step": step,
        "mean_cosine": c,
        "turning_entropy": histogram_entropy(bins.reshape(n_runs, ANGLE_BINS)),
        "sinuosity": np.where(c == 1, 0.0, bent),
        "e_max": c / (1 - c),
        "msd_exponent": _msd_exponent(lags, lengths, np.stack([total(of) for of in squares])),
    }


def _visits(terms: StepTerms, total: _Sums, place: NDArray[np.int64]) -> Columns:
    """Of the top regions."""
    lengths, top = total.lengths, terms.top.astype(np.int64)
    n_runs, steps = len(lengths), lengths.astype(np.float64)
    changed = np.zeros(len(top))
    np.not_equal(top[1:], top[:-1], out=changed[1:], casting="unsafe")
    changed[total.starts] = 0
    known = total((top < 0).astype(np.float64)) == 0
    switches = np.where(known, total(changed), np.nan)
    k = int(top.max(initial=0)) + 1
    held = np.sort((total.spread(np.arange(n_runs) * k) + top)[top >= 0])
    starts = np.flatnonzero(np.diff(held, prepend=-1))
    of, count = held[starts] // k, np.diff(starts, append=len(held))
    new = np.bincount(of, minlength=n_runs) - 1
    alike = np.bincount(of, count * (count - 1.0), n_runs)
    return {
        "switch_rate": switches / np.where(lengths > 1, steps - 1, np.nan),
        "revisit_rate": (switches - new) / np.where(switches > 0, switches, np.nan),
        "dwell_time": np.where(lengths > 0, steps, np.nan) / (switches + 1),
        "recurrence_rate": np.where(known, alike, np.nan) / np.where(lengths > 1, steps * (steps - 1), np.nan),
    }


def _concentrations(terms: StepTerms, total: _Sums, place: NDArray[np.int64]) -> Columns:
    """Level, slope and spread of each measure."""
    has = ~np.isnan(terms.level[0])  # all measures are defined on the same steps
    lacks = np.flatnonzero(~has)
    count = total(has.astype(np.float64))
    out: Columns = {}

    def centred(column: NDArray[Any]) -> tuple[Floats, Floats]:
        """(R,) means over the steps that have a level, and (N,) what differs from them; 0 at the other steps."""
        known = column.astype(np.float64)
        known[lacks] = 0
        mean = total(known) / count
        np.subtract(known, total.spread(mean), out=known)
        known[lacks] = 0
        return mean, known

    _, time = centred(place)
    passed = np.where(count > 1, total(time * time), np.nan)
    for measure, column in zip(MEASURES, terms.level, strict=True):
        mean, level = centred(column)
        out[f"{measure}_level"] = mean
        out[f"{measure}_slope"] = total(time * level) / passed
        out[f"{measure}_spread"] = np.sqrt(total(level * level) / count)
    return out


def _msd_exponent(asked: tuple[int, ...], lengths: NDArray[np.int64], sums: Floats) -> Floats:
    """(R,) slopes, from (lags, R) sums of squared displacements."""
    lags = np.array(asked)[:, None]
    read = (lags <= np.maximum(lengths // 4, 2)) & (lengths >= 4)  # (lags, R), as `lags_of`
    msd = sums / np.where(read, lengths - lags, 1)
    x, y = np.where(read, np.log(lags), 0.0), np.where(read, np.log(msd), 0.0)
    count = read.sum(0)
    centred = np.where(read, x - x.sum(0) / count, 0.0)
    slope = (centred * y).sum(0) / (centred**2).sum(0)
    return np.where((read & (msd <= 0)).any(0), np.nan, slope)
