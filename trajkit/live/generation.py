"""What engines tell of a generation while it runs, in the order in which it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from trajkit.attribution.explainer import LiveStep
from trajkit.attribution.regions import Regions
from trajkit.live.request import ChatRequest
from trajkit.traces.trace import StepKind


@dataclass(frozen=True, eq=False)
class Begun:
    """The prompt has been made. regions: those that effects will be about. prompt_tokens: its length."""

    regions: Regions
    prompt_tokens: int


@dataclass(frozen=True)
class Text:
    """A piece of what the model writes, of which attempt. tokens: its ids, where they are known; some have no text.
    logprobs: of them, as another server tells them."""

    kind: StepKind
    text: str
    attempt: int = 0
    tokens: tuple[int, ...] = ()
    logprobs: dict[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Explained:
    """A step has been explained."""

    step: LiveStep


@dataclass(frozen=True)
class Unexplained:
    """The run goes on without steps and verdicts, or those that it has are not of what was written; and why."""

    message: str


@dataclass(frozen=True, eq=False)
class Ended:
    """The generation is over. reason: OpenAI's: "stop" where the model ended or a policy had it end, "length" at its
    limit. stopped: whether a policy or the client stopped it before its answer. tokens: written, in all attempts.
    prompt_tokens, facts: as another server counts them, and what was found of its tokens (`tokens.Tokens.facts`)."""

    reason: str
    stopped: bool
    tokens: int
    prompt_tokens: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """It cannot go on. internal: whether it is no fault of the request."""

    message: str
    internal: bool = True


Event = Begun | Text | Explained | Unexplained | Ended | Failed
Put = Callable[[Event], object]
"""Takes events from the engine's threads; must not wait."""


class Running(Protocol):
    """A generation that was begun."""

    def cancel(self) -> None:
        """Stop it soon; `Ended` follows, or has. Does not wait. Safe from any thread, more than once."""
        ...


class Engine(Protocol):
    """Something that generates under watch."""

    @property
    def name(self) -> str:
        """What clients call its model."""
        ...

    def check(self, request: ChatRequest) -> None:
        """Raises InputError for what it cannot do, before a place is taken."""
        ...

    def begin(self, request: ChatRequest, put: Put) -> Running:
        """Generate in threads of its own; the last event is Ended or Failed."""
        ...

    def facts(self) -> dict[str, Any]:
        """What it is, for `/v1/models` and the page, JSON-ready."""
        ...
