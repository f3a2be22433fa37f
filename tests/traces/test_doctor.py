"""Saved runs, examined and repaired: what is bad is named and set aside, and no good run is lost."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trajkit.errors import InputError
from trajkit.traces.doctor import WHY, examine, repair
from trajkit.traces.store import read_traces, write_traces

from .factory import assert_same, make_trace


@pytest.fixture
def folder(tmp_path):
    """Three files of four runs each."""
    path = tmp_path / "traces"
    for part in range(3):
        write_traces([make_trace(4 * part + i) for i in range(4)], path / f"part-{part}.parquet")
    return path


def change(path: Path, column: str, row: int, value: object) -> None:
    table = pq.read_table(path)
    at = table.column_names.index(column)
    values = table[column].to_pylist()
    values[row] = value
    field = table.schema.field(at).with_nullable(True)
    pq.write_table(table.set_column(at, field, pa.array(values, field.type)), path)


def test_a_healthy_folder_is_healthy_and_left_alone(folder):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert (examine(folder).runs, examine(folder).healthy, examine(folder).no_image) == (12, True, 0)
    assert repair(folder)[1] is None
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


BAD = {
    "effects": ([1.0], r"effects must have n_steps \* n_regions = 5 \* 3 values, got 1"),
    "n_steps": (9, "steps must have n_steps = 9 entries, got 5"),
    "outcome": (
        "good",
        "outcome must be one of success, hallucination, reasoning_failure, failure, unknown; got 'good'",
    ),
    "question": (None, "column 'question' must not be null"),
    "success": (False, "success False contradicts outcome 'success'"),
    "meta": ("[1]", r"meta must be a JSON object, got '\[1\]'"),
    "regions": (b"no png", "regions must be a PNG label map"),
    "transcript_id": ("run-0000", "transcript_id must be unique; 'run-0000' is in part-0.parquet before"),
    "half_widths": ([1.0, 2.0], "half_widths must have a finite value"),
}


@pytest.mark.parametrize("column", BAD)
def test_a_bad_run_is_named_with_its_reason_and_set_aside_and_the_others_are_kept(folder, column):
    value, why = BAD[column]
    change(folder / "part-1.parquet", column, 1, value)
    found = examine(folder)
    assert (found.runs, len(found.bad), found.bad[0].file.name) == (11, 1, "part-1.parquet")
    assert re.search(why, found.bad[0].why)
    _, aside = repair(folder)
    kept = [i for i in range(12) if i != 5]
    for run, number in zip(read_traces(folder), kept, strict=True):
        assert_same(run, make_trace(number))
    assert pq.read_metadata(aside / "part-1.parquet").num_rows == 1
    assert re.search(why, (aside / WHY).read_text())
    assert examine(folder).healthy


def test_an_image_that_only_a_bad_run_carried_goes_to_a_good_one(folder):
    change(folder / "part-1.parquet", "outcome", 0, "good")  # the first row holds the image of all four
    repair(folder)
    for run, number in zip(read_traces(folder), [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11], strict=True):
        assert_same(run, make_trace(number))


def test_a_file_cut_short_is_set_aside_whole(folder):
    path = folder / "part-2.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    found, aside = repair(folder)
    assert [(file.name, "cut short" in why) for file, why in found.files] == [("part-2.parquet", True)]
    assert (aside / "part-2.parquet").is_file()
    assert len(read_traces(folder)) == 8


def test_a_damaged_row_group_costs_its_own_runs_alone(tmp_path):
    table = pq.read_table(write_traces([make_trace(i) for i in range(12)], tmp_path / "runs.parquet"))
    pq.write_table(table, tmp_path / "runs.parquet", row_group_size=4, write_page_checksum=True, use_dictionary=False)
    data = bytearray((tmp_path / "runs.parquet").read_bytes())
    group = pq.ParquetFile(tmp_path / "runs.parquet").metadata.row_group(1)
    columns = [group.column(i) for i in range(group.num_columns)]
    effects = next(column for column in columns if column.path_in_schema.startswith("effects."))
    data[effects.data_page_offset + effects.total_compressed_size - 5] ^= 0xFF
    (tmp_path / "runs.parquet").write_bytes(data)
    found, aside = repair(tmp_path / "runs.parquet")
    assert (found.runs, len(found.bad)) == (8, 4)
    assert aside == tmp_path / "runs.set_aside"
    assert [run.transcript_id for run in read_traces(tmp_path / "runs.parquet")] == [
        f"run-{i:04d}" for i in (0, 1, 2, 3, 8, 9, 10, 11)
    ]


def test_runs_without_their_image_are_counted_and_no_fault(tmp_path):
    path = write_traces([make_trace(0, image=None, image_sha256="00"), make_trace(4)], tmp_path / "runs.parquet")
    assert (examine(path).healthy, examine(path).no_image) == (True, 1)


def test_nothing_to_examine_is_told(tmp_path):
    with pytest.raises(InputError, match=r"holds no \.parquet file"):
        examine(tmp_path)
