"""A table as Markdown, as CSV, as plain text, on a terminal."""

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


def text(table: Table) -> str:
    """As plain text in columns, numbers flush right; what `print` shows of a result."""
    headings, rows, numbers = table.shown
    lines = [headings, *rows]
    columns = [
        [cell.rjust(width) if numeric else cell.ljust(width) for cell in column]
        for column, numeric in zip(zip(*lines, strict=True), numbers, strict=True)
        for width in [max(map(len, column))]
    ]
    padded = ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]
    return "\n".join([*padded, *([clean(table.note)] if table.note else [])])


def show(screen: Console, table: Table, title: str) -> None:
    """Print it on a console, numbers flush right."""
    from rich.table import Table as Grid
    from rich.text import Text

    headings, rows, numbers = table.shown
    grid = Grid(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for i, (heading, numeric) in enumerate(zip(headings, numbers, strict=True)):
        cells = [row[i] for row in rows]
        longest = max(map(len, cells), default=0)
        word = longest if numeric else max((len(word) for cell in cells for word in cell.split()), default=0)
        grid.add_column(
            heading, justify="right" if numeric else "left", header_style="dim", overflow="fold",
            min_width=min(_NARROW, word), no_wrap=not numeric and word == longest <= _NARROW,
        )  # fmt: skip
    for row in rows:
        grid.add_row(*map(Text, row))
    screen.print(grid)
    if table.note:
        screen.print(Text(clean(table.note), "dim"))
    screen.print()
