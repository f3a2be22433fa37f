"""One pass over the traces: what the page says of all runs, and which of them it shows one by one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajkit.detection.copies import keyed, one_group, regrouped
from trajkit.detection.kinds import known_risks, why_not
from trajkit.errors import InputError
from trajkit.runs.kernel import Wanted
from trajkit.runs.source import Source
from trajkit.runs.table import RunTable, run_table
from trajkit.tables.names import OUTCOME_ORDER

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.detection.store import Detectors


@dataclass(frozen=True, eq=False)
class Collection:
    """All runs, without images, and what detectors make of them.

    table: of all runs. frame: their prefix features, with a column `risk` where a predictor was given, NaN of runs that
    lack what it reads; unjudged says why. held_out: groups that the detectors have not seen, or None without detectors.
    copies: groups that they have seen, under other ids.
    """

    table: RunTable
    frame: pd.DataFrame
    held_out: frozenset[str] | None = None
    copies: frozenset[str] = frozenset()
    unjudged: str = ""

    @property
    def runs(self) -> pd.DataFrame:
        """A row per run, in order (`RunTable.table`)."""
        return self.table.table

    def rows(self, transcript_id: str) -> pd.DataFrame:
        """The prefix features of one run, (T thinking steps) rows."""
        return self.frame[self.frame["transcript_id"] == transcript_id]

    @property
    def test(self) -> pd.DataFrame:
        """The rows of `frame` that detectors may be judged on."""
        if self.held_out is None:
            return self.frame
        new = self.frame["group_id"].isin(self.held_out)
        return self.frame[new & self.frame["risk"].notna()].reset_index(drop=True)


def wanted(detectors: Detectors | None) -> Wanted:
    """What a report reads of runs, beside detectors or without."""
    return Wanted(keys=detectors is not None)


def collect(runs: Source | RunTable, detectors: Detectors | None = None) -> Collection:
    """Runs, or a table of them with what is `wanted`, and what detectors make of them.

    Raises InputError when there is none.
    """
    table = runs if isinstance(runs, RunTable) else run_table(runs, wanted(detectors))
    if not len(table):
        raise InputError("a report needs at least one run; there is none in these traces.")
    if detectors is None:
        return Collection(table, table.frame)
    keys = keyed(table)
    known, taken = detectors.known(keys), one_group(keys)
    seen = {taken[group] for group in known.all}
    frame = regrouped(table.frame, taken)  # copies of each other are one group
    frame = frame.assign(risk=known_risks(detectors.predictor, frame) if len(frame) else [])
    return Collection(
        table,
        frame,
        frozenset(group for group, as_one in taken.items() if as_one not in seen),
        known.copies,
        why_not(detectors.predictor, frame) if len(frame) else "",
    )


def choose(collection: Collection, most: int) -> list[int]:
    """Positions of at most `most` runs, outcomes in turn, so that any first part of the list is balanced over them.

    Within an outcome: runs the detectors have not seen first, then runs with effects, then different groups and task
    families before a second run of any; otherwise in the order of the file. Nothing is picked by how it looks.
    """
    runs = collection.runs
    queues: dict[str, list[tuple[tuple[bool, bool, int, int], int]]] = {name: [] for name in OUTCOME_ORDER}
    seen: Counter[tuple[str, str, bool]] = Counter()
    columns = (runs[name] for name in ("outcome", "group_id", "task_set", "left_out"))
    for at, (outcome, group, task, left_out) in enumerate(zip(*columns, strict=True)):
        new = collection.held_out is None or group in collection.held_out
        empty = bool(left_out)
        of_group, of_task = ("group", group, new), (f"task {outcome}", task, new)
        queues[outcome].append(((not new, empty, seen[of_group], seen[of_task]), at))
        seen[of_group] += 1
        seen[of_task] += 1
    ordered = [[at for _, at in sorted(queue)] for queue in queues.values()]
    longest = max(len(queue) for queue in ordered)
    return [queue[i] for i in range(longest) for queue in ordered if i < len(queue)][:most]
