"""A log that is being read: what is known of all its runs, and what runs and their questions are called."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trajkit.errors import InputError
from trajkit.sentence_ends import CLOSE, OPEN
from trajkit.traces.importers.pictures import image_bytes, is_in
from trajkit.traces.importers.reading import as_number
from trajkit.traces.importers.run import Wanted, think_split

_ADDRESSES = ("http://", "https://", "gs://", "s3://")
_PIECE = 2**20
_CLOSINGS = (CLOSE.encode(), CLOSE.replace("/", r"\/").encode())  # JSON may write a slash so


@dataclass
class Log:
    """folder: that names of images are in, where `wanted` says none. opened: whether prompts end with the opening tag
    of the thinking span (`opened_by_prompt`)."""

    folder: Path
    wanted: Wanted
    opened: bool = False
    _seen: Counter[str] = field(default_factory=Counter)

    def next_run(self, task_id: str) -> tuple[str, int]:
        """(id, repeat from 0) of the next run of a question."""
        repeat = self._seen[task_id]
        self._seen[task_id] += 1
        return f"{task_id}-{repeat}", repeat

    def task_id(self, names: Sequence[str | None]) -> str:
        """Of what a question may be called, the first that is an id of `wanted.questions`, else the first; else ""."""
        given = [name for name in names if name]
        return next((name for name in given if name in self.wanted.questions), next(iter(given), ""))

    def question(self, task_id: str, told: str) -> str:
        """What was asked, by the log, else by the question of that id. Raises InputError where neither tells it."""
        if told.strip():
            return told
        if task_id in self.wanted.questions:
            return self.wanted.questions[task_id].question
        raise InputError(
            f"the log does not tell what was asked; give --questions with a line of id {task_id!r}, or log the request "
            "with the answer."
        )

    def split(self, reasoning: str | None, text: str | None) -> tuple[str, str, bool]:
        """(thinking, answer, closed), as `think_split`."""
        return think_split(reasoning, text, opened=self.opened)

    def pictures(self, task_id: str, named: Sequence[str | bytes]) -> tuple[bytes, ...]:
        """The encoded images of a run, each named by the log or held by it; none where --questions gives them.

        Those that are named by an address are looked for in `wanted.images`. There are none where one is missing there,
        or has no name. Raises InputError where a file is missing.
        """
        if task_id in self.wanted.questions:
            return ()
        found: list[bytes] = []
        for name in named:
            if isinstance(name, bytes):
                found.append(name)
            elif name.lower().startswith(_ADDRESSES):
                file = self._fetched(name)
                if file is None:
                    return ()
                found.append(image_bytes(file.name, file.parent))
            elif name:
                found.append(image_bytes(name, self.wanted.images or self.folder))
            else:
                self.wanted.note(
                    "the log says where images belong, but holds none, so runs have none; give --questions."
                )
                return ()
        return tuple(found)

    def _fetched(self, address: str) -> Path | None:
        """The file of `wanted.images` that is named as what an address leads to; None, with a note, where none is."""
        name, folder = address.split("?")[0].rsplit("/", 1)[-1], self.wanted.images
        if folder is not None and name and is_in(folder / name, folder):
            return folder / name
        self.wanted.note(
            f"images are named by addresses, such as {address[:60]!r}, and nothing is fetched, so runs have none; "
            "put the files into a folder and give it as --images, or give --questions."
        )
        return None


def opened_by_prompt(pieces: Iterable[bytes | str]) -> bool:
    """Whether a log holds closing tags of thinking spans, and no opening ones: its prompts end with these, and a text
    without any tag is thinking that was cut."""
    closed, kept = False, b""
    for piece in pieces:
        data = kept + (piece.encode("utf-8", "replace") if isinstance(piece, str) else piece)
        if OPEN.encode() in data:
            return False
        closed = closed or any(tag in data for tag in _CLOSINGS)
        kept = data[-len(_CLOSINGS[1]) :]
    return closed


def pieces_of(path: Path) -> Iterator[bytes]:
    """The bytes of a file, some at a time. Raises InputError where it cannot be read."""
    try:
        with path.open("rb") as stream:
            yield from iter(lambda: stream.read(_PIECE), b"")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error


def digest(*texts: str) -> str:
    """A name of 16 hexadecimal digits for texts."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()[:16]


def settings_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling settings as `attribution.assemble.settings` names them, from a request in OpenAI's or Hugging Face's."""
    names = {
        "temperature": ("temperature",),
        "max_new_tokens": ("max_new_tokens", "max_completion_tokens", "max_tokens", "max_gen_toks"),
        "seed": ("seed",),
    }
    found = {
        ours: next((told[name] for name in theirs if told.get(name) is not None), None)
        for ours, theirs in names.items()
    }
    return {name: value for name, value in found.items() if as_number(value) is not None}
