"""How faithful the estimated effects are, beside published methods, a ceiling and a floor.

    python -m analyses.faithfulness                # about half an hour on 2 cores; writes reports/faithfulness.md
    python -m analyses.faithfulness --runs 30      # sooner, with wider intervals

On sampled runs about held-out scenes of test digits, for every demo model: r² and R² of single-region effects against
measured ones, LDS (mean Spearman over random masks), the log-probability lost when the 1, 3 or 5 regions that a method
ranks first are hidden together, and milliseconds per generated token. 95 % intervals resample scenes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import trajkit as tk
from trajkit.attribution.baselines import BASELINES, best_head
from trajkit.attribution.baselines.at2 import at2
from trajkit.attribution.evaluation import (
    Method,
    Scored,
    baseline_method,
    faithfulness_table,
    paired_difference,
    score_run,
)  # fmt: skip
from trajkit.attribution.features import raw_attention
from trajkit.attribution.measure import Generation, Measuring, generations, measure
from trajkit.attribution.replay import replay
from trajkit.attribution.stream import Sampling
from trajkit.cli.output import markdown
from trajkit.demo import paths
from trajkit.demo.measured import TEST_SEED, measured_demo_runs
from trajkit.demo.runs import demo_items
from trajkit.progress import progress

OURS, LINEAR, RAW = "network estimator", "linear estimator", "raw attention"
CEILING, FLOOR = "leave-one-out, measured", "random"
IN_NATS = (OURS, LINEAR, CEILING)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="test runs of each model")
    parser.add_argument("--train-runs", type=int, default=300, help="runs for the AT2 recipe and the best single head")
    parser.add_argument("--boot", type=int, default=500, help="bootstrap draws of scenes")
    parser.add_argument("--models", nargs="+", default=["qwen3_vl", "qwen2_5_vl", "glm4v"], choices=paths.MODELS)
    parser.add_argument("--out", type=Path, default=Path("reports/faithfulness.md"))
    args = parser.parse_args(argv)

    scored = {name: score_model(name, args.runs, args.train_runs) for name in args.models}
    text = (
        "# Faithfulness\n\n"
        f"Regenerate: `python -m analyses.faithfulness`. {args.runs} sampled runs of each demo model, one a scene, of "
        "test digits that neither the model nor an estimator was trained on; regions from the vision tower, hidden by "
        "filling them with the image's mean colour. Intervals: 95 %, resampling scenes.\n\n"
    )
    for name, runs in scored.items():
        table = faithfulness_table(runs, in_nats=IN_NATS, n_boot=args.boot)
        text += f"## {name}\n\n{markdown(wide(table))}\n"
        for other in (RAW, LINEAR):
            gain, low, high = paired_difference(runs, OURS, other, "LDS", args.boot)
            text += f"LDS of the {OURS} less that of {other}, paired: {gain:.3f} ({low:.3f} to {high:.3f}). "
        text += "\n\n"
    text += _READING
    families = [
        {"model": name, "family": family}
        | {m: _value(table, m, "r²") for m in (OURS, LINEAR, RAW)}
        | {f"LDS, {m}": _value(table, m, "LDS") for m in (OURS, CEILING)}
        for name, runs in scored.items()
        for family in sorted({s.task_set for s in runs})
        if (table := faithfulness_table([s for s in runs if s.task_set == family], n_boot=2)) is not None
    ]
    text += f"\n## r² and LDS by task family\n\n{markdown(pd.DataFrame(families))}"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text, encoding="utf-8")
    print(text)


def score_model(name: str, n_runs: int, n_train: int) -> list[Scored]:
    """Every method on test runs of one demo model."""
    vlm = tk.load_vlm(paths.model(name))
    network, linear = (tk.EffectEstimator.load(paths.estimator(name, kind)) for kind in ("network", "linear"))
    how = Measuring(network.binding.pooling, network.binding.ablation, network.binding.region_method)
    with progress(f"{name}: training runs", total=n_train) as bar:
        train = measured_demo_runs(vlm, "validation", n_train, how, bar.advance)
    examples = [example for run in train for example in run.examples()]
    recipe = at2(examples, network.binding, vlm.n_features)
    head = best_head(examples, vlm.n_features)
    rng = np.random.default_rng(0)

    def features(run: Generation) -> Any:
        return replay(vlm, run.prompt, run.tokens, run.spans, run.regions, how.pooling).features

    methods: dict[str, Method] = {
        OURS: lambda run, measured: network.predict(features(run)),
        LINEAR: lambda run, measured: linear.predict(features(run)),
        "AT2 recipe": lambda run, measured: recipe.predict(features(run)),
        "best single head": lambda run, measured: features(run)[..., head],
        RAW: lambda run, measured: raw_attention(features(run), vlm.n_features),
        **{label: baseline_method(vlm, baseline) for label, baseline in BASELINES.items()},
        CEILING: lambda run, measured: measured.single.T,
        FLOOR: lambda run, measured: rng.normal(size=measured.features.shape[:2]),
    }
    scored: list[Scored] = []
    sampling = Sampling(1.0, seed=TEST_SEED)
    with progress(f"{name}: scoring", total=n_runs) as bar:
        for run in generations(vlm, demo_items("test", n_runs, TEST_SEED), sampling, how.region_method):
            if run.spans:
                scored += score_run(vlm, run, measure(vlm, run, how, TEST_SEED), methods, how.ablation)
            bar.advance(run.item.task_set)
    return scored


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """Methods down, figures across, each cell a value with its interval."""
    shown = table.assign(cell=[_cell(r.value, r.low, r.high) for r in table.itertuples()])
    order = list(dict.fromkeys(table["figure"]))
    order.insert(1, order.pop(order.index("R²")))
    pivoted = shown.pivot(index="method", columns="figure", values="cell")
    return pivoted.loc[list(dict.fromkeys(table["method"])), order].fillna("").reset_index()


def _cell(value: float, low: float, high: float) -> str:
    digits = 3 if abs(value) < 1 else 2
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _value(table: pd.DataFrame, method: str, figure: str) -> float:
    return float(table.query("method == @method and figure == @figure")["value"].iloc[0])


_READING = """\
r²: squared correlation of a method's scores with the measured effect of hiding each region alone, over all steps and
regions; it forgives a wrong scale. R²: without forgiveness, for methods that predict nats. r² within steps: mean over
steps of the squared correlation over regions, which asks only where a step looks and not how much it depends on
looking. LDS: mean over steps of the Spearman correlation between measured effects of 32 random masks and the summed
scores of the regions that each hides; most steps are such that hiding half of the image changes them little, and they
count as much as the others. drop@n: nats that a step loses when the n regions that a method ranks first are hidden
together. ms per token: time of scoring a whole run after it was generated, over its tokens, on this machine's CPU; the
estimators, raw attention and single head take one pass of the model, which generation makes anyway, and ContextCite
and leave-one-out take one for each mask or region (leave-one-out's was spent in measuring and is not shown).

leave-one-out is the ceiling for r² and close to one for LDS: it cannot see how regions act together. Single head: the
one of all heads with the highest LDS on training runs. The AT2 recipe and the single head were fitted on the first 300
training runs.
"""


if __name__ == "__main__":
    main()
