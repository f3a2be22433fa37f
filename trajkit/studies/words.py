"""Numbers as studies write them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def spread(value: float, low: float, high: float, form: str = ".2f") -> str:
    """0.61 (0.55–0.67); the value alone where there is no interval, a dash where there is no value."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞"
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{value:{form}}"
    if form == ".2f" and any(round(end, 2) == 0.5 != end for end in (low, high)):
        form = ".3f"  # which side of 0.5 it is on
    between = "–" if low >= 0 and "+" not in form else " to "
    return f"{value:{form}} ({low:{form}}{between}{high:{form}})"


def cell(row: Any, name: str = "auc", form: str = ".2f") -> str:
    """`spread` of a row's column and its interval, from columns `low`, `high` or `<name>_low`, `<name>_high`."""
    low, high = (f"{name}_{end}" if f"{name}_{end}" in row else end for end in ("low", "high"))
    return spread(row[name], row[low], row[high], form)


def above(low: float, high: float, null: float) -> str:
    """What an interval says of a null value: above, below, or not told from it; `no interval` without one."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "no interval"
    return "above" if low > null else "below" if high < null else "not told from"


def listed(names: list[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def records(frame: pd.DataFrame) -> list[Any]:
    """The rows of a frame, each with its columns as attributes."""
    return [SimpleNamespace(**{str(k): v for k, v in row.items()}) for row in frame.to_dict("records")]
