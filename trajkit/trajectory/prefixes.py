"""Prefix features of many runs at once, from their steps one after another in one array. NumPy only.

Equal to `features.prefix_features` of each run, and so to `features.PrefixFeatures` online, to the last bit (tests).
There is no loop over runs: what looks back one step or to the first is worked out in blocks of steps that fit the
cache, and running sums go over runs of about one length side by side, each summed in its own order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.errors import InputError
from trajkit.trajectory.concentration import concentrations
from trajkit.trajectory.features import Columns, columns_of_sums
from trajkit.trajectory.runs import Floats, as_runs, in_parts, top_of

_BLOCK_BYTES = 2**20
"""Of effects in a block, as float64; a few arrays of that size are alive at once."""
_PADDED = 0.75
"""Runs that are summed side by side are at least so long beside the longest of them."""


def prefix_features_of_runs(
    values: ArrayLike, offsets: ArrayLike, *, n_tokens: ArrayLike, logprob: ArrayLike, entropy: ArrayLike
) -> Columns:
    """All prefix features of R runs with one number of regions, each (N,), row by row.

    values: (N, K) nats, the effect vectors of all runs' steps. offsets: (R+1,), run i has rows offsets[i] …
    offsets[i+1]−1; a run may be empty. n_tokens: (N,) generated in its run up to and with each step. logprob, entropy:
    (N,) step means, nats. Raises InputError when they do not fit each other.
    """
    rows, ends = as_runs(values, offsets)
    said: list[Floats] = [np.asarray(column, dtype=np.float64) for column in (n_tokens, logprob, entropy)]
    for name, column in zip(("n_tokens", "logprob", "entropy"), said, strict=True):
        if column.shape != (len(rows),):
            raise InputError(f"{name} must hold one number for each of the {len(rows)} steps; got {column.shape}.")
    return prefixes_of_terms(np.concatenate(in_parts(rows, ends, step_terms), axis=1), ends, *said)


def prefixes_of_terms(
    terms: Floats, ends: NDArray[np.int64], n_tokens: Floats, logprob: Floats, entropy: Floats
) -> Columns:
    """All prefix features, each (N,), of runs that may differ in regions, from the `step_terms` of their steps."""
    move, net, top, level = terms
    place: NDArray[np.int64] = np.arange(len(top)) - np.repeat(ends[:-1], np.diff(ends))
    steps: Floats = (place + 1).astype(np.float64)
    switched = (np.diff(top, prepend=-2) != 0) & (place > 0)
    return columns_of_sums(
        steps, n_tokens, net, level, move, np.where(top < 0, np.nan, switched.astype(float)), logprob, entropy,
        lambda terms: running_sums(terms, ends),
    )  # fmt: skip


def step_terms(rows: NDArray[Any], ends: NDArray[np.int64]) -> Floats:
    """(4, N): the length of the move to each step, its distance from the run's first, its top region (−1 where an
    effect is NaN) and its hhi."""
    n, k = rows.shape
    first = np.repeat(ends[:-1], np.diff(ends))
    out = np.empty((4, n))
    block = max(_BLOCK_BYTES // max(8 * k, 1), 1)
    for start in range(0, n, block):
        end, lead = min(start + block, n), min(start, 1)
        x = rows[start - lead : end].astype(np.float64)
        own, begins = x[lead:], first[start:end]
        offset = own - rows[begins]
        out[1, start:end] = np.sqrt(np.einsum("tk,tk->t", offset, offset))
        move = np.subtract(x[1:], x[:-1])
        out[0, end - len(move) : end] = np.sqrt(np.einsum("tk,tk->t", move, move))
        begun = np.flatnonzero(begins == np.arange(start, end))
        out[0, start + begun] = out[1, start + begun]  # 0 where a run begins, NaN if its effects are
        out[2, start:end], largest = top_of(own)
        out[3, start:end] = concentrations(own, ("hhi",), largest)[0]
    return out


def running_sums(terms: Floats, ends: NDArray[np.int64]) -> Floats:
    """(m, N) sums over the steps of each run up to and with each, in that order: `np.cumsum` of each run by itself."""
    out, lengths = np.empty_like(terms), np.diff(ends)
    order = np.argsort(lengths, kind="stable")
    ordered, last = lengths[order], len(order)
    while last and (longest := int(ordered[last - 1])):
        first = int(np.searchsorted(ordered[:last], _PADDED * longest, side="right"))
        first = min(first, last - 1)
        runs, steps = order[first:last], np.arange(longest)
        at = ends[runs][:, None] + steps  # (runs, longest)
        inside = steps < lengths[runs][:, None]
        sums = np.cumsum(terms[:, np.minimum(at, terms.shape[1] - 1)], axis=2)
        out[:, at[inside]] = sums[:, inside]
        last = first
    return out
