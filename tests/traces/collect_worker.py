"""Collects runs into a folder, as a pipeline would, and may be told to die: `collect_worker.py FOLDER N [WHEN]`.

WHEN: `half` dies when half of a part's bytes are written, `rename` before the part takes its name.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from factory import make_trace

from trajkit.traces import atomic
from trajkit.traces.store import TraceWriter


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


folder, n, when = sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else ""
with TraceWriter(folder, part_size=3) as writer:
    for i in range(n):
        trace = make_trace(i)
        if trace.transcript_id in writer.ids:
            continue
        if when and i >= n // 2:
            if when == "half":
                atomic.to_table = lambda rows: die() if len(rows) > 1 else rows  # type: ignore[assignment,return-value]
            else:
                os.replace = die  # type: ignore[assignment]
        writer.add(trace)
        print(i, flush=True)
        time.sleep(0.004)
