"""The shapes of OpenAI's API, with what trajkit adds: one top-level key `trajkit`, in chunks and in whole answers.

A chunk that explains a step has `choices` with an empty delta, so that a client which knows nothing of it goes on; no
event has a name. Thinking stands in `reasoning_content` and `reasoning`, as servers of either habit write it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from trajkit.attribution.explainer import LiveStep
from trajkit.attribution.regions import Regions
from trajkit.live.generation import Begun, Ended, Explained, Text, Unexplained
from trajkit.live.request import Effects

DONE = b"data: [DONE]\n\n"
_ANSWER, _THINKING = ("content",), ("reasoning_content", "reasoning")
_TOP = 5
"""Effects of a step that are told where not all are asked for."""


def sse(data: dict[str, Any]) -> bytes:
    """An unnamed server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False, allow_nan=False)}\n\n".encode(errors="replace")


def digest(regions: Regions) -> str:
    """By which two answers can be told to be about the same regions."""
    return hashlib.sha256(np.ascontiguousarray(regions.labels, np.int32).tobytes()).hexdigest()[:16]


def step_object(step: LiveStep, effects: Effects, places: list[list[int]]) -> dict[str, Any]:
    """What `trajkit` holds of a step."""
    half = step.half_width
    told: dict[str, Any] = {
        "step": step.index,
        "kind": step.kind,
        "text": step.text,
        "tokens": [step.token_start, step.token_end],
        "risk": step.risk,
        "alarm": bool(step.alarm),
        "verdict": step.verdict.to_dict() if step.verdict else None,
        "attempt": step.attempt,
        "delay": round(step.delay, 4),
        "decision": step.decision.to_dict() if step.decision else None,
    }
    if effects == "all":
        told["effects"] = [round(float(one), 6) for one in step.effects]
        told["half_width"] = None if half is None else [round(float(one), 6) for one in half]
    elif effects == "top":
        strongest = np.argsort(-np.abs(step.effects))[:_TOP]
        told["effects"] = [
            {
                "region": int(region),
                "box": places[region],
                "effect": round(float(step.effects[region]), 6),
                "half_width": None if half is None else round(float(half[region]), 6),
            }
            for region in strongest
        ]
    return told


Told = Begun | Text | Explained | Unexplained | Ended
"""Events that a chunk can tell of; of a failure the API has an object of its own."""


class Answer:
    """One answer, as chunks or whole, made of the events of its run in their order."""

    def __init__(self, run: str, model: str, effects: Effects, token_ids: bool = False) -> None:
        """token_ids: whether those of the answer are told too, as vLLM does."""
        self._token_ids = token_ids
        self._id, self._model, self._effects, self._made = f"chatcmpl-{run}", model, effects, int(time.time())
        self._run, self._places = run, list[list[int]]()
        self._prompt_tokens = 0
        self._thinking: list[str] = []
        self._content: list[str] = []
        self._tokens: list[int] = []
        self._logprobs: list[Any] = []
        self._steps: list[dict[str, Any]] = []
        self._about: dict[str, Any] = {"run": run}
        self._attempt = 0

    def chunk(self, event: Told) -> dict[str, Any]:
        """The chunk that tells of an event."""
        if isinstance(event, Begun):
            return self._begun(event)
        if isinstance(event, Text):
            return self._text(event)
        if isinstance(event, Explained):
            return self._explained(event)
        if isinstance(event, Unexplained):
            return self._unexplained(event)
        return self._ended(event)

    def _begun(self, event: Begun) -> dict[str, Any]:
        """The first chunk: who speaks, and what effects will be about."""
        self._places = event.regions.boxes
        self._prompt_tokens = event.prompt_tokens
        regions = {"method": event.regions.method, "k": event.regions.k, "digest": digest(event.regions)}
        self._about["regions"] = regions
        return self._chunk({"role": "assistant", "content": ""}) | {"trajkit": dict(self._about)}

    def _text(self, event: Text) -> dict[str, Any]:
        """A chunk of what the model writes."""
        if event.attempt != self._attempt:
            self._attempt, self._thinking, self._content = event.attempt, [], []
            self._tokens, self._logprobs = [], []
        self._tokens += event.tokens
        self._logprobs += (event.logprobs or {}).get("content") or []
        parts, delta = (self._content, _ANSWER) if event.kind == "answer" else (self._thinking, _THINKING)
        parts.append(event.text)
        chunk = self._chunk(dict.fromkeys(delta, event.text) if event.text else {})
        chunk["choices"][0] |= {"logprobs": event.logprobs} | self._ids(event.tokens)
        return chunk

    def _ids(self, tokens: Sequence[int]) -> dict[str, Any]:
        return {"token_ids": list(tokens)} if self._token_ids else {}

    def _explained(self, event: Explained) -> dict[str, Any]:
        """A chunk without text, of a step."""
        told = {"run": self._run} | step_object(event.step, self._effects, self._places)
        self._steps.append(told)
        return self._chunk({}) | {"trajkit": told}

    def _unexplained(self, event: Unexplained) -> dict[str, Any]:
        """A chunk without text, that says from where on there are no steps."""
        earlier = self._about.get("unexplained")
        self._about["unexplained"] = f"{earlier} {event.message}" if earlier else event.message
        return self._chunk({}) | {"trajkit": {"run": self._run, "unexplained": event.message}}

    def _ended(self, event: Ended) -> dict[str, Any]:
        """The last chunk that has a choice."""
        last = {"run": self._run, "stopped": event.stopped, "attempt": self._attempt} | event.facts
        return self._chunk({}, event.reason) | {"trajkit": last}

    def usage(self, event: Ended) -> dict[str, Any]:
        """A chunk that counts tokens."""
        return self._chunk(None) | {"usage": self._used(event)}

    def whole(self, event: Ended) -> dict[str, Any]:
        """The answer in one piece."""
        thinking = "".join(self._thinking)
        logprobs = {"content": self._logprobs} if self._logprobs else None
        message = {
            "role": "assistant",
            "content": "".join(self._content),
            "refusal": None,
            "reasoning_content": thinking,
            "reasoning": thinking,
        }
        return {
            "id": self._id,
            "object": "chat.completion",
            "created": self._made,
            "model": self._model,
            "choices": [
                {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": event.reason}
                | self._ids(self._tokens)
            ],
            "usage": self._used(event),
            "trajkit": self._about | {"stopped": event.stopped} | event.facts | {"steps": self._steps},
        }

    def _used(self, event: Ended) -> dict[str, int]:
        asked = self._prompt_tokens if event.prompt_tokens is None else event.prompt_tokens
        return {"prompt_tokens": asked, "completion_tokens": event.tokens, "total_tokens": asked + event.tokens}

    def _chunk(self, delta: dict[str, Any] | None, reason: str | None = None) -> dict[str, Any]:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._made,
            "model": self._model,
            "choices": choices,
        }
