"""The Parquet file that inspect_scout takes for a transcripts database.

inspect_scout is not installed here: columns and types below are those of its 0.6 (`scout db schema`), whose `scout db
validate` and `scout scan` took the demo's runs (reports/exporting.md). `python -m analyses.exporting --tools PYTHON`
has them do it again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trajkit.traces.exporters import export_traces
from trajkit.traces.store import read_traces, write_traces

from .samples import FORMULA, samples

TEXT, WHOLE, NUMBER, YES = pa.large_string(), pa.int64(), pa.float64(), pa.bool_()
SCOUT = {
    "transcript_id": TEXT, "source_type": TEXT, "source_id": TEXT, "source_uri": TEXT, "date": TEXT, "task_set": TEXT,
    "task_id": TEXT, "task_repeat": WHOLE, "agent": TEXT, "agent_args": TEXT, "model": TEXT, "model_options": TEXT,
    "score": TEXT, "score_explanation": TEXT, "success": YES, "message_count": WHOLE, "total_time": NUMBER,
    "total_tokens": WHOLE, "error": TEXT, "limit": TEXT, "trust_content": YES, "messages": TEXT, "events": TEXT,
    "timelines": TEXT, "events_data": TEXT,
}  # fmt: skip
NOT_KNOWN = ("source_id", "agent", "agent_args", "total_tokens", "error")


@pytest.fixture
def table(tmp_path: Path) -> pa.Table:
    return pq.read_table(export_traces(samples(), tmp_path / "db", format="scout") / "transcripts.parquet")


@pytest.fixture
def rows(table: pa.Table) -> list[dict[str, Any]]:
    return table.to_pylist()


def test_scouts_own_columns_have_the_types_that_it_asks_for(table: pa.Table) -> None:
    shared = {field.name: field.type for field in table.schema if field.name in SCOUT}
    assert shared == {name: SCOUT[name] for name in shared}
    assert "messages" in shared
    assert "filename" not in table.schema.names  # its own word for a database's files


def test_nothing_heavy_is_among_the_metadata(table: pa.Table) -> None:
    rest = [field for field in table.schema if field.name not in SCOUT]
    assert {str(field.type) for field in rest} == {"large_string", "int64", "double"}
    assert not {"image", "effects", "regions", "hidden", "half_widths", "tokens"} & {field.name for field in rest}


def test_messages_are_a_json_text_in_inspects_form(rows: list[dict[str, Any]]) -> None:
    system, user, assistant = json.loads(rows[0]["messages"])
    assert (system["role"], system["content"]) == ("system", "Think first.")
    assert [part["type"] for part in user["content"]] == ["text", "text"]
    assert user["content"][0]["text"] == f"[image, SHA-256 {samples()[0].image_sha256}]"
    assert user["content"][1]["text"] == "is there a red 7?"
    assert assistant["content"] == [
        {"type": "reasoning", "reasoning": "sentence 0. sentence 1."},
        {"type": "text", "text": "yes"},
    ]
    assert rows[0]["message_count"] == 3
    asked, said = json.loads(rows[2]["messages"])
    assert asked["content"] == [{"type": "text", "text": "is there a 7?"}]
    assert [*said["content"][0].values(), said["content"][1]["text"]] == [
        "reasoning",
        " sentence 0. sentence 1.",
        " yes",
    ]
    assert json.loads(rows[1]["messages"])[0]["content"][1]["text"] == FORMULA


def test_what_is_known_is_told_and_what_is_not_is_null(rows: list[dict[str, Any]]) -> None:
    watched, odd, imported, _ = rows
    assert [row[name] for row in rows for name in NOT_KNOWN] == [None] * 20
    assert {row["source_type"] for row in rows} == {"trajkit"}
    assert [row["task_repeat"] for row in rows] == [1, 2, 3, 1]  # epochs count from 1
    assert (watched["date"], imported["date"]) == ("2026-09-21T14:13:20+00:00", None)
    assert json.loads(watched["model_options"]) == {"temperature": 0.5, "max_tokens": 64, "seed": 7}
    assert imported["model_options"] is None
    assert [row["score"] for row in rows] == ["0.0", "0.5", None, "1.0"]
    assert (watched["score_explanation"], odd["score_explanation"]) == ("misreading", None)
    assert [row["success"] for row in rows] == [False, False, None, True]
    assert (watched["total_time"], imported["total_time"]) == (0.125, None)
    assert [row["limit"] for row in rows] == [None, None, "tokens", None]
    assert (watched["risk"], watched["alarm_step"], odd["risk"]) == (0.75, 2, None)
    assert [step["risk"] for step in json.loads(watched["steps"])] == [0.25, 0.75, None]
    assert json.loads(odd["steps"])[0]["concentration"] is None  # no region supports it
    assert set(json.loads(imported["meta"])) == {"source", "cut", "counted_in"}


def test_where_the_runs_were_read_from_is_their_uri(tmp_path: Path) -> None:
    path = write_traces(samples(), tmp_path / "runs.parquet")
    out = export_traces(read_traces(path).filter(success=False), tmp_path / "db", format="scout")
    assert pq.read_table(out / "transcripts.parquet")["source_uri"].to_pylist() == [str(path)] * 2
