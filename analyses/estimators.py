"""Which estimator, and why: variants of input, objective and form, trained on the same runs.

    python -m analyses.estimators    # some minutes on 2 cores after the runs are measured; writes reports/estimators.md

Trained on runs about validation digits, tested on runs about test digits; measured runs are kept below runs/measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import trajkit as tk
from trajkit.attribution.baselines.at2 import at2
from trajkit.attribution.estimator import Binding, EffectEstimator
from trajkit.attribution.evaluation import Scored, faithfulness_table, score_measured
from trajkit.attribution.features import raw_attention
from trajkit.attribution.measure import MeasuredRun, Measuring
from trajkit.attribution.training import fit_estimator
from trajkit.cli.output import markdown
from trajkit.demo import paths
from trajkit.demo.measured import measured_demo_runs
from trajkit.progress import progress

View = Callable[[np.ndarray], np.ndarray]
"""Features (..., K, 2·L·H + 3) → what a variant is given of them, of the same shape."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train-runs", type=int, default=600)
    parser.add_argument("--test-runs", type=int, default=150)
    parser.add_argument("--boot", type=int, default=500, help="bootstrap draws of scenes")
    parser.add_argument("--out", type=Path, default=Path("reports/estimators.md"))
    args = parser.parse_args(argv)

    vlm = tk.load_vlm(paths.MODEL)
    n, how = vlm.n_features, Measuring()
    with progress("runs", total=args.train_runs + args.test_runs) as bar:
        train = measured_demo_runs(vlm, "validation", args.train_runs, how, bar.advance)
        test = measured_demo_runs(vlm, "test", args.test_runs, how, bar.advance)
    binding = Binding(vlm.fingerprint, vlm.name, vlm.revision, how.region_method, how.pooling, how.ablation)

    def without(columns: slice) -> View:
        def view(features: np.ndarray) -> np.ndarray:
            seen = features.copy()
            seen[..., columns] = 1.0 if columns.start == 2 * n else 0.0
            return seen

        return view

    direct, through, facts = without(slice(n, 2 * n)), without(slice(0, n)), without(slice(2 * n, None))

    def fitted(kind: Any, view: View | None = None, **fitting: Any) -> tuple[EffectEstimator, View]:
        look = view or (lambda features: features)
        runs = [replace(run, features=look(run.features)) for run in train]
        return fit_estimator(runs, binding, n, kind, **fitting), look

    examples = [example for run in train for example in run.examples()]
    same: View = lambda features: features  # noqa: E731
    variants: dict[str, Callable[[], tuple[EffectEstimator, View]]] = {
        "linear (the papers' objective)": lambda: fitted("linear", scale_weight=0.0),
        "linear (with squared error)": lambda: fitted("linear"),
        "AT2 recipe (logits)": lambda: (at2(examples, binding, n), same),
        "linear, direct and through text": lambda: (
            tk.LinearEstimator.fit(examples, binding, 2 * n, rate=3e-3), same,
        ),
        "network, direct attention alone": lambda: fitted("network", direct),
        "network, attention through text alone": lambda: fitted("network", through),
        "network, without the step's log-probability": lambda: fitted("network", facts),
        "network, one member": lambda: fitted("network", members=1),
        "network, single regions alone as target": lambda: fitted("network", rank_weight=0.0),
        "network, masks weigh more": lambda: fitted("network", rank_weight=1.0),
        "network (shipped form)": lambda: fitted("network"),
    }  # fmt: skip
    scored: list[Scored] = []
    seconds, inside = {}, 0.0
    with progress("fitting", total=len(variants)) as bar:
        for name, make in variants.items():
            began = time.perf_counter()
            estimator, view = make()
            seconds[name] = time.perf_counter() - began
            scored += _score(name, test, lambda f, e=estimator, v=view: e.predict(v(f)))
            if name == "network (shipped form)" and isinstance(estimator, tk.NetworkEstimator):
                inside = _coverage(estimator, test)
            bar.advance(name)
    scored += _score("raw attention", test, lambda f: raw_attention(f, n))
    scored += [score_measured("leave-one-out, measured", run, run.single.T) for run in test]
    table = faithfulness_table(scored, in_nats=[v for v in variants if "AT2" not in v], n_boot=args.boot)
    efficiency = []
    for m in sorted({m for m in (50, 100, 200, 300, args.train_runs) if m <= args.train_runs}):
        rows = _score("n", test, _predictor(train[:m], binding, n))
        efficiency.append({"training runs": m} | _row(faithfulness_table(rows, n_boot=args.boot)))
    families = sorted({run.task_set for run in train})
    transfer = []
    for source in [*families, "all"]:
        part = [run for run in train if source in ("all", run.task_set)][: args.train_runs // len(families)]
        predict = _predictor(part, binding, n)
        cells = {f: _lds(_score("n", [r for r in test if r.task_set == f], predict)) for f in families}
        transfer.append({"trained on ↓, tested on →": f"{source} ({len(part)} runs)"} | cells)
    text = (
        "# Estimators compared\n\n"
        f"Regenerate: `python -m analyses.estimators`. {len(train)} training runs, {len(test)} test runs of other "
        "digits; 95 % intervals resample scenes.\n\n"
        f"{markdown(_wide(table, seconds))}\n"
        f"Effects within the network's half width, promised 90 %: {inside:.1%}.\n\n"
        f"## Data efficiency of the network\n\n{markdown(pd.DataFrame(efficiency))}\n"
        "## Transfer between task families: LDS of the network\n\nEvery row is trained on the same number of runs.\n\n"
        f"{markdown(pd.DataFrame(transfer))}\n"
        f"## By length of the run\n\n{markdown(_by_length(vlm, test))}\n"
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text, encoding="utf-8")
    print(text)


def _score(name: str, runs: Sequence[MeasuredRun], predict: Callable[[np.ndarray], Any]) -> list[Scored]:
    return [score_measured(name, run, predict(run.features)) for run in runs]


def _predictor(runs: Sequence[MeasuredRun], binding: Binding, n: int) -> Callable[[np.ndarray], Any]:
    epochs = int(
        np.clip(40 * 300 / len(runs), 25, 120)
    )  # about as many steps of the optimiser from few runs as from 300
    return fit_estimator(runs, binding, n, "network", epochs=epochs).predict


def _coverage(estimator: tk.NetworkEstimator, runs: Sequence[MeasuredRun]) -> float:
    inside = [np.abs(r.single.T - estimator.predict(r.features)) <= estimator.half_width(r.features) for r in runs]
    return float(np.concatenate([i.ravel() for i in inside]).mean())


def _lds(scored: list[Scored]) -> float:
    return float(faithfulness_table(scored, n_boot=2).set_index("figure").loc["LDS", "value"])


def _cell(row: Any) -> str:
    return f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})"


def _row(table: pd.DataFrame) -> dict[str, str]:
    return {row.figure: _cell(row) for row in table.itertuples()}


def _wide(table: pd.DataFrame, seconds: dict[str, float]) -> pd.DataFrame:
    rows = []
    for method in dict.fromkeys(table["method"]):
        took = {"fit, s": f"{seconds[method]:.0f}"} if method in seconds else {"fit, s": ""}
        rows.append({"estimator": method} | _row(table[table["method"] == method]) | took)
    return pd.DataFrame(rows).fillna("")


def _by_length(vlm: Any, runs: Sequence[MeasuredRun]) -> pd.DataFrame:
    """r² and LDS of the shipped estimator by fifths of the number of steps."""
    shipped = tk.EffectEstimator.load(paths.ESTIMATOR)
    lengths = np.array([len(run.features) for run in runs])
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, 6)))
    rows = []
    for low, high in pairwise(edges):
        last = high == edges[-1]
        part = [r for r, m in zip(runs, lengths, strict=True) if low <= m and (m < high or (last and m == high))]
        name = f"{low:.0f} to {high if last else high - 1:.0f}"
        rows.append({"steps": name, "runs": len(part)} | _row(faithfulness_table(_score("n", part, shipped.predict))))
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
