"""What every command writes with: consoles and safe text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from trajkit.console import console
from trajkit.text import clean

if TYPE_CHECKING:
    from rich.console import Console

_PIPED_WIDTH = 120
UsageError: Any = typer.BadParameter.__base__  # click's, wherever typer keeps it
"""Raised for wrong usage, which ends with exit code 2."""


class Interrupted(Exception):
    """Ctrl-C, with a sentence about what is kept."""

    @classmethod
    def keeping(cls, kept: int, folder: Path) -> Interrupted:
        """`kept` runs are in `folder`, and the command goes on from them."""
        are = "run is" if kept == 1 else "runs are"
        return cls(f"stopped; {kept:,} {are} safe in {folder}. The same command goes on from there.")


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
