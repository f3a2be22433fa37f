"""What is kept of each step of many runs: a few numbers, from which `prefixes` and `runs` make all else. NumPy only.

Every pass over the effects is here. It is made on a block of steps that fits the cache, in double precision, in
buffers that the next block uses again: to allocate and to leave the cache costs more than the arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajkit.trajectory.concentration import Measure, concentrations

Floats = NDArray[np.float64]

_BLOCK_BYTES = 2**19
"""Of effects in a block, as float64; a few arrays of that size are alive at once."""


class Buffers:
    """Arrays by name, kept from one use to the next: what stood in one is lost when it is asked for again."""

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[Any]] = {}

    def get(self, name: str, shape: tuple[int, ...], dtype: Any = np.float64) -> NDArray[Any]:
        """An array of this shape; a name has one dtype."""
        size = math.prod(shape)
        kept = self._kept.get(name)
        if kept is None or kept.size < size or kept.dtype != dtype:
            kept = self._kept[name] = np.empty(size, dtype)
        return kept[:size].reshape(shape)


@dataclass(frozen=True)
class Asked:
    """What to keep of a step. measures: of concentration. lags: 1 first, then those that `msd_exponent` reads. turns,
    nets: whether turns and distances from the first step are wanted."""

    measures: tuple[Measure, ...] = ("hhi",)
    lags: tuple[int, ...] = (1,)
    turns: bool = False
    nets: bool = True

    def empty(self, n: int) -> StepTerms:
        """Room for the terms of n steps."""
        return StepTerms(self, np.full((4 + len(self.measures) + len(self.lags) - 1, n), np.nan))

    def unknown(self, n: int) -> StepTerms:
        """The terms of n steps whose effects are not known."""
        terms = self.empty(n)
        terms.top[:] = -1
        return terms


@dataclass(frozen=True, eq=False)
class StepTerms:
    """Terms of N steps. values: (m, N), by their names the rows below. Terms that look back over more than one step,
    and `turn`, are NaN or wrong where a run is too young for them."""

    asked: Asked
    values: Floats

    @property
    def move(self) -> Floats:
        """(N,) distance from the step before; 0 where a run begins, NaN if its effects are."""
        return self.values[0]

    @property
    def net(self) -> Floats:
        """(N,) distance from the run's first step."""
        return self.values[1]

    @property
    def top(self) -> Floats:
        """(N,) region of the largest effect, −1 where an effect is NaN."""
        return self.values[2]

    @property
    def turn(self) -> Floats:
        """(N,) (x_i − x_{i−1}) · (x_{i−1} − x_{i−2})."""
        return self.values[3]

    @property
    def level(self) -> Floats:
        """(measures, N) concentration."""
        return self.values[4 : 4 + len(self.asked.measures)]

    @property
    def squares(self) -> Floats:
        """(lags − 1, N) ‖x_i − x_{i−τ}‖² for the lags τ after the first."""
        return self.values[4 + len(self.asked.measures) :]

    def of(self, first: int, last: int) -> StepTerms:
        """Those of the steps first … last − 1."""
        return StepTerms(self.asked, self.values[:, first:last])


def step_terms(
    rows: NDArray[Any],
    ends: NDArray[np.int64],
    asked: Asked,
    buffers: Buffers | None = None,
    out: StepTerms | None = None,
) -> StepTerms:
    """Terms of the steps of runs with one number of regions. rows: (N, K) of any real dtype; ends: (R+1,). out: room
    for them, from `Asked.empty`."""
    n, k = rows.shape
    buffers, out = buffers or Buffers(), asked.empty(n) if out is None else out
    runs = np.repeat(np.arange(len(ends) - 1), ends[1:] - ends[:-1])  # of each step
    block = max(_BLOCK_BYTES // max(8 * k, 1), 4 * asked.lags[-1])
    for start in range(0, n, block):
        _fill(rows, ends, runs, out, start, min(start + block, n), buffers)
    return out


def _fill(
    rows: NDArray[Any],
    ends: NDArray[np.int64],
    runs: NDArray[np.int64],
    out: StepTerms,
    start: int,
    end: int,
    buffers: Buffers,
) -> None:
    """Terms of the steps start … end − 1."""
    asked, k = out.asked, rows.shape[1]
    lead = min(start, max(asked.lags[-1], 2 if asked.turns else 1))  # earlier steps that are looked back at
    x, work = (buffers.get(name, (lead + end - start, k)) for name in ("x", "work"))
    np.copyto(x, rows[start - lead : end])
    own, mine = x[lead:], out if end - start == out.values.shape[1] else out.of(start, end)

    before = min(lead, 2 if asked.turns else 1)  # steps before the block that have a move into it, or into its first
    seen = x[lead - before :]
    move = np.subtract(seen[1:], seen[:-1], out=work[: len(seen) - 1])
    skip = max(before - 1, 0)  # the move before the block's own, for its first turn
    moves = mine.move[len(own) - len(move) + skip :]
    np.sqrt(_dot(move[skip:], move[skip:]), out=moves)
    if asked.turns and len(move) > 1:
        turns = _dot(move[1:], move[:-1])
        mine.turn[len(own) - len(turns) :] = turns
    for squares, lag in zip(mine.squares, asked.lags[1:], strict=True):
        late = max(lead, lag)
        if late < len(x):
            move = np.subtract(x[late:], x[late - lag : -lag], out=work[: len(x) - late])
            squares[late - lead :] = _dot(move, move)
    run = runs[start:end]
    begins = ends[run[0] : run[-1] + 1]  # of the runs here; an empty one begins where the next does
    begun = begins[begins >= start] - start
    if asked.nets:
        firsts = np.take(rows, begins, axis=0).astype(np.float64, copy=False)
        offset = np.take(firsts, run - run[0], axis=0, out=work[: len(own)], mode="clip")
        np.subtract(own, offset, out=offset)
        np.sqrt(_dot(offset, offset), out=mine.net)
        mine.move[begun] = mine.net[begun]
    else:
        mine.move[begun] = np.where(np.isnan(own[begun]).any(1), np.nan, 0.0)
    mine.top[:], largest = top_of(own)
    ordered = buffers.get("ordered", own.shape, rows.dtype) if "gini" in asked.measures else None
    if ordered is not None:
        np.maximum(rows[start:end], 0, out=ordered)
        ordered.sort(axis=1)  # in the precision that they came in, which is faster and loses nothing
    level = buffers.get("share", own.shape), work[: len(own)]
    mine.level[:] = concentrations(own, asked.measures, largest, level, ordered)


def _dot(a: Floats, b: Floats) -> Floats:
    """(T, K), (T, K) → (T,)"""
    return np.einsum("tk,tk->t", a, b)


def top_of(x: Floats) -> tuple[NDArray[np.int64], Floats]:
    """(T,) the region of the largest effect of (T, K), −1 where one is NaN, and that effect; −inf without regions."""
    if not x.shape[1]:
        return np.zeros(len(x), np.int64), np.full(len(x), -np.inf)
    top = x.argmax(1)  # NaN where there is one
    largest = x.reshape(-1)[np.arange(0, x.size, x.shape[1]) + top]
    missing = np.isnan(largest)
    return np.where(missing, -1, top) if missing.any() else top, largest
