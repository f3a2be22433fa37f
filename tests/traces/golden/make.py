"""Writes runs.parquet, the file that every later trajkit must still read: `python tests/traces/golden/make.py`.

Run only when the schema version changes, and then under a new name.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

if __name__ == "__main__":
    from factory import make_trace

    from trajkit.traces.store import write_traces

    bare = {
        "score": None, "success": None, "outcome": "unknown", "effects_kind": None, "image": None, "target": "",
    }  # fmt: skip
    runs = [make_trace(0), make_trace(1, outcome="hallucination", success=False, score=0.0)]
    runs.append(make_trace(7, effects=make_trace(7).effects[:, :0], regions=make_trace(7).regions[:0, :0], **bare))
    write_traces(runs, HERE / "runs.parquet")
