"""The engine whose model is loaded in this process."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event as Flag
from threading import Thread
from typing import TYPE_CHECKING, Any

from trajkit.attribution.stream import Stream, stream
from trajkit.errors import InputError, TrajkitError
from trajkit.live.generation import Begun, Ended, Explained, Failed, Put, Text
from trajkit.live.request import ChatRequest
from trajkit.live.wishes import monitor_for, policy_for
from trajkit.vlm.pieces import TextPieces

if TYPE_CHECKING:
    from trajkit.attribution.estimator import EffectEstimator
    from trajkit.detection.monitor import Monitor
    from trajkit.detection.policies import Policy
    from trajkit.vlm.model import VLM


@dataclass(frozen=True, eq=False)
class LocalEngine:
    """Generates by `stream`. policy: where a request names none. served_name: what clients call the model."""

    vlm: VLM
    estimator: EffectEstimator
    monitor: Monitor | None = None
    policy: Policy | None = None
    served_name: str = ""

    @property
    def name(self) -> str:
        return self.served_name or self.vlm.name

    def check(self, request: ChatRequest) -> None:
        """As `Engine.check`."""
        request.sampling.arguments(self.vlm)
        monitor, policy = monitor_for(request.wish, self.monitor), policy_for(request.wish, self.policy)
        if policy is not None:
            policy.check(monitor, self.vlm.name, self.vlm.fingerprint)

    def begin(self, request: ChatRequest, put: Put) -> LocalRun:
        """As `Engine.begin`."""
        return LocalRun(self, request, put)

    def facts(self) -> dict[str, Any]:
        """As `Engine.facts`."""
        return {
            "engine": "local",
            "fingerprint": self.vlm.fingerprint,
            "regions": self.estimator.binding.region_method,
            "alpha": self.monitor.alpha if self.monitor else None,
            "policy": self.policy.on_alarm if self.policy else "flag",
        }


class LocalRun:
    """One run of a LocalEngine."""

    def __init__(self, engine: LocalEngine, request: ChatRequest, put: Put) -> None:
        self._engine, self._request, self._put = engine, request, put
        self._cancelled = Flag()
        self._stream: Stream | None = None
        self._pieces: dict[int, TextPieces] = {}
        self._n_tokens = 0
        Thread(target=self._run, daemon=True).start()

    def cancel(self) -> None:
        """As `Running.cancel`."""
        self._cancelled.set()
        if self._stream is not None:
            self._stream.stop()

    def _run(self) -> None:
        try:
            self._put(self._whole())
        except TrajkitError as error:
            self._put(Failed(str(error), internal=not isinstance(error, InputError)))
        except Exception as error:  # whatever it is, the client is told and the server goes on
            self._put(Failed(f"{type(error).__name__}: {error}"))

    def _whole(self) -> Ended:
        engine, request = self._engine, self._request
        running = stream(
            engine.vlm,
            messages=request.messages,
            estimator=engine.estimator,
            monitor=monitor_for(request.wish, engine.monitor),
            policy=policy_for(request.wish, engine.policy),
            on_token=self._take,
            **vars(request.sampling),
        )
        self._stream = running
        if self._cancelled.is_set():
            running.stop()
        self._put(Begun(running.regions, running.prompt.length))
        for step in running:
            self._put(Explained(step))
        for attempt, pieces in self._pieces.items():
            for kind, text in pieces.finish():
                self._put(Text(kind, text, attempt))
        trace = running.trace()
        stopped = bool(trace.meta.get("stopped"))
        return Ended("stop" if stopped or self._said_all(running) else "length", stopped, self._n_tokens, trace)

    def _said_all(self, running: Stream) -> bool:
        """Whether it was the model, or a stop string, that ended the run."""
        vlm, tokens = self._engine.vlm, running.tokens
        if not tokens or tokens[-1] in vlm.end_tokens:
            return True
        text = vlm.tokenizer.decode(tokens, skip_special_tokens=True)
        return any(stop in text for stop in self._request.sampling.stop_strings or ())

    def _take(self, token: int, attempt: int) -> None:
        self._n_tokens += 1
        if attempt not in self._pieces:
            self._pieces[attempt] = TextPieces(self._engine.vlm)
        for kind, text in self._pieces[attempt].push(token):
            self._put(Text(kind, text, attempt))
