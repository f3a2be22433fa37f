"""Read a user's questions: a JSONL file, one question about one image on each line."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trajkit.errors import InputError

_EXAMPLE = '{"image": "dog.jpg", "question": "How many dogs are there?", "target": "2"}'


@dataclass(frozen=True)
class Question:
    """One question about one image.

    id: unique in the file. target: the right answer, or None when it is not known. group_id: questions of one group
    (by default, on one image) are never split across train, calibration and test. task_set: the task family. form: the
    question's template within its family, such as "how many": runs are compared within it. line: where it stands in its
    file, from 1.
    """

    id: str
    image: Path
    question: str
    target: str | None
    group_id: str
    task_set: str = ""
    form: str = ""
    line: int = field(default=0, compare=False)

    @property
    def facts(self) -> dict[str, str]:
        """What a run of it keeps in `meta`: its form as `kind`, where it is given."""
        return {"kind": self.form} if self.form else {}


def read_questions(path: str | Path, images_dir: str | Path | None = None) -> list[Question]:
    """The questions of a JSONL file; `image` is a name in images_dir, by default the file's own folder. Images are not
    opened, so whether they are there shows later.

    Required keys: image, question. Optional: id (by default a hash of image and question, so that it stays when lines
    move), target, group_id (by default the image), task_set, form. Other keys are ignored.
    Raises InputError, naming the line.
    """
    path = Path(path)
    folder = path.parent if images_dir is None else Path(images_dir)
    if images_dir is not None and not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected the folder that holds the questions' images.")
    questions: list[Question] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        question = _question(line, folder, path, number)
        if question.id in lines:
            raise InputError(
                f"{path}, line {number}: id {question.id!r} is already that of line {lines[question.id]}; "
                "give each question its own id (same image and question: same id when none is given)."
            )
        lines[question.id] = number
        questions.append(question)
    if not questions:
        raise InputError(f"{path} holds no question; expected a line such as {_EXAMPLE}")
    return questions


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; expected a JSONL file of lines such as {_EXAMPLE}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text (byte {error.start}); expected a JSONL file, save it as UTF-8."
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected a JSONL file.") from error


def _question(line: str, folder: Path, path: Path, number: int) -> Question:
    where = f"{path}, line {number}"
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{where}: not JSON, got {line.strip()[:60]!r}; expected a line such as {_EXAMPLE}") from error
    if not isinstance(record, dict):
        raise InputError(f"{where}: expected a JSON object, got {line.strip()[:60]!r}; one such as {_EXAMPLE}")
    image, text = _required(record, "image", where), _required(record, "question", where)
    name = hashlib.sha256(f"{image}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return Question(
        id=_optional(record, "id", where) or name,
        image=folder / image,
        question=text,
        target=_optional(record, "target", where),
        group_id=_optional(record, "group_id", where) or image,
        task_set=_optional(record, "task_set", where) or "",
        form=_optional(record, "form", where) or "",
        line=number,
    )


def _required(record: dict[str, Any], key: str, where: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        got = f"{value!r}" if key in record else f"the keys {', '.join(map(repr, record)) or '(none)'}"
        raise InputError(
            f"{where}: {key!r} must be a text that is not empty, got {got}; expected a line such as {_EXAMPLE}"
        )
    return value


def _optional(record: dict[str, Any], key: str, where: str) -> str | None:
    """A text, or a number or truth value as text; None when it is missing or null."""
    value = record.get(key)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise InputError(f"{where}: {key!r} must be a text or a number, got {value!r}; leave it out when it is not known.")
