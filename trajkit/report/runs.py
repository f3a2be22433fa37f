"""The runs that a report shows one by one: which they are, and each as the page reads it."""

from __future__ import annotations

import json
from collections.abc import Collection as Among
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trajkit.errors import InputError
from trajkit.live.documents import document
from trajkit.live.query import Query, Row, find
from trajkit.live.saved_rows import COLUMNS, judge_row, rows_of
from trajkit.live.verdicts import Highest, Judge, highest_of, verdicts_of, verdicts_saved
from trajkit.report.collection import Collection, choose
from trajkit.runs.source import batches
from trajkit.tables.names import OUTCOME_ORDER
from trajkit.tables.words import count

if TYPE_CHECKING:
    from trajkit.detection.store import Detectors
    from trajkit.traces.trace import Trace

BUDGET = 6_000_000
"""Characters that the runs may take, with their pictures and label maps; plotly itself takes five million more."""
MOST = 24
"""Runs that are shown where nobody chooses any."""
_NAMED = 3


@dataclass(frozen=True)
class Shown:
    """Runs that are shown. documents: of them. n: how many there are of what was chosen, shown or not. chosen: whether
    somebody chose. others: how many of the documents, the first ones, are not of the collection."""

    documents: list[dict[str, Any]]
    n: int
    chosen: bool
    others: int = 0


def shown_runs(
    traces: Sequence[Trace],
    collection: Collection,
    detectors: Detectors | None,
    ids: Sequence[str] = (),
    where: Query | None = None,
    most: int | None = None,
    others: Sequence[Trace] = (),
) -> Shown:
    """At most `most` runs, as many as BUDGET allows: those of `ids` that `where` asks for; where neither is given some
    of each outcome (`choose`). others: runs that are not of the collection, shown before them. Raises InputError on an
    id that no run has, and where no run is left."""
    chosen = bool(ids) or where is not None
    if chosen:
        places = _chosen(traces, collection, detectors, ids, where)
    else:
        places = choose(collection, MOST if most is None else most)
    first = [_other(trace, detectors) for trace in others]
    documents, size = list[dict[str, Any]](), len(json.dumps(first))
    for at in places[:most]:
        made = _document(traces[at], collection, detectors)
        size += len(json.dumps(made))
        if size > BUDGET and documents:
            break
        documents.append(made)
    if not chosen:
        documents.sort(key=lambda made: OUTCOME_ORDER.index(made["outcome"]))
    return Shown([*first, *documents], len(places), chosen, len(first))


def _chosen(
    traces: Sequence[Trace],
    collection: Collection,
    detectors: Detectors | None,
    ids: Sequence[str],
    where: Query | None,
) -> list[int]:
    """Positions of the runs that were asked for, in the order of `ids`, else of the file."""
    place = {name: at for at, name in enumerate(collection.runs["transcript_id"])}
    if unknown := [name for name in ids if name not in place]:
        shown = ", ".join(map(repr, unknown[:_NAMED])) + (", …" if len(unknown) > _NAMED else "")
        raise InputError(f"there is no run {shown} in these traces; ids are those in the column transcript_id.")
    names: Among[str] = list(dict.fromkeys(ids)) if ids else place
    if where is not None:
        rows = _rows(traces, collection, detectors)
        if "alarmed" in where.values and detectors is None and all(row["risk"] is None for row in rows):
            raise InputError("which runs alarmed is not known: no monitor watched them. Give detectors (--detectors).")
        asked = {row["id"] for row in find(rows, where).rows}
        names = [name for name in names if name in asked]
    if not names:
        raise InputError(f"none of {count(len(place), 'run')} is what was asked for; ask for others.")
    return [place[name] for name in names]


def _rows(traces: Sequence[Trace], collection: Collection, detectors: Detectors | None) -> list[Row]:
    """A row of each run, in order."""
    rows = [row for batch in batches(traces, COLUMNS) for row in rows_of(batch, collection.table.by_hand)]
    if detectors is not None:
        found = highest_of(collection.frame, detectors.monitor.threshold)
        for row in rows:
            judge_row(row, found.get(row["id"], Highest()))
    return rows


def _other(trace: Trace, detectors: Detectors | None) -> dict[str, Any]:
    """A run that is not of the collection."""
    (batch,) = batches([trace], COLUMNS)
    (row,) = rows_of(batch)
    return document(trace, row, verdicts_saved(trace) if detectors is None else Judge(detectors).verdicts(trace))


def _document(trace: Trace, collection: Collection, detectors: Detectors | None) -> dict[str, Any]:
    (batch,) = batches([trace], COLUMNS)
    (row,) = rows_of(batch, collection.table.by_hand)
    if detectors is None:
        return document(trace, row, verdicts_saved(trace))
    seen = None if collection.held_out is None else trace.group_id not in collection.held_out
    return document(trace, row, verdicts_of(trace, collection.rows(trace.transcript_id), detectors, seen))
