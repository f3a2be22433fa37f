"""How faithful methods of attribution are, side by side on the same measured runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.attribution.ablation import Ablation, measure_effects
from trajkit.attribution.faithfulness import lds, signed_r_squared
from trajkit.attribution.measure import Generation, MeasuredRun
from trajkit.errors import InputError
from trajkit.vlm.model import VLM

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.attribution.baselines import Baseline

TOP = (1, 3, 5)
"""How many of the regions that a method ranks first are hidden together."""

Method = Callable[[Generation, MeasuredRun], NDArray[Any]]
"""A run → (T, K) scores of regions for each step, higher where they support it more."""


def baseline_method(vlm: VLM, baseline: Baseline) -> Method:
    """A baseline of `trajkit.attribution.baselines` as a method."""
    return lambda run, measured: baseline(vlm, run.prompt, run.tokens, run.spans, run.regions)


_SUMS = ("n", "x", "y", "xx", "yy", "xy", "residual", "within", "n_within", "lds", "n_lds", "steps", "silent")


@dataclass(frozen=True, eq=False)
class Scored:
    """One method on one run: sums that every figure is made of, and what it took.

    sums: as in _SUMS, over steps and regions (x scores, y measured effects). drops: (T, len(TOP)) nats lost when the
    best regions are hidden together. seconds: wall time of the scoring.
    """

    method: str
    group_id: str
    task_set: str
    sums: NDArray[np.float64]
    drops: NDArray[np.float64]
    seconds: float
    tokens: int


def score_run(
    vlm: VLM, run: Generation, measured: MeasuredRun, methods: Mapping[str, Method | None],
    ablation: Ablation = "mean", batch_size: int = 64,
) -> list[Scored]:  # fmt: skip
    """Every method on one run. Hides each method's best regions together, one pass for every distinct set of them.

    None stands for leave-one-out, the measured effects of single regions themselves; what they took is not told.
    """
    scores, seconds = {}, {}
    for name, method in methods.items():
        began = time.perf_counter()
        found = measured.single.T if method is None else method(run, measured)
        scores[name] = np.asarray(found, np.float64)  # (T, K)
        seconds[name] = np.nan if method is None else time.perf_counter() - began
    drops = joint_drops(vlm, run, scores, ablation, batch_size)
    return [
        replace(score_measured(name, measured, score), drops=drops[name], seconds=seconds[name], tokens=len(run.tokens))
        for name, score in scores.items()
    ]


def score_measured(method: str, measured: MeasuredRun, scores: NDArray[Any]) -> Scored:
    """(T, K) scores of a method on a run that is measured already; its drops, time and tokens stay unknown.

    Raises InputError when scores are not finite.
    """
    if not np.isfinite(scores).all():
        raise InputError(f"the scores of {method!r} hold NaN or infinite values.")
    nothing = np.full((len(scores), len(TOP)), np.nan)
    sums = _sums(np.asarray(scores, np.float64), measured)
    return Scored(method, measured.group_id, measured.task_set, sums, nothing, float("nan"), 0)


def joint_drops(
    vlm: VLM, run: Generation, scores: Mapping[str, NDArray[np.float64]], ablation: Ablation, batch_size: int = 64
) -> dict[str, NDArray[np.float64]]:
    """(T, len(TOP)) nats that each step loses when its n best regions by each method are hidden together."""
    n_steps, k = next(iter(scores.values())).shape
    wanted = np.zeros((len(scores), n_steps, len(TOP), k), bool)
    for m, score in enumerate(scores.values()):
        order = np.argsort(-score, axis=1, kind="stable")
        for i, n in enumerate(TOP):
            np.put_along_axis(wanted[m, :, i], order[:, :n], True, axis=1)
    masks, which = np.unique(wanted.reshape(-1, k), axis=0, return_inverse=True)
    effects = measure_effects(
        vlm, run.prompt, run.tokens, run.spans, run.regions, masks, ablation, batch_size=batch_size
    )  # (masks, T)
    steps = np.broadcast_to(np.arange(n_steps)[None, :, None], wanted.shape[:3])
    found = effects[which.reshape(wanted.shape[:3]), steps]
    return dict(zip(scores, found, strict=True))


def _sums(score: NDArray[np.float64], measured: MeasuredRun) -> NDArray[np.float64]:
    truth = measured.single.T  # (T, K)
    within = np.array([signed_r_squared(s, t) for s, t in zip(score, truth, strict=True)])
    ranks = np.array([lds(s, measured.masks, e) for s, e in zip(score, measured.effects.T, strict=True)])
    silent = (np.ptp(score, axis=1) == 0) & (score.shape[1] > 1)
    ranks[silent & np.isfinite(ranks)] = 0  # sums over masks would count regions, which no method need be asked for
    return np.array([
        score.size, score.sum(), truth.sum(), (score**2).sum(), (truth**2).sum(), (score * truth).sum(),
        ((score - truth) ** 2).sum(), np.nansum(within), np.isfinite(within).sum(), np.nansum(ranks),
        np.isfinite(ranks).sum(), len(score), silent.sum(),
    ])  # fmt: skip


def faithfulness_table(
    scored: Iterable[Scored], *, in_nats: Sequence[str] = (), n_boot: int = 500, seed: int = 0
) -> pd.DataFrame:
    """One row a method and figure: value, low and high (95 %, resampling groups), in the order the methods came.

    Figures: r² (squared correlation with measured single-region effects, over all steps and regions), R² (for methods
    in nats: 1 − residual / total), r² within steps (mean over steps of r·|r|), LDS (mean over steps), drop@n (nats), no
    answer (share of steps where a method scores all regions alike: 0 in r² within steps and in LDS), and ms per token.
    Steps whose measured effects do not vary are left out for all methods; so are figures nothing is known of.
    """
    import pandas as pd

    runs = list(scored)
    draws = _Draws(runs, n_boot, seed)
    rows = []
    for method in dict.fromkeys(s.method for s in runs):
        for figure, values in _figures(draws.totals(method), method in in_nats).items():
            if np.isnan(values[0]):
                continue
            low, high = np.nanquantile(values[1:], (0.025, 0.975))
            rows.append({"method": method, "figure": figure, "value": values[0], "low": low, "high": high})
    return pd.DataFrame(rows)


def paired(
    scored: Iterable[Scored],
    a: str,
    b: str,
    figure: str,
    n_boot: int = 500,
    seed: int = 0,
    compare: Callable[[Any, Any], Any] = np.subtract,
) -> tuple[float, float, float]:
    """(value, low, high): a figure of method `a` less that of `b`, the same groups resampled for both.

    compare: what to make of the two instead; `np.divide` for their ratio.
    """
    draws = _Draws(list(scored), n_boot, seed)
    first, second = (_figures(draws.totals(method), False)[figure] for method in (a, b))
    difference = compare(first, second)
    low, high = np.nanquantile(difference[1:], (0.025, 0.975))
    return float(difference[0]), float(low), float(high)


class _Draws:
    """Bootstrap draws of groups, the same for every method: the first row counts every group once."""

    def __init__(self, runs: Sequence[Scored], n_boot: int, seed: int) -> None:
        self._runs = runs
        groups = sorted({s.group_id for s in runs})
        self._place = {group: i for i, group in enumerate(groups)}
        n = len(groups)
        drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), n_boot)
        self._weights = np.concatenate([np.ones((1, n), int), drawn])  # (1 + n_boot, groups)

    def totals(self, method: str) -> NDArray[np.float64]:
        """(1 + n_boot, sums) of a method over the groups of each draw."""
        own = [s for s in self._runs if s.method == method]
        by_group = np.zeros((len(self._place), len(_SUMS) + len(TOP) + 2))
        rows = [[*s.sums, *s.drops.sum(0), s.seconds, s.tokens] for s in own]
        np.add.at(by_group, [self._place[s.group_id] for s in own], rows)
        return self._weights @ by_group


def _figures(totals: NDArray[np.float64], in_nats: bool) -> dict[str, NDArray[np.float64]]:
    """(draws, sums) → figures of each draw."""
    s = dict(zip(_SUMS, totals.T, strict=False))
    drops, seconds, tokens = totals[:, len(_SUMS) : -2], totals[:, -2], totals[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = s["xy"] - s["x"] * s["y"] / s["n"]
        spread_x, spread_y = s["xx"] - s["x"] ** 2 / s["n"], s["yy"] - s["y"] ** 2 / s["n"]
        figures = {"r²": covariance**2 / (spread_x * spread_y)}
        if in_nats:
            figures["R²"] = 1 - s["residual"] / spread_y
        figures["r² within steps"] = s["within"] / s["n_within"]
        figures["LDS"] = s["lds"] / s["n_lds"]
        figures |= {f"drop@{n}": drops[:, i] / s["steps"] for i, n in enumerate(TOP)}
        figures["no answer"] = s["silent"] / s["steps"]
        figures["ms per token"] = 1000 * seconds / tokens
    return figures
