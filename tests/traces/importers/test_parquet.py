"""Columns of Parquet and Arrow files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trajkit.errors import InputError
from trajkit.traces.importers.parquet import arrow_rows, parquet_rows


def test_offsets_that_point_outside_an_arrow_file_are_refused_before_they_are_followed(tmp_path: Path) -> None:
    path, offsets = tmp_path / "a.arrow", b"\0\0\0\0\3\0\0\0\6\0\0\0"
    table = pa.table({"a": ["one", "two"]})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    data = path.read_bytes()
    assert data.count(offsets) == 1
    path.write_bytes(data.replace(offsets, offsets[:8] + b"\xff\xff\xff\x7f"))

    with pytest.raises(InputError, match="no Arrow file"):
        list(arrow_rows(path))


def test_times_that_python_cannot_hold_hinder_nothing(tmp_path: Path) -> None:
    far = pa.array([2**62], pa.timestamp("us"))
    pq.write_table(pa.table({"a.b": ["one"], "at": far}), tmp_path / "a.parquet")
    assert list(parquet_rows(tmp_path / "a.parquet")) == [{"a.b": "one"}]

    pq.write_table(pa.table({"a": pa.StructArray.from_arrays([far], ["at"])}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match="no Parquet file"):
        list(parquet_rows(tmp_path / "b.parquet"))
