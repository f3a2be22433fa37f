"""Rows of Parquet and Arrow files of other tools."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trajkit.errors import InputError

ROWS = 16
"""Rows that are read at once: each may hold images."""


def columns(path: Path, head: bytes) -> set[str]:
    """The names of the columns of a Parquet file; none of any other."""
    if not head.startswith(b"PAR1"):
        return set()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError, ValueError):
        return set()


def parquet_rows(path: Path, names: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """names: of the columns that are wanted, where the file has them; None for all but dates and times, which Python
    may not be able to hold. Raises InputError where the file
    cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            there = [one.name for one in file.schema_arrow if not pa.types.is_temporal(one.type)]
            there = there if names is None else [name for name in names if name in there]
            for batch in file.iter_batches(batch_size=ROWS, columns=there):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise InputError(f"{path} is no Parquet file that can be read ({error}).") from error


def count_rows(path: Path) -> int:
    """Of a Parquet file. Raises InputError where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is no Parquet file that can be read ({error}).") from error


def texts_of(path: Path, *names: str) -> Iterator[str]:
    """The values of some columns, those that there are, as one text each. Raises InputError as `parquet_rows`."""
    for row in parquet_rows(path, names):
        yield str(row)


def arrow_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Of an Arrow file as `datasets` saves it. Raises InputError where it cannot be read."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as stream:
            for batch in stream:
                batch.validate(full=True)  # offsets may point outside the file
                for at in range(0, batch.num_rows, ROWS):
                    yield from batch.slice(at, ROWS).to_pylist()
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise InputError(f"{path} is no Arrow file of a data set that can be read ({error}).") from error
