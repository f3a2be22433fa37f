"""What is written to a terminal: whatever a file or a model says, nothing but text and line ends gets through.

Colours are trajkit's own: a rich console cleans what it styles. Everything else that is printed, by trajkit or by a
library, goes through `cleaned_streams`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from trajkit.text import inert

if TYPE_CHECKING:
    from rich.console import Console


def console(**options: Any) -> Console:
    """A rich console, with the options of `rich.console.Console`, that shows no control characters of a text.

    Square brackets are text like any other, in titles, notes and cells too: what is styled is a `rich.text.Text`.
    """
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class Inert(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(inert(segment.text), segment.style)

    return Inert(**{"markup": False} | options)


class _Cleaned:
    """A text stream that drops control characters. A rich console, which cleans by itself, writes past it."""

    def __init__(self, stream: TextIO) -> None:
        self.rich_proxied_file = stream  # the name by which rich finds the stream below

    def write(self, text: str) -> int:
        """Write `text` without control characters; a bar's return to the start of its line is kept."""
        self.rich_proxied_file.write("\r" * text.startswith("\r") + inert(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def cleaned_streams() -> Iterator[None]:
    """Inside the block, or the function that this decorates, stdout and stderr take no control characters. What is
    written to one that was closed from the start goes nowhere."""
    before = sys.stdout, sys.stderr
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            sys.stdout, sys.stderr = (_Cleaned(stream or nowhere) for stream in before)
            yield
    finally:
        sys.stdout, sys.stderr = before
