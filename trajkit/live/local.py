"""The engine whose model is loaded in this process."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event as Flag
from threading import Thread
from typing import Any

from trajkit.attribution.explainer import Watching
from trajkit.attribution.stream import Stream, stream
from trajkit.errors import InputError
from trajkit.live.generation import Begun, Ended, Explained, Put, Text, TraceMaker, Unexplained, failed_by
from trajkit.live.request import ChatRequest
from trajkit.live.wishes import facts, wished
from trajkit.vlm.pieces import TextPieces


@dataclass(frozen=True, eq=False)
class LocalEngine:
    """Generates by `stream`. watching: where a request asks for nothing else. served_name: what clients call the
    model."""

    watching: Watching
    served_name: str = ""

    @property
    def name(self) -> str:
        return self.served_name or self.watching.vlm.name

    def check(self, request: ChatRequest) -> None:
        """As `Engine.check`."""
        if request.logprobs:
            raise InputError("logprobs are not told of a model that is loaded here; leave them and top_logprobs out.")
        request.sampling.arguments(self.watching.vlm)
        wished(self.watching, request.wish)

    def begin(self, request: ChatRequest, put: Put) -> LocalRun:
        """As `Engine.begin`."""
        return LocalRun(wished(self.watching, request.wish), request, put)

    def facts(self) -> dict[str, Any]:
        """As `Engine.facts`."""
        return {"engine": "local"} | facts(self.watching)

    async def close(self) -> None:
        """As `Engine.close`; each run's thread ends with it."""


class LocalRun:
    """One run of a LocalEngine."""

    def __init__(self, watching: Watching, request: ChatRequest, put: Put) -> None:
        self._watching, self._request, self._put = watching, request, put
        self._cancelled = Flag()
        self._stream: Stream | None = None
        self._pieces: TextPieces | None = None
        self._attempt = 0
        self._untold: list[int] = []  # tokens whose text is held back, or that have none
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
        except Exception as error:  # whatever it is, the client is told and the server goes on
            self._put(failed_by(error, self._trace, self._n_tokens))

    @property
    def _trace(self) -> TraceMaker | None:
        return self._stream.trace if self._stream is not None else None

    def _whole(self) -> Ended:
        watching, request = self._watching, self._request
        running = stream(
            watching.vlm,
            messages=request.messages,
            estimator=watching.estimator,
            monitor=watching.monitor,
            policy=watching.policy,
            on_token=self._take,
            on_unexplained=lambda error: self._put(Unexplained.by(error)),
            **vars(request.sampling),
        )
        self._stream = running
        if self._cancelled.is_set():
            running.stop()
        self._put(Begun(running.regions, running.prompt.length, watching.monitor))
        for step in running:
            self._put(Explained(step))
        self._finish()
        stopped = not running.ended
        reason = "stop" if stopped or self._said_all(running) else "length"
        return Ended(reason, stopped, self._n_tokens, trace=self._trace)

    def _said_all(self, running: Stream) -> bool:
        """Whether it was the model, or a stop string, that ended the run."""
        vlm, tokens = self._watching.vlm, running.tokens
        if not tokens or tokens[-1] in vlm.end_tokens:
            return True
        text = vlm.tokenizer.decode(tokens, skip_special_tokens=True)
        return any(stop in text for stop in self._request.sampling.stop_strings or ())

    def _take(self, token: int, attempt: int) -> None:
        self._n_tokens += 1
        if self._pieces is None or attempt != self._attempt:
            self._finish()
            self._pieces, self._attempt = TextPieces(self._watching.vlm), attempt
        self._untold.append(token)
        for kind, text in self._pieces.push(token):
            self._put(Text(kind, text, attempt, self._told()))

    def _finish(self) -> None:
        """Tell what was held back of an attempt."""
        if self._pieces is None:
            return
        for kind, text in self._pieces.finish() or ([(self._pieces.kind, "")] if self._untold else []):
            self._put(Text(kind, text, self._attempt, self._told()))

    def _told(self) -> tuple[int, ...]:
        told, self._untold = tuple(self._untold), []
        return told
