"""Writes runs-3.parquet, which every later trajkit must still read: `python tests/traces/golden/make.py`.

Run only when the schema version changes, and then under a new name. runs.parquet is of version 1, runs-2.parquet of 2.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

if __name__ == "__main__":
    from factory import make_trace

    from trajkit.traces.store import write_traces

    watched = make_trace(0)
    said = zip(watched.steps, (0.25, 0.75, 0.75), (False, True, False), strict=True)
    steps = tuple(replace(step, risk=risk, alarm=alarm) for step, risk, alarm in said)
    watched = replace(
        watched, steps=steps, half_widths=np.abs(watched.effects) / 2, tokens=np.arange(42, dtype=np.int32)
    )
    bare = make_trace(1)
    steps = tuple(replace(step, logprob=None, entropy=None) for step in bare.steps)
    bare = replace(bare, steps=steps, effects=np.zeros((bare.n_steps, 0), np.float32), effects_kind=None)
    write_traces([watched, bare], HERE / "runs-3.parquet")
