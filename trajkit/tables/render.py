"""A table as Markdown, as CSV, as plain text, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trajkit.tables.table import Table
from trajkit.text import clean, escaped, for_spreadsheet

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Grid

_NARROW = 22
"""A column of text is not folded below so many characters."""
_TIGHT = 14
"""The same, where that lets all columns stand beside each other."""


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


def text(table: Table, most: int | None = None) -> str:
    """As plain text in columns, numbers flush right; what `print` shows of a result. most: rows that are shown."""
    headings, rows, numbers = table.shown
    more = [f"… {len(rows) - most:,} more rows"] if most is not None and len(rows) > most else []
    lines = [headings, *rows[:most]]
    columns = [
        [cell.rjust(width) if numeric else cell.ljust(width) for cell in column]
        for column, numeric in zip(zip(*lines, strict=True), numbers, strict=True)
        for width in [max(map(len, column))]
    ]
    padded = ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]
    return "\n".join([*padded, *more, *([clean(table.note)] if table.note else [])])


def show(screen: Console, table: Table, title: str) -> None:
    """Print it on a console, numbers flush right. Where it is too wide, intervals stand below their numbers; where
    that is not enough, words break early; and columns that still have no room stand below the others, each time with
    the names of the rows."""
    from rich.text import Text

    headings, rows, numbers = table.shown
    columns = list(zip(*rows, strict=True)) or [()] * len(headings)
    if sum(2 + room for room in map(_room, headings, columns, numbers)) > screen.width:
        columns = [_narrower(cells) if numeric else cells for cells, numeric in zip(columns, numbers, strict=True)]
    rooms = list(map(_room, headings, columns, numbers))
    tight = [_room(*column, most=_TIGHT) for column in zip(headings, columns, numbers, strict=True)]
    whole = len(_parts(rooms, numbers, screen.width)) > 1 == len(_parts(tight, numbers, screen.width))
    rooms = tight if whole else rooms
    screen.print(Text(title, "bold"))
    for part in _parts(rooms, numbers, screen.width):
        room = [rooms[i] if numbers[i] or whole else None for i in part]
        grid = _grid([headings[i] for i in part], [columns[i] for i in part], [numbers[i] for i in part])
        if sum(2 + max(map(len, (headings[i], *columns[i]))) for i in part) > screen.width:
            for column, width in zip(grid.columns, room, strict=True):
                column.width = width
        screen.print(grid)
    if table.note:
        screen.print(Text(clean(table.note), "dim"))
    screen.print()


def _room(heading: str, cells: Sequence[str], numeric: bool, most: int = _NARROW) -> int:
    """Characters that a column takes; of words `most`, but for a longer one."""
    lines = [line for cell in cells for line in cell.splitlines()]
    longest = max(map(len, lines), default=0)
    word = max((len(word) for cell in cells for word in cell.split()), default=0)
    taken = longest if numeric else min(longest, max(most, min(word, _NARROW)))
    return max(taken, max(map(len, heading.split()), default=0))


def _parts(rooms: Sequence[int], numbers: Sequence[bool], width: int) -> list[list[int]]:
    """Columns that have room beside each other, those before the first of numbers in every part."""
    first = next((i for i, numeric in enumerate(numbers) if numeric), len(rooms))
    names, parts = list(range(first)), [list(range(first))]
    for i in range(first, len(rooms)):
        if sum(2 + rooms[j] for j in (*parts[-1], i)) - 2 > width and parts[-1] != names:
            parts.append([*names])
        parts[-1].append(i)
    return parts if first else [list(range(len(rooms)))]


def _grid(headings: Sequence[str], columns: Sequence[Sequence[str]], numbers: Sequence[bool]) -> Grid:
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading, cells, numeric in zip(headings, columns, numbers, strict=True):
        longest = max((len(line) for cell in cells for line in cell.splitlines()), default=0)
        word = longest if numeric else max((len(word) for cell in cells for word in cell.split()), default=0)
        grid.add_column(
            heading,
            justify="right" if numeric else "left",
            header_style="dim",
            overflow="fold",
            min_width=min(_NARROW, word),
            no_wrap=not numeric and word == longest <= _NARROW,
        )
    for row in zip(*columns, strict=True):
        grid.add_row(*map(Text, row))
    return grid


def _narrower(cells: Sequence[str]) -> tuple[str, ...]:
    """Numbers with what stands behind them in brackets below, in those cells that are too wide for it."""
    broken = [cell.replace(" (", "\n(", 1) for cell in cells]
    width = max((len(line) for cell in broken for line in cell.splitlines()), default=0)
    return tuple(cell if len(cell) <= width else below for cell, below in zip(cells, broken, strict=True))
