"""What every command writes with: consoles, safe text, tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from trajkit.console import console
from trajkit.text import clean, number

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

_PIPED_WIDTH = 120


class Interrupted(Exception):
    """Ctrl-C, with a sentence about what is kept."""


def one_line(text: str) -> str:
    """`text` cleaned, with its white space run together."""
    return " ".join(clean(text).split())


def stdout() -> Console:
    """The console for results. Not a terminal: plain text, wide enough for tables."""
    screen = console(highlight=False)
    return screen if screen.is_terminal else console(highlight=False, width=_PIPED_WIDTH)


def note(text: str) -> None:
    """One line on stderr that is no error."""
    console(stderr=True, highlight=False, soft_wrap=True).print(one_line(text), markup=False)


def share(value: float) -> str:
    """A share as per cent: 49 %, 4.1 %, 0.0 %."""
    return number(value) if value != value else f"{100 * value:.{int(value < 0.0995)}f} %"


def promise(alpha: float) -> str:
    """A bound on a share, as per cent and never rounded: 10 %, 2.5 %."""
    return f"{100 * alpha:g} %"


def score(value: float) -> str:
    """A risk, an AUC, a concentration or an effect size: two decimals."""
    return number(value) if value != value else f"{round(value, 2) + 0.0:.2f}"


def metric(value: float) -> str:
    """A metric, a step or a number of tokens: three significant digits, whole numbers in full."""
    return number(value) if value != value or abs(value) >= 1000 else f"{value:.3g}"


def p_value(value: float) -> str:
    """A p-value: three decimals, or that it is smaller."""
    return "< 0.001" if value < 0.001 else number(value)


def feature_sets(name: str) -> str:
    """The name of a method, its feature sets set apart, so that a long one wraps."""
    return name.replace("+", " + ")


def show_frame(
    screen: Console,
    frame: pd.DataFrame,
    title: str,
    names: Mapping[str, str] | None = None,
    formats: Mapping[str, Callable[[Any], str]] | None = None,
) -> None:
    """Print a DataFrame. names: the columns to show → their headings; all of them as they are when not given.
    formats: column → how its cells are written; `number` where none is given."""
    from rich.table import Table
    from rich.text import Text

    names = {str(c): str(c) for c in frame.columns} if names is None else names
    names = {column: heading for column, heading in names.items() if column in frame.columns}
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    cells = {column: [(formats or {}).get(column, number)(value) for value in frame[column]] for column in names}
    for column, heading in names.items():
        numeric = frame[column].dtype.kind in "fiu"
        longest = max(map(len, cells[column]), default=0)
        word = longest if numeric else max((len(w) for cell in cells[column] for w in cell.split()), default=0)
        table.add_column(
            heading, justify="right" if numeric else "left", header_style="dim", overflow="fold",
            min_width=min(22, word), no_wrap=not numeric and word == longest <= 22,
        )  # fmt: skip
    for row in zip(*cells.values(), strict=True):
        table.add_row(*map(Text, row))
    screen.print(table)
    screen.print()
