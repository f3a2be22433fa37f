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
SEEN = {"plots", "notebook", "studies", "report", "live", "cli"}
"""What a person sees."""
SHOWING = {"_repr_html_", "_html_repr", "plot"}
"""Methods in which a class may import `notebook` or `plots`, when it is asked to show itself."""
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
    "plots": {"attribution", "vlm", "judging", "notebook", "studies", "report", "live", "cli"},
    "notebook": {"vlm", "studies", "report", "live", "cli"},
    "studies": {"attribution", "vlm", "report", "live", "cli"},
    "report": {"attribution", "vlm", "studies", "cli"},
}
"""Room → the rooms that it must not import, not even for types."""
ALLOWED = {"traces/importers/make.py imports vlm"}
"""The canvas of several images, which is free of torch: an imported run has its images side by side as a prompt has."""


def imported(file: Path) -> Iterator[str]:
    """The rooms of the library that a file imports anywhere but where a class shows itself."""
    for node in _outside(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("trajkit."))


def _outside(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all within it, but for methods that show a thing."""
    if isinstance(node, ast.FunctionDef) and node.name in SHOWING:
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _outside(child)


@pytest.mark.parametrize("room", ABOVE)
def test_a_room_imports_none_that_stands_above_it(room):
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    wrong = {f"{file.relative_to(ROOT)} imports {name}" for file in files for name in imported(file)}
    assert not {said for said in wrong - ALLOWED if said.rsplit(" ", 1)[1] in ABOVE[room]}


def test_outcomes_have_colours_in_the_order_in_which_they_stand():
    assert tuple(OUTCOME_COLOURS) == OUTCOME_ORDER
