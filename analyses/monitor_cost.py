"""What does a monitor cost a step and a run?

    python -m analyses.monitor_cost    # a minute; writes reports/monitor_cost.md

The demo's monitor on made-up effects: time of an update by the number of regions, memory of a run under watch, ten
thousand runs at once, and saving and resuming one.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyses.common import write
from trajkit.demo import paths
from trajkit.detection import Monitor, load_detectors
from trajkit.tables import Table, words

REGIONS = (16, 64, 256, 1024)
STEPS = 40


@dataclass(frozen=True, eq=False)
class Step:
    effects: np.ndarray
    logprob: float = -0.3
    entropy: float = 0.5
    n_tokens: int = 20
    kind: Any = "thinking"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000, help="runs under watch at once")
    parser.add_argument("--repeats", type=int, default=50, help="of which the fastest counts")
    parser.add_argument("--out", type=Path, default=Path("reports/monitor_cost.md"))
    args = parser.parse_args(argv)
    monitor = replace(load_detectors(paths.DETECTORS).monitor, calibration=None)  # which would warn of 1,024 regions
    rows = [costs(monitor, k, args.runs, args.repeats) for k in REGIONS]
    head = (
        f"# What a monitor costs\n\nRegenerate: `python -m analyses.monitor_cost`. Processor time, the fastest of "
        f"{args.repeats} repeats; {words.count(args.runs, 'run')} under watch at once, each at a step of its own."
    )
    headings = {
        "k": "regions",
        "update": "an update, µs",
        "many": "an update, that many runs in turn, µs",
        "held": "memory of a run at step 2, kB",
        "later": f"at step {STEPS}, kB",
        "saved": "saved and resumed, µs",
        "size": "its state as JSON, kB",
    }
    write(args.out, head, Table(pd.DataFrame(rows), headings), _READING)


def costs(monitor: Monitor, k: int, n_runs: int, repeats: int) -> dict[str, float]:
    """Of steps with k regions; see the headings."""
    rng = np.random.default_rng(0)
    steps = [Step(rng.normal(0.2, 1, k).astype(np.float32)) for _ in range(STEPS)]

    def whole() -> None:
        run = monitor.start()
        for step in steps:
            run.update(step)

    update = fastest(whole, repeats) / STEPS
    tracemalloc.start()
    open_runs = [monitor.start() for _ in range(n_runs)]
    held = []
    for number in range(STEPS):
        step = steps[number]
        for run in open_runs if number < 2 else open_runs[:100]:
            run.update(step)
        if number == 1:
            held.append(tracemalloc.get_traced_memory()[0] / n_runs)
    before = tracemalloc.get_traced_memory()[0]
    del open_runs[:100], run
    held.append((before - tracemalloc.get_traced_memory()[0]) / 100)
    tracemalloc.stop()

    def in_turn() -> None:
        for run in open_runs:
            run.update(steps[2])

    many = fastest(in_turn, 3) / len(open_runs)
    state = open_runs[0].to_state()
    saved = fastest(lambda: monitor.resume(open_runs[0].to_state()), repeats)
    return {
        "k": k,
        "update": 1e6 * update,
        "many": 1e6 * many,
        "held": held[0] / 1e3,
        "later": held[1] / 1e3,
        "saved": 1e6 * saved,
        "size": len(json.dumps(state)) / 1e3,
    }


def fastest(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the processor."""

    def seconds() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return min(seconds() for _ in range(repeats))


_READING = """
A run holds the effects of its first and of its last step in double precision, and a few numbers: nothing grows with its
steps. Runs share nothing but the monitor, so that any number of them can be watched in turn; a step of a thinking model
takes it far longer to write than all of this, so no batched form is needed.
"""


if __name__ == "__main__":
    main()
