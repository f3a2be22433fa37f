"""What every command writes with: consoles and safe text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajkit.console import console
from trajkit.text import clean

if TYPE_CHECKING:
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
