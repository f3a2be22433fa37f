"""What a section of the page is made of: a figure with how to read it, tables, and words where something is missing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column is a row's name."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True, eq=False)
class Panel:
    """key: unique on the page. read: one sentence on how to read it. caveat: what it does not show. missing: why there
    is no figure. details: tables folded away."""

    key: str
    title: str
    read: str = ""
    caveat: str = ""
    missing: str = ""
    figure: go.Figure | None = None
    tables: tuple[Table, ...] = ()
    details: tuple[Table, ...] = ()


def percent(value: float) -> str:
    return "–" if not math.isfinite(value) else f"{100 * value:.0f} %" if value >= 0.0995 else f"{100 * value:.1f} %"


def spread(value: float, low: float, high: float, form: str = ".2f") -> str:
    """`0.71 [0.65, 0.77]`; a dash where there is no value."""
    if not math.isfinite(value):
        return "–"
    if not (math.isfinite(low) and math.isfinite(high)):
        return format(value, form)
    return f"{value:{form}} [{low:{form}}, {high:{form}}]".replace("-", "−")


def probability(p: float) -> str:
    return "–" if not math.isfinite(p) else "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
