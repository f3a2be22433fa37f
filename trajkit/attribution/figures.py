"""Figures of faithfulness, made of the sums of many scored runs, with intervals that resample groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.attribution.evaluation import DROPS, EDGES, SUMS, Scored
from trajkit.stats.resampling import MIN_GROUPS, edge_draws, group_draws, interval

if TYPE_CHECKING:
    import pandas as pd

ALL, GROUNDED_STEPS = "all steps", "grounded steps"
BANDS: Mapping[str, tuple[int, ...]] = {
    GROUNDED_STEPS: (1, 2),
    f"≥ {EDGES[1]:g} nats": (2,),
    f"{EDGES[0]:g} to {EDGES[1]:g} nats": (1,),
    f"< {EDGES[0]:g} nats": (0,),
    ALL: (0, 1, 2),
}
"""Steps by their largest measured effect, that of the region which top-1 asks for: which bands of `Scored.sums`."""
SHARES = frozenset({"top-1", "no answer"})
"""Figures that are shares of steps."""


def faithfulness_table(
    scored: Iterable[Scored], *, in_nats: Sequence[str] = (), band: str = ALL, n_boot: int = 500, seed: int = 0
) -> pd.DataFrame:
    """One row a method and figure: value, low and high (95 %, resampling groups), in the order the methods came.

    low and high are NaN where steps of the band come from fewer than MIN_GROUPS groups, but for shares of none or all,
    which have an exact bound.

    Figures: top-1 (share of steps whose top region is the measured one), LDS (mean over steps), r² within steps (mean
    over steps of r·|r|), drop@n (nats), no answer (share of steps where a method scores all regions alike: 0 in r²
    within steps, LDS and top-1), ms per token; and last, over all steps and regions together, R² (for methods in nats:
    1 − residual / total) and r² (squared correlation with measured single-region effects). Over steps of all sizes
    these two are the variance of the few large ones; `step_gates` shows how little of them is about regions.

    band: one of BANDS; ms per token is of the whole runs in any. Steps whose measured effects do not vary are left out
    for all methods; so are figures nothing is known of.
    """
    import pandas as pd

    runs = list(scored)
    draws = _Draws(runs, n_boot, seed)
    rows = []
    for method in dict.fromkeys(s.method for s in runs):
        for figure, values in _figures(draws.sums(method), draws.took(method), band, method in in_nats).items():
            if np.isnan(values[0]):
                continue
            value, low, high = interval(
                draws.at_edge(values, band, method) if figure in SHARES else draws.enough(values, band)
            )
            rows.append({"method": method, "figure": figure, "value": value, "low": low, "high": high})
    return pd.DataFrame(rows, columns=["method", "figure", "value", "low", "high"])


def band_table(
    scored: Iterable[Scored], *, in_nats: Sequence[str] = (), n_boot: int = 500, seed: int = 0
) -> pd.DataFrame:
    """`faithfulness_table` of each of BANDS one after another, with the columns band, steps and groups (that have such
    steps)."""
    import pandas as pd

    runs = list(scored)
    counts = step_counts(runs)
    return pd.concat(
        faithfulness_table(runs, in_nats=in_nats, band=band, n_boot=n_boot, seed=seed).assign(
            band=band, steps=counts[band][0], groups=counts[band][1]
        )
        for band in BANDS
        if counts[band][0]
    )


def step_counts(scored: Iterable[Scored]) -> dict[str, tuple[int, int]]:
    """(steps, groups that have any) of each of BANDS."""
    runs = list(scored)
    by_group: dict[str, Any] = {}
    for s in runs:
        if s.method == runs[0].method:
            by_group[s.group_id] = by_group.get(s.group_id, 0) + s.sums[:, SUMS.index("steps")]
    steps = np.array(list(by_group.values())).reshape(-1, len(EDGES) + 1)  # (groups, bands)
    own = {band: steps[:, list(which)].sum(1) for band, which in BANDS.items()}
    return {band: (int(n.sum()), int((n > 0).sum())) for band, n in own.items()}


def paired(
    scored: Iterable[Scored],
    a: str,
    b: str,
    figure: str,
    n_boot: int = 500,
    seed: int = 0,
    compare: Callable[[Any, Any], Any] = np.subtract,
    band: str = ALL,
) -> tuple[float, float, float]:
    """(value, low, high): a figure of method `a` less that of `b`, the same groups resampled for both.

    compare: what to make of the two instead; `np.divide` for their ratio.
    """
    draws = _Draws(list(scored), n_boot, seed)
    first, second = (_figures(draws.sums(method), draws.took(method), band)[figure] for method in (a, b))
    difference = compare(first, second)
    if figure in SHARES and first[0] + second[0] == 1 and first[0] in (0, 1):  # all against none
        bound = 2 * draws.at_edge(np.maximum(first, second), band) - 1
        return interval(np.sign(difference[0]) * bound if compare is np.subtract else difference[:1])
    return interval(draws.enough(difference, band))


def exchanged(
    scored: Iterable[Scored], a: str, b: str, figure: str, band: str = ALL, n_draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """(difference, p): a figure of method `a` less that of `b`, and the two-sided p of its being chance.

    p, in (0, 1]: the share of draws as far from 0, the sample among them, when each group gives its runs by the two
    methods to either with even odds (a permutation test: Pitman 1937, doi 10.2307/2984124). It holds its level with
    few groups, where intervals of resampled ones are too narrow; NaN where a method has no such figure.
    """
    draws = _Draws(list(scored), 0, seed)
    ours, theirs = draws.by_group(a), draws.by_group(b)
    swap = np.random.default_rng(seed).random((1 + n_draws, len(ours))) < 0.5  # (B, G)
    swap[0] = False
    moved = np.tensordot(swap.astype(float), theirs - ours, 1)  # (B, bands, SUMS)
    took = np.ones((1, 2))  # no figure of time
    first, second = (_figures(sums, took, band)[figure] for sums in (ours.sum(0) + moved, theirs.sum(0) - moved))
    found = first - second
    if np.isnan(found[0]):
        return float("nan"), float("nan")
    return float(found[0]), float(np.mean(np.abs(found) >= abs(found[0]) - 1e-9))


class _Draws:
    """Bootstrap draws of groups, the same for every method: the first counts every group once."""

    def __init__(self, runs: Sequence[Scored], n_boot: int, seed: int) -> None:
        self._runs = runs
        self._draws = group_draws([s.group_id for s in runs], n_boot, seed)
        self._steps = np.stack([s.sums[:, SUMS.index("steps")] * (s.method == runs[0].method) for s in runs])

    def enough(self, values: NDArray[np.float64], band: str) -> NDArray[np.float64]:
        """A figure of each draw; of the sample alone where fewer than MIN_GROUPS groups have such steps."""
        return self._draws.sample_if_few(values, MIN_GROUPS, self._has(band))

    def at_edge(self, values: NDArray[np.float64], band: str, method: str = "") -> NDArray[np.float64]:
        """The same of a share, whose bound is exact where it is 0 or 1, with a group for a trial; by definition, and so
        without one, for a method that is the measurement itself."""
        if method and not self.sums(method)[0, :, SUMS.index("residual")].any():
            return values[:1]
        if values[0] in (0, 1):
            return edge_draws(values[0], len(np.unique(self._draws.member[self._has(band)])), len(values))
        return self.enough(values, band)

    def sums(self, method: str) -> NDArray[np.float64]:
        """(1 + n_boot, bands, SUMS) of a method over the groups of each draw."""
        own = self._of(method)
        return self._draws.of(own).sums([self._runs[i].sums for i in own])

    def by_group(self, method: str) -> NDArray[np.float64]:
        """(G, bands, SUMS) of a method over the runs of each group."""
        own = self._of(method)
        return self._draws.of(own).by_group([self._runs[i].sums for i in own])

    def took(self, method: str) -> NDArray[np.float64]:
        """(1 + n_boot, 2) seconds and tokens of a method."""
        own = self._of(method)
        return self._draws.of(own).sums([(self._runs[i].seconds, self._runs[i].tokens) for i in own])

    def _of(self, method: str) -> NDArray[np.intp]:
        return np.flatnonzero([s.method == method for s in self._runs])

    def _has(self, band: str) -> NDArray[np.bool_]:
        """Which runs, of one method, have steps of the band."""
        return self._steps[:, list(BANDS[band])].sum(axis=1) > 0


def _figures(
    sums: NDArray[np.float64], took: NDArray[np.float64], band: str, in_nats: bool = False
) -> dict[str, NDArray[np.float64]]:
    """Figures of a method on the steps of a band, each (B,). sums: (B, bands, SUMS). took: (B, 2) seconds, tokens."""
    s = dict(zip(SUMS, sums[:, list(BANDS[band])].sum(1).T, strict=True))
    seconds, tokens = took.T
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = s["xy"] - s["x"] * s["y"] / s["n"]
        spread_x, spread_y = s["xx"] - s["x"] ** 2 / s["n"], s["yy"] - s["y"] ** 2 / s["n"]
        figures = {
            "top-1": s["top"] / s["n_top"],
            "LDS": s["lds"] / s["n_lds"],
            "r² within steps": s["within"] / s["n_within"],
        }
        figures |= {drop: s[drop] / s["steps"] for drop in DROPS}
        figures |= {"no answer": s["silent"] / s["steps"], "ms per token": 1000 * seconds / tokens}
        if in_nats:
            figures["R²"] = 1 - s["residual"] / spread_y
        figures["r²"] = covariance**2 / (spread_x * spread_y)
    return figures
