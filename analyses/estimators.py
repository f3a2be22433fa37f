"""Which estimator, and why: variants of input, objective and form, trained on the same runs.

    python -m analyses.estimators    # about 20 minutes on 2 cores; writes reports/estimators.md

Trained on runs about validation digits, tested on runs about test digits; measured runs are kept below runs/measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import trajkit as tk
from analyses import common
from trajkit.attribution.ablation import full_inputs
from trajkit.attribution.baselines.at2 import at2
from trajkit.attribution.estimator import Binding, StepExample
from trajkit.attribution.evaluation import score_measured
from trajkit.attribution.features import attention_rows, raw_attention, token_weights
from trajkit.attribution.measure import Generation, MeasuredRun
from trajkit.attribution.tap import AttentionTap
from trajkit.attribution.training import fit_estimator
from trajkit.progress import progress
from trajkit.vlm.model import VLM

Predict = Callable[[NDArray[Any]], Any]
SHIPPED, ONE = "network (shipped form)", "network, one member"


@dataclass(frozen=True, eq=False)
class Views:
    """A run, and its features as other estimators would have them, each (T, K, 2·L·H + 3)."""

    run: MeasuredRun
    mean_pooled: NDArray[np.float32]
    value_weighted: NDArray[np.float32]


def main(argv: list[str] | None = None) -> None:
    args = common.arguments(
        __doc__, "reports/estimators.md", argv,
        train_runs=(600, "runs to train on"), test_runs=(150, "runs to test on"),
    )  # fmt: skip
    rows = [
        row for subject in common.subjects(args.models) for row in compare(subject, args.train_runs, args.test_runs,
                                                                            args.boot)
    ]  # fmt: skip
    text = (
        f"# Estimators compared\n\nRegenerate: `python -m analyses.estimators`. {args.train_runs} training runs and "
        f"{args.test_runs} test runs of each model. {common.HELD_OUT} Variants of the network have one member: the row "
        "of one member is theirs to be compared with. Variants of the linear map have the papers' objective unless "
        "they say otherwise."
    )
    common.write(args.out, text, rows, READING)


def compare(subject: common.Subject, n_train: int, n_test: int, n_boot: int) -> list[dict[str, Any]]:
    """A table row for each variant on one model."""
    n, binding = subject.vlm.n_features, subject.network.binding
    train = list(views(subject, "validation", n_train))
    test = list(views(subject, "test", n_test))
    rows = []
    kinds = variants(train, binding, n)
    with progress(f"{subject.name}: fitting", total=len(kinds)) as bar:
        for name, (look, fit) in kinds.items():
            began = time.perf_counter()
            estimator = fit([replace(v.run, features=look(v)) for v in train])
            row = {"model": subject.name, "estimator": name, "fit, s": f"{time.perf_counter() - began:.0f}"}
            seen = [replace(v.run, features=look(v)) for v in test]
            rows.append(row | figures(name, seen, estimator.predict, n_boot, in_nats="AT2" not in name))
            if isinstance(estimator, tk.NetworkEstimator):
                rows[-1]["within half width"] = f"{coverage(estimator, seen):.1%}"
            bar.advance(name)
    runs = [v.run for v in test]
    raw = {"model": subject.name, "estimator": "raw attention"}
    rows.append(raw | figures("raw", runs, lambda f: raw_attention(f, n), n_boot, in_nats=False))
    ceiling = [score_measured("leave-one-out", run, run.single.T) for run in runs]
    return [*rows, {"model": subject.name, "estimator": "leave-one-out, measured"} | cells(ceiling, n_boot, False)]


def variants(train: list[Views], binding: Binding, n: int) -> dict[str, tuple[Callable[[Views], Any], Any]]:
    """What each variant is shown of a run, and how it is fitted on runs that show that."""

    def without(columns: slice, value: float = 0.0) -> Callable[[Views], Any]:
        def look(views: Views) -> Any:
            seen = views.run.features.copy()
            seen[..., columns] = value
            return seen

        return look

    def examples(runs: Sequence[MeasuredRun]) -> list[StepExample]:
        return [example for run in runs for example in run.examples()]

    fit = partial(fit_estimator, binding=binding, n_heads=n)
    papers = partial(fit, kind="linear", scale_weight=0.0)
    one = partial(fit, kind="network", members=1)
    as_is, averaged = (lambda v: v.run.features), (lambda v: v.mean_pooled)
    return {
        "linear (the papers' objective)": (as_is, papers),
        "linear, regions pooled by mean": (averaged, papers),
        "linear, weighted by value norms": (lambda v: v.value_weighted, papers),
        "linear (with squared error)": (as_is, partial(fit, kind="linear")),
        "linear, least squares on single regions": (as_is, lambda runs: least_squares(runs, binding, n, False)),
        "linear, the same, no negative weight": (as_is, lambda runs: least_squares(runs, binding, n, True)),
        "linear, direct and through text": (
            as_is, lambda runs: tk.LinearEstimator.fit(examples(runs), binding, 2 * n, rate=3e-3),
        ),
        "AT2 recipe (logits)": (as_is, lambda runs: at2(examples(runs), binding, n)),
        SHIPPED: (as_is, partial(fit, kind="network")),
        ONE: (as_is, one),
        "network, regions pooled by mean": (averaged, one),
        "network, weighted by value norms": (lambda v: v.value_weighted, one),
        "network, direct attention alone": (without(slice(n, 2 * n)), one),
        "network, attention through text alone": (without(slice(0, n)), one),
        "network, without the step's log-probability": (without(slice(2 * n, None), 1.0), one),
        "network, single regions alone as target": (as_is, partial(one, rank_weight=0.0)),
        "network, masks weigh more": (as_is, partial(one, rank_weight=1.0)),
    }  # fmt: skip


def least_squares(runs: Sequence[MeasuredRun], binding: Binding, n: int, positive: bool) -> tk.LinearEstimator:
    """The linear map of direct attention that fits measured single-region effects best: its ceiling in r²."""
    from scipy.optimize import lsq_linear

    x = np.concatenate([run.features[..., :n].reshape(-1, n) for run in runs]).astype(float)
    y = np.concatenate([run.single.T.ravel() for run in runs])
    bounds = (0 if positive else -np.inf, np.inf)
    scale = x.std(0) + 1e-12
    return tk.LinearEstimator({"weights": np.float32(lsq_linear(x / scale, y, bounds).x / scale)}, binding)


def views(subject: common.Subject, split: Any, n: int) -> Iterator[Views]:
    """The first `n` runs of a split."""
    heads = subject.vlm.n_features
    for run, measured in common.generated(subject, n, split):
        tokens = token_weights(run.regions, run.prompt).sum(0)  # (K,) image tokens of each region
        mean_pooled, weighted = measured.features.copy(), measured.features.copy()
        mean_pooled[..., : 2 * heads] /= tokens[:, None]
        weighted[..., :heads] = value_weighted(subject.vlm, run)
        yield Views(measured, mean_pooled, weighted)


@torch.inference_mode()
def value_weighted(vlm: VLM, run: Generation) -> NDArray[np.float32]:
    """(T, K, L·H): direct attention, each image token's share times the norm of its value vector.

    After Kobayashi et al. 2020, "Attention is Not Only a Weight" (arXiv 2004.10102), without the output projection.
    """
    prompt, image = run.prompt, run.prompt.image_tokens
    weights = torch.from_numpy(token_weights(run.regions, prompt)).to(image.device)
    with AttentionTap(vlm, prompt.first_row) as tap:
        cache = vlm.model(**full_inputs(vlm, prompt, run.tokens), use_cache=True, logits_to_keep=1).past_key_values
    end = run.spans[-1].end + prompt.length - 1
    keys, queries = tap.keys(end), tap.take(end - prompt.first_row)
    rows = torch.arange(prompt.first_row, end, device=image.device)
    layers = []
    for query, key, layer in zip(queries, keys, cache.layers, strict=True):
        norms = layer.values[0][:, image].float().norm(dim=-1)  # (H_kv, N)
        norms = norms.repeat_interleave(query.shape[1] // len(norms), 0)
        layers.append((attention_rows(query[0], key[0], rows, image, tap.scaling) * norms[:, None]) @ weights)
    attention = torch.cat(layers)  # (L·H, rows, K)
    starts = [span.start + prompt.length - 1 - prompt.first_row for span in run.spans]
    stops = [span.end + prompt.length - 1 - prompt.first_row for span in run.spans]
    steps = [attention[:, a:b].mean(1).T for a, b in zip(starts, stops, strict=True)]
    return torch.stack(steps).cpu().numpy()


def figures(name: str, runs: Sequence[MeasuredRun], predict: Predict, n_boot: int, in_nats: bool) -> dict[str, str]:
    return cells([score_measured(name, run, predict(run.features)) for run in runs], n_boot, in_nats)


def cells(scored: Any, n_boot: int, in_nats: bool) -> dict[str, str]:
    table = common.figures(scored, n_boot, in_nats)
    wanted = ("r²", "R²", "r² within steps", "LDS")
    return {figure: common.cell(table.loc[figure]) for figure in wanted if figure in table.index}


def coverage(estimator: tk.NetworkEstimator, runs: Sequence[MeasuredRun]) -> float:
    inside = [np.abs(r.single.T - estimator.predict(r.features)) <= estimator.half_width(r.features) for r in runs]
    return float(np.concatenate([i.ravel() for i in inside]).mean())


READING = """\
READING"""


if __name__ == "__main__":
    main()
