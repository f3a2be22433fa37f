"""Which runs are meant: what `Traces.filter` and `Traces.where` take, and the sentences where it cannot be."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trajkit.errors import InputError
from trajkit.traces.schema import NULLABLE, SCHEMA
from trajkit.traces.trace import OUTCOMES, EffectsKind, Trace

Mask = NDArray[np.bool_]
_WORDS: dict[str, tuple[str, ...]] = {"outcome": OUTCOMES, "effects_kind": get_args(EffectsKind)}
"""Columns that hold one of these; any may be asked for, whether a run has it or not."""
_LISTED = 6


def nearest(name: str, known: Collection[str]) -> str:
    """What of `known` was meant, as the end of a sentence: the one most alike, or else the first few of them."""
    if alike := difflib.get_close_matches(str(name), known, n=1):
        return f"did you mean {alike[0]!r}?"
    some = [repr(one) for one in known][:_LISTED]
    return f"known: {', '.join(some)}{', …' * (len(known) > len(some))}." if some else "there is none."


def has_value(column: pa.ChunkedArray, name: str, asked: Any, known: pa.ChunkedArray) -> Mask:
    """The rows of `column` that have the value `asked`, or one of them where it is a list.

    known: the column of all runs. Raises InputError for a value of another kind, or a text that none of them has.
    """
    values = [_plain(value) for value in _listed(asked)]
    type_ = SCHEMA.field(name).type
    for value in values:
        _check_kind(name, value, type_)
    texts = [value for value in values if isinstance(value, str)]
    words = _WORDS.get(name) or (set(known.unique().to_pylist()) - {None} if texts else ())
    if unknown := next((text for text in texts if text not in words), None):
        raise InputError(f"no run has {name} {unknown!r}; {nearest(unknown, sorted(words))}")
    return np.asarray(pc.is_in(column, value_set=pa.array(values, type_)).to_numpy(), bool)


def _listed(asked: Any) -> list[Any]:
    if callable(asked):
        raise InputError("filter takes values; give a function of a run to where(lambda trace: …).")
    return [asked] if isinstance(asked, str | bytes) or not isinstance(asked, Iterable) else list(asked)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _check_kind(name: str, value: Any, type_: pa.DataType) -> None:
    kinds: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "string": ("a text", lambda v: isinstance(v, str)),
        "bool": ("True or False", lambda v: isinstance(v, bool)),
        "double": ("a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool)),
    }
    said, fits = kinds.get(str(type_), ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)))
    if value is None and name in NULLABLE:
        return
    if not fits(value):
        null = ", or None" * (name in NULLABLE)
        raise InputError(f"{name} is {said}{null}; got {value!r}. Give a value, or a list of them.")


def judged(traces: Iterable[Trace], wanted: Callable[[Trace], Any]) -> Mask:
    """What a function says of each run. Raises InputError where that is neither True nor False."""
    said = []
    for trace in traces:
        value = wanted(trace)
        if not isinstance(value, bool | np.bool_):
            raise InputError(
                f"the function of where must say True or False of a run; of {trace.transcript_id!r} it said "
                f"{str(value)[:60]!r}, a {type(value).__name__}."
            )
        said.append(bool(value))
    return np.array(said, bool)


def mask_of(given: Any, ids: Sequence[str]) -> Mask:
    """A boolean array, list or Series as a mask over the runs `ids`; what is missing (None, NA) is False.

    A pandas Series goes by its index, as in pandas: transcript_ids, of all or some of the runs, or the row numbers of
    `to_pandas`, in any order. Raises InputError where it is not of these runs, or holds something else.
    """
    pandas = sys.modules.get("pandas")  # where nobody loaded it, nobody has a Series
    if pandas is not None and isinstance(given, pandas.Series):
        return _of_series(given, ids)
    values = np.asarray(given)
    if values.ndim != 1 or len(values) != len(ids):
        raise InputError(f"where must have one True or False for each of {len(ids):,} runs; got shape {values.shape}.")
    return _booleans(values)


def _of_series(given: Any, ids: Sequence[str]) -> Mask:
    values, index = _booleans(given.to_numpy(dtype=object)), given.index
    numbered = np.issubdtype(np.asarray(index).dtype, np.integer)
    places = {name: at for at, name in enumerate(range(len(ids)) if numbered else ids)}
    at = [places.get(name, -1) for name in index]
    if numbered and len(at) != len(ids):
        raise InputError(
            f"where must have one True or False for each of {len(ids):,} runs; got a Series of {len(at):,}. To name "
            "some of them, give it the index transcript_id: frame.set_index('transcript_id')."
        )
    if -1 in at or len(set(at)) < len(at):
        raise InputError(
            "where goes by the index of a Series: the row numbers of to_pandas(), or transcript_ids, each once; got "
            f"{index[at.index(-1) if -1 in at else 0]!r}."
        )
    mask = np.zeros(len(ids), bool)
    mask[at] = values
    return mask


def _booleans(values: NDArray[Any]) -> Mask:
    if values.dtype == bool:
        return values
    missing = np.array([_is_missing(value) for value in values], bool)
    wrong = [value for value in values[~missing] if not isinstance(value, bool | np.bool_)]
    if wrong:
        raise InputError(
            f"where must have True or False for each run; got {wrong[0]!r}. Pick runs by number or id with traces[[…]]."
        )
    return np.array([not absent and bool(value) for value, absent in zip(values, missing, strict=True)], bool)


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value
