"""One Parquet file of traces, written whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from trajkit.errors import InputError
from trajkit.files import replacing
from trajkit.traces.schema import ROWS_KEY, SCHEMA

ROW_GROUP = 64
"""Rows encoded at a time, and read at a time when an image is looked up."""

_EFFECTS = "effects.list.element"
_DICTIONARY = [
    "task_set",
    "task_id",
    "model",
    "group_id",
    "question",
    "answer",
    "target",
    "outcome",
    "image_sha256",
    "regions",
    "steps.list.element.kind",
    "effects_kind",
    "meta",
]


def write_file(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write one .parquet file: image bytes on the first row that has them, zstd, page checksums.

    `rows` come from `encode_trace`. They go to a temporary file in the same folder, which takes the final name when it
    is complete: a full disk or a kill leaves whatever was at `path` as it was. Raises InputError on ids that repeat and
    on a failed write.
    """
    with replacing(path) as stream, _parquet(stream) as writer:
        distinct, count = _distinct(rows), 0
        while batch := list(islice(distinct, ROW_GROUP)):
            writer.write_table(to_table(batch), row_group_size=ROW_GROUP)
            count += len(batch)
        writer.add_key_value_metadata({ROWS_KEY: str(count)})


def write_tables(tables: Iterable[pa.Table], path: Path, row_group: int = ROW_GROUP) -> None:
    """As `write_file`, of tables of the schema, each in row groups of `row_group` runs; images stay on the rows that
    have them."""
    with replacing(path) as stream, _parquet(stream) as writer:
        count = 0
        for table in tables:
            writer.write_table(table.select(SCHEMA.names).cast(SCHEMA), row_group_size=row_group)
            count += len(table)
        writer.add_key_value_metadata({ROWS_KEY: str(count)})


@contextlib.contextmanager
def _parquet(stream: IO[bytes]) -> Iterator[pq.ParquetWriter]:
    """A Parquet writer that closes quietly when writing has already failed: the first error is the one to show."""
    writer = pq.ParquetWriter(
        stream,
        SCHEMA,
        compression="zstd",
        use_dictionary=_DICTIONARY,
        column_encoding={_EFFECTS: "BYTE_STREAM_SPLIT"},
        write_page_checksum=True,
    )
    try:
        yield writer
    except BaseException:
        with contextlib.suppress(Exception):
            writer.close()
        raise
    writer.close()


def _distinct(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows, each image on its first row only. Raises InputError on an id that came before."""
    ids: set[str] = set()
    images: set[str] = set()
    for row in rows:
        if row["transcript_id"] in ids:
            raise InputError(
                f"transcript_id must be unique in a file; {row['transcript_id']!r} came twice, rename one."
            )
        ids.add(row["transcript_id"])
        yield row | {"image": None} if row["image_sha256"] in images else row
        if row["image"] is not None:
            images.add(row["image_sha256"])


def to_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as an Arrow table of the schema. Raises InputError naming the run when a value does not fit its column."""
    try:
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        table.validate()
    except (pa.ArrowException, UnicodeError, OverflowError, TypeError) as error:
        ids = [row["transcript_id"] for row in rows]
        raise InputError(f"run {' or '.join(map(repr, ids))}: a value cannot be stored: {error}") from error
    for name in SCHEMA.names:
        if not SCHEMA.field(name).nullable and table[name].null_count:
            run = rows[[row[name] for row in rows].index(None)]["transcript_id"]
            raise InputError(f"run {run!r}: {name} must not be None; leave it out and the default is taken.")
    return table
