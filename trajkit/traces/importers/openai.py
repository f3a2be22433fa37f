"""Chat completions as OpenAI, vLLM, SGLang and others answer them: JSON, JSONL and recorded server-sent events.

A record is an answer alone, or a request and its answer: {"request": …, "response": …}, {"body": …, "response": …},
{"messages": …, "response": …}, or the request's keys beside `choices`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trajkit.aside import aside
from trajkit.traces.importers import event_stream
from trajkit.traces.importers.chat import Exchange, runs_of
from trajkit.traces.importers.reading import as_dict, as_text
from trajkit.traces.importers.records import BOM, first_record, records
from trajkit.traces.importers.run import SourceRun, Wanted
from trajkit.traces.importers.source_log import Log, opened_by_prompt, pieces_of

_REQUEST = ("request", "body", "kwargs", "input")
_RESPONSE = ("response", "completion", "output", "result")
_ID = ("id", "custom_id", "question_id", "task_id", "key")


class OpenAI:
    name = "openai"
    keeps = (
        "Servers tell the reasoning apart, or leave it in the text: start vLLM with --reasoning-parser NAME, or log "
        "the text with its <think> tags; log `reasoning` or `reasoning_content` of the message, too."
    )

    def recognises(self, path: Path, head: bytes) -> bool:
        if head.lstrip()[:5] in (b"data:", b"event") or head.startswith(b": "):
            return b'"choices"' in head
        record = first_record(path, head)
        return "custom_id" not in record and bool(_response(record))

    def read(self, path: Path, wanted: Wanted) -> Iterator[SourceRun]:
        own = _names_of(path)
        log = Log(path.parent, wanted, opened_by_prompt(pieces_of(path)))
        for number, record in _records(path, wanted):
            request, response = _request(record), _response(record)
            named = None if "choices" in record and not request else _named(record)
            names = (named, *(own if number == 1 else ()), as_text(response.get("id")))
            known = tuple(name for name in names if name in wanted.questions)
            exchange = Exchange(known or ((named,) if request else names), request, response, record)
            with aside(named or as_text(response.get("id")) or f"record {number}", wanted.set_aside):
                yield from runs_of(exchange, log)


IMPORTER = OpenAI()


def _records(path: Path, wanted: Wanted) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as stream:
        streamed = stream.read(64).removeprefix(BOM).lstrip()[:1] not in (b"{", b"[")
    return enumerate(event_stream.responses(path), 1) if streamed else records(path, wanted)


def _request(record: Mapping[str, Any]) -> dict[str, Any]:
    found = next((as_dict(record[key]) for key in _REQUEST if as_dict(record.get(key))), None)
    if found is None:
        return {key: value for key, value in record.items() if key not in _RESPONSE} if "messages" in record else {}
    return as_dict(found.get("body")) or found


def _response(record: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a record; {} where it holds none. A text in its place is the content of a message."""
    if isinstance(record.get("choices"), list) or (record.get("error") and _request(record)):
        return dict(record)
    for key in _RESPONSE:
        found = record.get(key)
        if isinstance(found, str) and "messages" in record:
            return {"choices": [{"message": {"content": found}}], "model": record.get("model")}
        body = as_dict(as_dict(found).get("body")) or as_dict(found)
        if isinstance(body.get("choices"), list) or body.get("error"):
            return body
    return {}


def _names_of(path: Path) -> tuple[str, ...]:
    """What the question of a file that holds one answer may be called: s00-0.greedy, s00-0."""
    return tuple(dict.fromkeys((path.stem, path.name.split(".")[0])))


def _named(record: Mapping[str, Any]) -> str | None:
    return next((text for key in _ID if (text := as_text(record.get(key)))), None)
