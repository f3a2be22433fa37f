"""The terminal picture of the README: a run of `trajkit demo`, as it looks.

    python -m analyses.readme_picture                    # writes reports/demo-terminal.svg
    python -m analyses.readme_picture --ending recovered --seed 7 --width 80

The default is the first run of the demo's own seed that is lost and caught. The SVG needs no external fonts.
"""

from __future__ import annotations

import argparse
import io
import re
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from trajkit.cli.demo import SEED
from trajkit.cli.demo_runs import show_run, show_runs
from trajkit.demo import paths
from trajkit.demo.endings import ENDINGS, endings
from trajkit.detection.store import load_detectors
from trajkit.files import write_text

THEME = TerminalTheme(
    (17, 20, 26),
    (215, 220, 228),
    [
        (17, 20, 26),
        (235, 80, 80),
        (110, 200, 120),
        (230, 190, 90),
        (90, 150, 255),
        (190, 130, 230),
        (90, 200, 215),
        (200, 205, 212),
    ],
    [
        (100, 106, 116),
        (255, 110, 110),
        (130, 220, 140),
        (250, 210, 110),
        (120, 170, 255),
        (210, 150, 250),
        (120, 225, 240),
        (255, 255, 255),
    ],
)
_FONT = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_LINE = 24.4  # rich's line height, px


def svg(console: Console, title: str) -> str:
    """What was printed, as SVG. Half blocks become rectangles, so that pictures have no seams in any font."""
    text = console.export_svg(title=title, theme=THEME)
    text = re.sub(r"@font-face\s*{.*?}", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family:[^;]*;", f"font-family: {_FONT};", text)

    def rectangle(match: re.Match[str]) -> str:
        style, x, baseline, width = match.groups()
        top = round((float(baseline) - 20) / _LINE) * _LINE + 1.5
        place = f'x="{x}" y="{top:.1f}" width="{width}" height="{_LINE / 2}"'
        return f'<rect class="{style}" {place} shape-rendering="crispEdges"/>'

    return re.sub(r'<text class="([^"]*)" x="([^"]*)" y="([^"]*)" textLength="([^"]*)"[^>]*>▀+</text>', rectangle, text)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("reports/demo-terminal.svg"))
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--ending", choices=[*ENDINGS, "any"], default=ENDINGS[0], help="any: the first run")
    parser.add_argument("--most", type=int, default=200, help="scenes to go through for it")
    parser.add_argument("--width", type=int, default=100)
    args = parser.parse_args(argv)
    anyhow = args.ending == "any"
    gone = show_runs(Console(file=io.StringIO()), int(anyhow), args.seed, 0 if anyhow else args.most).traces
    run = next((run for run in gone if anyhow or args.ending in endings(run)), None)
    if run is None:
        parser.error(f"none of the first {args.most} runs is {args.ending}")
    console = Console(
        record=True,
        width=args.width,
        force_terminal=True,
        color_system="truecolor",
        file=io.StringIO(),
        highlight=False,
        _environ={"TERM": "xterm-256color"},
    )
    scene = 1 + int(run.transcript_id.rpartition("-")[2])
    show_run(console, run, scene, None, load_detectors(paths.DETECTORS).monitor)
    write_text(args.out, svg(console, "trajkit demo"))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
