"""The metrics of many runs at once, from their steps one after another in one array. NumPy only.

What each metric is stands in `geometry` and `concentration`, which say it of one path; these agree (tests). Every pass
over the effects is made on a block of steps that fits the cache, blocks side by side in threads; what is left of a step
are a few numbers, which are summed up by run without a loop over runs.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.errors import InputError
from trajkit.trajectory.concentration import MEASURES, concentrations
from trajkit.trajectory.geometry import ANGLE_BINS, angle_bin, histogram_entropy, lags_of, top_region

Floats = NDArray[np.float64]
Columns = dict[str, Floats]

SUMMARIES = ("mean", "slope", "sd")
"""Of each measure of concentration over the steps of a run: level, trend a step, spread (population, divided by n)."""
RUN_METRICS: tuple[str, ...] = (
    "n_steps", "path_length", "net_displacement", "tortuosity", "straightness", "mean_step", "mean_cosine",
    "turning_entropy", "sinuosity", "e_max", "msd_exponent", "switch_rate", "revisit_rate", "dwell_time",
    "recurrence_rate", *(f"{measure}_{summary}" for measure in MEASURES for summary in SUMMARIES),
)  # fmt: skip
"""recurrence_rate: of top regions. hhi_mean … top_share_sd: over the steps that some region supports; NaN without one,
the slope also where there is one only."""
_BLOCK_BYTES = 2**18


def run_metrics(values: ArrayLike, offsets: ArrayLike) -> Columns:
    """RUN_METRICS of R runs, each (R,) float64.

    values: (N, K), the effect vectors of all runs' steps (or points in any space, where only the geometry means
    anything). offsets: (R+1,), run i has rows offsets[i] … offsets[i+1]−1; a run may be empty.
    Raises InputError when they do not fit each other.
    """
    rows = np.asarray(values)
    ends = np.asarray(offsets)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise InputError(f"values must be numbers (N, K), one row a step; got {rows.dtype} of shape {rows.shape}.")
    fits = ends.ndim == 1 and len(ends) and ends.dtype.kind in "iu" and ends[0] == 0 and ends[-1] == len(rows)
    if not fits or (np.diff(ends) < 0).any():
        raise InputError(f"offsets must rise from 0 to the {len(rows)} rows of values, whole numbers; got {ends}.")
    return _by_run(rows, ends, _step_terms(rows, ends))


@dataclass(frozen=True, eq=False)
class _Terms:
    """What is kept of each of N steps. Terms that look back are NaN or wrong in the first rows of a run."""

    lags: NDArray[np.int64]
    squares: Floats  # (lags, N): ‖x_i − x_{i−τ}‖²
    turn: Floats  # (N,): (x_i − x_{i−1}) · (x_{i−1} − x_{i−2})
    top: NDArray[np.int64]  # (N,)
    level: Floats  # (4, N): concentration by MEASURES


def _step_terms(rows: NDArray[np.generic], ends: NDArray[np.integer]) -> _Terms:
    n, k = rows.shape
    lengths = np.diff(ends)
    lags = np.union1d(lags_of(int(lengths.max(initial=0))), [1]).astype(np.int64)
    terms = _Terms(
        lags, np.full((len(lags), n), np.nan), np.full(n, np.nan), np.zeros(n, np.int64), np.empty((len(MEASURES), n))
    )
    block = max(_BLOCK_BYTES // max(8 * k, 1), 4 * int(lags[-1]))

    def work(start: int) -> None:
        _fill(rows, terms, start, min(start + block, n))

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(work, range(0, n, block)))
    return terms


def _fill(rows: NDArray[np.generic], terms: _Terms, start: int, end: int) -> None:
    """Terms of the steps start … end−1."""
    lead = min(start, max(int(terms.lags[-1]), 2))
    x = rows[start - lead : end].astype(np.float64)
    for squares, lag in zip(terms.squares, terms.lags.tolist(), strict=True):
        first = max(lead, lag)
        move = x[first:] - x[first - lag : -lag]
        squares[start - lead + first : end] = np.einsum("tk,tk->t", move, move)
    if (first := max(lead, 2)) < len(x):
        move = x[first - 1 :] - x[first - 2 : -1]
        terms.turn[start - lead + first : end] = np.einsum("tk,tk->t", move[1:], move[:-1])
    terms.top[start:end] = top_region(x[lead:])
    terms.level[:, start:end] = concentrations(x[lead:], MEASURES)


def _by_run(rows: NDArray[np.generic], ends: NDArray[np.integer], terms: _Terms) -> Columns:
    lengths = np.diff(ends)
    n_runs, n, k = len(lengths), len(rows), rows.shape[1]
    run = np.repeat(np.arange(n_runs), lengths)
    place = np.arange(n) - np.repeat(ends[:-1], lengths)  # of a step in its run, from 0

    def total(terms: NDArray[np.generic], at: NDArray[np.bool_]) -> Floats:
        return np.asarray(np.bincount(run[at], terms[at], n_runs), np.float64)

    steps = lengths.astype(float)
    some, moved, turned = lengths > 0, place > 0, place > 1
    out: Columns = {"n_steps": steps}
    with np.errstate(divide="ignore", invalid="ignore"):
        move = np.sqrt(terms.squares[0])
        length = total(move, moved)
        net = np.zeros(n_runs)
        net[some] = np.linalg.norm(
            rows[ends[1:][some] - 1].astype(np.float64) - rows[ends[:-1][some]].astype(np.float64), axis=1
        )
        longest = np.where(np.isnan(length), np.nan, np.maximum(length, net))
        out |= {"path_length": length, "net_displacement": net}
        out |= {"tortuosity": longest / net, "straightness": net / longest}
        step = out["mean_step"] = length / np.where(lengths > 1, steps - 1, np.nan)

        scale = move * np.concatenate([[np.nan], move[:-1]])
        turned &= scale > 0
        cosine = np.clip(terms.turn[turned] / scale[turned], -1, 1)
        n_turns = np.bincount(run[turned], minlength=n_runs)
        c = out["mean_cosine"] = np.bincount(run[turned], cosine, n_runs) / n_turns
        bins = np.bincount(run[turned] * ANGLE_BINS + angle_bin(np.arccos(cosine)), minlength=n_runs * ANGLE_BINS)
        out["turning_entropy"] = histogram_entropy(bins.reshape(n_runs, ANGLE_BINS))
        variance = total((move - np.repeat(step, lengths)) ** 2, moved) / (steps - 2)
        bent = 2 / np.sqrt(step * ((1 + c) / (1 - c) + variance / step**2))
        out["sinuosity"] = np.where(c == 1, 0.0, bent)
        out["e_max"] = c / (1 - c)
        out["msd_exponent"] = _msd_exponent(terms, lengths, np.stack([
            total(squares, place >= lag) for squares, lag in zip(terms.squares, terms.lags, strict=True)
        ]))  # fmt: skip

        seen = terms.top >= 0
        known = np.bincount(run[~seen], minlength=n_runs) == 0
        switches = np.where(known, total(np.diff(terms.top, prepend=-1) != 0, moved), np.nan)
        held, count = np.unique((run * max(k, 1) + terms.top)[seen], return_counts=True)
        of = held // max(k, 1)
        new = np.bincount(of, minlength=n_runs) - 1
        alike = np.bincount(of, count * (count - 1.0), n_runs)
        out["switch_rate"] = switches / np.where(lengths > 1, steps - 1, np.nan)
        out["revisit_rate"] = (switches - new) / np.where(switches > 0, switches, np.nan)
        out["dwell_time"] = np.where(some, steps, np.nan) / (switches + 1)
        out["recurrence_rate"] = np.where(known, alike, np.nan) / np.where(lengths > 1, steps * (steps - 1), np.nan)
        for measure, level in zip(MEASURES, terms.level, strict=True):
            for summary, column in zip(SUMMARIES, _summaries(level, place, run, n_runs), strict=True):
                out[f"{measure}_{summary}"] = column
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


def _summaries(
    level: Floats, place: NDArray[np.integer], run: NDArray[np.integer], n_runs: int
) -> tuple[Floats, Floats, Floats]:
    """(R,) mean, slope a step, and sd of a number of each step, over the steps that have one."""
    has = ~np.isnan(level)
    run, y, t = run[has], level[has], place[has].astype(float)
    count = np.bincount(run, minlength=n_runs)
    mean, middle = np.bincount(run, y, n_runs) / count, np.bincount(run, t, n_runs) / count
    y, t = y - mean[run], t - middle[run]
    spread = np.bincount(run, t * t, n_runs)
    slope = np.bincount(run, t * y, n_runs) / np.where(count > 1, spread, np.nan)
    return mean, slope, np.sqrt(np.bincount(run, y * y, n_runs) / count)
