"""A table as Markdown, as CSV, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajkit.tables.table import Table
from trajkit.text import clean, escaped, for_spreadsheet

if TYPE_CHECKING:
    from rich.console import Console

_NARROW = 22
"""A column of text is not folded below so many characters."""


def markdown(table: Table) -> str:
    """As Markdown; nothing in it is markup."""
    headings, rows, _ = table.shown
    lines = [headings, ["---"] * len(headings), *rows]
    cells = [[escaped(cell) if number != 1 else cell for cell in line] for number, line in enumerate(lines)]
    text = "\n".join("| " + " | ".join(line) + " |" for line in cells) + "\n"
    return text + (f"\n{escaped(clean(table.note))}\n" if table.note else "")


def csv(table: Table) -> str:
    """As CSV with machine names and all digits; a text that a spreadsheet would run as a formula is made inert."""
    return for_spreadsheet(table.plain())


def show(screen: Console, table: Table, title: str) -> None:
    """Print it on a console, numbers flush right; where it is too wide, intervals stand below their numbers."""
    from rich.table import Table as Grid
    from rich.text import Text

    headings, rows, numbers = table.shown
    columns = list(zip(*rows, strict=True)) or [()] * len(headings)
    widths = [max(map(len, cells), default=0) for cells in columns]
    if sum(2 + (w if numeric else min(w, _NARROW)) for w, numeric in zip(widths, numbers, strict=True)) > screen.width:
        columns = [_narrower(cells) if numeric else cells for cells, numeric in zip(columns, numbers, strict=True)]
    grid = Grid(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading, cells, numeric in zip(headings, columns, numbers, strict=True):
        longest = max((len(line) for cell in cells for line in cell.splitlines()), default=0)
        word = longest if numeric else max((len(word) for cell in cells for word in cell.split()), default=0)
        grid.add_column(
            heading, justify="right" if numeric else "left", header_style="dim", overflow="fold",
            min_width=min(_NARROW, word), no_wrap=not numeric and word == longest <= _NARROW,
        )  # fmt: skip
    for row in zip(*columns, strict=True):
        grid.add_row(*map(Text, row))
    screen.print(grid)
    if table.note:
        screen.print(Text(clean(table.note), "dim"))
    screen.print()


def _narrower(cells: tuple[str, ...]) -> tuple[str, ...]:
    """Numbers with what stands behind them in brackets below, in those cells that are too wide for it."""
    broken = [cell.replace(" (", "\n(", 1) for cell in cells]
    width = max((len(line) for cell in broken for line in cell.splitlines()), default=0)
    return tuple(cell if len(cell) <= width else below for cell, below in zip(cells, broken, strict=True))
