"""The four notebooks as a notebook shows them: run, laid out with their outputs, and photographed in light and dark.

    python -m analyses.notebooks                 # two minutes; writes reports/notebooks.md and notebook-*.webp

Cells run in order as IPython runs them, and each cell's last value is asked for its HTML. None is left out. Needs a
`chromium` on the PATH.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd
from PIL import Image

from analyses.page_pictures import chromium
from analyses.percent import Cell, Output, run_cells
from trajkit.files import replacing, write_text
from trajkit.tables import Table
from trajkit.tables.render import markdown
from trajkit.tables.words import sentence

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NOTEBOOKS = {
    "quick_start": "a run live, an alarm, saved runs, a comparison",
    "own_model": "a watch around `generate`, effects measured beside estimated ones, a score of your own",
    "own_traces": "a log of another tool, its uncertainty, effects afterwards",
    "study": "from a question to a table for a paper, and a null result with its size",
}
WIDTH = 1080
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
_STYLE = """
:root { color-scheme: light dark; --page: light-dark(#fff, #111); --ink: light-dark(#1f2328, #e3e3e3);
  --code: light-dark(#f5f5f5, #1c1c1c); --line: light-dark(#e0e0e0, #3a3a3a); --mute: light-dark(#5c6570, #a0a6ad); }
body { margin: 0; padding: 24px 32px 40px; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.cell { display: grid; grid-template-columns: 52px 1fr; margin: 10px 0; }
.cell > .in { color: var(--mute); font: 12px/1.6 ui-monospace, Menlo, Consolas, monospace; padding-top: 8px; }
.cell > :nth-child(even) { min-width: 0; }
pre { margin: 0; font: 12.5px/1.5 ui-monospace, Menlo, Consolas, monospace; white-space: pre-wrap; }
.code { background: var(--code); border: 1px solid var(--line); padding: 7px 10px; }
.out { padding: 6px 0 0 2px; }
.said code, .said pre { background: var(--code); padding: 1px 4px; font-size: 12.5px; }
.said pre { padding: 8px 10px; } .said pre code { padding: 0; }
.said h1 { font-size: 27px; margin: 4px 0; } .said h2 { font-size: 20px; margin: 14px 0 2px; }
.said p { margin: 8px 0; max-width: 860px; }
.picture { image-rendering: auto; }
"""


@dataclass(frozen=True)
class Shown:
    """A notebook that has run. cells: with their outputs. seconds: of CPU that it took."""

    name: str
    cells: list[tuple[Cell, Output]]
    seconds: float

    @property
    def sizes(self) -> list[int]:
        """Bytes of the HTML of each value that trajkit displays."""
        return [len(one.html.encode()) for _, one in self.cells if 'class="trajkit"' in one.html]


def shown(name: str) -> Shown:
    """The notebook of that name, run."""
    start = time.process_time()
    cells = list(run_cells(Path(__file__).parent / f"notebook_{name}.py"))
    return Shown(name, cells, time.process_time() - start)


def page(cells: Sequence[tuple[Cell, Output]]) -> str:
    """A notebook as a page by itself."""
    from plotly.offline import get_plotlyjs

    body, number = [], 0
    for cell, output in cells:
        if cell.kind == "markdown":
            body.append(f'<div class="cell"><span></span><div class="said">{_said(cell.text)}</div></div>')
            continue
        number += 1
        outputs = "".join(f'<div class="out">{one}</div>' for one in (_printed(output.printed), output.html) if one)
        code = f'<pre class="code">{_coloured(cell.text)}</pre>'
        body.append(f'<div class="cell"><span class="in">[{number}]:</span><div>{code}{outputs}</div></div>')
    script = f"<script>{get_plotlyjs()}</script>" if any("plotly" in one for one in body) else ""
    return f"<!doctype html><meta charset=utf-8><style>{_STYLE}{_code_style()}</style>{script}<body>{''.join(body)}"


def _said(text: str) -> str:
    from markdown_it import MarkdownIt

    return str(MarkdownIt("commonmark", {"html": False}).render(text))


def _printed(text: str) -> str:
    return f"<pre>{escape(text)}</pre>" if text else ""


def _coloured(code: str) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    return str(highlight(code, PythonLexer(), HtmlFormatter(nowrap=True)))


def _code_style() -> str:
    from pygments.formatters import HtmlFormatter

    light, dark = (HtmlFormatter(style=name).get_style_defs(".code") for name in ("friendly", "github-dark"))
    plain = ".code { background: var(--code) !important; color: var(--ink) !important; }"
    return f"{light} @media (prefers-color-scheme: dark) {{ {dark} }} {plain}"


def shoot(browser: Browser, html: str, path: Path, scheme: Scheme) -> None:
    """A picture of the whole page."""
    opened = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme=scheme)
    opened.set_content(html)
    opened.wait_for_function("() => !window.Plotly || document.querySelectorAll('.plotly-graph-div .main-svg').length")
    picture = Image.open(io.BytesIO(opened.screenshot(full_page=True)))
    opened.close()
    with replacing(path) as stream:
        picture.convert("RGB").save(stream, "WEBP", quality=60, method=6)
    print(f"wrote {path}: {picture.width} × {picture.height}")


def report(made: Sequence[Shown]) -> str:
    """The page about them."""
    rows = [
        {
            "notebook": f"notebook_{one.name}",
            "cells": sum(cell.kind == "code" for cell, _ in one.cells),
            "displays": len(one.sizes),
            "largest": max(one.sizes, default=0) / 1000,
            "seconds": one.seconds,
        }
        for one in made
    ]
    headings = {
        "notebook": "notebook",
        "cells": "cells of code",
        "displays": "displays of trajkit's own",
        "largest": "largest display, kB",
        "seconds": "seconds of CPU",
    }
    parts = [
        "# The notebooks\n",
        "Regenerate: `python -m analyses.notebooks`.\n",
        "`analyses/notebook_*.py` are notebooks as scripts: Jupyter (with jupytext), VS Code, PyCharm and Spyder open "
        "them. All that they show needs no JavaScript but plotly's figures, and is in light or dark as the reader has "
        "it. The tests run them.\n",
        markdown(
            Table(pd.DataFrame(rows), headings, {"largest": lambda n: f"{n:.0f}", "seconds": lambda s: f"{s:.0f}"})
        ),
        "Each picture is the whole notebook as it ran, with every output.\n",
    ]
    for one in made:
        light, dark = (f"notebook-{one.name.replace('_', '-')}-{scheme}.webp" for scheme in SCHEMES)
        name = f"notebook_{one.name}"
        parts.append(
            f"## [{name}](../analyses/{name}.py)\n\n{sentence(NOTEBOOKS[one.name])}.\n\n"
            f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">\n'
            f'<img src="{light}" alt="The whole of {name}, its code and what each cell shows"></picture>\n'
        )
    return "\n".join(parts)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("reports"))
    parser.add_argument("--only", choices=NOTEBOOKS, help="pictures of one, and no page")
    args = parser.parse_args(argv)
    made = [shown(name) for name in ([args.only] if args.only else NOTEBOOKS)]
    with chromium() as browser:
        for one in made:
            for scheme in SCHEMES:
                path = args.out / f"notebook-{one.name.replace('_', '-')}-{scheme}.webp"
                shoot(browser, page(one.cells), path, scheme)
    if not args.only:
        write_text(args.out / "notebooks.md", report(made))


if __name__ == "__main__":
    main()
