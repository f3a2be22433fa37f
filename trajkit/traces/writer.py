"""Adding runs to a folder while they are collected, so that a kill loses none that was finished."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Set
from pathlib import Path
from threading import Condition, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from trajkit.errors import InputError
from trajkit.files import hold, remove_left_over, told, try_out
from trajkit.fingerprints import difference
from trajkit.traces.atomic import to_table, write_file
from trajkit.traces.file import TraceFile
from trajkit.traces.images import open_image, to_png
from trajkit.traces.rows import encode_trace
from trajkit.traces.trace import Trace

if TYPE_CHECKING:
    from PIL import Image

PART_SIZE = 64
"""Runs of a part; a new part is begun when it has so many."""

_PART = re.compile(r"part-(\d+)\.parquet")


def _made(key: str, value: Any) -> str:
    """How runs are made by a setting, in words."""
    words = ["without" if value is None else "with", key, "" if value is None else repr(value)]
    return " ".join(filter(None, words))


def check_writer(folder: str | Path) -> None:
    """Raise InputError or WriteError where a TraceWriter could not begin in `folder` now: ask before the work, not
    after it. A folder that is not there is not made."""
    folder = Path(folder)
    if folder.exists():
        with TraceWriter(folder):
            return
    with told(folder):
        try_out(folder)


class TraceWriter:
    """Adds runs to a folder while they are collected; made again after a kill, it goes on where that one stopped.

    The last part is written again, with the runs that came since, when it has `part_size` runs, `flush_seconds` after
    a run came (by a thread of its own, so that it holds while a model generates for minutes), at `flush` and at the end
    of the `with` block. A kill loses only runs that came since, and they are not in `ids`. One writer at a time holds a
    folder.
    """

    def __init__(self, folder: str | Path, *, part_size: int = PART_SIZE, flush_seconds: float | None = None) -> None:
        self._folder = Path(folder)
        self._part_size = part_size
        self._rows: list[dict[str, Any]] = []  # of the part that is being filled
        self._written = 0  # how many of them are on the disk
        self._failed = False  # whether the thread could not write them
        self._changed = Condition()
        self._closed = False
        self._lock = hold(self._folder)
        try:
            remove_left_over(self._folder)
            parts = parts_of(self._folder)
            files = [TraceFile(part) for part in parts]
            self._asked = {name: asked for file in files for name, asked in file.read_asked().items()}
            self._ids = {name for file in files for name in file.read_ids()}
        except BaseException:
            self._lock.close()
            raise
        self._next = max((int(match[1]) + 1 for part in parts if (match := _PART.fullmatch(part.name))), default=0)
        if flush_seconds is not None:
            Thread(target=self._flush_in_time, args=(flush_seconds,), daemon=True).start()

    @property
    def ids(self) -> Set[str]:
        """The runs in the folder and those that wait: what need not be collected again."""
        return self._ids

    def require(self, settings: Mapping[str, Any]) -> None:
        """Raise InputError when a run in the folder says in its `meta` that it was made with other settings.

        Settings that a run says nothing of are not compared.
        """
        for part in parts_of(self._folder):
            for name, text in TraceFile(part).read_settings():
                meta = json.loads(text)
                for key, value in settings.items():
                    if meta.get(key, value) != value:
                        why = difference(str(meta[key]), str(value), True) if key == "fingerprint" else ""
                        raise InputError(
                            f"{self._folder} holds runs made {_made(key, meta[key])} (run {name!r}), and these are to "
                            f"be made {_made('', value)}.{why} Go on with the same, or give them a folder of their own."
                        )

    def require_same_question(self, task_id: str, question: str, target: str) -> None:
        """Raise InputError when runs of this task_id in the folder are about another question or target."""
        for name, wanted, found in zip(
            ("question", "target"), (question, target), self._asked.get(task_id, (question, target))[:2], strict=True
        ):
            if wanted != found:
                raise InputError(
                    f"{self._folder} holds runs of id {task_id!r} with another {name}, {found[:60]!r}, and this one is "
                    f"{wanted[:60]!r}; give the edited question an id of its own, or collect into a new folder."
                )

    def require_same_image(self, task_id: str, picture: Image.Image) -> None:
        """Raise InputError when runs of this task_id in the folder are about another image: other pixels, however they
        are encoded."""
        _, _, sha = self._asked.get(task_id, ("", "", ""))
        if not sha or sha == hashlib.sha256(to_png(picture)).hexdigest():
            return
        kept = self._image(sha)
        if kept is None or open_image(kept).tobytes() != picture.convert("RGB").tobytes():
            raise InputError(
                f"{self._folder} holds runs of id {task_id!r} about another image: its file was changed since; give "
                "the question an id of its own, or collect into a new folder."
            )

    def _image(self, sha: str) -> bytes | None:
        for file in map(TraceFile, parts_of(self._folder)):
            for row, name in enumerate(file.hashes):
                if name == sha and (image := file.image(row)) is not None:
                    return image
        return None

    def add(self, trace: Trace) -> None:
        """Take a run. Raises InputError when its id is already there or it cannot be stored, and then it is not taken;
        and when runs that came before could not be written."""
        if trace.transcript_id in self._ids:
            raise InputError(
                f"run {trace.transcript_id!r} is already in {self._folder}; skip those in TraceWriter.ids."
            )
        row = encode_trace(trace)
        to_table([row])  # what Arrow refuses is refused here, not when the part is written
        with self._changed:
            self._rows.append(row)
            self._ids.add(trace.transcript_id)
            self._changed.notify()
            if self._failed or len(self._rows) >= self._part_size:
                self.flush()

    def flush(self) -> None:
        """Write the runs that wait. They go on waiting when that fails."""
        with self._changed:
            if self._written < len(self._rows):
                write_file(self._rows, self._folder / f"part-{self._next:05d}.parquet")
                self._written = len(self._rows)
            self._failed = False
            if self._written >= self._part_size:
                self._rows, self._written = [], 0
                self._next += 1

    def _flush_in_time(self, seconds: float) -> None:
        with self._changed:
            while not self._closed:
                if self._written == len(self._rows):
                    self._changed.wait()
                    continue
                self._changed.wait_for(lambda: self._closed, timeout=seconds)
                if self._closed:
                    return
                try:
                    self.flush()
                except Exception:  # whatever it was, the next `add`, or the end, meets it too and tells
                    self._failed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._changed:
                self._closed = True
                self._changed.notify()
            try:
                self.flush()
            except KeyboardInterrupt:  # asked to stop while saving: save, then stop
                self.flush()
                raise
        finally:
            self._lock.close()


def parts_of(folder: Path) -> list[Path]:
    """The files of traces in a folder, in the order of their names."""
    return sorted(file for file in folder.glob("*.parquet") if not file.name.startswith("."))
