"""Saved runs as a source of the page: a row of each, one run decoded when it is asked for, labels beside them, and
files that are added or change while they are looked at.

Rows are there at once. What detectors say of all runs is worked out afterwards by a thread, a few thousand runs at a
time, as it reads all effects; a single run has its verdicts whenever it is asked for.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trajkit.errors import InputError, TraceFormatError, TrajkitError
from trajkit.fingerprints import ModelId
from trajkit.live.documents import document
from trajkit.live.query import Numbered, Row
from trajkit.live.saved_rows import COLUMNS, judge_row, rows_of
from trajkit.live.verdicts import Highest, Judge, verdicts_saved
from trajkit.traces.file import TraceFile
from trajkit.traces.labels import Label, check_label, labels_file, read_labels, set_label
from trajkit.traces.trace import Trace
from trajkit.traces.writer import parts_of

if TYPE_CHECKING:
    from trajkit.detection.store import Detectors

_BATCH = 4096
_LOOK = 2.0
"""Seconds after which files are looked at again, when somebody asks for the list."""
_FRESH = 60.0
"""Seconds after a change in which a folder counts as one that is written to."""
_Stamp = tuple[int, int, int] | None
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Part:
    """One file. rows: of its runs, in order. outcomes: theirs without labels. judged: whether detectors have been asked
    about them."""

    path: Path
    stamp: _Stamp
    file: TraceFile
    rows: list[Row]
    outcomes: list[str]
    judged: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def read(cls, path: Path) -> _Part:
        stamp, file = _stamp(path), TraceFile(path)
        rows = [row for batch in file.batches(COLUMNS, _BATCH) for row in rows_of(batch)]
        return cls(path, stamp, file, rows, [str(row["outcome"]) for row in rows])

    @cached_property
    def hashes(self) -> pa.ChunkedArray:
        return self.file.hash_column()

    def hash(self, row: int) -> str:
        with self.lock:
            return self.hashes[row].as_py()

    def image(self, sha: str) -> bytes | None:
        """The picture of that hash, of whichever run bears it."""
        with self.lock:
            rows = np.flatnonzero(pc.equal(self.hashes, sha).to_numpy()).tolist()
            return next((found for row in rows if (found := self.file.image(row)) is not None), None)

    def trace(self, row: int, image: bytes | None) -> Trace:
        with self.lock:
            return self.file.one(row, image)

    def label(self, labels: Mapping[str, Label]) -> None:
        for row, outcome in zip(self.rows, self.outcomes, strict=True):
            row["label"] = labels.get(row["id"])
            row["outcome"] = row["label"] or outcome


class SavedRuns:
    """The runs of a file or folder of traces; a `RunSource`.

    Raises TraceFormatError on what is not the schema or an id that comes twice, InputError on labels that are none. A
    folder may be missing or empty, and fill later.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._parts: dict[Path, _Part] = {}
        self._places: dict[str, tuple[_Part, int]] = {}
        self._rows: list[Row] = []
        self._given_as, self._given = _stamp(labels_file(self._path)), read_labels(self._path)
        self._refused: dict[Path, tuple[_Stamp, str]] = {}  # files that cannot be read, as they were then, and why
        self._no_risks = ""
        self._arrange({file: _Part.read(file) for file in self._files()})
        if len(self._places) < len(self._rows):
            ids = Counter(row["id"] for row in self._rows)
            raise TraceFormatError(f"transcript_id must be unique; {max(ids, key=ids.__getitem__)!r} comes twice.")
        self._looked, self._changed = time.monotonic(), -math.inf
        self._detectors: Callable[[], Detectors] | None = None
        self._judge: Judge | None = None
        self._asking = False
        self._loading, self._labelling = threading.Lock(), threading.Lock()
        self._wake, self._closed = threading.Event(), False
        self._work = threading.Thread(target=self._go_on, name="trajkit-saved-runs", daemon=True)
        self._work.start()

    @property
    def labels(self) -> bool:
        """Whether labels can be kept: a file can be written beside the runs."""
        return os.access(labels_file(self._path).parent, os.W_OK)

    @property
    def live(self) -> bool:
        """Whether the list may change by itself: detectors are still asked, or files have changed lately."""
        asked = self._asking and any(not part.judged for part in self._parts.values())
        return asked or time.monotonic() - self._changed < _FRESH

    @property
    def trouble(self) -> str:
        """Files that cannot be read, and detectors that cannot."""
        return " ".join(filter(None, [*(why for _, why in self._refused.values()), self._no_risks]))

    @property
    def watched(self) -> bool:
        """Whether a run was saved with the verdicts of a monitor."""
        return any(row["risk"] is not None for row in self._rows)

    @property
    def models(self) -> list[str]:
        """Names of the models that made the runs, sorted."""
        return sorted({row["model"] for row in self._rows})

    @property
    def given(self) -> int:
        """How many labels there are, those of runs that are not here among them."""
        return len(self._given)

    @property
    def labelled(self) -> int:
        """How many runs have a label."""
        return sum(row["label"] is not None for row in self._rows)

    def check(self, detectors: Detectors) -> None:
        """Raises EstimatorMismatchError where no run is of the detectors' own model: the first of each name is read."""
        judge, first = Judge(detectors), {row["model"]: row["id"] for row in reversed(self._rows)}
        others = []
        for name in first.values():
            part, at = self._places[name]
            trace = part.trace(at, None)
            other = ModelId(trace.model, str(trace.meta.get("fingerprint") or ""))
            if judge.fits(*other):
                return
            others.append(other)
        if others:
            raise detectors.refuse(others[0])

    def ask(self, detectors: Callable[[], Detectors]) -> None:
        """Have risks and alarms of detectors in place of those that were saved. detectors: loads them, in another
        thread, once."""
        self._detectors, self._asking = detectors, True
        self._wake.set()

    def rows(self) -> Sequence[Row]:
        """In the order of the files."""
        if time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            self._wake.set()
        return self._rows

    def document(self, id_: str) -> dict[str, Any] | None:
        """Raises TraceFormatError where its file is damaged."""
        if (place := self._places.get(id_)) is None:
            return None
        own, at = place
        sha = own.hash(at)
        parts = [own, *(part for part in self._parts.values() if part is not own)]
        image = next((found for part in parts if (found := part.image(sha)) is not None), None) if sha else None
        trace = own.trace(at, image)
        judge = self._asked_judge()
        return document(trace, own.rows[at], verdicts_saved(trace) if judge is None else judge.verdicts(trace))

    def follow(self, id_: str, start: int) -> AsyncGenerator[Numbered, None] | None:
        """None: what is saved is over."""
        return None

    def set_label(self, id_: str, label: str | None) -> bool:
        """Whether there is such a run. Raises InputError as `traces.labels.set_label`."""
        if id_ not in self._places:
            return False
        check_label(label)
        set_label(self._path, id_, label)  # type: ignore[arg-type]
        self._relabel()
        return True

    def close(self) -> None:
        """Leave off whatever is worked out about all runs."""
        self._closed = True
        self._wake.set()
        self._work.join(5)

    def _files(self) -> list[Path]:
        return parts_of(self._path) if self._path.is_dir() else [self._path] if self._path.exists() else []

    def _arrange(self, parts: Mapping[Path, _Part]) -> None:
        """Take these parts, in the order of their names."""
        parts, places = dict(sorted(parts.items())), dict[str, tuple[_Part, int]]()
        for part in parts.values():
            part.label(self._given)
            for at, row in enumerate(part.rows):
                places.setdefault(row["id"], (part, at))
        self._parts, self._places = parts, places
        self._rows = [row for part in parts.values() for row in part.rows]

    def _relabel(self) -> None:
        with self._labelling:
            self._given_as = _stamp(labels_file(self._path))
            self._given = read_labels(self._path)
            for part in self._parts.values():
                part.label(self._given)

    def _go_on(self) -> None:
        """The thread: looks at the files again when it is woken, and asks detectors about runs that are new."""
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._closed:
                return
            for work in (self._look, self._ask_all):
                try:
                    work()
                except Exception as error:  # whatever it is, the runs that are known stay
                    _log.warning("%s: %s", self._path, error, exc_info=not isinstance(error, TrajkitError))

    def _look(self) -> None:
        """Read files again that have changed, and labels that others gave."""
        files = {file: _stamp(file) for file in self._files()}
        self._refused = {file: was for file, was in self._refused.items() if files.get(file) == was[0]}
        parts = {file: part for file, part in self._parts.items() if file in files}
        for file, stamp in files.items():
            if file in self._refused or (file in parts and parts[file].stamp == stamp):
                continue
            try:
                parts[file] = _Part.read(file)
            except InputError as error:
                self._refused[file] = stamp, str(error)
                _log.warning("%s", error)
        if parts != self._parts:
            self._arrange(parts)
            self._changed = time.monotonic()
        if self._given_as != _stamp(labels_file(self._path)):
            self._relabel()

    def _asked_judge(self) -> Judge | None:
        """The detectors, loaded by whoever needs them first; None where they cannot be, which is said once."""
        with self._loading:
            if self._detectors is not None:
                load, self._detectors = self._detectors, None
                try:
                    self._judge = Judge(load())
                except InputError as error:
                    self._asking, self._no_risks = False, f"No risk is shown: {error}"
                    _log.warning("%s", self._no_risks)
            return self._judge

    def _ask_all(self) -> None:
        """The largest risk and the alarm of all runs, part by part."""
        if (judge := self._asked_judge()) is None:
            return
        for part in self._parts.values():
            if not part.judged:
                try:
                    self._ask(judge, part)
                finally:
                    part.judged = True

    def _ask(self, judge: Judge, part: _Part) -> None:
        from trajkit.runs.kernel import Wanted
        from trajkit.runs.source import Part
        from trajkit.runs.table import RunTable, rows_of_part

        own = {row["id"]: row for row in part.rows}
        for groups in part.file.row_groups(_BATCH):
            if self._closed:
                return
            table = RunTable(rows_of_part(Part(part.path, groups), Wanted(metrics=False)))
            found = judge.highest(table)
            for name in table.rows["transcript_id"].to_pylist():
                if name in own:
                    judge_row(own[name], found.get(name, Highest()))


def _stamp(path: Path) -> _Stamp:
    """By which it can be told whether a file has changed; of one that is not there, None."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino
