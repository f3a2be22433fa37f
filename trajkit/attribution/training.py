"""From questions to an estimator: measure runs, fit on most of them, say how faithful it is on the rest."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from trajkit.attribution.estimator import Binding, EffectEstimator, StepExample
from trajkit.attribution.faithfulness import mean_lds, r_squared
from trajkit.attribution.item import Item, SetAside
from trajkit.attribution.linear import LinearEstimator
from trajkit.attribution.measure import MeasuredRun, MeasuredStore, Measuring, measure_runs
from trajkit.attribution.network import NetworkEstimator
from trajkit.attribution.seen import IMAGES_HELD_OUT, IMAGES_TRAINED_ON, Seen
from trajkit.errors import InputError
from trajkit.stats.resampling import some_groups
from trajkit.vlm.generation import Sampling
from trajkit.vlm.model import VLM

Kind = Literal["network", "linear"]
HELD_OUT = 0.1
"""Share of groups that tell how faithful an estimator is, and that it is not trained on."""


@dataclass(frozen=True)
class TrainingReport:
    """runs, steps: measured. held_out: runs that it is only tested on.

    passes: forward passes of the model under ablation. seconds of fitting, and of generating and measuring, also of
    runs that an earlier call measured. peak_gb: largest memory of the process (CPU) or of the GPU so far, 1e9 bytes.
    r2, lds: on the runs held out; NaN where there are none.
    """

    runs: int
    held_out: int
    steps: int
    passes: int
    measuring_seconds: float
    fitting_seconds: float
    peak_gb: float
    r2: float
    lds: float


def train_estimator(
    vlm: VLM,
    items: Iterable[Item],
    *,
    kind: Kind = "network",
    how: Measuring | None = None,
    sampling: Sampling | None = None,
    mask_seed: int | None = None,
    store: MeasuredStore | None = None,
    batch_size: int = 64,
    measured: Callable[..., None] = lambda note, steps=1: None,
    set_aside: SetAside | None = None,
    **fitting: Any,
) -> tuple[EffectEstimator, TrainingReport]:
    """Train an estimator for `vlm` on one generation of each item.

    mask_seed, set_aside: as in `measure_runs`. store: keeps measured runs, so that an interrupted training goes on.
    fitting: as in the estimator's `fit`. Its card says which images it was trained on and which were held out
    (`seen.image_hash`). Warns when an image is both. Raises InputError when there are fewer than 3 groups of runs with
    steps.
    """
    how = how or Measuring()
    at_once = {"batch_size": batch_size, "generate_at_once": min(32, batch_size)}
    seen = Seen()
    items = seen.watching(items)
    runs = list(
        measure_runs(
            vlm,
            items,
            how,
            sampling=sampling,
            mask_seed=mask_seed,
            store=store,
            set_aside=set_aside,
            advance=measured,
            **at_once,
        )
    )
    seed = fitting.get("seed", 0)
    train, test = _hold_out(runs, seed)
    binding = Binding(vlm.fingerprint, vlm.name, vlm.revision, how.region_method, how.pooling, how.ablation)
    began = time.perf_counter()
    estimator = fit_estimator(train, binding, vlm.n_features, kind, **fitting)
    fitting_seconds = time.perf_counter() - began
    examples = [example for run in test for example in run.examples()]
    r2, rank = held_out_faithfulness(estimator, examples)
    report = TrainingReport(
        len(runs),
        len(test),
        sum(len(run.features) for run in runs),
        sum(1 + len(run.masks) + len(run.single) for run in runs),
        sum(run.seconds for run in runs),
        fitting_seconds,
        _peak_gb(vlm),
        r2,
        rank,
    )
    card = asdict(report) | asdict(how) | {"seed": seed, "trained_on_runs": len(train)}
    card = {name: round(value, 4) if isinstance(value, float) else value for name, value in card.items()}
    trained_on, held_out = (seen.of({run.group_id for run in part}) for part in (train, test))
    if both := set(trained_on) & set(held_out):
        warnings.warn(
            f"{len(both)} of {len(held_out)} images held out are also among those trained on, in other groups: figures "
            "on them are too good. Give questions about one image one group_id.",
            stacklevel=2,
        )
    card |= {IMAGES_TRAINED_ON: trained_on, IMAGES_HELD_OUT: sorted(set(held_out) - set(trained_on))}
    return replace(estimator, card=card), report


def fit_estimator(
    runs: Sequence[MeasuredRun], binding: Binding, n_heads: int, kind: Kind = "network", **fitting: Any
) -> EffectEstimator:
    """An estimator of a kind from measured runs. n_heads: L·H of the model.

    Raises InputError when the fit diverges.
    """
    examples = [example for run in runs for example in run.examples()]
    estimator: EffectEstimator
    if kind == "linear":
        estimator = LinearEstimator.fit(examples, binding, n_heads, **fitting)
    else:
        estimator = NetworkEstimator.fit(examples, binding, **fitting)
    try:
        estimator.check_values(estimator.arrays)
    except ValueError as error:
        raise InputError(
            f"fitting diverged: {error}. Look for runs whose measured effects are far too large."
        ) from error
    return estimator


def held_out_faithfulness(estimator: EffectEstimator, examples: Sequence[StepExample]) -> tuple[float, float]:
    """(r² of single-region effects over all steps, mean LDS of steps)."""
    if not examples:
        return float("nan"), float("nan")
    predicted = [estimator.predict(e.features) for e in examples]
    single = np.concatenate([e.single for e in examples])
    return r_squared(np.concatenate(predicted), single), mean_lds(predicted, examples)


def _hold_out(runs: Sequence[MeasuredRun], seed: int) -> tuple[list[MeasuredRun], list[MeasuredRun]]:
    """(to train on, to test on), split by group."""
    groups = {run.group_id for run in runs}
    if len(groups) < 3:
        raise InputError(
            f"training needs runs about at least 3 images (groups); {len(groups)} of them had runs with steps. "
            "Give it more questions: some hundreds make a good estimator."
        )
    test = some_groups(groups, HELD_OUT, [seed, 1])
    return [run for run in runs if run.group_id not in test], [run for run in runs if run.group_id in test]


def _peak_gb(vlm: VLM) -> float:
    import torch

    if vlm.model.device.type == "cuda":
        return torch.cuda.max_memory_allocated(vlm.model.device) / 1e9
    try:
        import resource
    except ImportError:  # not on Windows
        return float("nan")
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9
