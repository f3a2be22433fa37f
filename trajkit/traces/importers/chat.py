"""Answers of servers in OpenAI's form, chat completions, as runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trajkit.errors import InputError
from trajkit.traces.importers.prompts import prompt_of
from trajkit.traces.importers.reading import as_dict, as_list, as_text
from trajkit.traces.importers.run import SourceRun, cut_of, is_closing
from trajkit.traces.importers.source_log import Log, digest, settings_of
from trajkit.traces.importers.told import told_tokens

_REASONING = ("reasoning", "reasoning_content", "thinking")


@dataclass(frozen=True)
class Exchange:
    """A request and what a server answered. names: what the question may be called. request, facts: {} where they are
    not told. facts: of the record around both, such as `target`."""

    names: tuple[str | None, ...]
    request: Mapping[str, Any]
    response: Mapping[str, Any]
    facts: Mapping[str, Any]


def runs_of(exchange: Exchange, log: Log) -> Iterator[SourceRun]:
    """A run for each choice.

    Raises InputError where the server failed, there is no answer, or the log does not tell what was asked.
    """
    response, request, facts = exchange.response, exchange.request, exchange.facts
    _check(response)
    turns = as_list(request.get("messages"))
    prompt = prompt_of(turns)
    task_id = log.task_id(exchange.names) or (digest(str(turns)) if turns else "")
    question = log.question(task_id, prompt.question)
    images = log.pictures(task_id, prompt.images)
    for choice in map(as_dict, as_list(response.get("choices"))):
        message, reason = as_dict(choice.get("message")), as_text(choice.get("finish_reason"))
        told = told_tokens(as_dict(choice.get("logprobs")).get("content"))
        thinking, answer, closed = split_message(message, log)
        closed = closed or any(map(is_closing, told))
        name, repeat = log.next_run(task_id)
        yield SourceRun(
            id=name,
            model=as_text(response.get("model")) or as_text(request.get("model")) or "",
            question=question,
            thinking=thinking,
            answer=answer,
            closed=closed,
            cut=cut_of(reason, closed, told),
            images=images,
            messages=prompt.messages,
            system=prompt.system,
            told=told,
            tokens=_ids(choice.get("token_ids")),
            task_set=as_text(facts.get("task_set")) or "",
            task_id=task_id,
            repeat=repeat,
            form=as_text(facts.get("form")) or "",
            targets=targets_of(facts),
            score=facts.get("score"),
            settings=settings_of(request),
            facts=_counted(response),
            tool=_tool(as_text(response.get("system_fingerprint")) or ""),
        )


def split_message(message: Mapping[str, Any], log: Log) -> tuple[str, str, bool]:
    """(thinking, answer, closed) of an assistant's message, as `think_split`."""
    reasoning = next((text for name in _REASONING if (text := as_text(message.get(name)))), None)
    return log.split(reasoning, _text(message.get("content")))


def targets_of(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Accepted answers, under the names that data sets have for them."""
    found = next(
        (facts[name] for name in ("targets", "target", "answer", "solution") if facts.get(name) is not None), None
    )
    return tuple(text for one in (found if isinstance(found, list) else [found]) if (text := as_text(one)))


def said_by(error: Any) -> str:
    """The first line of a server's error, which is a text, or stands under `message`, in one more object or none."""
    inner = as_dict(error).get("error", error)
    text = as_text(as_dict(inner).get("message")) or as_text(inner) or ""
    return next(iter(text.strip().splitlines()), "no reason is told")[:300]


def _check(response: Mapping[str, Any]) -> None:
    if response.get("error"):
        raise InputError(f"the server failed: {said_by(response['error'])}")
    choices = as_list(response.get("choices"))
    if not any(isinstance(as_dict(choice).get("message"), dict) for choice in choices):
        other = "completions" if choices else "responses" if "output" in response else ""
        raise InputError(
            (f"it is an answer of OpenAI's {other} API" if other else "it holds no answer")
            + "; expected one of chat completions, with choices that have a message."
        )


def _counted(response: Mapping[str, Any]) -> dict[str, int]:
    """How many tokens the prompt and the answer have, where that is of one answer alone."""
    usage = as_dict(response.get("usage")) if len(as_list(response.get("choices"))) == 1 else {}
    names = ("prompt_tokens", "completion_tokens")
    return {name: n for name in names if isinstance(n := usage.get(name), int) and not isinstance(n, bool)}


def _tool(fingerprint: str) -> str:
    """What served it, where its fingerprint says so, as vLLM's does; OpenAI's is a hash."""
    return "" if fingerprint.startswith("fp_") else fingerprint


def _text(content: Any) -> str | None:
    """The text of a message's content: itself, or of its parts of text."""
    if isinstance(content, str) or content is None:
        return content
    parts = map(as_dict, as_list(content))
    return "".join(as_text(part.get("text")) or "" for part in parts if part.get("type") in ("text", "output_text"))


def _ids(value: Any) -> tuple[int, ...] | None:
    ids = as_list(value)
    return tuple(ids) if ids and all(type(one) is int and 0 <= one < 2**31 for one in ids) else None
