"""A live step in the terminal: the sentence, a heat map of what it rests on, concentration, risk, alarm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.cli.output import one_line
from trajkit.plots.overlay import FAINT, OPPOSE, SUPPORT, Overlay
from trajkit.tables.words import apart, count, promise, score, signed
from trajkit.text import clean

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console, RenderableType
    from rich.text import Text

    from trajkit.attribution.regions import Regions
    from trajkit.attribution.stream import LiveStep
    from trajkit.detection.monitor import Monitor, Verdict
    from trajkit.detection.policies import Decision

_SIXTEEN = np.array(
    [
        [(0, 0, 0), (85, 85, 85)],  # neither: the dark and the light of the picture
        [(170, 0, 0), (255, 85, 85)],  # supports: weakly and strongly
        [(0, 0, 170), (85, 85, 255)],  # opposes
    ],
    np.uint8,
)
"""The 16 colours of a plain terminal that a heat map is drawn with: mixtures would come out yellow, white and grey."""
_NARROW, _WIDE = 60, 100
_PICTURE = (32, 16)  # characters, at the head of a run


@dataclass(frozen=True, eq=False)
class HeatMap:
    """A picture a few characters wide, and effects over it. A character holds two pixels, one above the other."""

    overlay: Overlay

    @classmethod
    def of(cls, image: Image.Image, regions: Regions, columns: int, rows: int) -> HeatMap:
        """The largest map of that shape in `columns` × `rows` characters."""
        scale = min(columns / image.width, 2 * rows / image.height)
        width = max(1, round(image.width * scale))
        height = max(2, 2 * round(image.height * scale / 2))
        return cls(Overlay.of(image, regions.labels, width, height))

    def picture(self) -> Text:
        """The picture itself, in its own colours."""
        return half_blocks(self.overlay.colour)

    def over(self, effects: NDArray[Any], scale: float, sixteen: bool = False) -> Text:
        """`Overlay.over`. sixteen: for a terminal of 16 colours, with two steps of each."""
        if not sixteen:
            return half_blocks(self.overlay.over(effects, scale))
        strength = self.overlay.strength(effects, scale)
        coloured = np.abs(strength) > 0.25
        hue = np.where(coloured, np.where(strength > 0, 1, 2), 0)
        full = np.where(coloured, np.abs(strength) > 0.6, self.overlay.grey > 0.5)
        return half_blocks(_SIXTEEN[hue, full.astype(int)])


def half_blocks(pixels: NDArray[np.uint8]) -> Text:
    """(h, w, 3) pixels, h even, as h/2 lines of ▀: the upper pixel in front, the lower one behind."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    text = Text(no_wrap=True)
    for y in range(0, len(pixels), 2):
        for upper, lower in zip(pixels[y].tolist(), pixels[y + 1].tolist(), strict=True):
            text.append("▀", Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower)))
        if y + 2 < len(pixels):
            text.append("\n")
    return text


def bar(value: float, width: int, style: str, mark: float | None = None) -> Text:
    """A bar of `width` characters for a value in [0, 1]; NaN is an empty one. mark: where to put a threshold."""
    from rich.text import Text

    filled = 0 if math.isnan(value) else round(min(max(value, 0.0), 1.0) * width)
    text = Text("━" * filled, style) + Text("━" * (width - filled), "grey30")
    if mark is None or not 0 <= mark <= 1:
        return text
    at = min(round(mark * width), width - 1)
    return text[:at] + Text("┃", "bold yellow") + text[at + 1 :]


def shows_pictures(console: Console) -> bool:
    """Whether a console is a terminal with colour, wide enough for pictures."""
    return console.is_terminal and not console.no_color and console.width >= _NARROW and not console.legacy_windows


def alarm_banner(line: str) -> RenderableType:
    """An alarm's line across the terminal."""
    from rich.padding import Padding
    from rich.text import Text

    return Padding(Text(f" ▲ {line}", "bold white on rgb(175,20,20)"), 0, style="on rgb(175,20,20)")


@dataclass
class RunView:
    """Shows one run on a console: colour on a terminal, one plain line a step elsewhere or with NO_COLOR."""

    console: Console
    monitor: Monitor | None = None
    _map: HeatMap | None = field(default=None, init=False)
    _regions: Regions | None = field(default=None, init=False)
    _strongest: float = field(default=FAINT, init=False)
    _alarmed_in: int | None = field(default=None, init=False)  # the attempt
    _riskiest: tuple[float, int] = field(default=(-1.0, 0), init=False)
    _attempt: int = field(default=0, init=False)

    @property
    def rich(self) -> bool:
        """As `shows_pictures`."""
        return shows_pictures(self.console)

    def start(
        self, image: Image.Image, regions: Regions, question: str, about: str = "", intervals: bool = False
    ) -> None:
        """The question beside the picture, and what the colours mean."""
        from rich.console import Group
        from rich.text import Text

        self._regions = regions
        if not self.rich:
            height, width = regions.labels.shape
            facts = f"{regions.k} regions in {width} × {height} pixels" + (f" · {one_line(about)}" if about else "")
            self._plain(f"question: {one_line(question)} ({facts})")
            return
        self._map = HeatMap.of(image, regions, *((16, 8) if self.console.width >= _WIDE else (12, 6)))
        legend = Text.assemble(
            ("■", f"rgb{SUPPORT}".replace(" ", "")),
            " supports the step   ",
            ("■", f"rgb{OPPOSE}".replace(" ", "")),
            " opposes it",
        )
        lines = [one_line(about), f"{regions.k} regions"] if about else [f"{regions.k} regions"]
        body = [Text(one_line(question), "bold"), *(Text(line, "dim") for line in lines), Text(), legend]
        if intervals:
            body.append(Text("± about nine in ten effects lie within", "dim"))
        if self.monitor is not None:
            promise = Text.assemble(("┃", "bold yellow"), f" alarm above risk {score(self.monitor.threshold)}")
            body.append(promise if self.monitor.can_alarm else Text(self.monitor.message, "dim"))
        self.console.rule(style="grey30")
        self._side_by_side(HeatMap.of(image, regions, *_PICTURE).picture(), Group(*body))

    def step(self, step: LiveStep) -> None:
        """One finished sentence, or the answer; the alarm when it is raised here, and what the policy does about it."""
        if step.attempt != self._attempt:
            self._attempt, self._riskiest = step.attempt, (-1.0, 0)
            self._say(f"try {step.attempt + 1}", "bold cyan")
        verdict = step.verdict if step.kind == "thinking" else None
        if verdict is not None and verdict.risk > self._riskiest[0]:
            self._riskiest = (verdict.risk, step.index + 1)
        if step.kind == "thinking":
            self._strongest = max(self._strongest, float(np.abs(step.effects).max(initial=0)))
        if not self.rich or self._map is None:
            assert self._regions is not None  # of `start`
            self._plain(plain_step(step, self._regions.middles))
        else:
            heat = self._map.over(step.effects, self._strongest, self.console.color_system == "standard")
            self._side_by_side(heat, self._body(step, verdict))
        if verdict is not None and verdict.alarm:
            self._alarmed_in = step.attempt
            self._show_alarm(verdict, step.index + 1)
        if step.decision is not None and not _goes_without_saying(step):
            self._say(decision_line(step.decision), "bold yellow")

    def end(self, n_tokens: int, seconds: float, answered: bool, stopped: bool = False) -> None:
        """What the whole run came to, in one line; of several tries the last, with the time that all took."""
        tokens = count(n_tokens, "token")
        last = f"{tokens} in try {self._attempt + 1} · {seconds:.1f} s in all"
        parts = [last if self._attempt else f"{tokens} in {seconds:.1f} s"]
        if self._riskiest[1]:
            parts.append(f"highest risk {score(self._riskiest[0])} at step {self._riskiest[1]}")
        if self.monitor is not None:
            which = f" in try {self._alarmed_in + 1}" if self._attempt and self._alarmed_in is not None else ""
            parts.append("no alarm" if self._alarmed_in is None else f"alarm raised{which}")
        if not answered:
            parts.append("stopped by its policy" if stopped else "stopped before it answered")
        self._say(" · ".join(parts), "dim")

    def _say(self, line: str, style: str) -> None:
        if not self.rich:
            self._plain(line)
            return
        from rich.text import Text

        self.console.print(Text(line, style))

    def _body(self, step: LiveStep, verdict: Verdict | None) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        wide = self.console.width >= _WIDE
        answer = step.kind == "answer"
        title = "answer" if answer else f"step {step.index + 1}"
        head = Text.assemble((title, "bold cyan"), (f"  {count(step.n_tokens, 'token')}", "dim"))
        sentence = Text(clean(step.text) or "(empty)", "bold green" if answer else "bold")
        gauges = Table.grid(padding=(0, 1))
        width = 28 if wide else 16
        hhi = _concentration(step)
        shown = score(hhi) if not math.isnan(hhi) else "no region supports it"
        gauges.add_row(
            Text("concentration", "dim"),
            bar(hhi, width, "cyan"),
            Text.assemble(shown, (f"   strongest {strongest(step)}", "dim")),
        )
        if verdict is not None:
            style = "bold red" if verdict.alarmed else "yellow" if verdict.risk > 0.7 * verdict.threshold else "green"
            gauges.add_row(
                Text("risk", "dim"),
                bar(verdict.risk, width, style, verdict.threshold),
                Text(score(verdict.risk), style),
            )
        return Group(head, sentence, Text(), gauges)

    def _show_alarm(self, verdict: Verdict, number: int) -> None:
        line = alarm_line(verdict, number, self.monitor)
        if not self.rich:
            self._plain(line)
            return
        self.console.print(alarm_banner(line))
        self.console.print()

    def _side_by_side(self, picture: Text, body: RenderableType) -> None:
        from rich.table import Table

        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_row(picture, body)
        self.console.print(grid)
        self.console.print()

    def _plain(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def plain_step(step: LiveStep, middles: Sequence[Sequence[int]]) -> str:
    """A step as one line of text, which says where its strongest region is. middles: `Regions.middles`."""
    x, y = middles[_strongest_region(step)]
    hhi = _concentration(step)
    shown = "none" if math.isnan(hhi) else score(hhi)
    parts = [
        f"{'answer' if step.kind == 'answer' else step.index + 1}: {clean(step.text)}",
        f"concentration {shown}",
        f"strongest {strongest(step)} at x {x}, y {y}",
    ]
    if step.verdict is not None and step.kind == "thinking":
        parts.append(f"risk {score(step.verdict.risk)}")
    return " | ".join(parts)


def strongest(step: LiveStep) -> str:
    """The effect that is largest in size, with its sign, and half the width of its interval where the estimator gives
    one."""
    top = _strongest_region(step)
    within = "" if step.half_width is None else f" ± {score(step.half_width[top])}"
    return f"{signed(step.effects[top])}{within} nats"


def _strongest_region(step: LiveStep) -> int:
    return int(np.argmax(np.abs(step.effects)))


def alarm_line(verdict: Verdict, number: int, monitor: Monitor | None) -> str:
    """What an alarm says: where, how high, and how seldom a good run gets there."""
    value, limit = apart(verdict.risk, verdict.threshold)
    line = f"ALARM at step {number}: risk {value} > {limit}"
    return line if monitor is None else f"{line}; at most {promise(monitor.alpha)} of good runs get there"


def decision_line(decision: Decision) -> str:
    """What a policy does, and why."""
    does = {
        "flag": "goes on",
        "stop": "stopped",
        "answer now": "ends its thinking and answers",
        "ask again": "has another try",
        "enough": "ends its thinking and answers",
    }[decision.action]
    kept = f", from step {decision.keep_steps} on" if decision.keep_steps else ""
    return f"POLICY: {does}{kept}: {decision.reason}"


def _goes_without_saying(step: LiveStep) -> bool:
    """Whether the alarm's own line says all that there is to say of a decision."""
    return step.decision is not None and step.decision.action == "flag" and step.attempt == 0


def _concentration(step: LiveStep) -> float:
    from trajkit.trajectory.concentration import concentration

    return float(concentration(np.asarray(step.effects, float)[None])[0])
