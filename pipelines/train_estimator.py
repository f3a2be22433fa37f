"""Train the demo's effect estimator: measure random masks on sampled runs, fit one weight per attention head.

    python -m pipelines.train_estimator            # minutes
    python -m pipelines.train_estimator --quick    # a few runs, into a scratch folder

Trained on scenes of validation digits. Writes data/demo/estimator. How faithful it is on scenes of test digits:
`python -m analyses.faithfulness`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("data/demo/model"))
    parser.add_argument("--out", type=Path, default=Path("data/demo/estimator"))
    parser.add_argument("--runs", type=int, default=300, help="runs to measure")
    parser.add_argument("--ablation", default="mean", choices=("mean", "blur", "gray", "tokens"))
    parser.add_argument("--pooling", default="sum", choices=("mean", "sum"))
    parser.add_argument("--scale-weight", type=float, default=0.7, help="weight of the squared error; 0: the paper's")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args(argv)

    if args.model != parser.get_default("model") and args.out == parser.get_default("out") and not args.quick:
        parser.error("--model needs --out: data/demo/estimator belongs to the demo model")

    from dataclasses import replace

    import trajkit as tk
    from trajkit.attribution.estimator import Binding
    from trajkit.attribution.measure import measure_runs
    from trajkit.attribution.stream import Sampling
    from trajkit.demo.runs import demo_items
    from trajkit.progress import progress

    steps = 1000
    if args.quick:
        args.out, args.runs, steps = Path(tempfile.mkdtemp(prefix="trajkit-")) / "estimator", 6, 50
    vlm = tk.load_vlm(args.model)
    items = demo_items("validation", args.runs, args.seed)
    with progress("measuring", total=args.runs) as bar:
        measured = list(
            measure_runs(
                vlm, items, pooling=args.pooling, ablation=args.ablation, sampling=Sampling(1.0, seed=args.seed),
                advance=bar.advance,
            )
        )  # fmt: skip
    examples = [example for run in measured for example in run.examples()]
    binding = Binding(vlm.fingerprint, vlm.name, vlm.revision, "vision", args.pooling, args.ablation)
    with progress("fitting", total=steps) as bar:
        estimator = tk.EffectEstimator.fit(
            examples,
            binding,
            steps=steps,
            scale_weight=args.scale_weight,
            seed=args.seed,
            advance=lambda loss: bar.advance(f"loss {loss:.3f}"),
        )
    card = {"runs": len(measured), "steps": len(examples), "masks": 32, "digits": "validation", "seed": args.seed}
    card["scale_weight"] = args.scale_weight
    replace(estimator, card=card).save(args.out)
    print(f"wrote {args.out} from {len(examples)} steps of {len(measured)} runs")


if __name__ == "__main__":
    main()
