"""How faithful the estimated effects are, beside raw attention, a ceiling and a floor.

    python -m analyses.faithfulness    # some minutes on 2 cores; writes reports/faithfulness.md

On sampled runs about held-out scenes of test digits: r² and R² of single-region effects against measured ones, LDS
(mean Spearman over random masks), and the log-probability lost when the region that a method ranks first (or the first
three) is hidden. 95 % intervals resample scenes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import trajkit as tk
from trajkit.attribution.faithfulness import determination, lds, r_squared
from trajkit.attribution.features import raw_attention
from trajkit.attribution.measure import MeasuredRun, measure_runs
from trajkit.attribution.stream import Sampling
from trajkit.cli.output import markdown
from trajkit.demo import paths
from trajkit.demo.runs import demo_items
from trajkit.progress import progress

Score = Callable[[MeasuredRun], Any]
"""A measured run → (T, K) scores."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=150)
    parser.add_argument("--boot", type=int, default=200, help="bootstrap draws of scenes")
    parser.add_argument("--estimator", type=Path, default=paths.ESTIMATOR)
    parser.add_argument("--out", type=Path, default=Path("reports/faithfulness.md"))
    args = parser.parse_args(argv)

    vlm = tk.load_vlm(paths.MODEL)
    estimator = tk.EffectEstimator.load(args.estimator)
    estimator.check(vlm.fingerprint, vlm.name)
    bound: Any = estimator.binding
    with progress("measuring", total=args.runs) as bar:
        runs = list(
            measure_runs(
                vlm, demo_items("test", args.runs, seed=103), pooling=bound.pooling, ablation=bound.ablation,
                sampling=Sampling(1.0, seed=103), advance=bar.advance,
            )
        )  # fmt: skip
    rng = np.random.default_rng(0)
    noise = {id(run): rng.normal(size=run.features.shape[:2]) for run in runs}
    methods: dict[str, Score] = {
        "linear estimator": lambda run: estimator.predict(run.features),
        "raw attention": lambda run: raw_attention(run.features, vlm.n_features),
        "random (floor)": lambda run: noise[id(run)],
        "leave-one-out, measured (ceiling)": lambda run: run.single.T,
    }
    rows = [{"method": name} | _figures(name, score, runs, args.boot) for name, score in methods.items()]
    families = [
        {"family": family}
        | {
            name: r_squared(*_pairs(score, _family(runs, family)))
            for name, score in methods.items()
            if "estim" in name or "raw" in name
        }
        for family in sorted({run.task_set for run in runs})
    ]
    steps = sum(len(run.features) for run in runs)
    regions = np.quantile([run.single.shape[0] for run in runs], (0.1, 0.5, 0.9))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(
        "# Faithfulness of the demo's estimator\n\n"
        f"Regenerate: `python -m analyses.faithfulness`. {len(runs)} sampled runs ({steps} steps), one a scene, of "
        f"test digits that neither the model nor the estimator was trained on; ablation `{bound.ablation}`, pooling "
        f"`{bound.pooling}`. Intervals: 95 %, resampling scenes.\n\n"
        f"{markdown(pd.DataFrame(rows))}\n"
        "r²: squared correlation of a method's scores with the measured effect of hiding each region alone, over all "
        "steps and regions; it forgives a wrong scale. R²: the same without forgiveness, for methods that predict "
        "nats. LDS: mean over steps of the Spearman correlation between predicted and measured effects of 32 random "
        "masks. r² within steps: mean over steps of the squared correlation over regions, which asks only where a step "
        "looks and not how much it depends on looking. drop@n: nats lost when the n regions that a method ranks first "
        "are hidden one by one, summed. The ceiling's r² and drops are 1 and largest by definition.\n\n"
        f"LDS of the estimator less that of raw attention, paired: {_paired(methods, runs, args.boot)}. Regions an "
        f"image: median {regions[1]:.0f}, 10th to 90th percentile {regions[0]:.0f} to {regions[2]:.0f}.\n\n"
        f"## r² by task family\n\n{markdown(pd.DataFrame(families))}",
        encoding="utf-8",
    )
    print(args.out.read_text(encoding="utf-8"))


def _family(runs: list[MeasuredRun], family: str) -> list[MeasuredRun]:
    return [run for run in runs if run.task_set == family]


def _pairs(score: Score, runs: list[MeasuredRun]) -> tuple[Any, Any]:
    predicted = np.concatenate([np.asarray(score(run)).ravel() for run in runs])
    return predicted, np.concatenate([run.single.T.ravel() for run in runs])


def _figures(name: str, score: Score, runs: list[MeasuredRun], n_boot: int) -> dict[str, Any]:
    """Figures of one method, each with its interval as text."""
    scores = [np.asarray(score(run)) for run in runs]
    truth = [run.single.T for run in runs]
    ranks = [
        np.array([lds(s, r.masks, e) for s, e in zip(x, r.effects.T, strict=True)])
        for x, r in zip(scores, runs, strict=True)
    ]
    within = [
        np.array([r_squared(a, b) for a, b in zip(x, t, strict=True)]) for x, t in zip(scores, truth, strict=True)
    ]
    drops = {n: [_drop(x, t, n) for x, t in zip(scores, truth, strict=True)] for n in (1, 3)}
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(runs), size=len(runs)) for _ in range(n_boot)]

    def pooled(values: list[Any], rows: Any) -> Any:
        return np.concatenate([values[i].ravel() for i in rows])

    everything = np.arange(len(runs))
    figures: dict[str, Callable[[Any], float]] = {
        "r²": lambda rows: r_squared(pooled(scores, rows), pooled(truth, rows)),
        "r² within steps": lambda rows: float(np.nanmean(pooled(within, rows))),
        "LDS": lambda rows: float(np.nanmean(pooled(ranks, rows))),
        "drop@1": lambda rows: float(pooled(drops[1], rows).mean()),
        "drop@3": lambda rows: float(pooled(drops[3], rows).mean()),
    }
    if "estimator" in name:
        figures["R²"] = lambda rows: determination(pooled(scores, rows), pooled(truth, rows))
    shown = {}
    for label, figure in figures.items():
        low, high = np.quantile([figure(rows) for rows in draws], (0.025, 0.975))
        shown[label] = f"{figure(everything):.3f} ({low:.3f} to {high:.3f})"
    return shown


def _paired(methods: dict[str, Score], runs: list[MeasuredRun], n_boot: int) -> str:
    """Difference in LDS between the first two methods, with its interval."""
    ours, raw = list(methods.values())[:2]
    gain = [
        np.array(
            [
                lds(a, run.masks, e) - lds(b, run.masks, e)
                for a, b, e in zip(ours(run), raw(run), run.effects.T, strict=True)
            ]
        )
        for run in runs
    ]
    rng = np.random.default_rng(0)
    draws = [
        np.nanmean(np.concatenate([gain[i] for i in rng.integers(len(runs), size=len(runs))])) for _ in range(n_boot)
    ]
    low, high = np.quantile(draws, (0.025, 0.975))
    return f"{np.nanmean(np.concatenate(gain)):.3f} ({low:.3f} to {high:.3f})"


def _drop(scores: Any, truth: Any, n: int) -> Any:
    """(T,) summed measured effect of the n regions with the highest score."""
    top = np.argsort(-scores, axis=1)[:, :n]
    return np.take_along_axis(truth, top, 1).sum(1)


if __name__ == "__main__":
    main()
