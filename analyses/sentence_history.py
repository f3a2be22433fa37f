"""Other ways to make the risk of a run from those of its sentences, which are tried beside `run_risks`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trajkit.detection.run_risks import as_risks, doubts
from trajkit.detection.step_features import last_alike
from trajkit.trajectory.prefixes import as_ends, running_sums

Floats = NDArray[np.float64]

RECENT = 4


def recent(risk: Floats, run: NDArray[np.str_]) -> Floats:
    """(N,) mean risk of the last RECENT sentences of the run up to each, of fewer at its beginning."""
    p = as_risks(risk)
    ends = as_ends(run)[1]
    place = np.arange(len(p)) - np.repeat(ends[:-1], np.diff(ends))
    gone = np.where(place >= RECENT, np.roll(p, RECENT), 0.0)
    return running_sums((p - gone)[None], ends)[0] / np.minimum(place + 1, RECENT)


def standing(risk: Floats, run: NDArray[np.str_], rests_on: NDArray[np.int64]) -> Floats:
    """(N,) the chance that a sentence up to each is wrong and was not looked at again: 1 − Π (1 − p) over the last one
    that rests on each region, and all that rest on none.

    rests_on: (N,) the region that each rests on most, −1 for none.
    """
    doubt = doubts(as_risks(risk))
    ids, ends = as_ends(run)
    earlier = last_alike(ids, rests_on, rests_on >= 0)
    taken_back = np.where(earlier >= 0, doubt[earlier], 0.0)
    return -np.expm1(-np.maximum(running_sums((doubt - taken_back)[None], ends)[0], 0.0))
