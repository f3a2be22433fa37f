"""Prefix features of many runs at once, from their steps one after another in one array. NumPy only.

Equal to `features.prefix_features` of each run, and so to `features.PrefixFeatures` online, to the last bit (tests).
There is no loop over runs: what looks back one step or to the first are `terms` of each step, and running sums and
extremes go over runs of about one length side by side, each in its own order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.errors import InputError
from trajkit.trajectory.features import Columns, columns_of_sums
from trajkit.trajectory.runs import as_runs, in_parts
from trajkit.trajectory.terms import Asked, Floats, StepTerms, step_terms

_PADDED = 0.75
"""Runs that are summed side by side are at least so long beside the longest of them."""


def prefix_features_of_runs(
    values: ArrayLike, offsets: ArrayLike, *, n_tokens: ArrayLike, logprob: ArrayLike, entropy: ArrayLike
) -> Columns:
    """All prefix features of R runs with one number of regions, each (N,), row by row.

    values: (N, K) nats, the effect vectors of all runs' steps, (N, 0) where there are none. offsets: (R+1,), run i has
    rows offsets[i] … offsets[i+1]−1; a run may be empty. n_tokens: (N,) generated in its run up to and with each step.
    logprob, entropy: (N,) step means, nats. Raises InputError when they do not fit each other.
    """
    rows, ends = as_runs(values, offsets)
    said: list[Floats] = [np.asarray(column, dtype=np.float64) for column in (n_tokens, logprob, entropy)]
    for name, column in zip(("n_tokens", "logprob", "entropy"), said, strict=True):
        if column.shape != (len(rows),):
            raise InputError(f"{name} must hold one number for each of the {len(rows)} steps; got {column.shape}.")
    asked = Asked()
    if not rows.shape[1]:
        return prefixes_of_terms(asked.unknown(len(rows)), ends, *said)
    parts = in_parts(rows, ends, lambda mine, own: step_terms(mine, own, asked).values)
    return prefixes_of_terms(StepTerms(asked, np.concatenate(parts, axis=1)), ends, *said)


def prefixes_of_terms(
    terms: StepTerms, ends: NDArray[np.int64], n_tokens: Floats, logprob: Floats, entropy: Floats
) -> Columns:
    """All prefix features, each (N,), of runs that may differ in regions, from the terms of their steps."""
    top, hhi = terms.top, terms.level[terms.asked.measures.index("hhi")]
    place: NDArray[np.int64] = np.arange(len(top)) - np.repeat(ends[:-1], np.diff(ends))
    switched = np.zeros(len(top))
    np.not_equal(top[1:], top[:-1], out=switched[1:], casting="unsafe")
    switched[place == 0] = 0
    switched[top < 0] = np.nan
    return columns_of_sums(
        (place + 1).astype(np.float64),
        n_tokens,
        terms.net,
        hhi,
        terms.move,
        switched,
        logprob,
        entropy,
        lambda how, terms: running(how, terms, ends),
    )


def as_ends(run: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) runs as numbers, and (R+1,) where each begins, the last where all end. run: (N,) of each step, the steps of
    a run one after another."""
    ids = np.unique(np.asarray(run), return_inverse=True)[1]
    return ids, np.concatenate([[0], np.flatnonzero(np.diff(ids)) + 1, [len(ids)]])[: len(ids) + 1]


def running_sums(terms: Floats, ends: NDArray[np.int64]) -> Floats:
    """(m, N) sums over the steps of each run up to and with each, in that order: `np.cumsum` of each run by itself."""
    return running(np.add, terms, ends)


def running(how: np.ufunc, terms: Floats, ends: NDArray[np.int64]) -> Floats:
    """(m, N) what the steps of each run up to and with each come to by `how`, in that order: `how.accumulate` of each
    run by itself."""
    out, lengths = np.empty_like(terms), np.diff(ends)
    order = np.argsort(lengths, kind="stable")
    ordered, last = lengths[order], len(order)
    while last and (longest := int(ordered[last - 1])):
        first = int(np.searchsorted(ordered[:last], _PADDED * longest, side="right"))
        first = min(first, last - 1)
        runs, steps = order[first:last], np.arange(longest)
        at = ends[runs][:, None] + steps  # (runs, longest)
        inside = steps < lengths[runs][:, None]
        so_far = how.accumulate(terms[:, np.minimum(at, terms.shape[1] - 1)], axis=2)
        out[:, at[inside]] = so_far[:, inside]
        last = first
    return out
