"""Runs on their way out: in order, changed where that is asked for, counted as they pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trajkit.traces.atomic import to_table
from trajkit.traces.rows import encode_trace
from trajkit.traces.store import Traces
from trajkit.traces.trace import Trace

Advance = Callable[[str, int], None]
Change = Callable[[Trace], Trace]


@dataclass(frozen=True, eq=False)
class Export:
    """change: what is written in place of a run, under the same id, model and task. advance: called with ("", 1) after
    each."""

    traces: Traces
    change: Change = lambda trace: trace
    advance: Advance = lambda note, steps: None

    def __len__(self) -> int:
        return len(self.traces)

    def runs(self, *, images: bool = False) -> Iterator[Trace]:
        """All of them, without images unless asked for. Raises InputError on one in memory that no file could hold."""
        for trace in self.traces if images else self.traces.without_images():
            if self.traces.place is None:
                to_table([encode_trace(trace)])
            yield self.change(trace)
            self.advance("", 1)
