"""Figures of scores that were cross-validated in several deals of the groups to folds, and of scores taken as given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from trajkit.stats.cross_validation import refitted
from trajkit.stats.resampling import Draws, Floats, Integers, numbered


def strata_of(strata: ArrayLike) -> Integers:
    """(R, n) strata as numbers from 0; (1, n) of those of one axis."""
    return np.stack([numbered(deal) for deal in np.atleast_2d(np.asarray(strata))])


def each_deal(
    figure: Callable[[Floats, Floats, Integers, Draws], Floats],
    y: Floats,
    score: Floats,
    strata: Integers,
    rows: Integers,
    draws: Draws,
) -> Floats:
    """(R, B) draws of a figure of y, score, stratum and draws, a row a deal; (1, B) of scores of one axis."""
    deals = np.atleast_2d(score)
    among = np.broadcast_to(strata, deals.shape) if len(strata) == 1 else strata
    return np.stack([figure(y, deal[rows], s[rows], draws) for deal, s in zip(deals, among, strict=False)])


def over_deals(each: Floats, n_folds: int, score: Floats, ends: tuple[float, float] = (0, 1)) -> Floats:
    """(B,) draws that `interval` reads: those of one deal, or of models that are fitted anew in each."""
    return each[0] if score.ndim == 1 else refitted(each, n_folds, ends)
