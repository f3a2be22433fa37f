"""Recorded server-sent events of chat completions, put together to the answers that they are of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trajkit.errors import InputError
from trajkit.traces.importers.reading import as_dict, as_list, lenient_json, lines_of

_TEXTS = ("content", "reasoning", "reasoning_content")


def responses(path: Path) -> Iterator[dict[str, Any]]:
    """The answers in a recording, one after the other, in the form of those that were not streamed.

    One whose stream breaks off has the `finish_reason` "unfinished". Raises InputError where the file cannot be read.
    """
    answer: _Answer | None = None
    for chunk in _chunks(path):
        if answer is not None and chunk.get("id") not in (None, answer.id):
            yield answer.whole()
            answer = None
        answer = answer or _Answer(chunk.get("id"))
        answer.add(chunk)
    if answer is not None:
        yield answer.whole()


def _chunks(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of the `data:` fields of a recording; a last one that broke off is left out."""
    try:
        with path.open("rb") as stream:
            for line in lines_of(stream):
                data = line.removeprefix(b"data:").strip()
                if line.startswith(b"data:") and data and data != b"[DONE]":
                    try:
                        yield as_dict(lenient_json(data))
                    except InputError:
                        return
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error


class _Answer:
    """An answer, as its chunks come."""

    def __init__(self, id: Any) -> None:
        self.id = id
        self._about: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def add(self, chunk: dict[str, Any]) -> None:
        self._about |= {key: value for key, value in chunk.items() if key != "choices" and value is not None}
        for part in map(as_dict, as_list(chunk.get("choices"))):
            index = part.get("index")
            choice = self._choices.setdefault(index if isinstance(index, int) else 0, _choice())
            delta = as_dict(part.get("delta"))
            for name in _TEXTS:
                if isinstance(delta.get(name), str):
                    choice["texts"][name].append(delta[name])
            choice["told"] += as_list(as_dict(part.get("logprobs")).get("content"))
            choice["ids"] += as_list(part.get("token_ids"))
            choice["reason"] = part.get("finish_reason") or choice["reason"]

    def whole(self) -> dict[str, Any]:
        return self._about | {"choices": [_joined(self._choices[index]) for index in sorted(self._choices)]}


def _choice() -> dict[str, Any]:
    return {"texts": {name: [] for name in _TEXTS}, "told": [], "ids": [], "reason": None}


def _joined(choice: dict[str, Any]) -> dict[str, Any]:
    texts = {name: "".join(parts) or None for name, parts in choice["texts"].items()}
    return {
        "message": {"role": "assistant"} | texts,
        "logprobs": {"content": choice["told"]} if choice["told"] else None,
        "token_ids": choice["ids"] or None,
        "finish_reason": choice["reason"] or "unfinished",
    }
