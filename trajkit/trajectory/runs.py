"""The metrics of many runs at once, from their steps one after another in one array. NumPy only.

What each metric is stands in `geometry` and `concentration`, which say it of one path; these agree (tests). Every pass
over the effects is made on a block of steps that fits the cache; what is left of a step are a few numbers, which are
summed up by run without a loop over runs. Parts of the runs go side by side in threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.errors import InputError
from trajkit.trajectory.concentration import MEASURES, concentrations
from trajkit.trajectory.geometry import ANGLE_BINS, angle_bin, histogram_entropy, lags_of, without_rounding

Floats = NDArray[np.float64]
Columns = dict[str, Floats]
Part = TypeVar("Part")

SUMMARIES = ("level", "slope", "spread")
"""Of each measure of concentration over the steps of a run: its mean, its trend a step, its sd (divided by n)."""
RUN_METRICS: tuple[str, ...] = (
    "n_steps", "path_length", "net_displacement", "tortuosity", "straightness", "mean_step", "mean_cosine",
    "turning_entropy", "sinuosity", "e_max", "msd_exponent", "switch_rate", "revisit_rate", "dwell_time",
    "recurrence_rate", *(f"{measure}_{summary}" for measure in MEASURES for summary in SUMMARIES),
)  # fmt: skip
"""recurrence_rate: of top regions. hhi_level … top_share_spread: over the steps that some region supports; NaN without
one, the slope also where there is one only."""
_PART_SIZE = 2**18
"""Numbers that are worth a thread of their own."""
_BLOCK_BYTES = 2**21
"""Of effects in a block: larger ones leave the cache, smaller ones pay for being many."""


def run_metrics(values: ArrayLike, offsets: ArrayLike) -> Columns:
    """RUN_METRICS of R runs, each (R,) float64; units, ranges and what a short run has, as in `geometry`.

    For traces with one number of regions: `run_metrics(np.concatenate([t.effects[t.thinking] for t in traces]),
    np.cumsum([0, *(t.thinking.sum() for t in traces)]))`.

    values: (N, K), the effect vectors of all runs' steps (or points in any space, where only the geometry means
    anything). offsets: (R+1,), run i has rows offsets[i] … offsets[i+1]−1; a run may be empty.
    Raises InputError when they do not fit each other.
    """
    rows, ends = as_runs(values, offsets)
    parts = in_parts(rows, ends, lambda mine, own: _by_run(mine, own, _step_terms(mine, own)))
    return {name: np.concatenate([found[name] for found in parts]) for name in RUN_METRICS}


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


def top_of(x: Floats) -> tuple[NDArray[np.int64], Floats]:
    """(T,) the region of the largest effect of (T, K), −1 where one is NaN, and that effect; −inf without regions."""
    if not x.shape[1]:
        return np.zeros(len(x), np.int64), np.full(len(x), -np.inf)
    top = x.argmax(1)  # NaN where there is one
    largest = np.take_along_axis(x, top[:, None], 1)[:, 0]
    return np.where(np.isnan(largest), -1, top), largest


@dataclass(frozen=True, eq=False)
class _Terms:
    """What is kept of each of N steps. Terms that look back are NaN or wrong in the first rows of a run."""

    lags: NDArray[np.int64]
    squares: Floats  # (lags, N): ‖x_i − x_{i−τ}‖², τ = 1 first
    turn: Floats  # (N,): (x_i − x_{i−1}) · (x_{i−1} − x_{i−2})
    top: NDArray[np.int64]  # (N,)
    level: Floats  # (4, N): concentration by MEASURES


def _step_terms(rows: NDArray[np.generic], ends: NDArray[np.integer]) -> _Terms:
    n, k = rows.shape
    lengths = np.diff(ends)
    lags = np.union1d(lags_of(int(lengths.max(initial=0))), [1]).astype(np.int64)
    terms = _Terms(
        lags,
        np.full((len(lags), n), np.nan),
        np.full(n, np.nan),
        np.zeros(n, np.int64),
        np.full((len(MEASURES), n), np.nan),
    )
    block = max(_BLOCK_BYTES // max(8 * k, 1), 4 * int(lags[-1]))

    for start in range(0, n, block):
        _fill(rows, terms, start, min(start + block, n))
    return terms


def _fill(rows: NDArray[np.generic], terms: _Terms, start: int, end: int) -> None:
    """Terms of the steps start … end−1."""
    lead = min(start, max(int(terms.lags[-1]), 2))
    x = rows[start - lead : end].astype(np.float64, copy=False)
    first = max(lead - 1, 1)
    move = x[first:] - x[first - 1 : -1]
    own = max(lead - first, 0)  # the move before the block's own, for its first turn
    terms.squares[0, start - lead + first + own : end] = np.einsum("tk,tk->t", move[own:], move[own:])
    if len(move) > 1:
        terms.turn[start - lead + first + 1 : end] = np.einsum("tk,tk->t", move[1:], move[:-1])
    for squares, lag in zip(terms.squares[1:], terms.lags[1:].tolist(), strict=True):
        first = max(lead, lag)
        move = x[first:] - x[first - lag : -lag]
        squares[start - lead + first : end] = np.einsum("tk,tk->t", move, move)
    x = x[lead:]
    if x.shape[1]:
        terms.top[start:end], largest = top_of(x)
        terms.level[:, start:end] = concentrations(x, MEASURES, largest)


def _by_run(rows: NDArray[np.generic], ends: NDArray[np.integer], terms: _Terms) -> Columns:
    lengths = np.diff(ends)
    n_runs, n, k = len(lengths), len(rows), max(rows.shape[1], 1)
    run = np.repeat(np.arange(n_runs), lengths)
    place = np.arange(n) - np.repeat(ends[:-1], lengths)  # of a step in its run, from 0
    steps, some = lengths.astype(float), lengths > 0

    def total(terms: NDArray[np.generic]) -> Floats:
        """(R,) sums over the steps of each run."""
        sums = np.zeros(n_runs)
        if some.any():
            sums[some] = np.add.reduceat(terms, ends[:-1][some])
        return sums

    out: Columns = {"n_steps": steps}
    with np.errstate(divide="ignore", invalid="ignore"):
        move = np.sqrt(terms.squares[0])
        length = total(np.where(place > 0, move, 0))
        net = np.zeros(n_runs)
        reach = np.subtract(rows[ends[1:][some] - 1], rows[ends[:-1][some]], dtype=np.float64)
        net[some] = np.sqrt(np.einsum("rk,rk->r", reach, reach))
        longest = np.where(np.isnan(length), np.nan, np.maximum(length, net))
        out |= {"path_length": length, "net_displacement": net}
        out |= {"tortuosity": longest / net, "straightness": net / longest}
        step = out["mean_step"] = length / np.where(lengths > 1, steps - 1, np.nan)

        scale = move * np.concatenate([[np.nan], move[:-1]])[:n]
        turned = (place > 1) & (scale > 0)
        cosine = np.clip(np.divide(terms.turn, scale, out=np.zeros(n), where=turned), -1, 1)
        n_turns = total(turned.astype(float))
        c = out["mean_cosine"] = without_rounding(total(cosine) / n_turns)
        at = run[turned] * ANGLE_BINS + angle_bin(np.arccos(cosine[turned]))
        bins = np.bincount(at, minlength=n_runs * ANGLE_BINS)
        out["turning_entropy"] = histogram_entropy(bins.reshape(n_runs, ANGLE_BINS))
        variance = total(np.where(place > 0, (move - np.repeat(step, lengths)) ** 2, 0)) / (steps - 2)
        bent = 2 / np.sqrt(step * ((1 + c) / (1 - c) + variance / step**2))
        out["sinuosity"] = np.where(c == 1, 0.0, bent)
        out["e_max"] = c / (1 - c)
        sums = [
            total(np.where(place >= lag, squares, 0)) for squares, lag in zip(terms.squares, terms.lags, strict=True)
        ]
        out["msd_exponent"] = _msd_exponent(terms, lengths, np.stack(sums))

        known = total((terms.top < 0).astype(float)) == 0
        switches = np.where(known, total(((np.diff(terms.top, prepend=-1) != 0) & (place > 0)).astype(float)), np.nan)
        held = np.sort((run * k + terms.top)[terms.top >= 0])
        starts = np.flatnonzero(np.diff(held, prepend=-1))
        of, count = held[starts] // k, np.diff(starts, append=len(held))
        new = np.bincount(of, minlength=n_runs) - 1
        alike = np.bincount(of, count * (count - 1.0), n_runs)
        out["switch_rate"] = switches / np.where(lengths > 1, steps - 1, np.nan)
        out["revisit_rate"] = (switches - new) / np.where(switches > 0, switches, np.nan)
        out["dwell_time"] = np.where(some, steps, np.nan) / (switches + 1)
        out["recurrence_rate"] = np.where(known, alike, np.nan) / np.where(lengths > 1, steps * (steps - 1), np.nan)

        has = ~np.isnan(terms.level[0])  # all measures are defined on the same steps
        count = total(has.astype(float))
        time = np.where(has, place - np.repeat(total(np.where(has, place, 0)) / count, lengths), 0)
        spread = np.where(count > 1, total(time * time), np.nan)
        for measure, level in zip(MEASURES, terms.level, strict=True):
            mean = total(np.where(has, level, 0)) / count
            centred = np.where(has, level - np.repeat(mean, lengths), 0)
            out[f"{measure}_level"] = mean
            out[f"{measure}_slope"] = total(time * centred) / spread
            out[f"{measure}_spread"] = np.sqrt(total(centred * centred) / count)
    return out


def _msd_exponent(terms: _Terms, lengths: NDArray[np.integer], sums: Floats) -> Floats:
    """(R,) slopes, from (lags, R) sums of squared displacements."""
    lags = terms.lags[:, None]
    read = (lags <= np.maximum(lengths // 4, 2)) & (lengths >= 4)  # (lags, R), as `lags_of`
    msd = sums / np.where(read, lengths - lags, 1)
    x, y = np.where(read, np.log(lags), 0.0), np.where(read, np.log(msd), 0.0)
    count = read.sum(0)
    centred = np.where(read, x - x.sum(0) / count, 0.0)
    slope = (centred * y).sum(0) / (centred**2).sum(0)
    return np.where((read & (msd <= 0)).any(0), np.nan, slope)
