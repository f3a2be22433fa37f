"""Intervals of cross-validated figures, whose models would differ too in another sample."""

from __future__ import annotations

import numpy as np

from trajkit.stats.resampling import Floats


def refitted(draws: Floats, n_folds: int, ends: tuple[float, float] = (-np.inf, np.inf)) -> Floats:
    """(B,) draws of a cross-validated figure, spread as far as its fitted models and its held-out runs make it.

    draws: (R, B), a row for each of R deals of the groups to `n_folds` folds: the figure of that deal, then those of
    the group bootstrap of held-out rows, the models as they are. ends: the range of the figure.

    Models of one fold are fitted on the test rows of the others, so that held-out rows alone spread too little: their
    95 % intervals hold the truth of features that tell nothing in 83 to 91 %. Draws are centred on the mean of the
    deals, and drawn apart until their variance is `refitted_variance`. Where all draws lie on one side of the figure,
    at the edge of its range, they stay as they are.
    """
    draws = draws[~np.isnan(draws[:, 0])] if not np.isnan(draws[:, 0]).all() else draws[:1]
    mean = draws.mean(axis=0)
    value, rest = mean[0], mean[1:]
    known = rest[~np.isnan(rest)]
    if not len(known) or not known.min() < value < known.max():
        return mean
    wider = np.sqrt(refitted_variance(known.var(), draws[:, 0], n_folds) / known.var())
    return np.concatenate([[value], np.clip(value + (rest - known.mean()) * wider, *ends)])


def refitted_variance(variance: float, figures: Floats, n_folds: int) -> float:
    """Variance of the mean of `figures` (R,), one a deal to K folds, over samples of groups.

    variance: over samples of held-out rows, the models as they are. With one deal it is Nadeau & Bengio's (2003, doi
    10.1023/A:1024068626366), variance · (1 + K/(K − 1)). With several it is

        K/(K − 1) · variance + s² · (1/R + (K − 1)/2),

    s² that of the figures over deals. The first term is theirs for many deals; they take it that a model depends as
    little on the fold left out as a test row does. Where a figure hangs on which pairs of groups are fitted and tested
    together, as features that tell nothing do (a degenerate U-statistic, whose every pair counts twice), a deal takes
    (K − 1)/K of the pairs, so that s² is 1/(K − 1) of the whole variance, half of which held-out rows show. `analyses.
    coverage` simulates it.
    """
    if len(figures) == 1:
        return variance * (1 + n_folds / (n_folds - 1))
    over_deals = float(np.var(figures, ddof=1))
    return variance * n_folds / (n_folds - 1) + over_deals * (1 / len(figures) + (n_folds - 1) / 2)
