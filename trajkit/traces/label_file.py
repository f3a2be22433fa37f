"""A file of labels beside runs, as people or other tools write it: JSONL, or CSV whose first line names its columns."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trajkit.errors import InputError
from trajkit.files import read_plain
from trajkit.strict_json import parse_json

MAX_BYTES = 2**28


@dataclass(frozen=True)
class LabelFile:
    """path: JSONL, or .csv or .tsv. what: it holds, for errors. columns: that each record has. example: a line of it.

    Raises InputError, naming the line, on anything else.
    """

    path: Path
    what: str
    columns: tuple[str, ...]
    example: str

    @classmethod
    def at(cls, path: str | Path, what: str, columns: tuple[str, ...], example: str) -> LabelFile:
        if not isinstance(path, str | Path):
            raise InputError(f"labels are a file of {what}, JSONL or CSV; got {type(path).__name__}.")
        return cls(Path(path), what, columns, example)

    @property
    def is_table(self) -> bool:
        """Whether its cells are texts, CSV, and not JSON values."""
        return self.path.suffix.lower() in (".csv", ".tsv")

    def records(self) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Each record: the line that it stands in, from 1, the transcript_id that it is of, and the whole."""
        text = self._text()
        for number, record in self._rows(text) if self.is_table else self._objects(text):
            name = record.get("transcript_id")
            if not isinstance(name, str) or not name:
                got = f"got {name!r}" if "transcript_id" in record else f"got the keys {', '.join(map(repr, record))}"
                raise self.refused(number, f"transcript_id must be a text that is not empty, {got}")
            yield number, name, record

    def refused(self, line: int, why: str) -> InputError:
        """The error of a line."""
        return InputError(f"{self.path}, line {line}: {why}; expected a line such as {self.example}")

    def _text(self) -> str:
        try:
            return read_plain(self.path, MAX_BYTES).decode("utf-8-sig")
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be read ({error.strerror or error}); expected {self.what}, such as {self.example}"
            ) from error
        except UnicodeDecodeError as error:
            raise InputError(f"{self.path} is not UTF-8 text (byte {error.start}); save the file as UTF-8.") from error

    def _objects(self, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            try:
                record = parse_json(line)
            except json.JSONDecodeError as error:
                raise self.refused(number, f"it is no JSON: {error.msg} at character {error.pos + 1}") from error
            except ValueError as error:
                raise self.refused(number, f"it is no JSON: {error}") from error
            if not isinstance(record, dict):
                raise self.refused(number, f"expected a JSON object, got {line.strip()[:60]!r}")
            yield number, record

    def _rows(self, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
        delimiter = "\t" if self.path.suffix.lower() == ".tsv" else ","
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            names = rows.fieldnames or ()
            missing = [name for name in sorted(self.columns) if name not in names]
            if missing:
                got = ", ".join(map(repr, names)) or "none"
                raise InputError(f"{self.path} has no column {' and no column '.join(missing)}; got {got}.")
            for row in rows:
                yield rows.line_num, row
        except csv.Error as error:
            raise self.refused(rows.line_num + 1, str(error)) from error
