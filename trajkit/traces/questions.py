"""Read a user's questions: a JSONL file, one question about one image on each line."""

from __future__ import annotations

import codecs
import difflib
import hashlib
import json
import os
import reprlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trajkit.errors import InputError
from trajkit.files import read_plain
from trajkit.strict_json import parse_json
from trajkit.text import DIRECTION, LINES, require_plain
from trajkit.traces.fields import FIELDS, OTHER_NAMES
from trajkit.traces.trace import FAILURES, Outcome

MAX_BYTES = 2**30
"""A file of questions that is larger is not read."""
_EXAMPLE = '{"image": "dog.jpg", "question": "How many dogs are there?", "target": "2"}'


@dataclass(frozen=True)
class Question:
    """One question about one image.

    id: unique in the file. target: the right answer, None when it is not known: missing, null or empty. group_id:
    questions of one group (by default, on one image) are never split across train, calibration and test. task_set: the
    task family. form: the question's template within its family, such as "how many": runs are compared within it. line:
    where it stands in its file, from 1. targets: every accepted answer, the target first. outcome: what a wrong answer
    to it is, None where that is not said.
    """

    id: str
    image: Path
    question: str
    target: str | None
    group_id: str
    task_set: str = ""
    form: str = ""
    line: int = field(default=0, compare=False)
    targets: tuple[str, ...] = ()
    outcome: Outcome | None = None

    def __post_init__(self) -> None:
        if self.target is not None:
            object.__setattr__(self, "targets", tuple(dict.fromkeys((self.target, *self.targets))))

    @property
    def facts(self) -> dict[str, Any]:
        """What a run of it keeps in `meta`: its form as `kind`, where given, and `targets` where there are several."""
        form: dict[str, Any] = {"kind": self.form} if self.form else {}
        return form | ({"targets": list(self.targets)} if len(self.targets) > 1 else {})


def read_questions(
    path: str | Path, images_dir: str | Path | None = None, set_aside: Callable[[int, InputError], None] | None = None
) -> list[Question]:
    """The questions of a JSONL file; `image` is a name in images_dir, by default the file's own folder. Images are not
    opened, so whether they are there shows later.

    `fields.FIELDS` says which keys there are; a line with another one cannot be used. An id that is not given is a hash
    of image and question, so that it stays when lines move; a group_id that is not given is the image, however its path
    is spelled.
    set_aside: called with the number of each line that cannot be used, and why; the others are returned.
    Raises InputError, naming the line where there is no set_aside, and when no line can be used.
    """
    path = Path(path)
    folder = path.parent if images_dir is None else Path(images_dir)
    if images_dir is not None and not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected the folder that holds the questions' images.")
    questions: list[Question] = []
    lines: dict[str, int] = {}
    bad = 0
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            question = _question(line, folder, number)
            if question.id in lines:
                raise InputError(
                    f"id {question.id!r} is already that of line {lines[question.id]}; "
                    "give each question its own id (same image and question: same id when none is given)."
                )
        except InputError as error:
            if set_aside is None:
                raise InputError(f"{path}, line {number}: {error}") from error
            bad += 1
            set_aside(number, error)
            continue
        lines[question.id] = number
        questions.append(question)
    if not questions:
        found = f"no line that can be used ({bad} of {bad} are bad)" if bad else "no question"
        raise InputError(f"{path} holds {found}; expected a line such as {_EXAMPLE}")
    return questions


def _lines(path: Path) -> list[bytes]:
    try:
        return read_plain(path, MAX_BYTES).removeprefix(codecs.BOM_UTF8).split(b"\n")
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; expected a JSONL file of lines such as {_EXAMPLE}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected a JSONL file.") from error


def _question(data: bytes, folder: Path, number: int) -> Question:
    """The question of a line. Errors do not name it: whoever reads the file knows which it is."""
    try:
        line = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"it is not UTF-8 text (byte {error.start}); save the file as UTF-8.") from error
    try:
        record = parse_json(line)
    except json.JSONDecodeError as error:
        raise _no_json(line, f"{error.msg} at character {error.pos + 1}") from error
    except ValueError as error:
        raise _no_json(line, str(error)) from error
    if not isinstance(record, dict):
        raise InputError(f"expected a JSON object, got {line.strip()[:60]!r}; one such as {_EXAMPLE}")
    for key in record.keys() - FIELDS:
        raise InputError(f"{key[:60]!r} is no key of a question; {_known(key)}.")
    image, text = _required(record, "image"), _required(record, "question")
    target, accepted = _optional(record, "target") or None, _accepted(record)
    name = hashlib.sha256(f"{image}\0{text}".encode()).hexdigest()[:12]
    return Question(
        id=_optional(record, "id") or name,
        image=folder / image,
        question=text,
        target=target or next(iter(accepted), None),
        group_id=_optional(record, "group_id") or _spelled_alike(image, folder),
        task_set=_optional(record, "task_set") or "",
        form=_optional(record, "form") or "",
        line=number,
        targets=accepted,
        outcome=_outcome(record),
    )


def _known(key: str) -> str:
    """The key that was meant, where one can be guessed, else all of them."""
    name = key.strip().lower().replace("-", "_").replace(" ", "_")
    meant = OTHER_NAMES.get(name) or next(iter(difflib.get_close_matches(name, FIELDS, 1, 0.7)), None)
    return f"did you mean {meant!r}?" if meant else f"a line may hold {', '.join(FIELDS)}"


def _accepted(record: dict[str, Any]) -> tuple[str, ...]:
    """The texts, or numbers as texts, of `targets`, each once."""
    found = record.get("targets")
    if found is None:
        return ()
    if not isinstance(found, list):
        raise InputError(f"'targets' must be a list of accepted answers, got {reprlib.repr(found)}.")
    texts = [_optional({"targets": one}, "targets") for one in found]
    return tuple(dict.fromkeys(text for text in texts if text))


def _outcome(record: dict[str, Any]) -> Outcome | None:
    found = record.get("outcome")
    if found is not None and found not in FAILURES:
        raise InputError(f"'outcome' must be what a wrong answer is, {', '.join(FAILURES)}; got {reprlib.repr(found)}.")
    return found


def _no_json(line: str, reason: str) -> InputError:
    return InputError(f"not JSON, got {line.strip()[:60]!r} ({reason}); expected a line such as {_EXAMPLE}")


def _spelled_alike(image: str, folder: Path) -> str:
    """One name for an image in a folder: a.png for ./a.png, b/../a.png and, in its own folder, /folder/a.png."""
    name = os.path.normpath(image)
    inside = os.path.normpath(os.path.abspath(folder)) + os.sep
    return name.removeprefix(inside)


def _required(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        got = reprlib.repr(value) if key in record else f"the keys {', '.join(map(reprlib.repr, record)) or '(none)'}"
        raise InputError(f"{key!r} must be a text that is not empty, got {got}; expected a line such as {_EXAMPLE}")
    return _text(value, key)


def _optional(record: dict[str, Any], key: str) -> str | None:
    """A text, or a number or truth value as text; None when it is missing or null."""
    value = record.get(key)
    if isinstance(value, str):
        return _text(value, key).strip() and value
    if value is None:
        return None
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise InputError(
        f"{key!r} must be a text, number or truth value, got {reprlib.repr(value)}; leave it out when it is not known."
    )


def _text(value: str, key: str) -> str:
    """`value`, when it can be stored and shown; lines and tabs are fine in a question or target alone."""
    lines, refused = (LINES if key in ("question", "target", "targets") else ""), (DIRECTION if key == "id" else "")
    return require_plain(value, repr(key), lines, refused)
