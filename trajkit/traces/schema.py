"""The Arrow schema of a trace file, with a sentence for each column, and the check that a file follows it.

Names follow the common transcript columns, so that other tools open the files. Extra columns are allowed and ignored.
`SCHEMA_VERSION` is in the file's metadata; a file that another tool rewrote without it is held to this version's
columns.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from trajkit.errors import TraceFormatError

SCHEMA_VERSION = 3
READ_VERSIONS = (1, 2, 3)
"""Version 2 added `risk` and `alarm` of a step, and `half_widths`; version 3 `tokens`, and a step's `logprob` and
`entropy` may be null. What a file lacks of these is null."""
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
        pa.field("risk", pa.float64()),
        pa.field("alarm", pa.bool_()),
    ]
)
"""One sentence of the thinking span, or the answer; see `trajkit.traces.trace.Step`."""

STEP_OPTIONAL = frozenset({"risk", "alarm"})
"""Of a step: may be null, and missing from a file."""
STEP_NULLABLE = STEP_OPTIONAL | {"logprob", "entropy"}
"""Of a step: may be null."""
NULLABLE = frozenset({"score", "success", "image", "effects_kind", "hidden", "half_widths", "tokens"})
OPTIONAL = frozenset({"hidden", "half_widths", "tokens"})
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
    ("outcome", pa.string(), "success, hallucination, reasoning_failure, failure or unknown."),
    ("image", pa.binary(), "Encoded PNG or JPEG; null when another row of the same image_sha256 has it, or none does."),
    ("image_sha256", pa.string(), "SHA-256 of the encoded image, hexadecimal; empty when there is no image."),
    ("regions", pa.binary(), "PNG label map (8 or 16 bit), H x W, values 0..K-1; empty when there are no regions."),
    ("n_steps", pa.int32(), "T, how many steps the run has, the answer included."),
    ("n_regions", pa.int32(), "K, how many regions the image has."),
    ("steps", pa.list_(STEP), "The T steps in order; tokens are counted from the first generated one."),
    ("effects", pa.list_(pa.float32()), "Effect of each region on each step, nats: flat T*K, row-major."),
    ("effects_kind", pa.string(), "estimated, measured, or null when the source had none."),
    ("meta", pa.string(), "JSON object: generation settings, versions, revision."),
    ("half_widths", pa.list_(pa.float32()), "Half widths of 90 % intervals of effects, nats, flat T*K; null: none."),
    ("hidden", pa.list_(pa.float32()), "A hidden state of each step, flat T*h; null where none was kept."),
    ("tokens", pa.list_(pa.int32()), "Ids of the generated tokens, tags and end token included; null where unknown."),
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
    version = (schema.metadata or {}).get(VERSION_KEY, str(SCHEMA_VERSION).encode()).decode(errors="replace")
    if version not in map(str, READ_VERSIONS):
        raise TraceFormatError(
            f"{path}: expected trace schema version {', '.join(map(str, READ_VERSIONS))}, got {version}; "
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
        if not _taken(expected.type, got):
            raise TraceFormatError(
                f"{path}: column {expected.name!r} must be of type {expected.type}, got {got}. "
                "Write traces with trajkit.write_traces, or cast the column."
            )


def as_schema(table: pa.Table) -> pa.Table:
    """The columns of `table`, which `check_schema` took, with the schema's types.

    Raises pyarrow.ArrowException where a value does not fit its type: a whole number beyond 32 bits, say.
    """
    for i, name in enumerate(table.schema.names):
        expected = SCHEMA.field(name).type
        if not _same(expected, table.schema.field(i).type):
            table = table.set_column(i, name, table[name].cast(expected))
    return table


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


def _taken(expected: pa.DataType, got: pa.DataType) -> bool:
    """Whether values of a type can be read as the schema's without loss, value by value: other widths of numbers and of
    offsets, dictionaries, lists of one size, and the fields of a step in any order."""
    if pa.types.is_dictionary(got):
        return _taken(expected, got.value_type)
    if pa.types.is_list(expected):
        lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        return any(is_one(got) for is_one in lists) and _taken(expected.value_type, got.value_type)
    if pa.types.is_struct(expected):
        names = {field.name for field in got} if pa.types.is_struct(got) else set()
        return (
            pa.types.is_struct(got)
            and len({field.name for field in got}) == len(got)
            and all(
                _taken(field.type, got.field(field.name).type) if field.name in names else field.name in STEP_OPTIONAL
                for field in expected
            )
        )
    for one_kind in (pa.types.is_integer, pa.types.is_floating, _is_text, _is_bytes):
        if one_kind(expected):
            return one_kind(got)
    return expected.equals(got)


def _is_text(of: pa.DataType) -> bool:
    return pa.types.is_string(of) or pa.types.is_large_string(of) or pa.types.is_string_view(of)


def _is_bytes(of: pa.DataType) -> bool:
    return pa.types.is_binary(of) or pa.types.is_large_binary(of) or pa.types.is_fixed_size_binary(of)
