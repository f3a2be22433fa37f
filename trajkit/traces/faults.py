"""What is wrong with saved runs: every check of a batch of rows at once, and the words for what it finds.

The same things that a `Trace` refuses when it is made, and what the schema asks of columns together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trajkit.traces.meta import parse_meta
from trajkit.traces.schema import NULLABLE, STEP_NULLABLE
from trajkit.traces.trace import OUTCOMES, ROUNDING, EffectsKind, StepKind

Mask = NDArray[np.bool_]


class Fault(NamedTuple):
    """row: of the batch. why: what was expected and what came."""

    row: int
    why: str


def faults(batch: pa.RecordBatch) -> Iterator[Fault]:
    """All faults of the columns that `batch` has (some of the trace schema, with n_steps and n_regions), check by
    check: a row may come more than once."""
    names = batch.schema.names
    for name in names:
        if name not in NULLABLE:
            for row in _rows(batch[name].is_null()):
                yield Fault(row, f"column {name!r} must not be null")
    yield from _of_words(batch)
    if "steps" in names:
        yield from _of_steps(batch)
    if "effects" in names:
        yield from _of_effects(batch)
    if "half_widths" in names:
        yield from _of_half_widths(batch)
    if "hidden" in names:
        yield from _of_hidden(batch)
    if "tokens" in names:
        yield from _of_tokens(batch["tokens"])
    if "meta" in names:
        yield from _of_meta(batch["meta"])


def _of_words(batch: pa.RecordBatch) -> Iterator[Fault]:
    for name, known in (("outcome", OUTCOMES), ("effects_kind", get_args(EffectsKind))):
        if name in batch.schema.names:
            column = batch[name]
            for row in _rows(pc.invert(pc.is_in(column, pa.array(known))), column.is_valid()):
                null = " or null" * (name in NULLABLE)
                yield Fault(row, f"{name} must be one of {', '.join(known)}{null}; got {column[row].as_py()!r}")
    if {"outcome", "success"} <= set(batch.schema.names):
        outcome, success = batch["outcome"], batch["success"]
        contradicts = pc.not_equal(success, pc.equal(outcome, "success"))
        for row in _rows(contradicts, pc.not_equal(outcome, "unknown"), success.is_valid()):
            yield Fault(row, f"success {success[row].as_py()} contradicts outcome {outcome[row].as_py()!r}")


def _of_steps(batch: pa.RecordBatch) -> Iterator[Fault]:
    column = batch["steps"]
    offsets = _offsets(column)
    for row in np.flatnonzero(np.diff(offsets) != _counts(batch, "n_steps")).tolist():
        said, there = batch["n_steps"][row].as_py(), offsets[row + 1] - offsets[row]
        yield Fault(row, f"steps must have n_steps = {said} entries, got {there}")
    steps = column.values.slice(offsets[0], offsets[-1] - offsets[0])
    owner = np.repeat(np.arange(len(batch)), np.diff(offsets))
    fields: dict[str, Any] = {field.name: steps.field(field.name) for field in steps.type}
    bad = np.zeros(len(steps), bool)

    def found(wrong: Any, why: str) -> Iterator[Fault]:
        for at in np.flatnonzero(_mask(wrong) & ~bad).tolist():
            row = int(owner[at])
            number = at - int(offsets[row] - offsets[0]) + 1
            yield Fault(row, f"step {number}: {why}, got {_said(steps, at)}")

    null = _mask(steps.is_null())
    for name, values in fields.items():
        if name not in STEP_NULLABLE:
            null |= _mask(values.is_null())
    yield from found(null, "no field may be null")
    bad |= null
    yield from found(
        pc.invert(pc.is_in(fields["kind"], pa.array(get_args(StepKind)))), "kind must be thinking or answer"
    )
    start, end, logprob, entropy, seconds = (
        fields[name].to_numpy(zero_copy_only=False)
        for name in ("token_start", "token_end", "logprob", "entropy", "seconds")
    )
    with np.errstate(invalid="ignore"):
        yield from found((start < 0) | (end < start), "tokens must be [start, end) with 0 <= start <= end")
        for name, wrong, most in (
            ("logprob", ~((-np.inf < logprob) & (logprob <= ROUNDING)), "at most 0"),
            ("entropy", ~((entropy >= -ROUNDING) & (entropy < np.inf)), "at least 0"),
        ):
            yield from found(wrong & _mask(fields[name].is_valid()), f"{name} must be a number of {most} or null")
        risk = fields["risk"].to_numpy(zero_copy_only=False).astype(float)  # NaN where null
        yield from found((risk < 0) | (risk > 1), "risk must be in [0, 1] or null")
        yield from found(~((seconds >= 0) & (seconds < np.inf)), "seconds must be a number of at least 0")


def _of_effects(batch: pa.RecordBatch) -> Iterator[Fault]:
    column = batch["effects"]
    offsets, steps, regions = _offsets(column), _counts(batch, "n_steps"), _counts(batch, "n_regions")
    wrong = (np.diff(offsets) != steps * regions) | (steps < 0) | (regions < 0)
    for row in np.flatnonzero(wrong).tolist():
        yield Fault(
            row,
            f"effects must have n_steps * n_regions = {steps[row]} * {regions[row]} values, got "
            f"{offsets[row + 1] - offsets[row]}",
        )
    values = column.values.slice(offsets[0], offsets[-1] - offsets[0])
    bad = _mask(values.is_null()) if values.null_count else np.zeros(0, bool)
    finite = np.isfinite(values.to_numpy(zero_copy_only=False))
    if len(bad) or not finite.all():
        owner = np.searchsorted(offsets - offsets[0], np.flatnonzero(~finite), "right") - 1  # a null reads as NaN
        for row, count in zip(*np.unique(owner, return_counts=True), strict=True):
            yield Fault(int(row), f"effects must be finite, got {count} null, NaN or infinite values")


def _of_half_widths(batch: pa.RecordBatch) -> Iterator[Fault]:
    column, kept = batch["half_widths"], _mask(batch["half_widths"].is_valid())
    offsets = _offsets(column)
    expected = _counts(batch, "n_steps") * _counts(batch, "n_regions")
    values = column.values.slice(offsets[0], offsets[-1] - offsets[0]).to_numpy(zero_copy_only=False)
    bad = np.zeros(len(batch), bool)
    with np.errstate(invalid="ignore"):
        at = np.flatnonzero(~((values >= 0) & (values < np.inf)))
    bad[np.searchsorted(offsets - offsets[0], at, "right") - 1] = True
    for row in np.flatnonzero(((np.diff(offsets) != expected) | bad) & kept).tolist():
        yield Fault(row, "half_widths must have a finite value of at least 0 for each effect")


def _of_hidden(batch: pa.RecordBatch) -> Iterator[Fault]:
    column, steps = batch["hidden"], _counts(batch, "n_steps")
    offsets = _offsets(column)
    lengths = np.diff(offsets)
    values = column.values.slice(offsets[0], offsets[-1] - offsets[0]).to_numpy(zero_copy_only=False)
    infinite = np.zeros(len(batch), bool)
    infinite[np.searchsorted(offsets - offsets[0], np.flatnonzero(~np.isfinite(values)), "right") - 1] = True
    uneven = lengths % np.maximum(steps, 1) != 0
    for row in np.flatnonzero((uneven | infinite | ((steps == 0) & (lengths > 0))) & _mask(column.is_valid())).tolist():
        yield Fault(row, "hidden must hold the same number of finite values for each of its steps")


def _of_tokens(column: pa.ListArray) -> Iterator[Fault]:
    offsets = _offsets(column)
    values = column.values.slice(offsets[0], offsets[-1] - offsets[0])
    bad = np.flatnonzero(_mask(values.is_null()) | _mask(pc.less(values, 0)))
    for row in np.unique(np.searchsorted(offsets - offsets[0], bad, "right") - 1).tolist():
        yield Fault(row, "tokens must hold whole numbers of at least 0")


def _of_meta(column: pa.Array) -> Iterator[Fault]:
    meta = column.dictionary_encode()
    wrong: dict[int, str] = {}
    for number, text in enumerate(meta.dictionary.to_pylist()):
        try:
            parse_meta(text)
        except ValueError as error:
            wrong[number] = f" ({error})" if str(error) else ""
    if wrong:
        for row, number in enumerate(meta.indices.to_pylist()):
            if number in wrong:
                yield Fault(row, f"meta must be a JSON object, got {column[row].as_py()[:60]!r}{wrong[number]}")


def _offsets(column: pa.ListArray) -> NDArray[np.int64]:
    return column.offsets.to_numpy().astype(np.int64)


def _counts(batch: pa.RecordBatch, name: str) -> NDArray[np.int64]:
    return pc.fill_null(batch[name], 0).to_numpy(zero_copy_only=False).astype(np.int64)


def _mask(array: Any) -> Mask:
    if isinstance(array, pa.Array):
        return np.asarray(pc.fill_null(array, False).to_numpy(zero_copy_only=False), bool)
    return np.asarray(array, bool)


def _rows(*masks: Any) -> list[int]:
    """The rows where all of them hold."""
    return np.flatnonzero(np.logical_and.reduce([_mask(mask) for mask in masks])).tolist()


def _said(steps: pa.StructArray, at: int) -> str:
    return str({name: value for name, value in steps[at].as_py().items() if name != "text"})
