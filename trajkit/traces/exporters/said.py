"""What the formats say of a run, in one form: its steps with the strongest region, its chat, its verdicts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from trajkit.traces.boxes import Box, boxes_of
from trajkit.traces.rows import plain
from trajkit.traces.trace import Outcome, Trace
from trajkit.trajectory import concentration, top_region

SETTINGS = {"temperature": "temperature", "max_new_tokens": "max_tokens", "seed": "seed"}
"""Of `meta`, settings of the generation, and what chat tools call them."""
ROLES = {role: role for role in ("system", "user", "assistant", "tool")} | {"developer": "system", "function": "tool"}
"""Roles of turns, as inspect calls them."""
_REPEATED = ("messages", "written")
"""Of `meta`, what the chat says too."""


def json_text(value: Any) -> str:
    """JSON in ASCII, of what a run that can be stored holds."""
    return json.dumps(value, default=plain, allow_nan=False)


def rounded(value: float | None, digits: int = 6) -> float | None:
    """None for what is not a finite number."""
    return None if value is None or not math.isfinite(value) else round(float(value), digits)


def ended(trace: Trace) -> Outcome:
    """How the run ended: `failure` where it is wrong and of no known kind."""
    return "failure" if trace.outcome == "unknown" and trace.success is False else trace.outcome


def has_effects(trace: Trace) -> bool:
    return trace.effects_kind is not None and trace.effects.size > 0


def steps_of(trace: Trace) -> list[dict[str, Any]]:
    """Each step as it was saved, with its number from 1, the concentration of its effects, and of the region with the
    largest one its number, effect (nats) and box; null where the run has no effects."""
    told: dict[str, list[Any]] = {name: [None] * trace.n_steps for name in ("level", "region", "effect")}
    boxes: list[Box] = []
    if has_effects(trace):
        told["level"] = concentration(trace.effects).tolist()
        top = top_region(trace.effects)
        told["region"] = top.tolist()
        told["effect"] = trace.effects[np.arange(trace.n_steps), top].tolist()
        boxes = boxes_of(trace.regions, trace.n_regions) if trace.regions.size else []
    return [
        {
            "step": at + 1,
            **{name: _plain(value) for name, value in step.to_dict().items()},
            "concentration": rounded(told["level"][at]),
            "top_region": told["region"][at],
            "top_effect": rounded(told["effect"][at]),
            "top_box": boxes[told["region"][at]] if boxes else None,
        }
        for at, step in enumerate(trace.steps)
    ]


def _plain(value: Any) -> Any:
    return rounded(value) if isinstance(value, float) else value


def verdict_of(trace: Trace) -> dict[str, Any]:
    """The largest risk that the monitor said, and the step, from 1, at which it alarmed; None where there was none."""
    risks = [step.risk for step in trace.steps if step.risk is not None]
    alarms = [number for number, step in enumerate(trace.steps, 1) if step.alarm]
    return {"risk": rounded(max(risks, default=None)), "alarm_step": alarms[0] if alarms else None}


def was_watched(trace: Trace) -> bool:
    return any(step.risk is not None or step.alarm is not None for step in trace.steps)


def n_tokens(trace: Trace) -> int | None:
    """Tokens up to the end of the last step; where steps count words (`meta["counted_in"]`), those that the server
    counted, or None."""
    if trace.meta.get("counted_in") == "words":
        told = trace.meta.get("completion_tokens")
        return told if type(told) is int else None
    return max((step.token_end for step in trace.steps), default=0)


def seconds(trace: Trace) -> float | None:
    """From the beginning to the end of the last step; None where it was not timed."""
    return rounded(sum(step.seconds for step in trace.steps)) or None


def began(trace: Trace) -> str | None:
    """When the run began, as ISO 8601 in UTC; None where that is not known."""
    at = trace.meta.get("began")
    if not isinstance(at, int | float) or isinstance(at, bool):
        return None
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return None


def settings_of(meta: Mapping[str, Any]) -> dict[str, int | float]:
    """Settings of the generation that `meta` tells, as chat tools name them."""
    told = {theirs: meta.get(ours) for ours, theirs in SETTINGS.items()}
    return {
        name: value for name, value in told.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }


def facts_of(trace: Trace) -> dict[str, Any]:
    """`meta` without what the chat says too."""
    return {name: value for name, value in trace.meta.items() if name not in _REPEATED}


def stop_reason(trace: Trace) -> str:
    """Why generation ended, in inspect's words."""
    cut = trace.meta.get("cut")
    if cut in ("length", "content filter"):
        return "max_tokens" if cut == "length" else "content_filter"
    return "stop" if trace.meta.get("thinking_closed") and not trace.meta.get("stopped") and not cut else "unknown"


def chat_of(trace: Trace, image: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The run as a chat, messages in inspect's form: the prompt, then the model's thinking as a part of type
    `reasoning`, and its answer.

    image: the part that stands for the picture; None where there is none.
    """
    asked = trace.meta.get("messages")
    turns = [turn for turn in asked if isinstance(turn, dict)] if isinstance(asked, list) else []
    if not turns:
        turns = [{"role": "user", "content": [*([{"type": "image"}] if image else []), _text(trace.question)]}]
    pictures = iter([image] if image else [])
    prompt = [_turn(turn, pictures) for turn in turns]
    system = trace.meta.get("system")
    if isinstance(system, str) and system and prompt[0]["role"] != "system":
        prompt.insert(0, {"role": "system", "content": system})
    thinking, answer = written_of(trace)
    said = [{"type": "reasoning", "reasoning": thinking}] if thinking else []
    said += [_text(answer)] if answer or not said else []
    made = [*prompt, {"role": "assistant", "content": said, "model": trace.model, "source": "generate"}]
    return [{"id": f"{trace.transcript_id}-{number}"} | turn for number, turn in enumerate(made)]


def written_of(trace: Trace) -> tuple[str, str]:
    """(thinking, answer): the exact text where it was kept, else the steps."""
    written = trace.meta.get("written")
    exact = written if isinstance(written, dict) else {}
    thinking = " ".join(step.text for step in trace.steps if step.kind == "thinking")
    answer = " ".join(step.text for step in trace.steps if step.kind == "answer") or trace.answer
    return str(exact.get("thinking") or thinking), str(exact.get("answer") or answer)


def _turn(turn: Mapping[str, Any], pictures: Iterator[Mapping[str, Any]]) -> dict[str, Any]:
    """A turn of the prompt with its pictures in place; several of one canvas stand where the first does."""
    role = ROLES.get(str(turn.get("role")), "user")
    content = turn.get("content")
    if not isinstance(content, list):
        return {"role": role, "content": str(content or "")}
    parts: list[Mapping[str, Any]] = []
    thinking = turn.get("reasoning_content")
    if role == "assistant" and isinstance(thinking, str) and thinking:
        parts.append({"type": "reasoning", "reasoning": thinking})
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else "text"
        if kind == "text":
            parts.append(_text(str(part.get("text", "") if isinstance(part, dict) else part)))
        elif kind == "image" and (picture := next(pictures, None)):
            parts.append(picture)
        else:
            parts.append(_text(f"[{kind}]"))  # of which no more was kept
    return {"role": role, "content": parts}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
