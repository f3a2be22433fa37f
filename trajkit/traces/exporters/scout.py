"""A transcripts database of inspect_scout: one Parquet file in a folder, columns as `scout db schema` names them.

Messages are there, `score` and `messages` as JSON texts. What scout does not know becomes a transcript's metadata, so
that all which is heavy is left out: images, maps of regions, effects and hidden states. Of the effects each step says
the strongest. A column that is not known is null: no agent, no prompt's tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trajkit.files import replacing
from trajkit.traces.exporters.export import Export
from trajkit.traces.exporters.folder import filling
from trajkit.traces.exporters.said import (
    began,
    chat_of,
    facts_of,
    json_text,
    n_tokens,
    rounded,
    seconds,
    settings_of,
    steps_of,
    stop_reason,
    verdict_of,
)
from trajkit.traces.trace import Trace

SCHEMA = pa.schema(
    [
        ("transcript_id", pa.large_string()),
        ("source_type", pa.large_string()),
        ("source_id", pa.large_string()),
        ("source_uri", pa.large_string()),
        ("date", pa.large_string()),
        ("task_set", pa.large_string()),
        ("task_id", pa.large_string()),
        ("task_repeat", pa.int64()),
        ("agent", pa.large_string()),
        ("agent_args", pa.large_string()),
        ("model", pa.large_string()),
        ("model_options", pa.large_string()),
        ("score", pa.large_string()),
        ("score_explanation", pa.large_string()),
        ("success", pa.bool_()),
        ("message_count", pa.int64()),
        ("total_time", pa.float64()),
        ("total_tokens", pa.int64()),
        ("error", pa.large_string()),
        ("limit", pa.large_string()),
        ("messages", pa.large_string()),
        # from here on a transcript's metadata
        ("group_id", pa.large_string()),
        ("question", pa.large_string()),
        ("answer", pa.large_string()),
        ("target", pa.large_string()),
        ("outcome", pa.large_string()),
        ("image_sha256", pa.large_string()),
        ("n_steps", pa.int64()),
        ("n_regions", pa.int64()),
        ("n_tokens", pa.int64()),
        ("effects_kind", pa.large_string()),
        ("risk", pa.float64()),
        ("alarm_step", pa.int64()),
        ("steps", pa.large_string()),
        ("meta", pa.large_string()),
    ]
)
_ROWS = 256
"""Runs of a row group."""


def write(export: Export, path: Path) -> None:
    """To a folder. Raises InputError where that holds other files, WriteError where it cannot be written."""
    with (
        filling(path) as new,
        replacing(new / "transcripts.parquet") as file,
        pq.ParquetWriter(file, SCHEMA, compression="zstd") as parquet,
    ):
        rows = _rows(export)
        while some := list(islice(rows, _ROWS)):
            parquet.write_table(pa.Table.from_pylist(some, SCHEMA))


def _rows(export: Export) -> Iterator[dict[str, Any]]:
    for trace in export.runs():
        yield row_of(trace) | {"source_uri": export.traces.place}


def row_of(trace: Trace) -> dict[str, Any]:
    """A run as a row of SCHEMA."""
    messages = chat_of(trace, _picture(trace))
    same = ("transcript_id", "model", "success", "group_id", "question", "answer", "target", "outcome")
    counted = ("image_sha256", "n_steps", "n_regions", "effects_kind")
    return {name: getattr(trace, name) for name in (*same, *counted)} | {
        "source_type": "trajkit",
        "date": began(trace),
        "task_set": trace.task_set or None,
        "task_id": trace.task_id or None,
        "task_repeat": trace.task_repeat + 1,  # scout counts epochs, from 1
        "model_options": json_text(settings_of(trace.meta)) if settings_of(trace.meta) else None,
        "score": None if rounded(trace.score) is None else json_text(rounded(trace.score)),
        "score_explanation": str(trace.meta.get("detail") or "") or None,
        "message_count": len(messages),
        "total_time": seconds(trace),
        "limit": "tokens" if stop_reason(trace) == "max_tokens" else None,
        "messages": json_text(messages),
        "n_tokens": n_tokens(trace),
        "steps": json_text(steps_of(trace)),
        "meta": json_text(facts_of(trace)),
        **verdict_of(trace),
    }


def _picture(trace: Trace) -> dict[str, str] | None:
    """What stands for the image in the prompt: words, as the bytes are left out."""
    return {"type": "text", "text": f"[image, SHA-256 {trace.image_sha256}]"} if trace.image_sha256 else None
