"""A file that is not what the schema says is refused with the file, the run, what was expected and what came."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trajkit.errors import InputError, TraceFormatError
from trajkit.traces.file import TraceFile
from trajkit.traces.schema import SCHEMA, VERSION_KEY
from trajkit.traces.store import read_traces, write_traces

from .factory import make_trace


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_traces([make_trace(i) for i in range(3)], tmp_path / "runs.parquet")


def rewrite(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> Path:
    """The file with its rows changed, and its types kept."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    schema = pa.schema([pa.field(field.name, field.type) for field in table.schema])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.parquet does not exist; expected a \.parquet file"):
        read_traces(tmp_path / "nowhere.parquet")


def test_a_folder_without_traces_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=re.escape(f"{tmp_path} holds no .parquet file")):
        read_traces(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"hello, this is text", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_what_is_not_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "runs.parquet"
    path.write_bytes(content)
    with pytest.raises(TraceFormatError, match=r"runs\.parquet: not a Parquet file, or cut short"):
        read_traces(path)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_refused(good: Path, share: float) -> None:
    data = good.read_bytes()
    good.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(TraceFormatError, match="not a Parquet file, or cut short"):
        read_traces(good)


def test_flipped_bytes_never_give_wrong_values(good: Path) -> None:
    """Every column's first data page: a checksum notices, at once or when the run is read."""
    data = good.read_bytes()
    group = pq.ParquetFile(good).metadata.row_group(0)
    for i in range(group.num_columns):
        broken = bytearray(data)
        end = group.column(i).data_page_offset + group.column(i).total_compressed_size // 2
        broken[end] ^= 0xFF
        good.write_bytes(broken)
        try:
            runs = list(read_traces(good))
        except TraceFormatError:
            continue
        for j, run in enumerate(runs):  # the byte did not matter
            np.testing.assert_array_equal(run.effects, make_trace(j).effects)
            assert run.steps == make_trace(j).steps


def test_a_flipped_byte_in_the_effects_is_noticed(good: Path) -> None:
    data = bytearray(good.read_bytes())
    group = pq.ParquetFile(good).metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    effects = next(column for column in columns if column.path_in_schema.startswith("effects."))
    data[effects.data_page_offset + effects.total_compressed_size - 5] ^= 0xFF
    good.write_bytes(data)
    with pytest.raises(TraceFormatError, match=r"runs\.parquet: damaged, cannot be read"):
        read_traces(good)


def test_missing_columns_are_named(good: Path) -> None:
    pq.write_table(pq.read_table(good).drop_columns(["effects", "meta"]), good)
    with pytest.raises(TraceFormatError, match=r"missing or repeated columns: effects, meta\. Got: transcript_id"):
        read_traces(good)


@pytest.mark.parametrize(
    ("column", "type_", "expected"),
    [
        ("effects", pa.list_(pa.int64()), "list<"),
        ("n_steps", pa.float64(), "int32"),
        ("transcript_id", pa.binary(), "string"),
        ("steps", pa.list_(pa.struct([("text", pa.string())])), "list<"),
    ],
)
def test_a_column_of_another_type_is_named(good: Path, column: str, type_: pa.DataType, expected: str) -> None:
    table = pq.read_table(good)
    i = table.column_names.index(column)
    cast = pa.nulls(len(table), type_) if column in ("steps", "effects") else table[column].cast(type_)
    pq.write_table(table.set_column(i, column, cast), good)
    with pytest.raises(TraceFormatError, match=f"column '{column}' must be of type {expected}.*got .*cast the column"):
        read_traces(good)


def test_another_schema_version_is_refused(good: Path) -> None:
    table = pq.read_table(good)
    pq.write_table(table.replace_schema_metadata({VERSION_KEY: b"99"}), good)
    with pytest.raises(TraceFormatError, match="expected trace schema version 1, 2, 3, got 99"):
        read_traces(good)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_effects_that_are_no_numbers_are_refused_with_their_run(good: Path, value: float | None) -> None:
    def spoil(rows: list[dict[str, Any]]) -> None:
        rows[1]["effects"][2] = value

    with pytest.raises(
        TraceFormatError, match="effects must not hold nulls" if value is None else "run 'run-0001'.*NaN"
    ):
        read_traces(rewrite(good, spoil))


def test_effects_of_another_length_are_refused_with_their_run(good: Path) -> None:
    with pytest.raises(TraceFormatError, match=r"run 'run-0002': effects must have .* = 5 \* 3 values, got 14"):
        read_traces(rewrite(good, lambda rows: rows[2]["effects"].pop()))


def test_an_id_that_comes_twice_is_refused_in_a_file_and_across_files(good: Path) -> None:
    write_traces([make_trace(2)], good.with_name("more.parquet"))
    with pytest.raises(TraceFormatError, match=r"'run-0002' is in .*more\.parquet and in .*runs\.parquet"):
        read_traces(good.parent)
    with pytest.raises(TraceFormatError, match="transcript_id must be unique; 'run-0000'"):
        read_traces(rewrite(good, lambda rows: rows[1].update(transcript_id="run-0000")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"meta": "{"}, "meta must be a JSON object"),
        ({"meta": "[1]"}, "meta must be a JSON object"),
        ({"outcome": "splendid"}, "outcome must be one of"),
        ({"effects_kind": "guessed"}, "effects_kind must be"),
        ({"regions": b"not a png"}, "regions must be a PNG label map"),
        ({"n_steps": 3, "n_regions": 3, "steps": []}, r"steps must have n_steps = 3 entries, got 0"),
        ({"question": None}, "column 'question' must not be null"),
    ],
)
def test_a_bad_value_is_refused_when_its_run_is_read(good: Path, change: dict[str, Any], message: str) -> None:
    back = read_traces(rewrite(good, lambda rows: rows[0].update(change)))
    with pytest.raises(TraceFormatError, match=f"run 'run-0000': .*{message}"):
        back[0]
    assert back[1].transcript_id == "run-0001"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "musing"}, "kind must be thinking or answer, got 'musing'"),
        ({"token_end": None}, "a step has a null field"),
    ],
)
def test_a_bad_step_is_refused_when_its_run_is_read(good: Path, change: dict[str, Any], message: str) -> None:
    back = read_traces(rewrite(good, lambda rows: rows[0]["steps"][1].update(change)))
    with pytest.raises(TraceFormatError, match=message):
        back[0]


def test_labels_that_name_no_region_are_refused(good: Path) -> None:
    def fewer(rows: list[dict[str, Any]]) -> None:
        rows[0].update(n_regions=2, effects=rows[0]["effects"][:6])

    back = read_traces(rewrite(good, fewer))
    with pytest.raises(TraceFormatError, match="region labels must be below n_regions = 2, got 2"):
        back[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transcript_id": ""}, "must have a transcript_id"),
        ({"meta": {"x": object()}}, "run 'run-0000': meta must hold what JSON can: got a object"),
        ({"meta": {"x": float("nan")}}, "meta must hold what JSON can"),
        ({"regions": np.full((4, 4), 3)}, r"region labels must be in 0\.\.2, got 3\.\.3"),
        ({"regions": np.full((4, 4), -1)}, r"region labels must be in 0\.\.2, got -1"),
        ({"regions": np.zeros((4, 4))}, r"regions must be \(H, W\) integers, got float64"),
        ({"effects_kind": "guessed"}, "effects_kind must be"),
        ({"question": "\ud800"}, "run 'run-0000': a value cannot be stored"),
        ({"task_repeat": "two"}, "run 'run-0000': a value cannot be stored"),
        ({"answer": None}, "run 'run-0000': answer must not be None"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_traces([make_trace(0, **changes)], tmp_path / "runs.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"success": False}, "success False contradicts outcome 'success'"),
        ({"outcome": "hallucination"}, "success True contradicts outcome 'hallucination'"),
        ({"meta": "[" * 100_000}, "meta must be a JSON object.*nested too deeply"),
        ({"meta": '{"x": NaN}'}, "meta must be a JSON object.*NaN is no JSON number"),
    ],
)
def test_fields_that_contradict_each_other_are_refused_by_name(
    good: Path, change: dict[str, Any], message: str
) -> None:
    back = read_traces(rewrite(good, lambda rows: rows[0].update(change)))
    with pytest.raises(TraceFormatError, match=rf"runs\.parquet: run 'run-0000': .*{message}"):
        back[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"token_start": 9, "token_end": 8}, r"tokens must be \[start, end\) .* got \[9, 8\)"),
        ({"token_start": -1}, r"tokens must be"),
        ({"logprob": float("nan")}, "logprob must be a number of at most 0 or None, got nan"),
        ({"logprob": 0.5}, "logprob must be a number of at most 0 or None, got 0.5"),
        ({"logprob": float("-inf")}, "logprob must be"),
        ({"entropy": float("nan")}, "entropy must be a number of at least 0 or None, got nan"),
        ({"entropy": -1.0}, "entropy must be"),
        ({"seconds": float("inf")}, "seconds must be a number of at least 0, got inf"),
    ],
)
def test_a_step_that_cannot_be_is_refused_by_name(good: Path, change: dict[str, Any], message: str) -> None:
    back = read_traces(rewrite(good, lambda rows: rows[0]["steps"][1].update(change)))
    with pytest.raises(TraceFormatError, match=rf"run 'run-0000', step 2: {message}"):
        back[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row["steps"][1].update(logprob=np.nan), "step 2: logprob must be a number of at most 0 or null"),
        (lambda row: row["steps"][1].update(entropy=-1.0), "step 2: entropy must be a number of at least 0 or null"),
        (lambda row: row.update(tokens=[3, -1]), "tokens must hold whole numbers of at least 0"),
        (lambda row: row.update(tokens=[None]), "tokens must hold whole numbers of at least 0"),
    ],
)
def test_columns_are_checked_as_runs_are(good: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    file = TraceFile(rewrite(good, lambda rows: change(rows[1])))
    with pytest.raises(TraceFormatError, match=rf"run 'run-0001': {message}"):
        list(file.batches(SCHEMA.names, 10))


def test_rounding_in_half_precision_is_no_contradiction(good: Path) -> None:
    change = {"logprob": 1e-4, "entropy": -1e-4}
    assert read_traces(rewrite(good, lambda rows: rows[0]["steps"][1].update(change)))[0].steps[1].logprob == 1e-4


def test_a_damaged_footer_never_reads_as_fewer_runs(tmp_path: Path) -> None:
    """Bytes of the footer, which Parquet gives no checksum, set to other values."""
    path = write_traces([make_trace(i) for i in range(3)], tmp_path / "runs.parquet")
    data, footer = path.read_bytes(), pq.ParquetFile(path).metadata.serialized_size
    rng = np.random.default_rng(0)
    for at in rng.choice(np.arange(len(data) - footer - 8, len(data) - 8), 250, replace=False):
        for value in (0, data[at] ^ 1 << int(rng.integers(8))):
            path.write_bytes(data[:at] + bytes([value]) + data[at + 1 :])
            try:
                back = read_traces(path)
            except TraceFormatError:
                continue
            assert len(back) == 3, f"byte {at} set to {value}"


def test_a_file_without_runs_is_read_as_such(tmp_path: Path) -> None:
    assert len(read_traces(write_traces([], tmp_path / "runs.parquet"))) == 0
