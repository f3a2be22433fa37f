"""What a section of the page is made of: a figure with how to read it, tables, and words where something is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trajkit.tables import Table

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True, eq=False)
class Panel:
    """key: unique on the page. read: one sentence on how to read it. caveat: what it does not show. missing: why there
    is no figure. tables: caption, or "", → table. details: tables folded away."""

    key: str
    title: str
    read: str = ""
    caveat: str = ""
    missing: str = ""
    figure: go.Figure | None = None
    tables: Mapping[str, Table] = field(default_factory=dict)
    details: Mapping[str, Table] = field(default_factory=dict)


def figure_json(figure: go.Figure) -> dict[str, Any]:
    """Data and layout as plotly.js takes them; NaN becomes null."""
    parsed: dict[str, Any] = json.loads(figure.to_json())
    return {"data": parsed["data"], "layout": parsed["layout"]}
