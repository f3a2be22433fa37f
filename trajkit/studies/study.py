"""A study: one question put to a folder of traces, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trajkit.runs.table import RunTable
    from trajkit.tables import Table

Advance = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Study:
    """name: of its files. asked: what it asks, a sentence. tables: title → its numbers. pictures: what they show →
    an SVG element. reading: sentences on what the tables say; each paragraph one string."""

    name: str
    title: str
    asked: str
    tables: Mapping[str, Table]
    pictures: Mapping[str, str] = field(default_factory=dict)
    reading: tuple[str, ...] = ()


Make = Callable[["RunTable", int, Advance], Study]
"""(runs, bootstrap draws, tell what is being done) → Study. Raises InputError where the runs do not allow it."""
