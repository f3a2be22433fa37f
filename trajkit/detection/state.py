"""Parts of saved detectors, each read as what it must be, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajkit.errors import InputError

HUGE = 1e12  # a number beyond it is an error of its source; its square must not overflow


def read(state: Mapping[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:
    """state[key], of the type it must have. Raises InputError."""
    if key not in state or not isinstance(state[key], kind):
        found = f"{type(state[key]).__name__}" if key in state else "nothing"
        kinds = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise InputError(f"a saved detector must hold {key!r} as {kinds}; found {found}. Fit the detectors again.")
    return state[key]


def read_number(
    state: Mapping[str, Any], key: str, low: float, high: float, open_ends: bool = False, null: float | None = None
) -> float:
    """state[key] as a number in [low, high] or, with open ends, (low, high); `null`, where given, for None. Raises
    InputError."""
    value = state.get(key)
    if value is None and key in state and null is not None:
        return null
    if isinstance(value, bool) or not isinstance(value, int | float):
        found = type(value).__name__ if key in state else "nothing"
        raise InputError(f"a saved detector must hold {key!r} as a number; found {found}. Fit the detectors again.")
    if not low <= value <= high or (open_ends and value in (low, high)):
        within = f"between {low:g} and {high:g}" + (", both excluded" if open_ends else "")
        raise InputError(f"a saved detector must hold {key!r} {within}; found {value!r}. Fit the detectors again.")
    return float(value)


def read_array(
    state: Mapping[str, Any], key: str, shape: tuple[int | None, ...], low: float = -HUGE, high: float = HUGE
) -> NDArray[np.float64]:
    """state[key] as numbers in [low, high] of that shape (None: any length ≥ 1). Raises InputError."""
    try:
        array = np.asarray(read(state, key, list), dtype=float)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"a saved detector must hold numbers in {key!r}: {error}. Fit the detectors again.") from error
    if 0 in shape and array.size == 0:
        array = array.reshape([size or 0 for size in shape])
    fits = array.ndim == len(shape) and all(
        got == want if want is not None else got > 0 for got, want in zip(array.shape, shape, strict=True)
    )
    if not fits or not np.isfinite(array).all():
        raise InputError(
            f"a saved detector must hold {key!r} as finite numbers of shape {shape}; found shape {array.shape}. "
            "Fit the detectors again."
        )
    if ((array < low) | (array > high)).any():
        raise InputError(
            f"a saved detector must hold {key!r} between {low:g} and {high:g}; found from {array.min():g} to "
            f"{array.max():g}. Fit the detectors again."
        )
    return array
