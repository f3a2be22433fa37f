"""What is told of a run beyond its client and its viewers: it is counted, logged, and sent to webhooks."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trajkit.attribution.explainer import LiveStep
from trajkit.detection.monitor import Verdict
from trajkit.live.generation import Ended, Event, Explained, Failed, Text, Unexplained
from trajkit.live.logs import tell
from trajkit.live.metrics import Metrics
from trajkit.live.webhooks import EventType, Webhooks
from trajkit.log import log_decision, log_verdict

_log = logging.getLogger(__name__)
_LONGEST_TEXT = 4000
"""Characters of a text in a webhook: receivers expect some 20 kB at most."""


@dataclass(eq=False)
class Account:
    """Of one run, from its request on; durations are seconds of the monotonic clock. Belongs to the event loop's
    thread, and never waits."""

    run: str
    model: str
    question: str
    metrics: Metrics
    webhooks: Webhooks | None = None
    came: float = field(default_factory=time.monotonic)
    began: float | None = None
    first_step: float | None = None
    n_steps: int = 0
    n_tokens: int = 0
    alarm_step: int | None = None
    max_risk: float | None = None
    failure: Failed | None = None
    _answer: list[str] = field(default_factory=list)
    _attempt: int = 0

    def begin(self) -> None:
        """It has its place."""
        self.began = time.monotonic()
        waited = self.began - self.came
        self.metrics.wait.observe(waited)
        tell(_log, logging.INFO, "start", f"run {self.run} starts", run=self.run, waited=round(waited, 4))

    def see(self, event: Event) -> None:
        """The next thing that happens in it."""
        if isinstance(event, Text):
            self._write(event)
        elif isinstance(event, Explained):
            self._step(event.step)
        elif isinstance(event, Unexplained):
            self.metrics.unexplained.inc()
            why = event.kind if event.quotes else event.message
            said = f"run {self.run} goes on without steps, or with doubtful ones: {why}"
            tell(_log, logging.WARNING, "unexplained", said, run=self.run, kind=event.kind)
        elif isinstance(event, Ended | Failed):
            self.n_tokens = event.tokens
            self.metrics.tokens.inc(event.tokens)
            if isinstance(event, Failed):
                self.failure = event

    def end(self, outcome: str) -> None:
        """It is over. outcome: of OUTCOMES."""
        self.metrics.requests.labels(outcome).inc()
        if self.began is None:
            return
        now = time.monotonic()
        self.metrics.seconds.observe(now - self.began)
        told: dict[str, Any] = {
            "outcome": outcome,
            "waited": round(self.began - self.came, 4),
            "first_step": self.first_step,
            "seconds": round(now - self.came, 4),
            "n_tokens": self.n_tokens,
            "n_steps": self.n_steps,
        }
        said = f"run {self.run} {outcome} after {now - self.came:.1f} s: {self.n_tokens} tokens, {self.n_steps} steps"
        level, texts = logging.INFO, {"answer": "".join(self._answer)}
        if self.failure is not None:
            level = logging.ERROR if self.failure.internal else logging.WARNING
            said, texts["error"] = f"{said} ({self.failure.kind})", self.failure.message
            told["kind"] = self.failure.kind
        tell(_log, level, "end", said, run=self.run, **told)
        told |= {"alarm_step": self.alarm_step, "max_risk": self.max_risk} | self._texts(texts)
        self._send("run.failed" if self.failure else "run.ended", told)

    def _write(self, event: Text) -> None:
        if event.attempt != self._attempt:
            self._attempt, self._answer = event.attempt, []
        if event.kind == "answer" and self.webhooks is not None and self.webhooks.texts:
            self._answer.append(event.text)

    def _step(self, step: LiveStep) -> None:
        self.n_steps += 1
        if self.first_step is None:
            self.first_step = round(time.monotonic() - self.came, 4)
            self.metrics.first_step.observe(self.first_step)
        self.metrics.steps.inc()
        self.metrics.delay.observe(step.delay)
        if step.verdict is not None and step.kind == "thinking":
            self.max_risk = step.verdict.max_risk
            log_verdict(_log, step.verdict, self.run)
            if step.verdict.alarm:
                self._alarm(step, step.verdict)
        if step.decision is not None:
            self.metrics.decisions.labels(step.decision.action).inc()
            log_decision(_log, step.decision, self.run)
            self._send("run.decision", {"attempt": step.attempt} | step.decision.to_dict())

    def _alarm(self, step: LiveStep, verdict: Verdict) -> None:
        if self.alarm_step is None:
            self.metrics.alarms.inc()
            self.alarm_step = verdict.step
        about = {"attempt": step.attempt, "tokens": [step.token_start, step.token_end]}
        self._send("run.alarm", verdict.to_dict() | about | self._texts({"text": step.text}))

    def _send(self, type_: EventType, data: Mapping[str, Any]) -> None:
        if self.webhooks is not None:
            about = {"run": self.run, "model": self.model}
            self.webhooks.tell(type_, about | self._texts({"question": self.question}) | dict(data))

    def _texts(self, said: Mapping[str, str]) -> dict[str, str]:
        """Them, where webhooks tell them."""
        wanted = self.webhooks is not None and self.webhooks.texts
        return {name: text[:_LONGEST_TEXT] for name, text in said.items()} if wanted else {}
