"""Methods of attribution on measured runs: what each says of a run, as sums that every figure is made of.

Most steps hardly depend on the image, and a few have nearly all the variance of effects. So sums are kept apart by
bands of a step's largest measured effect, and `figures.py` makes figures of one band, of several or of all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.attribution.ablation import Ablation, measure_effects
from trajkit.attribution.faithfulness import GROUNDED, lds, signed_r_squared, step_gate, top_agreement
from trajkit.attribution.measure import Generation, MeasuredRun
from trajkit.attribution.shrinkage import firm
from trajkit.errors import InputError
from trajkit.vlm.model import VLM

if TYPE_CHECKING:
    from trajkit.attribution.baselines import Baseline

TOP = (1, 3, 5)
"""How many of the regions that a method ranks first are hidden together."""
EDGES = (GROUNDED, 3.0)
"""Nats: where one band of steps ends and the next begins."""
SHRUNK = "{}, shrunk"
"""The name of a method's scores once they are shrunk."""
ORACLE_GATE = "raw attention's top × measured size"
ESTIMATED_GATE = "raw attention's top × estimated size"
"""One region and one number a step (`step_gates`)."""

Method = Callable[[Generation, MeasuredRun], NDArray[Any]]
"""A run → (T, K) scores of regions for each step, higher where they support it more."""


def baseline_method(vlm: VLM, baseline: Baseline) -> Method:
    """A baseline of `trajkit.attribution.baselines` as a method."""
    return lambda run, measured: baseline(vlm, run.prompt, run.tokens, run.spans, run.regions)


DROPS = tuple(f"drop@{n}" for n in TOP)
SUMS = (
    "n",
    "x",
    "y",
    "xx",
    "yy",
    "xy",
    "residual",
    "within",
    "n_within",
    "lds",
    "n_lds",
    "top",
    "n_top",
    "steps",
    "silent",
    *DROPS,
)
"""Columns of `Scored.sums`: x are scores, y measured effects, n of them."""


@dataclass(frozen=True, eq=False)
class Scored:
    """One method on one run: sums that every figure is made of, and what it took.

    sums: (bands, len(SUMS)), over the steps of each band and their regions; drops in nats, NaN where they were not
    measured. seconds: wall time of the scoring.
    """

    method: str
    group_id: str
    task_set: str
    sums: NDArray[np.float64]
    seconds: float
    tokens: int


def score_run(
    vlm: VLM,
    run: Generation,
    measured: MeasuredRun,
    methods: Mapping[str, Method | None],
    ablation: Ablation = "mean",
    batch_size: int = 64,
    shrunk: Mapping[str, float] | None = None,
) -> list[Scored]:
    """Every method on one run. Hides each method's best regions together, one pass for every distinct set of them.

    None stands for leave-one-out, the measured effects of single regions themselves; what they took is not told.
    shrunk: methods whose scores are judged once more, shrunk by a share (`shrinkage.firm`), under the name of SHRUNK.
    """
    scores, seconds = {}, {}
    for name, method in methods.items():
        began = time.perf_counter()
        found = measured.single.T if method is None else method(run, measured)
        scores[name] = np.asarray(found, np.float64)  # (T, K)
        seconds[name] = np.nan if method is None else time.perf_counter() - began
    for name, share in (shrunk or {}).items():
        scores[SHRUNK.format(name)], seconds[SHRUNK.format(name)] = firm(scores[name], share), np.nan
    drops = joint_drops(vlm, run, scores, ablation, batch_size)
    return [
        replace(score_measured(name, measured, score, drops[name]), seconds=seconds[name], tokens=len(run.tokens))
        for name, score in scores.items()
    ]


def score_measured(
    method: str, measured: MeasuredRun, scores: NDArray[Any], drops: NDArray[np.float64] | None = None
) -> Scored:
    """(T, K) scores of a method on a run that is measured already, with its `joint_drops` if they are known; its time
    and tokens stay unknown.

    Raises InputError when scores are not finite.
    """
    if not np.isfinite(scores).all():
        raise InputError(f"the scores of {method!r} hold NaN or infinite values.")
    terms = _step_terms(np.asarray(scores, np.float64), measured)  # (T, SUMS without drops)
    terms = np.concatenate([terms, np.full((len(terms), len(TOP)), np.nan) if drops is None else drops], 1)
    sums = np.zeros((len(EDGES) + 1, len(SUMS)))
    np.add.at(sums, bands(measured), terms)
    return Scored(method, measured.group_id, measured.task_set, sums, float("nan"), 0)


def step_gates(measured: MeasuredRun, raw: NDArray[Any], estimated: NDArray[Any]) -> list[Scored]:
    """What one region and one number a step come to: raw attention's top region with the step's largest measured effect
    (an oracle: nobody has it), and with the largest effect that an estimator gives the step.

    raw, estimated: (T, K).
    """
    sizes = {ORACLE_GATE: measured.single.max(0), ESTIMATED_GATE: estimated.max(1)}
    return [score_measured(name, measured, step_gate(raw, size)) for name, size in sizes.items()]


def bands(measured: MeasuredRun) -> NDArray[np.intp]:
    """(T,) the band of each step: 0 below the first of EDGES in its largest measured effect, and so on.

    The largest, and not the largest by size, as for a step's top region: a region whose hiding makes a step likelier is
    no ground of it, and a method of scores that are never negative, as attention is, could not name it.
    """
    return np.searchsorted(EDGES, measured.single.max(0, initial=0), "right")


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


def _step_terms(score: NDArray[np.float64], measured: MeasuredRun) -> NDArray[np.float64]:
    """(T, columns) what each step adds to SUMS, without its drops."""
    truth = measured.single.T  # (T, K)
    within = np.array([signed_r_squared(s, t) for s, t in zip(score, truth, strict=True)])
    ranks = np.array([lds(s, measured.masks, e) for s, e in zip(score, measured.effects.T, strict=True)])
    silent = (np.ptp(score, axis=1) == 0) & (score.shape[1] > 1)
    ranks[silent & np.isfinite(ranks)] = 0  # sums over masks would count regions, which no method need be asked for
    one, top = np.ones(len(score)), top_agreement(score, truth)
    return np.stack(
        [
            one * score.shape[1],
            score.sum(1),
            truth.sum(1),
            (score**2).sum(1),
            (truth**2).sum(1),
            (score * truth).sum(1),
            ((score - truth) ** 2).sum(1),
            np.nan_to_num(within),
            np.isfinite(within),
            np.nan_to_num(ranks),
            np.isfinite(ranks),
            np.nan_to_num(top),
            np.isfinite(top),
            one,
            silent,
        ],
        axis=1,
    )
