"""A Trace as a row of the schema, and back."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from trajkit.errors import InputError, TraceFormatError
from trajkit.strict_json import parse_json
from trajkit.traces.schema import NULLABLE, SCHEMA, STEP, STEP_NULLABLE
from trajkit.traces.trace import EffectsKind, Step, StepKind, Trace

_SCALARS = (
    "transcript_id",
    "task_set",
    "task_id",
    "task_repeat",
    "model",
    "score",
    "success",
    "group_id",
    "question",
    "answer",
    "target",
    "outcome",
    "image_sha256",
    "effects_kind",
)
_STEP_FIELDS = tuple(field.name for field in STEP)


def encode_trace(trace: Trace) -> dict[str, Any]:
    """The row of a Trace.

    Raises InputError when a part of the trace cannot be stored, or the image is not the one that its hash says.
    """
    where = f"run {trace.transcript_id!r}"
    if not trace.transcript_id:
        raise InputError("a run must have a transcript_id to be stored; got an empty one.")
    if trace.effects_kind not in (*get_args(EffectsKind), None):
        raise InputError(f"{where}: effects_kind must be estimated, measured or None; got {trace.effects_kind!r}.")
    if trace.image is not None and hashlib.sha256(trace.image).hexdigest() != trace.image_sha256:
        raise InputError(f"{where}: image_sha256 is not the hash of image; leave it empty and it is computed.")
    steps = [{name: getattr(step, name) for name in _STEP_FIELDS} for step in trace.steps]
    for step in steps:
        _step(step, where)
    return {
        **{name: getattr(trace, name) for name in _SCALARS},
        "image": trace.image,
        "regions": encode_labels(trace.regions, trace.n_regions, where),
        "n_steps": trace.n_steps,
        "n_regions": trace.n_regions,
        "steps": steps,
        "effects": np.ascontiguousarray(trace.effects, dtype=np.float32).ravel(),  # (T*K,)
        "half_widths": None if trace.half_widths is None else np.float32(trace.half_widths).ravel(),
        "hidden": None if trace.hidden is None else np.ascontiguousarray(trace.hidden, dtype=np.float32).ravel(),
        "tokens": trace.tokens,
        "meta": _meta_json(trace.meta, where),
    }


def decode_trace(
    row: Mapping[str, Any],
    effects: NDArray[np.float32],
    half_widths: NDArray[np.float32] | None,
    hidden: NDArray[np.float32] | None,
    tokens: NDArray[np.int32] | None,
    image: bytes | None,
    path: Path,
) -> Trace:
    """The Trace of a row. Raises TraceFormatError naming file and run.

    effects, half_widths: flat (T*K,). hidden: flat (T*h,). tokens: (n,). None where none were
    kept.
    """
    where = f"{path}: run {row['transcript_id']!r}"
    for name in SCHEMA.names:
        if name in row and row[name] is None and name not in NULLABLE:
            raise TraceFormatError(f"{where}: column {name!r} must not be null; fill it in, or leave the run out.")
    if len(row["steps"]) != row["n_steps"]:
        raise TraceFormatError(
            f"{where}: steps must have n_steps = {row['n_steps']} entries, got {len(row['steps'])}; write it again."
        )
    if row["effects_kind"] not in (*get_args(EffectsKind), None):
        raise TraceFormatError(
            f"{where}: effects_kind must be estimated, measured or null; got {row['effects_kind']!r}."
        )
    try:
        meta = parse_json(row["meta"])
    except ValueError as error:
        raise TraceFormatError(f"{where}: meta must be a JSON object, got {row['meta'][:60]!r} ({error}).") from error
    if not isinstance(meta, dict):
        raise TraceFormatError(f"{where}: meta must be a JSON object, got {row['meta'][:60]!r}.")
    parts: dict[str, Any] = {
        "steps": tuple(_step(step, where) for step in row["steps"]),
        "effects": effects.reshape(row["n_steps"], row["n_regions"]),  # (T, K)
        "regions": decode_labels(row["regions"], row["n_regions"], where),
        "half_widths": _half_widths(half_widths, row["n_steps"], row["n_regions"], where),
        "hidden": _hidden(hidden, row["n_steps"], where),
        "tokens": tokens,
    }
    try:
        return Trace(**{name: row[name] for name in _SCALARS}, **parts, image=image, meta=meta)
    except TraceFormatError as error:
        raise TraceFormatError(f"{path}: {error}") from error


def encode_labels(labels: NDArray[np.integer[Any]], n_regions: int, where: str) -> bytes:
    """(H, W) labels in 0..n_regions-1 as a grey PNG, 8 bit where that is enough; no bytes for an empty map.

    With n_regions 0 (a source without effects) the labels may be any in 0..65535.
    """
    from PIL import Image

    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{where}: regions must be (H, W) integers, got {labels.dtype} of shape {labels.shape}.")
    if labels.size == 0:
        return b""
    low, high = int(labels.min()), int(labels.max())
    most = min(n_regions or 65536, 65536) - 1
    if low < 0 or high > most:
        raise InputError(f"{where}: region labels must be in 0..{most}, got {low}..{high}.")
    stream = io.BytesIO()
    Image.fromarray(labels.astype(np.uint8 if high < 256 else np.uint16)).save(stream, format="PNG")
    return stream.getvalue()


def decode_labels(png: bytes, n_regions: int, where: str) -> NDArray[np.integer[Any]]:
    """The (H, W) label map of a PNG: uint8 or uint16. Raises TraceFormatError when it is none."""
    from PIL import Image

    if not png:
        return np.zeros((0, 0), dtype=np.uint8)
    try:
        with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
            labels = np.array(image)
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, its bomb error and others
        raise TraceFormatError(f"{where}: regions must be a PNG label map, but it cannot be read: {error}.") from error
    if labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16):
        raise TraceFormatError(
            f"{where}: regions must be a grey PNG of 8 or 16 bit, got {labels.dtype} {labels.shape}."
        )
    if n_regions and int(labels.max()) >= n_regions:
        raise TraceFormatError(
            f"{where}: region labels must be below n_regions = {n_regions}, got {int(labels.max())}."
        )
    return labels


def _hidden(values: NDArray[np.float32] | None, n_steps: int, where: str) -> NDArray[np.float32] | None:
    if values is None:
        return None
    if not n_steps and not len(values):
        return np.zeros((0, 0), np.float32)
    if (len(values) % n_steps if n_steps else True) or not np.isfinite(values).all():
        raise TraceFormatError(f"{where}: hidden must hold the same number of finite values for each of its steps.")
    return values.reshape(n_steps, -1)


def _half_widths(
    values: NDArray[np.float32] | None, n_steps: int, n_regions: int, where: str
) -> NDArray[np.float32] | None:
    if values is None:
        return None
    if len(values) != n_steps * n_regions:
        raise TraceFormatError(
            f"{where}: half_widths must have n_steps * n_regions = {n_steps} * {n_regions} values, got {len(values)}."
        )
    return values.reshape(n_steps, n_regions)


def _step(step: Mapping[str, Any] | None, where: str) -> Step:
    if step is None or any(value is None and name not in STEP_NULLABLE for name, value in step.items()):
        raise TraceFormatError(f"{where}: a step has a null field: {step}; fill it in, or leave the run out.")
    if step["kind"] not in get_args(StepKind):
        raise TraceFormatError(f"{where}: a step's kind must be thinking or answer, got {step['kind']!r}.")
    return Step(**step)


def _meta_json(meta: Mapping[str, Any], where: str) -> str:
    try:
        return json.dumps(dict(meta), default=plain, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: meta must hold what JSON can: {error}.") from error


def plain(value: object) -> Any:
    """For `json.dumps(default=…)`: NumPy numbers and arrays, and paths."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"got a {type(value).__name__}")
