"""What is left of a difference between outcomes once length and task are held fixed, when runs share an image."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from trajkit.errors import InputError
from trajkit.stats.compare import TASK
from trajkit.stats.resampling import MIN_GROUPS, numbered

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["cluster", "mixed"]


def regress(
    df: pd.DataFrame,
    metric: str,
    by: str = "outcome",
    covariates: Sequence[str] = ("n_tokens", *TASK),
    groups: str = "group_id",
    kind: Kind = "cluster",
) -> pd.DataFrame:
    """Linear regression of `metric` on `by` and covariates: one row a level of `by`, against the reference level.

    df: one row a run; rows without a value of `by`, or where metric or a number among the covariates is not finite, are
    left out. The reference is `success` where it is there, else the first level by name. Numbers among the covariates
    enter as log(1 + x) where none is negative, else as they are, standardised; others by their levels. By default
    length, family and form; the latter two are what `compare` holds fixed too. A frame without a column task_set or
    form knows none of them.
    kind: `cluster`, least squares with errors that are robust over groups and unbiased with few of a level, and
    Student's t with as many degrees of freedom as they have (Bell & McCaffrey 2002; Imbens & Kolesár 2016, doi
    10.1162/REST_a_00552); or `mixed`, a random intercept for each group, by restricted maximum likelihood
    (statsmodels').

    Every value of `by` is a level, `unknown` too: leave out rows that should not be compared. A level with runs of
    fewer than MIN_GROUPS groups has its difference alone, without an interval or p: errors that are robust over groups
    know nothing of it then (of 1 group in 30, chance is called significant in two cases of three). Columns: metric
    level reference n groups level_groups; coefficient, low, high (its 95 % interval: Student's t for cluster, normal
    for mixed), in the metric's unit; effect, effect_low, effect_high, the same in standard deviations of the metric; p
    (two-sided, uncorrected) and kind.
    Raises InputError when a column is missing, fewer than two levels are there, all runs or those of the reference
    are of fewer than MIN_GROUPS groups, metric is constant, or a mixed regression does not converge.

    See also: `compare`, `compare_runs`.

    >>> told = runs.table[runs.table["outcome"].isin(["success", "hallucination"])]
    >>> table = tk.stats.regress(told, "path_length", covariates=("n_steps", "task_set"))
    >>> table[["level", "reference", "effect", "effect_low", "effect_high"]].round(2)
               level reference  effect  effect_low  effect_high
    0  hallucination   success    -0.3       -0.49        -0.11
    """
    import pandas as pd

    if kind not in get_args(Kind):
        raise InputError(f"kind must be one of {', '.join(get_args(Kind))}; got {kind!r}.")
    covariates = [name for name in covariates if name not in TASK or name in df]
    for column in (metric, by, groups, *covariates):
        if column not in df:
            raise InputError(f"could not find column {column!r}; there are: {', '.join(map(str, df.columns))}.")
    numbers = [name for name in covariates if pd.api.types.is_numeric_dtype(df[name])]
    kept = df[df[by].notna() & np.isfinite(df[[metric, *numbers]].to_numpy(float, na_value=np.nan)).all(1)]
    y = kept[metric].to_numpy(float)
    member = numbered(kept[groups])
    levels = sorted(kept[by].astype(str).unique())
    if len(levels) < 2:
        raise InputError(f"a regression needs at least two values of {by!r} with a finite {metric!r}; got {levels}.")
    if member.max() + 1 < MIN_GROUPS:
        raise InputError(f"a regression needs runs of at least {MIN_GROUPS} groups; got {member.max() + 1}.")
    if np.ptp(y) == 0:
        raise InputError(f"{metric!r} is {y[0]:g} in all {len(y)} runs; there is nothing to regress.")
    reference = "success" if "success" in levels else levels[0]
    groups_of = {level: len(np.unique(member[kept[by].astype(str) == level])) for level in levels}
    if groups_of[reference] < MIN_GROUPS:
        raise InputError(
            f"the reference level {reference!r} needs runs of at least {MIN_GROUPS} groups; got {groups_of[reference]}."
        )
    levels = [level for level in levels if level != reference]
    covered = [np.ones(len(y))]
    for name in covariates:
        if name in numbers:
            x = kept[name].to_numpy(float)
            x = np.log1p(x) if x.min() >= 0 else x
            covered.append((x - x.mean()) / (x.std() or 1.0))
        else:
            values = kept[name].astype(str)
            covered += [(values == value).to_numpy(float) for value in sorted(values.unique())[1:]]
    of_level = [(kept[by].astype(str) == level).to_numpy(float) for level in levels]
    design = _independent(covered, of_level, by, covariates)
    params, intervals, p = (_clustered if kind == "cluster" else _mixed)(y, design, member)
    few = [design.shape[1] - len(levels) + i for i, level in enumerate(levels) if groups_of[level] < MIN_GROUPS]
    intervals[few], p[few] = np.nan, np.nan
    return pd.DataFrame(
        [
            {
                "metric": metric,
                "level": level,
                "reference": reference,
                "n": len(y),
                "groups": int(member.max()) + 1,
                "level_groups": groups_of[level],
                "coefficient": params[i],
                "low": intervals[i, 0],
                "high": intervals[i, 1],
                "effect": params[i] / y.std(),
                "effect_low": intervals[i, 0] / y.std(),
                "effect_high": intervals[i, 1] / y.std(),
                "p": p[i],
                "kind": kind,
            }
            for i, level in enumerate(levels, design.shape[1] - len(levels))
        ]
    )


Fit = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Coefficients (P,) and their 95 % intervals (P, 2), in the unit of y, and two-sided p (P,)."""


def _clustered(y: np.ndarray, design: np.ndarray, member: np.ndarray) -> Fit:
    """Least squares, with Bell and McCaffrey's errors and degrees of freedom: a coefficient rests on the groups that
    tell of it, however many others there are.

    Residuals e of group g are scaled by (I − H_gg)^(−1/2), H the hat matrix, so that the variance
    Σ_g (a_g · e_g)², a_g = (I − H_gg)^(−1/2) X_g (X'X)⁻¹ c, is right on average where runs are independent; its degrees
    of freedom are those of the χ² with its mean and variance there. With X = QR, H_gg = Q_g Q_g', and the singular
    values of Q_g are all that its inverse root asks for: a group of n rows costs n P².
    """
    from scipy.linalg import solve_triangular
    from scipy.stats import t

    q, r = np.linalg.qr(design)  # (n, P), (P, P)
    back = solve_triangular(r, np.eye(len(r))).T  # R⁻ᵀ
    params = solve_triangular(r, q.T @ y)
    residual = y - design @ params
    order = np.argsort(member, kind="stable")
    score, size, shared = [], [], []
    for rows in np.split(order, np.cumsum(np.bincount(member))[:-1]):
        left, values, right = np.linalg.svd(q[rows], full_matrices=False)
        rest = 1 - values**2  # eigenvalues of I − H_gg
        kept = rest > 1e-9  # a group that alone tells of a column leaves no residual
        scale = np.where(kept, values / np.sqrt(np.where(kept, rest, 1)), 0)
        a = (left * scale) @ right @ back  # (n_g, P), a column a coefficient
        score.append(a.T @ residual[rows])
        size.append((a**2).sum(0))
        shared.append((right.T * (scale * values)) @ right @ back)  # (P, P): R⁻ᵀ X_g' a_g
    error = np.sqrt((np.stack(score) ** 2).sum(0))
    weight, root = np.stack(size), np.stack(shared)  # cov(a_g·e_g, a_h·e_h) = [g = h] weight_g − root_g · root_h
    own = (root**2).sum(1)  # (G, P)
    gram = np.einsum("gip,gjp->pij", root, root)
    df = (weight - own).sum(0) ** 2 / ((weight**2 - 2 * weight * own).sum(0) + (gram**2).sum((1, 2)))
    half = t.ppf(0.975, df) * error
    return params, np.stack([params - half, params + half], axis=1), 2 * t.sf(np.abs(params / error), df)


def _mixed(y: np.ndarray, design: np.ndarray, member: np.ndarray) -> Fit:
    """By a method without gradients, which vanish where groups have nothing in common, on y of sd 1. Raises InputError
    where it does not converge.

    Errors are those of generalised least squares at the fitted variances, as in lme4 (doi 10.18637/jss.v067.i01); those
    from the likelihood's curvature are of no use where a variance is 0.
    """
    import statsmodels.api as sm
    from scipy.stats import norm
    from statsmodels.tools.sm_exceptions import ConvergenceWarning

    with warnings.catch_warnings():  # of the boundary, where groups have nothing in common, and of the curvature there
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = sm.MixedLM(y / y.std(), design, groups=member).fit(reml=True, method="powell")
    if not fitted.converged:
        raise InputError("the mixed regression does not converge on these runs; use kind='cluster'.")
    ratio = float(fitted.cov_re[0, 0] / fitted.scale)  # variance between groups / within
    sums = np.stack([np.bincount(member, column) for column in design.T], axis=1)  # (groups, P)
    shrunk = ratio / (1 + np.bincount(member) * ratio)
    information = (design.T @ design - sums.T @ (shrunk[:, None] * sums)) / fitted.scale
    error = np.sqrt(np.diag(np.linalg.inv(information)))
    params = fitted.fe_params
    half = norm.ppf(0.975) * error
    ends = np.stack([params - half, params + half], axis=1)
    return params * y.std(), ends * y.std(), 2 * norm.sf(np.abs(params / error))


def _independent(
    covered: list[np.ndarray], of_level: list[np.ndarray], by: str, covariates: Sequence[str]
) -> np.ndarray:
    """The covariates that are no combination of those before them, then all levels, which must be none either."""
    kept: list[np.ndarray] = []
    for column in covered:
        if np.linalg.matrix_rank(np.column_stack([*kept, column])) > len(kept):
            kept.append(column)
    design = np.column_stack([*kept, *of_level])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise InputError(
            f"{by!r} cannot be told from {', '.join(covariates)}: in these runs one follows from the other."
        )
    return design
