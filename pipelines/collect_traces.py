"""Collect the demo's traces: several sampled runs of each of many scenes, labelled, with estimated effects.

    python -m pipelines.collect_traces            # minutes; kill it at any moment and run it again
    python -m pipelines.collect_traces --quick    # a few runs in a scratch folder

Two fifths of the scenes are drawn with test digits; detectors are fitted and calibrated on the others. Pictures are
kept as the JPEG files that the model saw, and effects to 1/1024 of a nat, in less than half of the space.
Writes data/demo/traces. Needs data/demo/model and data/demo/estimator.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trajkit.attribution.item import Item

_PER_NAT = 1024


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("data/demo/model"))
    parser.add_argument("--estimator", type=Path, default=Path("data/demo/estimator"))
    parser.add_argument("--out", type=Path, default=Path("data/demo/traces"))
    parser.add_argument("--work", type=Path, default=Path("runs/collect_traces"), help="where unfinished parts live")
    parser.add_argument("--scenes", type=int, default=600)
    parser.add_argument("--samples", type=int, default=6, help="runs per scene")
    parser.add_argument("--seed", type=int, default=1, help="of the scenes")
    parser.add_argument("--keep-hidden", action="store_true", help="with a hidden state of each step (another --out!)")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args(argv)

    import numpy as np

    import trajkit as tk
    from trajkit.attribution.assemble import settings
    from trajkit.attribution.collect import collect
    from trajkit.demo.items import demo_items, judge_by_scene
    from trajkit.demo.measured import SAMPLING
    from trajkit.progress import progress
    from trajkit.traces.store import TraceWriter

    if args.quick:
        scratch = Path(tempfile.mkdtemp(prefix="trajkit-"))
        args.out, args.work, args.scenes, args.samples = scratch / "traces", scratch / "work", 5, 2
    vlm = tk.load_vlm(args.model)
    estimator = tk.EffectEstimator.load(args.estimator)
    n_test = args.scenes * 2 // 5
    pictures: dict[str, bytes] = {}

    def items() -> Iterator[Item]:
        for split, n in (("validation", args.scenes - n_test), ("test", n_test)):
            for item in demo_items(split, n, args.seed):
                pictures[item.group_id] = item.jpeg
                yield item

    with TraceWriter(args.work, flush_seconds=2.0) as writer, progress("collecting", total=args.scenes) as bar:
        writer.require(settings(vlm, estimator, SAMPLING, args.keep_hidden))
        for trace in collect(
            vlm,
            items(),
            estimator=estimator,
            samples=args.samples,
            sampling=SAMPLING,
            judge=judge_by_scene,
            done=frozenset(writer.ids),
            keep_hidden=args.keep_hidden,
            advance=bar.advance,
        ):
            kept = np.round(trace.effects * _PER_NAT) / np.float32(_PER_NAT)
            writer.add(replace(trace, effects=kept, image=pictures[trace.group_id], image_sha256=""))
    args.out.mkdir(parents=True, exist_ok=True)
    traces = tk.read_traces(args.work)
    tk.write_traces(traces, args.out / "traces.parquet")
    shutil.rmtree(args.work)
    print(f"wrote {len(traces)} runs to {args.out}")


if __name__ == "__main__":
    main()
