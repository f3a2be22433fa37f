"""A finished run of the demo in the terminal: its scene, its risk from sentence to sentence, and what it said of note.

The long stretches in which nothing happens are one line each (`demo.retelling`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajkit.cli.output import one_line
from trajkit.cli.terminal import HeatMap, alarm_banner, alarm_line, bar, shows_pictures
from trajkit.demo.acts import Read, content, parse
from trajkit.demo.cells import COLOURS, RGB
from trajkit.demo.endings import probability
from trajkit.demo.grid import Position
from trajkit.demo.named import places, regions_of
from trajkit.demo.retelling import Note, Stretch, alarm, cause, notes, retold, thinking
from trajkit.plots.overlay import FAINT, OPPOSE, SUPPORT
from trajkit.tables.words import count, score, signed
from trajkit.text import clean

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from trajkit.detection.monitor import Monitor, Verdict
    from trajkit.traces.trace import Trace

_NARROW, _WIDE = 76, 100
_LABEL = "risk  "
_LEVELS = "▁▂▃▄▅▆▇█"
_MARKS: dict[Note, tuple[str, str]] = {
    "misread": ("✗", "bold red"),
    "lost": ("✗", "bold magenta"),
    "put right": ("✓", "bold green"),
    "": (" ", ""),
}
_SAID = {"lost": "lost, goes the wrong way"}
_LEGEND: tuple[tuple[str, str] | str, ...] = (
    ("[ ] failed by  ░ smudged  ", "dim"),
    ("■", f"rgb{SUPPORT}".replace(" ", "")),
    (" supports  ", "dim"),
    ("■", f"rgb{OPPOSE}".replace(" ", "")),
    (" opposes\n", "dim"),
    *(part for note, mark in _MARKS.items() if note for part in (mark, (f" {_SAID.get(note, note)}  ", "dim"))),
    ("rests on what it names", "green"),
)
_SMUDGED = 0.5
"""Hardness of a cell that is said to be smudged."""


@dataclass
class RetoldRun:
    """A judged run, told on a console: with pictures on a terminal with colour, as plain lines elsewhere.

    run: with its picture, and the risk of each step where a monitor watched it. monitor: the one that watched.
    """

    console: Console
    run: Trace
    monitor: Monitor | None = None

    def __post_init__(self) -> None:
        from trajkit.attribution.regions import Regions

        self._regions = Regions(self.run.regions, self.run.n_regions)
        self._steps = thinking(self.run)
        self._notes = notes(self.run)
        self._cells = _cells(self.run)
        self._failed, self._alarmed = cause(self.run), alarm(self.run)

    def show(self, about: str = "") -> None:
        """All of it, from the question to the answer."""
        counted = [count(len(self._steps), "sentence"), count(self.run.n_regions, "region")]
        facts = " · ".join([*counted, *filter(None, [one_line(about)])])
        if not shows_pictures(self.console) or self.console.width < _NARROW or not self.run.steps:
            self._plain(f"question: {one_line(self.run.question)} ({facts})")
            for line in self._lines():
                self._plain(line)
            return
        self._show_head(facts)
        self._show_risk()
        self._show_sentences()

    def _rests_on(self, index: int) -> tuple[str, float, bool]:
        """The cell of the region that supports a step most, its effect in nats, and whether the step names it; no cell
        where none supports it by `FAINT` or more. Of a region over several cells, the one that the step names."""
        effects = self.run.effects[index]
        top = int(np.argmax(effects)) if len(effects) else 0
        if not len(effects) or effects[top] < FAINT:
            return "", 0.0, False
        labels, k = self._regions.labels, self._regions.k
        named = [at for at in places(self._steps[index].text) if regions_of(labels, k, [at])[top]]
        return _place(named[0]) if named else self._cells[top], float(effects[top]), bool(named)

    def _risk(self, index: int) -> float:
        risk = self._steps[index].risk
        return math.nan if risk is None else risk

    def _alarm(self, at: int) -> str:
        return alarm_line(_verdict(at, self._risk(at), self.monitor), at + 1, self.monitor)

    def _answer(self) -> str:
        return next((clean(step.text) for step in self.run.steps if step.kind == "answer"), "none")

    def _lines(self) -> list[str]:
        found = []
        for index in retold(self.run):
            if isinstance(index, Stretch):
                found.append(f"… {index.said()}")
                continue
            cell, effect, _ = self._rests_on(index)
            parts = [f"{index + 1}: {clean(self._steps[index].text)}"]
            true = self._true(index)
            parts += filter(None, [f"{self._notes[index]}, it is {true}" if true else self._notes[index]])
            parts.append(f"probability {score(probability(self._steps[index]))}")
            parts.append(f"rests on {cell} {signed(effect)} nats" if cell else "rests on no region")
            parts += [] if math.isnan(self._risk(index)) else [f"risk {score(self._risk(index))}"]
            found.append(" | ".join(parts))
            found += [self._alarm(index)] if index == self._alarmed else []
        return [*found, f"answer: {self._answer()}"]

    def _plain(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _show_head(self, facts: str) -> None:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        maps = Table.grid(padding=(0, 3, 0, 0))
        maps.add_row(self._truth(), self._heat())
        body: list[RenderableType] = [Text(one_line(self.run.question), "bold"), Text(facts, "dim"), Text(), maps]
        body += [Text(), Text.assemble(*_LEGEND)]
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_row(self._map(24, 12).picture(), Group(*body))
        self.console.print(grid)
        self.console.print()

    def _truth(self) -> Text:
        """What is truly in the scene: digits on their colours, what lies under a smudge, and what was misread."""
        from rich.text import Text

        cells = self.run.meta["cells"]
        hardness = self.run.meta["hardness"]
        inks = dict(zip(COLOURS, (255 * RGB).astype(int).tolist(), strict=True))
        failed = self._failed
        misread = None if failed is None else self._misread(failed)
        text = Text(f"   {'  '.join(str(col + 1) for col in range(len(cells[0])))}\n", "dim", no_wrap=True)
        for r, row in enumerate(cells):
            text.append(f"{r + 1} ", "not dim bright_black")
            for c, cell in enumerate(row):
                left, right = "[]" if (r, c) == misread else "░░" if hardness[r][c] > _SMUDGED else "  "
                ink = f"not dim bold white on rgb({','.join(map(str, inks[cell[0]]))})" if cell else "not dim on grey23"
                text.append(f"{left}{cell[1] if cell else ' '}{right}", ink)
            text.append("\n" if r + 1 < len(cells) else "")
        return text

    def _heat(self) -> Text:
        """What the sentence rests on that the run failed by, alarmed at or was put right with."""
        from rich.text import Text

        index, what = self._pictured()
        scale = max(FAINT, float(np.abs(self.run.effects).max(initial=0)))
        heat = self._map(18, len(self.run.meta["cells"]))
        over = heat.over(self.run.effects[index], scale, self.console.color_system == "standard")
        return Text.assemble((f"{what} rests on\n", "dim"), over)

    def _map(self, columns: int, rows: int) -> HeatMap:
        from trajkit.traces.images import open_image

        assert self.run.image is not None
        return HeatMap.of(open_image(self.run.image), self._regions, columns, rows)

    def _pictured(self) -> tuple[int, str]:
        failed, corrected = self._failed, [i for i, note in enumerate(self._notes) if note == "put right"]
        index = failed if failed is not None else corrected[0] if corrected else self._alarmed or 0
        return index, f"what sentence {index + 1}"

    def _show_risk(self) -> None:
        """A character a sentence, or the highest of several; below it where the run failed and where it alarmed."""
        from rich.text import Text

        risks = [self._risk(i) for i in range(len(self._steps))]
        if not risks or np.isnan(risks).any():
            return
        per = -(-len(risks) // (self.console.width - len(_LABEL)))
        line = Text(_LABEL, "dim")
        for first in range(0, len(risks), per):
            risk = max(risks[first : first + per])
            line.append(_LEVELS[min(int(risk * len(_LEVELS)), len(_LEVELS) - 1)], f"not dim {self._style(risk)}")
        marks = [(self._failed, "✗ failed here", "bold red"), (self._alarmed, "▲ alarm", "bold yellow")]
        lines = []
        for at, what, style in marks:
            if at is not None:
                place = len(_LABEL) + at // per
                under = Text(" " * place + what, style)
                if place + len(what) > self.console.width:
                    under = Text(f"{what[2:]} {what[0]}".rjust(place + 1), style)
                lines.append(under)
        self.console.print(line, *lines, Text(), sep="\n")

    def _style(self, risk: float) -> str:
        threshold = self.monitor.threshold if self.monitor is not None else math.inf
        return "bold red" if risk > threshold else "yellow" if risk > 0.7 * threshold else "green"

    def _show_sentences(self) -> None:
        from rich.padding import Padding
        from rich.text import Text

        self.console.print(
            self._row(Text(), Text("sentence", "dim"), "prob", Text("rests on", "dim"), Text("risk", "dim"))
        )
        for index in retold(self.run):
            if isinstance(index, Stretch):
                self.console.print(Padding(Text(f"… {index.said()}", "bright_black"), (0, 0, 0, 5)))
                continue
            self.console.print(self._sentence(index))
            if index == self._alarmed:
                self.console.print(alarm_banner(self._alarm(index)))
        self.console.print(Text.assemble(("   answer: ", "bold cyan"), (self._answer(), "bold")))

    def _sentence(self, index: int) -> RenderableType:
        from rich.text import Text

        step = self._steps[index]
        mark, style = _MARKS[self._notes[index]]
        sure = probability(step)
        cell, effect, is_named = self._rests_on(index)
        place = Text.assemble(
            (cell or "no region", "green" if is_named else "yellow" if cell else "dim"),
            (f" {effect:+.1f}" if cell else "", "dim"),
        )
        risk = self._risk(index)
        threshold = None if self.monitor is None else self.monitor.threshold
        gauge = Text()
        if not math.isnan(risk):
            width = 24 if self.console.width >= _WIDE else 8
            gauge = bar(risk, width, self._style(risk), threshold) + Text(f" {score(risk)}", self._style(risk))
        number = Text.assemble((f"{index + 1:>3}", "cyan"), (f" {mark}", style))
        return self._row(number, self._said(index, style), score(sure), place, gauge)

    def _said(self, index: int, style: str) -> Text:
        """A sentence, and what is so where it misreads a cell."""
        from rich.text import Text

        true = self._true(index)
        return Text.assemble((clean(self._steps[index].text), style), (f"  it is {true}" if true else "", "dim"))

    def _misread(self, index: int) -> Position | None:
        """The cell that a sentence reads as what it is not; None where it reads none so."""
        act = parse(self._steps[index].text)
        return act.at if self._notes[index] == "misread" and isinstance(act, Read) else None

    def _true(self, index: int) -> str:
        """What is in the cell that a sentence misreads, "" where it misreads none."""
        at, cells = self._misread(index), self.run.meta["cells"]
        if at is None:
            return ""
        return content(cells[at[0]][at[1]])

    def _row(self, number: Text, sentence: Text, sure: str, place: Text, gauge: Text) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        wide = self.console.width >= _WIDE
        row = Table.grid(padding=(0, 1, 0, 0), expand=True)
        row.add_column(width=5, no_wrap=True)
        row.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        row.add_column(width=4, no_wrap=True)
        row.add_column(width=17, no_wrap=True)
        row.add_column(width=29 if wide else 13, no_wrap=True)
        row.add_row(number, sentence, Text(sure, "dim"), place, gauge)
        return row


def _verdict(index: int, risk: float, monitor: Monitor | None) -> Verdict:
    from trajkit.detection.monitor import Verdict

    return Verdict(index + 1, risk, risk, monitor.threshold if monitor else math.nan, True)


def _cells(run: Trace) -> list[str]:
    """(K,) the cell that each region lies in, or has most of its area in."""
    n_rows, n_cols = len(run.meta["cells"]), len(run.meta["cells"][0])
    labels = np.asarray(run.regions, int)
    cell = np.add.outer(
        np.arange(labels.shape[0]) * n_rows // labels.shape[0] * n_cols,
        np.arange(labels.shape[1]) * n_cols // labels.shape[1],
    )
    area = np.bincount((labels * n_rows * n_cols + cell).ravel(), minlength=run.n_regions * n_rows * n_cols)
    most = area.reshape(run.n_regions, -1).argmax(axis=1)
    return [_place((at // n_cols, at % n_cols)) for at in most.tolist()]


def _place(at: Position) -> str:
    return f"row {at[0] + 1} col {at[1] + 1}"
