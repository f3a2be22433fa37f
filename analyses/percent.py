"""Notebooks as `py:percent` scripts: their cells, run in order, each showing its last value as a notebook would.

Jupyter (with jupytext), VS Code, PyCharm and Spyder open such a script as a notebook; `python analyses/NAME.py` runs
it as it is.
"""

from __future__ import annotations

import ast
import io
import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import redirect_stdout
from html import escape
from pathlib import Path
from typing import Any, Literal, NamedTuple

_MARK = re.compile(r"^# %%(?P<kind> \[markdown\])?.*$", re.M)


class Cell(NamedTuple):
    """kind: what it holds. text: its Markdown, or its code. line: of the script, where it begins, from 1."""

    kind: Literal["markdown", "code"]
    text: str
    line: int


class Output(NamedTuple):
    """What a cell of code gave. printed: on stdout. value: of its last expression, None where that is none or ends in a
    semicolon; html: the same as a notebook shows it, "" where there is none."""

    printed: str = ""
    value: Any = None
    html: str = ""


def read_cells(path: Path) -> list[Cell]:
    """The cells of a script; what stands before the first mark is none."""
    text = path.read_text(encoding="utf-8")
    marks = list(_MARK.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    cells = []
    for mark, end in zip(marks, ends, strict=True):
        body, line = text[mark.end() : end], text.count("\n", 0, mark.start()) + 2
        if mark["kind"]:
            said = "\n".join(re.sub(r"^# ?", "", one) for one in body.strip("\n").splitlines())
            cells.append(Cell("markdown", said, line))
        elif body.strip():
            cells.append(Cell("code", body.strip("\n"), line + (len(body) - len(body.lstrip("\n"))) - 1))
    return cells


def run_cells(path: Path) -> Iterator[tuple[Cell, Output]]:
    """Each cell with what it gives, in one namespace. What a cell raises is raised, with the script's own lines."""
    names: dict[str, Any] = {"__name__": "__main__", "__file__": str(path)}
    for cell in read_cells(path):
        yield cell, Output() if cell.kind == "markdown" else _run(cell, path, names)


def _run(cell: Cell, path: Path, names: dict[str, Any]) -> Output:
    tree = ast.parse(cell.text, str(path))
    ast.increment_lineno(tree, cell.line - 1)
    last = tree.body[-1] if tree.body else None
    shown = isinstance(last, ast.Expr) and not cell.text.rstrip().endswith(";")
    body = tree.body[:-1] if shown else tree.body
    value = None
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(ast.Module(body, []), str(path), "exec"), names)
        if shown and isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), str(path), "eval"), names)
    return Output(printed.getvalue(), value, "" if value is None else displayed(value))


def displayed(value: Any) -> str:
    """A value as HTML, in the way that notebooks prefer: of its own, a picture, or its repr."""
    if hasattr(value, "to_plotly_json"):
        return str(value.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False}))
    bundle = value._repr_mimebundle_() if hasattr(value, "_repr_mimebundle_") else {}
    if not bundle and hasattr(value, "_repr_html_"):
        bundle = {"text/html": value._repr_html_()}
    if html := bundle.get("text/html"):
        return str(html)
    if hasattr(value, "_repr_png_"):
        png = b64encode(value._repr_png_()).decode()
        return f'<img class="picture" src="data:image/png;base64,{png}" alt="a picture">'
    return f"<pre>{escape(repr(value))}</pre>"
