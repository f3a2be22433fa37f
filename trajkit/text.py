"""Text that is safe to show: what models and files say, as cells of tables."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, screen
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|\x9c|$)"  # OSC, DCS and their kind: titles, links, clipboard
    r"|\x1b[ -/]*[0-~]"  # the short ones
    r"|\x9b[0-?]*[ -/]*[@-~]",
    re.DOTALL,
)
_BIDI = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_MARKUP = re.compile(r"([\\`|<>&])")


def clean(text: str) -> str:
    """`text` as it may be shown on a terminal: no escape sequences, no control or direction characters, one line."""
    text = _ESCAPE.sub("", text)
    text = re.sub(r"[\n\r\t\v\f\u2028\u2029]+", " ", text)
    return "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cs") and c not in _BIDI)


def number(value: Any) -> str:
    """A table cell: floats to three digits, NaN as a dash, counts as they are."""
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, bool) or type(value).__name__ == "bool_":
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"
    return clean(str(value))


def escaped(text: str) -> str:
    """`text` as Markdown shows it: nothing in it is markup, HTML or the border of a cell."""
    return _MARKUP.sub(r"\\\1", text)


def markdown(frame: pd.DataFrame, names: Mapping[str, str] | None = None) -> str:
    """A DataFrame as a Markdown table. names: the columns to show → their headings."""
    names = {str(c): str(c) for c in frame.columns} if names is None else names
    names = {column: heading for column, heading in names.items() if column in frame.columns}
    rows = [[escaped(clean(heading)) for heading in names.values()], ["---"] * len(names)]
    rows += [[escaped(number(v)) for v in row] for row in frame[list(names)].itertuples(index=False)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"
