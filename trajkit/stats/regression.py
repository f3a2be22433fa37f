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
    kind: `cluster`, least squares with cluster-robust errors over groups (Liang & Zeger 1986, doi
    10.1093/biomet/73.1.13) and Student's t with groups − 1 degrees of freedom; or `mixed`, a random intercept for each
    group, by restricted maximum likelihood. Both are statsmodels'.

    Every value of `by` is a level, `unknown` too: leave out rows that should not be compared. A level with runs of
    fewer than MIN_GROUPS groups has its difference alone, without an interval or p: errors that are robust over groups
    know nothing of it then (of 1 group in 30, chance is called significant in two cases of three). Columns: metric
    level reference n groups level_groups; coefficient, low, high (its 95 % interval: Student's t for cluster, normal
    for mixed), in the metric's unit; effect, effect_low, effect_high, the same in standard deviations of the metric; p
    (two-sided, uncorrected) and kind.
    Raises InputError when a column is missing, fewer than two levels are there, all runs or those of the reference
    are of fewer than MIN_GROUPS groups, metric is constant, or a mixed regression does not converge.
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
    return pd.DataFrame([
        {
            "metric": metric, "level": level, "reference": reference, "n": len(y), "groups": int(member.max()) + 1,
            "level_groups": groups_of[level],
            "coefficient": params[i], "low": intervals[i, 0], "high": intervals[i, 1],
            "effect": params[i] / y.std(), "effect_low": intervals[i, 0] / y.std(),
            "effect_high": intervals[i, 1] / y.std(), "p": p[i], "kind": kind,
        }
        for i, level in enumerate(levels, design.shape[1] - len(levels))
    ])  # fmt: skip


Fit = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Coefficients (P,) and their 95 % intervals (P, 2), in the unit of y, and two-sided p (P,)."""


def _clustered(y: np.ndarray, design: np.ndarray, member: np.ndarray) -> Fit:
    import statsmodels.api as sm

    robust = {"groups": member, "use_correction": True, "df_correction": True}
    fitted = sm.OLS(y, design).fit(cov_type="cluster", cov_kwds=robust, use_t=True)
    return fitted.params, np.asarray(fitted.conf_int()), fitted.pvalues


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
) -> np.ndarray:  # fmt: skip
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
