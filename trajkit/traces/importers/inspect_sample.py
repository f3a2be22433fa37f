"""From a sample of an inspect log to what it says of its run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trajkit.errors import InputError
from trajkit.traces.importers.pictures import image_bytes
from trajkit.traces.importers.prompts import Prompt, prompt_of
from trajkit.traces.importers.ranges import items_at
from trajkit.traces.importers.reading import as_dict, as_list, as_text, error_line
from trajkit.traces.importers.run import TOOL_CALLS, SourceRun, ToldToken, Wanted, cut_of, is_closing, think_split
from trajkit.traces.importers.told import told_tokens

ATTACHMENT = "attachment://"
REMOVED = "<base64-data-removed>"
_SETTINGS = {"temperature": "temperature", "max_tokens": "max_new_tokens", "seed": "seed"}
"""inspect's names of settings → those of `attribution.assemble.settings`."""


class Attachments(Protocol):
    def get(self, name: str) -> Any: ...


class Pool(Protocol):
    def at(self, ranges: Any) -> list[Any]: ...
    def all(self) -> Iterator[Any]: ...


@dataclass(frozen=True)
class Log:
    """What a log says of all its runs. id: the log's own. config: of generation. folder: that it is in."""

    model: str
    task: str
    id: str
    tool: str
    config: dict[str, Any]
    folder: Path


class Listed:
    """A pool of messages, or the events, of a sample that is one piece of JSON."""

    def __init__(self, items: Any) -> None:
        self._items = as_list(items)

    def at(self, ranges: Any) -> list[Any]:
        return items_at(ranges, lambda start, end: self._items[start:end])

    def all(self) -> Iterator[Any]:
        return reversed(self._items)


class Sample:
    """A sample's record, and what its `attachment://` references and `input_refs` point to."""

    def __init__(
        self,
        record: dict[str, Any],
        attachments: Attachments | None = None,
        pool: Pool | None = None,
        events: Pool | None = None,
    ) -> None:
        self.record = record
        self.attachments: Attachments = attachments or as_dict(record.get("attachments"))
        self.pool: Pool = pool or Listed(
            as_dict(record.get("events_data")).get("messages") or record.get("message_pool")
        )
        self.events: Pool = events or Listed(record.get("events"))

    @property
    def id(self) -> str | None:
        """Of its run: the sample's id and its epoch; None where it has none."""
        name, epoch = as_text(self.record.get("id")), self.record.get("epoch")
        return f"{name}-{epoch}" if name and type(epoch) is int and 0 <= epoch < 2**31 else None

    @property
    def config(self) -> dict[str, Any]:
        """What the last call of a model was made with, where the sample is one piece of JSON."""
        events = map(as_dict, reversed(as_list(self.record.get("events"))))
        return next((as_dict(event.get("config")) for event in events if event.get("event") == "model"), {})

    def text(self, value: Any) -> Any:
        """`value`, or the attachment that it refers to."""
        if not isinstance(value, str) or not value.startswith(ATTACHMENT):
            return value
        found = self.attachments.get(value.removeprefix(ATTACHMENT))
        if not isinstance(found, str):
            raise InputError(f"its {value[:60]} is not in the log; it may have been cut off.")
        return found

    def message(self, value: Any) -> dict[str, Any]:
        """A message with its attachments in place."""
        message = {key: self.text(part) for key, part in as_dict(value).items()}
        if isinstance(message.get("content"), list):
            message["content"] = [self._part(part) for part in message["content"]]
        return message

    def _part(self, part: Any) -> Any:
        return {key: self.text(value) for key, value in part.items()} if isinstance(part, dict) else self.text(part)


@dataclass(frozen=True)
class Generation:
    """The last answer of a model in a sample: its choice, the turns before it, and what it was generated with."""

    choice: dict[str, Any]
    turns: list[dict[str, Any]]
    config: dict[str, Any]


def run_of(sample: Sample, log: Log, wanted: Wanted) -> SourceRun:
    """The run of a sample. Raises InputError where the sample or its model failed, or nothing was generated."""
    record = sample.record
    if sample.id is None:
        raise InputError("it is no sample: expected an id and an epoch.")
    task_id, epoch = str(as_text(record["id"])), record["epoch"]
    if error := as_dict(record.get("error")):
        raise InputError(f"the sample failed: {error_line(error.get('message'))}.")
    last = _generation(sample)
    message = sample.message(last.choice.get("message"))
    thinking, answer, about = _said(message, wanted)
    failed = as_text(as_dict(record.get("output")).get("error"))
    if failed and not thinking.strip() and not answer.strip():
        raise InputError(f"the model failed: {error_line(failed)}.")
    told = told_tokens(as_dict(last.choice.get("logprobs")).get("content"))
    closed = about["closed"] or any(map(is_closing, told)) or last.choice.get("stop_reason") in TOOL_CALLS
    prompt = prompt_of(last.turns)
    metadata = as_dict(record.get("metadata"))
    config = log.config | {name: value for name, value in last.config.items() if value is not None}
    scores = {str(name): _value(score) for name, score in as_dict(record.get("scores")).items()}
    return SourceRun(
        id=sample.id,
        model=log.model or as_text(message.get("model")) or "",
        question=prompt.question,
        thinking=thinking,
        answer=answer,
        closed=closed,
        cut=_cut(record, last.choice, closed, told),
        images=() if task_id in wanted.questions else _images(prompt, log, wanted),
        messages=prompt.messages,
        system=prompt.system,
        told=told,
        task_set=as_text(metadata.get("task_set")) or log.task,
        task_id=task_id,
        repeat=max(epoch - 1, 0),
        form=as_text(metadata.get("form")) or "",
        targets=tuple(text for one in _listed(record.get("target")) if (text := as_text(one))),
        score=next(iter(scores.values()), None),
        settings={ours: config[name] for name, ours in _SETTINGS.items() if config.get(name) is not None},
        tool=log.tool,
        log=log.id,
        facts=about["facts"] | ({"scores": scores} if scores else {}),
    )


def _generation(sample: Sample) -> Generation:
    """What was answered last: the sample's output, or, where it has none, the last call of a model that gave one, or
    the last turn of the assistant in the conversation."""
    record = sample.record
    output = as_dict(record.get("output"))
    choice = next(map(as_dict, as_list(output.get("choices"))), {})
    if as_dict(choice.get("message")):
        return Generation(choice, _before(sample, choice["message"]), sample.config)
    for event in sample.events.all():
        output = as_dict(as_dict(event).get("output"))
        choice = next(map(as_dict, as_list(output.get("choices"))), {})
        if as_dict(event).get("event") == "model" and as_dict(choice.get("message")):
            turns = as_list(event.get("input")) or sample.pool.at(event.get("input_refs"))
            return Generation(choice, [sample.message(turn) for turn in turns], as_dict(event.get("config")))
    turns = as_list(record.get("messages"))
    said = next((turn for turn in reversed(turns) if as_dict(turn).get("role") == "assistant"), None)
    if said is not None:
        return Generation({"message": said}, _before(sample, said), {})
    raise InputError("no model answered in it.")


def _before(sample: Sample, answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The turns before an answer: those of the conversation up to it, else the sample's input."""
    turns = as_list(sample.record.get("messages"))
    name = answer.get("id")
    at = [i for i, turn in enumerate(turns) if as_dict(turn).get("role") == "assistant"]
    same = [i for i in at if name is not None and turns[i].get("id") == name]
    before = turns[: (same or at)[-1]] if at else turns or sample.record.get("input")
    if isinstance(before, str):
        before = [{"role": "user", "content": before}]
    return [sample.message(turn) for turn in as_list(before)]


def _said(message: dict[str, Any], wanted: Wanted) -> tuple[str, str, dict[str, Any]]:
    """(thinking, answer, {closed, facts}) of an assistant's message."""
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(map(as_dict, as_list(content)))
    text = "".join(as_text(part.get("text")) or "" for part in parts if part.get("type") == "text")
    thoughts, kinds = [], set()
    for part in parts:
        if part.get("type") == "reasoning":
            thought, kind = _thought(part)
            thoughts.append(thought)
            kinds.add(kind)
    field = as_text(message.get("reasoning"))
    thinking, answer, closed = think_split("\n".join(filter(None, thoughts)) or field, text)
    facts: dict[str, Any] = {"reasoning": "summary"} if "summary" in kinds else {}
    if "redacted" in kinds:
        facts = {"reasoning": "redacted"}
        wanted.note(
            "the reasoning of runs is redacted, so that its text is not in the log; ask the model for a summary with "
            "inspect's --reasoning-summary."
        )
    return thinking, answer, {"closed": closed, "facts": facts}


def _thought(part: dict[str, Any]) -> tuple[str, str]:
    """(text, "reasoning", "summary" or "redacted") of a part of reasoning. What a redacted one holds is no text."""
    own = "" if part.get("redacted") else as_text(part.get("reasoning")) or ""
    summary = as_text(part.get("summary")) or ""
    if own.strip():
        return own, "reasoning"
    return (summary, "summary") if summary.strip() else ("", "redacted" if part.get("redacted") else "reasoning")


def _cut(record: dict[str, Any], choice: dict[str, Any], closed: bool, told: tuple[ToldToken, ...]) -> str | None:
    reason = as_text(choice.get("stop_reason"))
    stopped = bool(as_dict(record.get("limit"))) and not closed and reason in (None, "unknown")
    return cut_of("unfinished" if stopped else reason, closed, told)


def _images(prompt: Prompt, log: Log, wanted: Wanted) -> tuple[bytes, ...]:
    """The encoded images of a prompt; none where the log was written without them."""
    if any(image == REMOVED for image in prompt.images):
        wanted.note(
            "the log was written without images, so runs have none; run inspect with --log-images, or give the "
            "images with --questions."
        )
        return ()
    return tuple(image_bytes(image, wanted.images or log.folder) for image in prompt.images)


def _value(score: Any) -> Any:
    """The value of a score; NaN, which inspect writes for none, as None."""
    value = score.get("value") if isinstance(score, dict) else score
    return json.loads(json.dumps(value), parse_constant=lambda name: None)


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else [value]
