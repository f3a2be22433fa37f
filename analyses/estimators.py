"""Which estimator, and why: variants of input, objective and form, trained on the same runs.

    python -m analyses.estimators    # some minutes on 2 cores after the runs are measured; writes reports/estimators.md

Trained on runs about validation digits, tested on runs about test digits; measured runs are kept below runs/measured.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
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
    text = (
        "# Estimators compared\n\n"
        f"Regenerate: `python -m analyses.estimators`. {len(train)} training runs, {len(test)} test runs of other "
        "digits; 95 % intervals resample scenes.\n\n"
        f"{markdown(_wide(table, seconds))}\n"
        f"Effects within the network's half width, promised 90 %: {inside:.1%}.\n\n{_READING}\n"
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text, encoding="utf-8")
    print(text)


def _score(name: str, runs: Sequence[MeasuredRun], predict: Callable[[np.ndarray], Any]) -> list[Scored]:
    return [score_measured(name, run, predict(run.features)) for run in runs]


def _coverage(estimator: tk.NetworkEstimator, runs: Sequence[MeasuredRun]) -> float:
    inside = [np.abs(r.single.T - estimator.predict(r.features)) <= estimator.half_width(r.features) for r in runs]
    return float(np.concatenate([i.ravel() for i in inside]).mean())


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


_READING = """\
The last network is the one that `trajkit train-estimator` fits. Forms were chosen with tables like this one, so its own
figure gains a little from the choice. Training on single regions alone predicts those best and ranks masks worst; the
masks' share of the objective buys LDS with r². Two numbers of each head, direct and through text, beat either alone; a
linear map of both is still far behind."""


if __name__ == "__main__":
    main()
