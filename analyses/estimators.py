"""Which estimator, and why: variants of input, objective and form, trained on the same runs.

    python -m analyses.estimators    # about 20 minutes on 2 cores; writes reports/estimators.md

Trained and scored on runs about different scenes of validation digits, since the shipped form was chosen by tables like
this one; runs about test digits are for the other analyses.
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
from PIL import Image

import trajkit as tk
from analyses import common
from trajkit.attribution.ablation import fill
from trajkit.attribution.baselines.at2 import at2
from trajkit.attribution.estimator import Binding, StepExample
from trajkit.attribution.evaluation import ORACLE_GATE, Scored, score_measured, step_gates
from trajkit.attribution.features import attention_rows, raw_attention, token_weights
from trajkit.attribution.figures import GROUNDED_STEPS
from trajkit.attribution.measure import Generation, MeasuredRun
from trajkit.attribution.tap import AttentionTap
from trajkit.attribution.training import fit_estimator
from trajkit.progress import progress
from trajkit.tables import Estimate
from trajkit.vlm.model import VLM

Predict = Callable[[NDArray[Any]], Any]
SHIPPED, ONE = "network (shipped form)", "network, one member"


@dataclass(frozen=True, eq=False)
class Views:
    """A run, and its features as other estimators would have them, each (T, K, F)."""

    run: MeasuredRun
    mean_pooled: NDArray[np.float32]
    value_weighted: NDArray[np.float32]
    with_influence: NDArray[np.float32]


def main(argv: list[str] | None = None) -> None:
    args = common.arguments(
        __doc__,
        "reports/estimators.md",
        argv,
        train_runs=(300, "runs to train on"),
        test_runs=(150, "runs to score on"),
    )
    rows = [
        row
        for subject in common.subjects(args.models)
        for row in compare(subject, args.train_runs, args.test_runs, args.boot)
    ]
    text = (
        f"# Estimators compared\n\nRegenerate: `{args.command}`. {args.train_runs} runs of each model "
        f"to train on and {args.test_runs} to score on, about other scenes of the same validation digits: forms are "
        "chosen here, and measured on test digits elsewhere. 95 % intervals resample scenes. Variants of the network "
        "have one member: the row of one member is theirs to be compared with. Linear maps are fitted on masks, except "
        "where the row says single regions."
    )
    common.write(args.out, text, common.table_of(rows), _READING)


def compare(subject: common.Subject, n_train: int, n_test: int, n_boot: int) -> list[dict[str, Any]]:
    """A table row for each variant on one model."""
    n, binding = subject.vlm.n_features, subject.network.binding
    seen = list(views(subject, n_train + n_test))
    train, test = seen[:n_train], seen[n_train:]
    rows = []
    kinds = variants(binding, n)
    with progress(f"{subject.name}: fitting", total=len(kinds)) as bar:
        for name, (look, fit) in kinds.items():
            began = time.perf_counter()
            estimator = fit([replace(v.run, features=look(v)) for v in train])
            row = {"model": subject.name, "estimator": name, "fit, s": time.perf_counter() - began}
            shown = [replace(v.run, features=look(v)) for v in test]
            rows.append(row | cells(common.score(name, shown, estimator.predict), n_boot, "AT2" not in name))
            bar.advance(name)
    runs = [v.run for v in test]
    raw = {"model": subject.name, "estimator": "raw attention"}
    rows.append(raw | cells(common.score("raw", runs, lambda f: raw_attention(f, n)), n_boot, False))
    gates = [gate for run in runs for gate in step_gates(run, raw_attention(run.features, n), run.single.T)]
    oracle = [gate for gate in gates if gate.method == ORACLE_GATE]
    rows.append({"model": subject.name, "estimator": ORACLE_GATE} | cells(oracle, n_boot, True))
    reference = [score_measured("leave-one-out", run, run.single.T) for run in runs]
    return [*rows, {"model": subject.name, "estimator": "leave-one-out, measured"} | cells(reference, n_boot, False)]


def variants(binding: Binding, n: int) -> dict[str, tuple[Callable[[Views], Any], Any]]:
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
    no_masks = {"mask_weight": 0.0, "rank_weight": 0.0}
    as_is, averaged = (lambda v: v.run.features), (lambda v: v.mean_pooled)
    return {
        "linear (the papers' objective)": (as_is, papers),
        "linear, regions pooled by mean": (averaged, papers),
        "linear, weighted by value norms": (lambda v: v.value_weighted, papers),
        "linear (with squared error)": (as_is, partial(fit, kind="linear")),
        "linear, least squares on single regions": (as_is, lambda runs: least_squares(runs, binding, n, False)),
        "linear, the same, no negative weight": (as_is, lambda runs: least_squares(runs, binding, n, True)),
        "linear, direct and through text": (as_is, lambda runs: tk.LinearEstimator.fit(examples(runs), binding, 2 * n)),
        "AT2 recipe (logits)": (as_is, lambda runs: at2(examples(runs), binding, n)),
        "ridge on single regions, the network's inputs": (as_is, common.fit_ridge),
        "boosted trees on single regions, the network's inputs": (as_is, common.fit_trees),
        SHIPPED: (as_is, partial(fit, kind="network")),
        ONE: (as_is, one),
        "network, regions pooled by mean": (averaged, one),
        "network, weighted by value norms": (lambda v: v.value_weighted, one),
        "network, with what hiding moves in the tower": (lambda v: v.with_influence, one),
        "network, direct attention alone": (without(slice(n, 2 * n)), one),
        "network, attention through text alone": (without(slice(0, n)), one),
        "network, without the step's log-probability": (without(slice(2 * n, None), 1.0), one),
        "network, single regions alone as target": (as_is, partial(one, **no_masks)),
        "network, nothing shrunk": (as_is, partial(one, shares=(0.0,))),
        "network, without the order of masks": (as_is, partial(one, rank_weight=0.0)),
        "network, the order of masks weighs more": (as_is, partial(one, rank_weight=3.0)),
    }


def least_squares(runs: Sequence[MeasuredRun], binding: Binding, n: int, positive: bool) -> tk.LinearEstimator:
    """The linear map of direct attention that fits measured single-region effects best."""
    from scipy.optimize import lsq_linear

    x = np.concatenate([run.features[..., :n].reshape(-1, n) for run in runs]).astype(float)
    y = np.concatenate([run.single.T.ravel() for run in runs])
    bounds = (0 if positive else -np.inf, np.inf)
    scale = x.std(0) + 1e-12
    return tk.LinearEstimator({"weights": np.float32(lsq_linear(x / scale, y, bounds).x / scale)}, binding)


def views(subject: common.Subject, n: int) -> Iterator[Views]:
    """The first `n` runs about validation digits."""
    vlm, heads = subject.vlm, subject.vlm.n_features
    for run, measured in common.generated(subject, n, "validation"):
        area, features = token_weights(run.regions, run.prompt), measured.features  # (N, K), (T, K, F)
        mean_pooled, weighted = features.copy(), features.copy()
        mean_pooled[..., : 2 * heads] /= area.sum(0)[:, None]
        attention, norms = attention_to_tokens(vlm, run)
        weighted[..., :heads] = (attention * norms @ area).swapaxes(1, 2)
        influenced = (attention @ influence(vlm, run)).swapaxes(1, 2)
        both = np.concatenate([features[..., : 2 * heads], influenced, features[..., 2 * heads :]], -1)
        yield Views(measured, mean_pooled, weighted, both)


@torch.inference_mode()
def attention_to_tokens(vlm: VLM, run: Generation) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(T, L·H, N) mean attention of the rows of each step to image tokens; (L·H, N) norms of their value vectors.

    Weighting by the norms is after Kobayashi et al. 2020 (arXiv 2004.10102), without the output projection.
    """
    prompt, image = run.prompt, run.prompt.image_tokens
    with AttentionTap(vlm, prompt.first_row) as tap:
        cache = vlm.model(**prompt.followed_by(run.tokens), use_cache=True, logits_to_keep=1).past_key_values
    end = run.spans[-1].end + prompt.length - 1
    layers = zip(tap.take(end - prompt.first_row).layers(), tap.keys(end), strict=True)
    attention = torch.cat([attention_rows(query, key, tap.scaling)[..., image] for (query, _), key in layers])
    # (L·H, rows, N)
    grouped = vlm.text_config.num_attention_heads // vlm.text_config.num_key_value_heads
    norms = [layer.values[0][:, image].float().norm(dim=-1).repeat_interleave(grouped, 0) for layer in cache.layers]
    before = prompt.length - 1 - prompt.first_row
    steps = [attention[:, before + span.start : before + span.end].mean(1) for span in run.spans]
    return torch.stack(steps).cpu().numpy(), torch.cat(norms).cpu().numpy()


def influence(vlm: VLM, run: Generation) -> NDArray[np.float32]:
    """(N, K): how far hiding a region moves what the vision tower says of each token, as a share of its usual norm.

    One pass of the tower for each region. The runs here have one image.
    """
    (image,) = run.prompt.canvas.images
    pixels, filled = np.asarray(image), fill(image, "mean")
    hidden = [
        Image.fromarray(np.where((run.regions.labels == k)[..., None], filled, pixels)) for k in range(run.regions.k)
    ]
    whole, *without = (features.float() for features, _ in vlm.image_features([image, *hidden]))
    moved = torch.stack([(features - whole).norm(dim=-1) for features in without], 1)
    return (moved / whole.norm(dim=-1).mean()).cpu().numpy()


def cells(scored: Sequence[Scored], n_boot: int, in_nats: bool) -> dict[str, Estimate]:
    grounded = common.cells(scored, n_boot, ("top-1", "r²"), in_nats, GROUNDED_STEPS)
    return grounded | common.cells(scored, n_boot, ("LDS", "r² within steps", "R²", "r²"), in_nats)


_READING = """\
The row `network (shipped form)` is what `trajkit train-estimator` fits, with four members; the row of one member beside
it says what averaging them is worth. Boosted trees on the same inputs, and a network trained on single regions alone,
see no regions hidden together: what training on masks as well buys is LDS. Networks take what is small beside the
largest effect of its step for nothing, but in the row that says so; trees and linear maps do not. Two kinds of
attention, direct and through text, are left out in turn. Weighting by the norms of values, and what hiding moves in the
vision tower, are further inputs; the latter costs one pass of the tower for each region of an image and is not shipped,
since everything else comes from what generation computes anyway."""


if __name__ == "__main__":
    main()
