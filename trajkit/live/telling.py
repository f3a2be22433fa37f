"""What is told of a run to those who look on, made of its engine's events.

Text is told in pieces of a tenth of a second, so that a run has few events.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from trajkit.detection.calibration import SPARED_WORD
from trajkit.live.generation import Begun, Ended, Event, Explained, Failed, Text, Unexplained
from trajkit.live.history import RunLog
from trajkit.live.query import rounded
from trajkit.live.verdicts import why_alarmed
from trajkit.tables.words import promise, sentence
from trajkit.trajectory.concentration import concentration

if TYPE_CHECKING:
    from PIL import Image

    from trajkit.attribution.explainer import LiveStep
    from trajkit.attribution.regions import Regions
    from trajkit.detection.monitor import Monitor

_log = logging.getLogger(__name__)
_TOGETHER = 0.1
"""Seconds of text that are told in one piece."""
_LENGTH = "it came to its limit of tokens"


class Telling:
    """Tells `log` of one run. picture: what is asked about (RGB). Made and used in the thread of the event loop.

    The run's picture and regions are made ready in another thread; what happens meanwhile is told after them, in order.
    """

    def __init__(self, log: RunLog, picture: Image.Image) -> None:
        self._log, self._picture = log, picture
        self._loop = asyncio.get_running_loop()
        self._monitor: Monitor | None = None
        self._held: list[Event] | None = []  # until the start is told
        self._starting: asyncio.Future[dict[str, Any]] | None = None
        self._text: Text | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._why = ""

    def take(self, event: Event) -> None:
        """The next event."""
        if self._held is None:
            self._tell(event)
            return
        self._held.append(event)
        if self._starting is None and not isinstance(event, Text | Explained):
            begun = event if isinstance(event, Begun) else None
            shown = partial(_shown, self._picture, begun.regions if begun else None)
            self._starting = self._loop.run_in_executor(None, shown)
            self._starting.add_done_callback(partial(self._start, begun))

    def stopping(self, why: str) -> None:
        """The run is about to be stopped from outside, and why; its end will say so. The first reason counts."""
        self._why = self._why or why

    def never_began(self, why: str) -> None:
        """It is over, and no engine has heard of it."""
        if not (self._starting or self._log.over):
            self.stopping(why)
            self.take(Ended("stop", True, 0))

    async def caught_up(self) -> None:
        """Return once all that was taken is told."""
        if self._starting is not None and not self._starting.done():
            await asyncio.wait([self._starting])

    def _start(self, begun: Begun | None, shown: asyncio.Future[dict[str, Any]]) -> None:
        held, self._held = self._held or [], None
        self._monitor = begun.monitor if begun else None
        self._log.set_running()
        self._log.add("start", {**self._log.row, **_nothing_shown(), **shown.result(), **_watched(self._monitor)})
        for event in held:
            self._tell(event)

    def _tell(self, event: Event) -> None:
        if self._log.over:
            return
        if isinstance(event, Text):
            self._tell_text(event)
            return
        self._flush()
        if isinstance(event, Explained):
            self._log.add("step", step_told(event.step, self._monitor))
        elif isinstance(event, Unexplained):
            self._log.add("unexplained", {"message": event.message})
        elif isinstance(event, Ended | Failed):
            self._end(event)

    def _tell_text(self, event: Text) -> None:
        if not event.text:
            return
        held = self._text
        if held is not None and (held.kind, held.attempt) == (event.kind, event.attempt):
            self._text = Text(event.kind, held.text + event.text, event.attempt)
            return
        self._flush()
        self._text, self._timer = event, self._loop.call_later(_TOGETHER, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._text is not None:
            text, self._text = self._text, None
            self._log.add("text", {"kind": text.kind, "text": text.text, "attempt": text.attempt})

    def _end(self, event: Ended | Failed) -> None:
        log = self._log
        log.trace = event.trace
        told: dict[str, Any] = {"answer": log.answer, "stopped": True, "n_tokens": log.row["n_tokens"]}
        if isinstance(event, Failed):
            told |= {"state": "failed", "reason": event.message, "n_tokens": event.tokens or told["n_tokens"]}
        else:
            natural = _LENGTH if event.reason == "length" else ""
            told |= {
                "state": "stopped" if event.stopped else "ended",
                "stopped": event.stopped,
                "reason": (self._why or "its policy stopped it") if event.stopped else natural,
                "n_tokens": event.tokens,
            }
        log.add("end", told)


def step_told(step: LiveStep, monitor: Monitor | None) -> dict[str, Any]:
    """A step as the page takes it; its effects and their half widths in nats."""
    half = step.half_width
    return {
        "index": step.index,
        "kind": step.kind,
        "text": step.text,
        "tokens": [step.token_start, step.token_end],
        "concentration": rounded(concentration(step.effects[None])[0]) if len(step.effects) else None,
        "risk": rounded(step.risk),
        "alarm": bool(step.alarm),
        "reason": _reason(step, monitor),
        "wrong": False,
        "attempt": step.attempt,
        "decision": step.decision.to_dict() if step.decision else None,
        "delay": round(step.delay, 4),
        "effects": [round(float(one), 6) for one in step.effects],
        "half_width": None if half is None else [round(float(one), 6) for one in half],
    } | _beyond(step, monitor)


def _beyond(step: LiveStep, monitor: Monitor | None) -> dict[str, str]:
    """`note`: from this step on the run is unlike all that the monitor was calibrated on; nothing otherwise."""
    if monitor is None or step.verdict is None or step.kind != "thinking":
        return {}
    n, k = step.verdict.step, len(step.effects)
    before = monitor.beyond(n - 1, k) if n > 1 else {}
    new = [sentence(said) for of, said in monitor.beyond(n, k).items() if of not in before]
    return {"note": " ".join(new)} if new else {}


def _reason(step: LiveStep, monitor: Monitor | None) -> str:
    """What the policy, or the monitor, says of a step that it speaks at."""
    if step.decision is not None:
        return step.decision.reason
    if not step.alarm or step.verdict is None or monitor is None:
        return ""
    why = why_alarmed(monitor.watches, step.verdict.risk, step.verdict.threshold)
    few = f"at most {promise(monitor.alpha)} of {SPARED_WORD[monitor.watches]} runs get there"
    return f"{why}; {few}"


def _watched(monitor: Monitor | None) -> dict[str, Any]:
    if monitor is None:
        return {"threshold": None, "watches": None, "notes": ["No monitor watches this run."]}
    notes = [] if monitor.can_alarm else [monitor.message]
    return {"threshold": rounded(monitor.threshold), "watches": monitor.watches, "notes": notes}


def _nothing_shown() -> dict[str, Any]:
    return {"image": None, "map": None, "n_regions": 0, "effects_kind": None}


def _shown(picture: Image.Image, regions: Regions | None) -> dict[str, Any]:
    """What a page draws: the picture, and where the regions are. Takes a while; for any thread."""
    from trajkit.live.pixels import label_map, picture_of

    told: dict[str, Any] = {}
    try:
        url, width, height = picture_of(picture)
        told["image"] = {"url": url, "width": width, "height": height}
        if regions is not None:
            told |= {"map": label_map(regions.labels), "n_regions": regions.k, "effects_kind": "estimated"}
    except Exception:  # a page without a picture is better than none
        _log.exception("the picture of a run cannot be shown")
    return told
