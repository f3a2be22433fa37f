"""Arrows between rooms point one way: what makes numbers knows nothing of pictures, pages and commands."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import trajkit
from trajkit.plots.style import OUTCOME_COLOURS
from trajkit.tables.names import OUTCOME_ORDER

ROOT = Path(trajkit.__file__).parent
SEEN = {"plots", "studies", "report", "live", "cli"}
"""What a person sees."""
ABOVE = {
    "trajectory": {"traces", "runs", "attribution", "vlm", "stats", "tables", "detection", "judging", *SEEN},
    "stats": {"traces", "runs", "attribution", "vlm", "tables", "detection", "judging", *SEEN},
    "tables": {"traces", "runs", "attribution", "vlm", "stats", "detection", "judging", *SEEN},
    "traces": {"runs", "attribution", "vlm", "stats", "detection", "judging", *SEEN},
    "runs": {"attribution", "vlm", "stats", "detection", "judging", *SEEN},
    "vlm": {"attribution", "runs", "stats", "detection", "judging", *SEEN},
    "attribution": {"runs", "judging", *SEEN},
    "detection": {"attribution", "vlm", "judging", *SEEN},
    "judging": {"attribution", "vlm", *SEEN},
    "plots": {"attribution", "vlm", "judging", "studies", "report", "live", "cli"},
    "studies": {"attribution", "vlm", "report", "live", "cli"},
    "report": {"attribution", "vlm", "studies", "cli"},
}
"""Room → the rooms that it must not import, not even for types."""


def imported(file: Path) -> Iterator[str]:
    """The rooms of the library that a file imports anywhere."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("trajkit."))


@pytest.mark.parametrize("room", ABOVE)
def test_a_room_imports_none_that_stands_above_it(room):
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    wrong = {f"{file.relative_to(ROOT)} imports {name}" for file in files for name in imported(file)}
    assert not {said for said in wrong if said.rsplit(" ", 1)[1] in ABOVE[room]}


def test_outcomes_have_colours_in_the_order_in_which_they_stand():
    assert tuple(OUTCOME_COLOURS) == OUTCOME_ORDER
