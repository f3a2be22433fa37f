"""Batches of OpenAI's API, also those of `vllm run-batch`: a file of answers, joined by custom_id to the file of
requests beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trajkit.aside import aside
from trajkit.errors import InputError
from trajkit.traces.importers.chat import Exchange, runs_of, said_by
from trajkit.traces.importers.reading import LONGEST_LINE, as_dict, as_text, lenient_json, lines_of
from trajkit.traces.importers.records import first_record, records
from trajkit.traces.importers.run import SourceRun, Wanted
from trajkit.traces.importers.source_log import Log, opened_by_prompt, pieces_of


class Batch:
    name = "batch"
    keeps = (
        "A batch holds what the server told: run `vllm run-batch` with --reasoning-parser NAME, or leave the <think> "
        "tags in the text."
    )

    def recognises(self, path: Path, head: bytes) -> bool:
        return _is_output(first_record(path, head))

    def read(self, path: Path, wanted: Wanted) -> Iterator[SourceRun]:
        requests = _requests(path, wanted)
        log = Log(path.parent, wanted, opened_by_prompt(pieces_of(path)))
        for number, record in records(path, wanted):
            name = as_text(record.get("custom_id")) or ""
            with aside(name or f"line {number}", wanted.set_aside):
                response = _response(record)
                request = requests.get(name)
                yield from runs_of(Exchange((name,), request, response, {}), log)


IMPORTER = Batch()


class _Requests:
    """The requests of a file, by custom_id: where they stand in it, as with images they may not fit in memory."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._at: dict[str, int] = {}
        if path is not None:
            with path.open("rb") as stream:
                at = 0
                for line in lines_of(stream):
                    if line.strip():
                        self._at[_name_of(line, path)] = at
                    at = stream.tell()

    def get(self, name: str) -> Mapping[str, Any]:
        """The request's body; {} where there is none."""
        if self._path is None or name not in self._at:
            return {}
        with self._path.open("rb") as stream:
            stream.seek(self._at[name])
            return as_dict(as_dict(lenient_json(stream.readline(LONGEST_LINE))).get("body"))


def _name_of(line: bytes, path: Path) -> str:
    try:
        return as_text(as_dict(lenient_json(line)).get("custom_id")) or ""
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _requests(path: Path, wanted: Wanted) -> _Requests:
    """Those of the file beside `path` that holds the request of its first answer."""
    first = as_text(first_record(path, _head(path)).get("custom_id"))
    for file in sorted(path.parent.glob("*.jsonl")):
        if file != path and _is_input(first_record(file, _head(file))):
            requests = _Requests(file)
            if first and requests.get(first):
                return requests
    if not wanted.questions:
        wanted.note(
            f"{path.name} holds the answers of a batch, and the file of its requests is not beside it; put it there, "
            "or give --questions with the custom_ids as ids."
        )
    return _Requests(None)


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(16)


def _is_input(record: Mapping[str, Any]) -> bool:
    return "custom_id" in record and "body" in record


def _is_output(record: Mapping[str, Any]) -> bool:
    return "custom_id" in record and "response" in record


def _response(record: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a line: `response.body`, or `response` itself. Raises InputError where the request failed."""
    response = as_dict(record.get("response"))
    body = as_dict(response.get("body")) or response
    error, status = record.get("error") or body.get("error"), response.get("status_code")
    failed = isinstance(status, int) and status != 200
    if error or failed:
        raise InputError(f"its request failed{f' with status {status}' if failed else ''}: {said_by(error)}")
    return body
