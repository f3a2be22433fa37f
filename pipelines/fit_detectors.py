"""Fit the demo's detectors on its traces: early-failure predictor, outcome classifier, calibrated monitor.

    python -m pipelines.fit_detectors            # under a minute
    python -m pipelines.fit_detectors --quick    # on every fourth scene, into a scratch folder

Fitted and calibrated on scenes of validation digits, evaluated on scenes of test digits. Writes data/demo/detectors;
`python -m analyses.detection` writes the evaluation to reports/detection.md.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, default=Path("data/demo/traces"))
    parser.add_argument("--out", type=Path, default=Path("data/demo/detectors"))
    parser.add_argument("--alpha", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args(argv)

    import trajkit as tk
    from trajkit.demo.runs import fit_demo_detectors
    from trajkit.detection.store import save_detectors

    traces = tk.read_traces(args.traces)
    if args.quick:
        args.out = Path(tempfile.mkdtemp(prefix="trajkit-")) / "detectors"
        scenes = sorted({trace.group_id for trace in traces})[::4]
        traces = [trace for trace in traces if trace.group_id in set(scenes)]
    result = fit_demo_detectors(traces, alpha=args.alpha, seed=args.seed, n_boot=50 if args.quick else 500)
    save_detectors(args.out, result.detectors)
    for part, runs in result.detectors.card["runs"].items():
        print(f"{part}: {runs} runs of {result.detectors.card['groups'][part]} scenes")
    print(result.detectors.monitor.message)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
