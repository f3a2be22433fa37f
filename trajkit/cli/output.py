"""What every command writes with: consoles, safe text, tables."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

_PIPED_WIDTH = 120
_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, screen
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|\x9c|$)"  # OSC, DCS and their kind: titles, links, clipboard
    r"|\x1b[ -/]*[0-~]"  # the short ones
    r"|\x9b[0-?]*[ -/]*[@-~]",
    re.DOTALL,
)
_BIDI = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Interrupted(Exception):
    """Ctrl-C, with a sentence about what is kept."""


def clean(text: str) -> str:
    """`text` as it may be shown on a terminal: no escape sequences, no control or direction characters, one line."""
    text = _ESCAPE.sub("", text)
    text = re.sub(r"[\n\r\t\v\f\u2028\u2029]+", " ", text)
    return "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cs") and c not in _BIDI)


def one_line(text: str) -> str:
    """`text` cleaned, with its white space run together."""
    return " ".join(clean(text).split())


def count(n: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def stdout() -> Console:
    """The console for results. Not a terminal: plain text, wide enough for tables."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPED_WIDTH)


def note(text: str) -> None:
    """One line on stderr that is no error."""
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(one_line(text), markup=False)


def number(value: Any) -> str:
    """A table cell: floats to three digits, NaN as a dash, counts as they are."""
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, bool) or type(value).__name__ == "bool_":
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"
    return clean(str(value))


def show_frame(console: Console, frame: pd.DataFrame, title: str, names: Mapping[str, str] | None = None) -> None:
    """Print a DataFrame. names: the columns to show → their headings; all of them as they are when not given."""
    from rich.table import Table
    from rich.text import Text

    names = {str(c): str(c) for c in frame.columns} if names is None else names
    names = {column: heading for column, heading in names.items() if column in frame.columns}
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column, heading in names.items():
        numeric = frame[column].dtype.kind in "fiu"
        width = None if numeric else min(22, max((len(number(v)) for v in frame[column]), default=0))
        table.add_column(
            heading, justify="right" if numeric else "left", header_style="dim", min_width=width, overflow="fold"
        )
    for row in frame[list(names)].itertuples(index=False):
        table.add_row(*(Text(number(value)) for value in row))
    console.print(table)
    console.print()


def markdown(frame: pd.DataFrame, names: Mapping[str, str] | None = None) -> str:
    """A DataFrame as a Markdown table."""
    names = {str(c): str(c) for c in frame.columns} if names is None else names
    names = {column: heading for column, heading in names.items() if column in frame.columns}
    rows = [list(names.values()), ["---"] * len(names)]
    rows += [[number(v).replace("|", "\\|") for v in row] for row in frame[list(names)].itertuples(index=False)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"
