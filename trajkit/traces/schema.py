"""The Arrow schema of a trace file, with a sentence for each column, and the check that a file follows it.

Names follow the common transcript columns, so that other tools open the files. Extra columns are allowed and ignored.
`SCHEMA_VERSION` is in the file's metadata; a file that another tool rewrote without it is held to this version's
columns.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from trajkit.errors import TraceFormatError

SCHEMA_VERSION = 1
VERSION_KEY = b"trajkit.schema_version"
ROWS_KEY = b"trajkit.rows"
"""Of a file's metadata: how many runs were written, so that a damaged footer cannot hide any."""

STEP = pa.struct(
    [
        pa.field("text", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("token_start", pa.int32()),
        pa.field("token_end", pa.int32()),
        pa.field("logprob", pa.float64()),
        pa.field("entropy", pa.float64()),
        pa.field("seconds", pa.float64()),
    ]
)
"""One sentence of the thinking span, or the answer; see `trajkit.traces.trace.Step`."""

NULLABLE = frozenset({"score", "success", "image", "effects_kind", "hidden"})
OPTIONAL = frozenset({"hidden"})
"""Columns that a file may lack."""

_COLUMNS: tuple[tuple[str, pa.DataType, str], ...] = (
    ("transcript_id", pa.string(), "The run's name, unique in a file or folder."),
    ("task_set", pa.string(), "The task family or benchmark; empty when unknown."),
    ("task_id", pa.string(), "The task within its set; empty when unknown."),
    ("task_repeat", pa.int64(), "Which repetition of the task this run is, from 0."),
    ("model", pa.string(), "The model's hub id or folder."),
    ("score", pa.float64(), "The score of the answer, null when it was not scored."),
    ("success", pa.bool_(), "Whether the answer is right, null when unknown."),
    ("group_id", pa.string(), "Image or question; the runs of a group are never split across train and test."),
    ("question", pa.string(), "What the model was asked."),
    ("answer", pa.string(), "What the model answered, empty when it did not."),
    ("target", pa.string(), "The right answer, empty when unknown."),
    ("outcome", pa.string(), "success, hallucination, reasoning_failure or unknown."),
    ("image", pa.binary(), "Encoded PNG or JPEG; null when another row of the same image_sha256 has it, or none does."),
    ("image_sha256", pa.string(), "SHA-256 of the encoded image, hexadecimal; empty when there is no image."),
    ("regions", pa.binary(), "PNG label map (8 or 16 bit), H x W, values 0..K-1; empty when there are no regions."),
    ("n_steps", pa.int32(), "T, how many steps the run has, the answer included."),
    ("n_regions", pa.int32(), "K, how many regions the image has."),
    ("steps", pa.list_(STEP), "The T steps in order; tokens are counted from the first generated one."),
    ("effects", pa.list_(pa.float32()), "Effect of each region on each step, nats: flat T*K, row-major."),
    ("effects_kind", pa.string(), "estimated, measured, or null when the source had none."),
    ("meta", pa.string(), "JSON object: generation settings, versions, revision."),
    ("hidden", pa.list_(pa.float32()), "A hidden state of each step, flat T*h; null where none was kept."),
)

SCHEMA = pa.schema(
    [
        pa.field(name, type_, nullable=name in NULLABLE, metadata={"description": sentence})
        for name, type_, sentence in _COLUMNS
    ],
    metadata={VERSION_KEY: str(SCHEMA_VERSION)},
)


def check_schema(schema: pa.Schema, path: Path) -> None:
    """Raises TraceFormatError when a schema is of another version, lacks a column, or has one of another type."""
    version = (schema.metadata or {}).get(VERSION_KEY, str(SCHEMA_VERSION).encode())
    if version != str(SCHEMA_VERSION).encode():
        raise TraceFormatError(
            f"{path}: expected trace schema version {SCHEMA_VERSION}, got {version.decode(errors='replace')}; "
            "read it with the trajkit that wrote it, or a newer one."
        )
    missing = [
        name
        for name in SCHEMA.names
        if schema.get_field_index(name) < 0 and (name not in OPTIONAL or name in schema.names)
    ]  # an index below 0: not there, or there twice
    if missing:
        raise TraceFormatError(
            f"{path}: not a trace file, missing or repeated columns: {', '.join(missing)}. Got: "
            f"{', '.join(schema.names) or 'none'}. Write traces with trajkit.write_traces."
        )
    for expected in SCHEMA:
        if expected.name not in schema.names:
            continue
        got = schema.field(expected.name).type
        if not _same(expected.type, got):
            raise TraceFormatError(
                f"{path}: column {expected.name!r} must be of type {expected.type}, got {got}. "
                "Write traces with trajkit.write_traces, or cast the column."
            )


def _same(expected: pa.DataType, got: pa.DataType) -> bool:
    """Equal apart from nullability and the names of list items, which tools choose differently."""
    if pa.types.is_list(expected):
        return pa.types.is_list(got) and _same(expected.value_type, got.value_type)
    if pa.types.is_struct(expected):
        return (
            pa.types.is_struct(got)
            and [field.name for field in expected] == [field.name for field in got]
            and all(_same(a.type, b.type) for a, b in zip(expected, got, strict=True))
        )
    return expected.equals(got)
