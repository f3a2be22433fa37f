"""A Hugging Face data set: a folder with Parquet files that `datasets.load_dataset` opens, and a card.

Columns are those of a trace file (docs/columns.md), but each row has its image, effects come as T lists of K numbers,
and hidden states are left out. The features that `datasets` takes are in the files' metadata: images are images.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trajkit.files import replacing, write_text
from trajkit.traces.exporters.card import Counts, card
from trajkit.traces.exporters.export import Export
from trajkit.traces.exporters.folder import filling
from trajkit.traces.exporters.said import has_effects
from trajkit.traces.rows import encode_trace
from trajkit.traces.schema import SCHEMA, STEP
from trajkit.traces.trace import Trace

ROW_GROUP = 64
SHARD = 2**28
"""Bytes after which a further file is begun."""

_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_MATRIX = pa.list_(pa.list_(pa.float32()))
_NUMBERS = {"_type": "List", "feature": {"_type": "Value", "dtype": "float32"}}
_CHANGED: dict[str, tuple[pa.DataType, dict[str, Any]]] = {
    "image": (_PICTURE, {"_type": "Image"}),
    "regions": (_PICTURE, {"_type": "Image"}),
    "effects": (
        _MATRIX,
        {"_type": "List", "feature": {"_type": "List", "feature": {"_type": "Value", "dtype": "float32"}}},
    ),
}
_CHANGED["half_widths"] = _CHANGED["effects"]
COLUMNS = tuple(name for name in SCHEMA.names if name != "hidden")


def features() -> dict[str, Any]:
    """What `datasets` reads the columns as."""
    return {name: _CHANGED[name][1] if name in _CHANGED else _feature(SCHEMA.field(name).type) for name in COLUMNS}


def _feature(type_: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(type_):
        return {"_type": "List", "feature": _feature(type_.value_type)}
    if pa.types.is_struct(type_):
        return {field.name: _feature(field.type) for field in type_}
    return {"_type": "Value", "dtype": {"double": "float64"}.get(str(type_), str(type_))}


ROWS = pa.schema(
    [pa.field(name, _CHANGED[name][0] if name in _CHANGED else SCHEMA.field(name).type) for name in COLUMNS],
    metadata={"huggingface": json.dumps({"info": {"features": features()}})},
)


def write(export: Export, path: Path) -> None:
    """To a folder. Raises InputError where that holds other files, WriteError where it cannot be written."""
    counts = Counts()
    with filling(path) as new:
        (new / "data").mkdir(exist_ok=True)
        rows = _rows(export, counts)
        for number, first in enumerate(rows):
            _shard(new / "data" / f"train-{number:05d}.parquet", chain([first], rows))
        write_text(new / "README.md", card(counts, path.name))


def _shard(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with replacing(path) as file, _parquet(file) as parquet:
        while file.tell() < SHARD and (some := list(islice(rows, ROW_GROUP))):
            parquet.write_table(pa.Table.from_pylist(some, ROWS))


def _parquet(file: Any) -> pq.ParquetWriter:
    """Runs of one image share it within a row group, in whose dictionary it stands once."""
    text = [name for name in COLUMNS if pa.types.is_string(SCHEMA.field(name).type)]
    return pq.ParquetWriter(
        file, ROWS, compression="zstd", use_dictionary=[*text, "image.bytes", "regions.bytes"], write_page_index=True
    )


def _rows(export: Export, counts: Counts) -> Iterator[dict[str, Any]]:
    for trace in export.runs(images=True):
        counts.add(trace)
        yield row_of(trace)


def row_of(trace: Trace) -> dict[str, Any]:
    """A run as a row of ROWS; effects are null where the source had none."""
    row = encode_trace(trace)
    return row | {
        "image": _picture(trace.image),
        "regions": _picture(row["regions"]),
        "effects": trace.effects.tolist() if has_effects(trace) else None,
        "half_widths": None if trace.half_widths is None else trace.half_widths.tolist(),
        "steps": [{field.name: getattr(step, field.name) for field in STEP} for step in trace.steps],
    }


def _picture(data: bytes | None) -> dict[str, bytes | None] | None:
    return {"bytes": data, "path": None} if data else None
