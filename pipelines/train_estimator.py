"""Train the demo's effect estimators: measure sampled runs under ablation, fit the network and the linear map on them.

    python -m pipelines.train_estimator            # minutes; kill it at any moment and run it again
    python -m pipelines.train_estimator --quick    # a few runs, into a scratch folder

    python -m pipelines.train_estimator --model data/demo/glm4v --out data/demo/glm4v-estimator

Trained on scenes of validation digits. Measured runs stay below runs/measured, where analyses find them. Writes the
network to data/demo/estimator and the linear map, in the papers' form, to data/demo/estimator-linear. How faithful they
are on scenes of test digits: `python -m analyses.faithfulness`.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("data/demo/model"))
    parser.add_argument("--out", type=Path, default=Path("data/demo/estimator"))
    parser.add_argument("--work", type=Path, default=Path("runs/measured"), help="where measured runs are kept")
    parser.add_argument("--runs", type=int, default=300, help="runs to measure")
    parser.add_argument("--ablation", default="mean", choices=("mean", "blur", "gray", "tokens"))
    parser.add_argument("--pooling", default="sum", choices=("mean", "sum"))
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args(argv)

    if args.model != parser.get_default("model") and args.out == parser.get_default("out") and not args.quick:
        parser.error("--model needs --out: data/demo/estimator belongs to the demo model")

    import trajkit as tk
    from trajkit.attribution.measure import Measuring
    from trajkit.attribution.training import train_estimator
    from trajkit.demo.items import demo_items
    from trajkit.demo.measured import SAMPLING, TRAIN_SEED, demo_store
    from trajkit.progress import progress

    epochs = 40
    if args.quick:
        scratch = Path(tempfile.mkdtemp(prefix="trajkit-"))
        args.out, args.work, args.runs, epochs = scratch / "estimator", scratch / "measured", 8, 2
    vlm = tk.load_vlm(args.model)
    how = Measuring(args.pooling, args.ablation)
    store = demo_store(vlm, how, SAMPLING, args.work)
    for kind in ("network", "linear"):
        out = args.out if kind == "network" else args.out.with_name(args.out.name + "-linear")
        fitting = {"epochs": epochs} if kind == "network" else {}
        with progress(f"measuring ({kind})", total=args.runs) as bar:
            items = demo_items("validation", args.runs, TRAIN_SEED)
            estimator, report = train_estimator(
                vlm,
                items,
                kind=kind,
                how=how,
                sampling=SAMPLING,
                mask_seed=TRAIN_SEED,
                store=store,
                measured=bar.advance,
                **fitting,
            )
        replace(estimator, card=estimator.card | {"digits": "validation"}).save(out)
        print(f"wrote {out} from {report.steps} steps of {report.runs} runs; held out: r² {report.r2:.3f}")


if __name__ == "__main__":
    main()
