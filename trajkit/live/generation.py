"""What engines tell of a generation while it runs, in the order in which it happens."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from trajkit.attribution.explainer import LiveStep
from trajkit.attribution.regions import Regions
from trajkit.errors import InputError, TrajkitError
from trajkit.live.request import ChatRequest
from trajkit.traces.trace import StepKind, Trace

if TYPE_CHECKING:
    from trajkit.detection.monitor import Monitor

_log = logging.getLogger(__name__)
TraceMaker = Callable[[], Trace]
"""Makes the Trace of a run that is over. Takes as long as its image takes to be encoded; for any thread."""


@dataclass(frozen=True, eq=False)
class Begun:
    """The prompt has been made. regions: those that effects will be about. prompt_tokens: its length. monitor: what
    watches the run, if anything does."""

    regions: Regions
    prompt_tokens: int
    monitor: Monitor | None = None


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
    """The run goes on without steps and verdicts, or those that it has are not of what was written; and why. kind: the
    class of the error, if it was one. quotes: whether the message may quote what was asked or written."""

    message: str
    kind: str = ""
    quotes: bool = True

    @classmethod
    def by(cls, error: Exception) -> Unexplained:
        """Because of an error, in its own words where it is ours."""
        kind = type(error).__name__
        return cls(str(error) if isinstance(error, TrajkitError) else f"{kind}: {error}", kind)


@dataclass(frozen=True, eq=False)
class Ended:
    """The generation is over. reason: OpenAI's: "stop" where the model ended or a policy had it end, "length" at its
    limit. stopped: whether a policy or the client stopped it before its answer. tokens: written, in all attempts.
    prompt_tokens, facts: as another server counts them, and what was found of its tokens (`tokens.Tokens.facts`).
    trace: makes a Trace of what there is, where there can be one."""

    reason: str
    stopped: bool
    tokens: int
    prompt_tokens: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    trace: TraceMaker | None = None


@dataclass(frozen=True, eq=False)
class Failed:
    """It cannot go on. internal: whether it is no fault of the request. trace: as of Ended. kind: the class of the
    error, which, unlike its message, quotes nobody. tokens: written until then, in all attempts."""

    message: str
    internal: bool = True
    trace: TraceMaker | None = None
    kind: str = ""
    tokens: int = 0


def failed_by(error: Exception, trace: TraceMaker | None = None, tokens: int = 0) -> Failed:
    """What is told of an error. One that is a bug is logged, too."""
    kind = type(error).__name__
    if isinstance(error, TrajkitError):
        return Failed(str(error), not isinstance(error, InputError), trace, kind, tokens)
    _log.error("a run failed", exc_info=error)
    return Failed(f"{kind}: {error}", True, trace, kind, tokens)


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

    async def close(self) -> None:
        """End its threads and connections, once all of its runs are over. It begins no more."""
        ...
