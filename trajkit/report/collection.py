"""One pass over the traces: what the page says of all runs, and which of them it shows one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajkit.detection.copies import Keyed, keys_of
from trajkit.errors import InputError
from trajkit.runs.features import features
from trajkit.traces.store import Traces
from trajkit.traces.trace import OUTCOMES, Trace

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.detection.store import Detectors


@dataclass(frozen=True, eq=False)
class Collection:
    """All runs, without images.

    runs: a row per run, in order: transcript_id model group_id task_set success outcome image effects_kind n_steps
    (thinking) n_regions. frame: prefix features of the runs with effects, with a column `risk` where a predictor was
    given. last: the rows of `frame` at each run's last thinking step. held_out: groups that the detectors have not
    seen, or None without detectors. copies: groups that they have seen, under other ids. fingerprints: of the models
    that made the runs, where the runs say.
    """

    runs: pd.DataFrame
    frame: pd.DataFrame
    last: pd.DataFrame
    held_out: frozenset[str] | None
    fingerprints: frozenset[str] = frozenset()
    copies: frozenset[str] = frozenset()

    def rows(self, transcript_id: str) -> pd.DataFrame:
        """The prefix features of one run, (T thinking steps) rows."""
        return self.frame[self.frame["transcript_id"] == transcript_id]

    @property
    def test(self) -> pd.DataFrame:
        """The rows of `frame` that detectors may be judged on."""
        if self.held_out is None:
            return self.frame
        return self.frame[self.frame["group_id"].isin(self.held_out)].reset_index(drop=True)


def collect(traces: Sequence[Trace], detectors: Detectors | None = None) -> Collection:
    """Read all runs once. Raises InputError when there is none."""
    import pandas as pd

    rows: list[dict[str, object]] = []
    fingerprints: set[str] = set()
    keys: Keyed = []

    def with_effects() -> Iterator[Trace]:
        for trace in traces.without_images() if isinstance(traces, Traces) else traces:
            rows.append(_row(trace))
            keys.append((trace.group_id, keys_of(trace)))
            fingerprints.add(str(trace.meta.get("fingerprint", "")))
            if trace.effects_kind is not None and trace.n_regions:
                yield trace

    frame = features(with_effects())
    if not rows:
        raise InputError("a report needs at least one run; there is none in these traces.")
    if detectors is not None and len(frame):
        frame["risk"] = detectors.predictor.risks(frame)
    runs = pd.DataFrame(rows)
    last = frame.groupby("transcript_id", sort=False).tail(1).reset_index(drop=True)
    held_out, copies = None, frozenset[str]()
    if detectors is not None:
        known = detectors.known(keys)
        held_out, copies = frozenset(runs["group_id"]) - known.all, known.copies
    return Collection(runs, frame, last, held_out, frozenset(fingerprints - {""}), copies)


def _row(trace: Trace) -> dict[str, object]:
    return {
        "transcript_id": trace.transcript_id,
        "model": trace.model,
        "group_id": trace.group_id,
        "task_set": trace.task_set,
        "success": trace.success,
        "outcome": trace.outcome,
        "image": trace.image_sha256,
        "effects_kind": trace.effects_kind or "none",
        "n_steps": int(trace.thinking.sum()),
        "n_regions": trace.n_regions,
    }


def choose(collection: Collection, most: int) -> list[int]:
    """Positions of at most `most` runs, outcomes in turn, so that any first part of the list is balanced over them.

    Within an outcome: runs the detectors have not seen first, then runs with effects, then different groups and task
    families before a second run of any; otherwise in the order of the file. Nothing is picked by how it looks.
    """
    queues: dict[str, list[tuple[tuple[bool, bool, int, int], int]]] = {name: [] for name in OUTCOMES}
    seen: Counter[tuple[str, str, bool]] = Counter()
    runs = collection.runs
    columns = (runs[name] for name in ("outcome", "group_id", "task_set", "effects_kind", "n_steps"))
    for at, (outcome, group, task, kind, n_steps) in enumerate(zip(*columns, strict=True)):
        new = collection.held_out is None or group in collection.held_out
        empty = kind == "none" or n_steps == 0
        of_group, of_task = ("group", group, new), (f"task {outcome}", task, new)
        queues[outcome].append(((not new, empty, seen[of_group], seen[of_task]), at))
        seen[of_group] += 1
        seen[of_task] += 1
    ordered = [[at for _, at in sorted(queue)] for queue in queues.values()]
    longest = max(len(queue) for queue in ordered)
    return [queue[i] for i in range(longest) for queue in ordered if i < len(queue)][:most]
