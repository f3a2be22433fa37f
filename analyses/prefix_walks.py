"""Geometry of the paths of many runs up to one step, held against what chance makes of as many steps.

Paths are (R, t, D): R runs, their first t steps, in a space that they share. Nothing loops over runs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

WALK = ("path_length", "log_tortuosity", "revisit_rate")
"""Of a path: Σ ‖x_{i+1} − x_i‖; log of that over ‖x_t − x_1‖, capped; the share of the switches of the top coordinate
that lead back to one where the path has rested before, 0 without a switch."""
_CAP = 1e3
_BLOCK = 1 << 22
"""Numbers that are laid out at a time."""


def walks(paths: Floats) -> Floats:
    """(R, t, D) → (R, 3) WALK."""
    moves = np.diff(paths, axis=1)
    length = np.sqrt(np.einsum("rtd,rtd->rt", moves, moves)).sum(axis=1)
    reach = np.linalg.norm(paths[:, -1] - paths[:, 0], axis=1)
    return _walk(length, reach, paths.argmax(axis=2))


def against_own_steps(paths: Floats, n_draws: int, seed: int) -> Floats:
    """(R, 3) z-scores of WALK among paths through the run's own resting places in a random order; 0 where all orders
    are alike."""
    t = paths.shape[1]
    apart = np.sqrt(np.maximum(_squared_distances(paths), 0.0))
    top = paths.argmax(axis=2)
    orders = np.random.default_rng(seed).permuted(np.tile(np.arange(t), (n_draws, 1)), axis=1)
    lengths = [apart[:, order[1:], order[:-1]].sum(axis=1) for order in orders]
    reaches = [apart[:, order[0], order[-1]] for order in orders]
    drawn = np.stack([_walk(*each) for each in zip(lengths, reaches, [top[:, order] for order in orders], strict=True)])
    return _z(walks(paths), drawn.mean(axis=0), drawn.std(axis=0))


def against_other_runs(paths: Floats, task: Integers, train: NDArray[np.bool_], n_draws: int, seed: int) -> Floats:
    """(R, 3) z-scores of WALK among paths whose every step is drawn from those of training runs of the same task.

    task: (R,). All runs of a task have one null, so that runs of one task keep their order.
    """
    found, rng = np.zeros((len(paths), len(WALK))), np.random.default_rng(seed)
    observed = walks(paths)
    for number in np.unique(task):
        own = task == number
        pool = paths[own & train] if (own & train).any() else paths[train]
        steps = pool.reshape(-1, paths.shape[2])
        drawn = walks(steps[rng.integers(len(steps), size=(n_draws, paths.shape[1]))])
        found[own] = _z(observed[own], drawn.mean(axis=0), drawn.std(axis=0))
    return found


def of_some(paths: Floats, some: NDArray[np.bool_]) -> Floats:
    """(R, t, D) → the same, each point replaced by the last of `some` so far (before the first of these, by that one):
    `walks` of it are those of these points alone. some: (R, t); a path that has none stays at its first point."""
    t = paths.shape[1]
    last = np.maximum.accumulate(np.where(some, np.arange(t), -1), axis=1)
    at = np.where(last < 0, some.argmax(axis=1)[:, None], last)
    return np.take_along_axis(paths, at[:, :, None], axis=1)


def effective_dimension(paths: Floats) -> Floats:
    """(R,) participation ratio (Σ λ)² / Σ λ² of the covariance of the path's points, in [1, min(t − 1, D)]; NaN where
    they are all one."""
    centred = paths - paths.mean(axis=1, keepdims=True)
    gram = np.einsum("rsd,rtd->rst", centred, centred)
    total, squares = np.einsum("rtt->r", gram), np.einsum("rst,rst->r", gram, gram)
    return np.divide(total**2, squares, out=np.full(len(paths), np.nan), where=squares > 0)


def distance_to_successes(points: Floats, group: Integers, reference: NDArray[np.bool_], k: int = 10) -> Floats:
    """(R,) mean distance to the k nearest reference runs of other groups; of all of them where they are fewer, NaN
    where there is none.

    points: (R, F), standardised here by the reference runs; what is missing is an average one. reference: (R,) which
    runs are successes that may be learned from.
    """
    with np.errstate(invalid="ignore"):
        scale = np.nanstd(points[reference], axis=0)
        x = (points - np.nanmean(points[reference], axis=0)) / np.where(scale > 1e-9, scale, 1.0)
    x = np.nan_to_num(np.clip(x, -5, 5))
    known, found = x[reference], np.full(len(x), np.nan)
    size = max(1, _BLOCK // max(len(known), 1))
    for first in range(0, len(x), size):
        here = slice(first, first + size)
        squares = (x[here] ** 2).sum(1)[:, None] + (known**2).sum(1) - 2 * x[here] @ known.T
        apart = np.sqrt(np.maximum(squares, 0.0))
        apart[group[here, None] == group[reference]] = np.inf
        nearest = np.partition(apart, min(k, len(known)) - 1, axis=1)[:, :k] if len(known) else apart
        count = np.isfinite(nearest).sum(axis=1)
        sums = np.where(np.isfinite(nearest), nearest, 0.0).sum(axis=1)
        found[here] = np.divide(sums, count, out=np.full(len(sums), np.nan), where=count > 0)
    return found


def _walk(length: Floats, reach: Floats, top: Integers) -> Floats:
    """length, reach: (R,). top: (R, t)."""
    twisted = np.log(np.divide(length, reach, out=np.full(len(length), _CAP), where=reach * _CAP > length))
    switches = (np.diff(top, axis=1) != 0).sum(axis=1)
    ordered = np.sort(top, axis=1)
    new = (np.diff(ordered, axis=1) != 0).sum(axis=1)
    back = np.divide(switches - new, switches, out=np.zeros(len(top)), where=switches > 0)
    return np.stack([length, np.where(length > 0, twisted, 0.0), back], axis=1)


def _squared_distances(paths: Floats) -> Floats:
    """(R, t, t)"""
    size = np.einsum("rtd,rtd->rt", paths, paths)
    return size[:, :, None] + size[:, None] - 2 * np.einsum("rsd,rtd->rst", paths, paths)


def _z(observed: Floats, mean: Floats, sd: Floats) -> Floats:
    some = sd > 1e-9 + 1e-6 * np.abs(mean)
    return np.divide(observed - mean, sd, out=np.zeros(observed.shape), where=some)
