"""Keeps the runs of a server in a folder of traces: each one's events as they come, and its Trace when it is over.

A thread of its own writes, so that a slow disk is in nobody's way. What cannot be written waits in memory, and is
written when it can be: a full disk is said once, and `Keeper.trouble` says it for as long as it lasts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, TYPE_CHECKING, Any

from trajkit.errors import InputError, WriteError
from trajkit.files import make_folder, told
from trajkit.live.history import RunLog
from trajkit.live.query import check_row
from trajkit.strict_json import parse_json
from trajkit.tables.words import count
from trajkit.traces.labels import read_labels, set_label
from trajkit.traces.writer import TraceWriter

if TYPE_CHECKING:
    from trajkit.traces.trace import Trace

EVENTS = "live"
"""Folder of events within that of the traces."""
FLUSH_SECONDS = 2.0
"""Traces that wait longer are written."""
AGAIN_SECONDS = 1.0
"""After which it is tried again where nothing could be written."""
_HANGING = 30.0
"""Seconds after which a disk counts as one that does not answer."""
_MOST_WAITING = 512
"""Traces that wait for room on the disk; of further runs only the events do."""
_NAME = re.compile(r"\d{8}-[0-9a-f]{8}")
_TAIL = 2**16
_log = logging.getLogger(__name__)
_OF_DISK = {"event": "disk"}


class Keeper:
    """Holds `folder`, which no other process can write to meanwhile. Raises InputError where another one does, or it
    cannot be written to. All but `close` returns at once."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.trouble = ""
        self._held = ExitStack()
        self._writer = self._held.enter_context(TraceWriter(self.folder))
        self._events = self.folder / EVENTS
        with told(self._events):
            make_folder(self._events)
        self._inbox = SimpleQueue[RunLog | str | None]()
        self._files: dict[str, _Lines] = {}
        self._behind: dict[str, RunLog] = {}  # of which something is not written
        self._waiting: list[RunLog] = []  # over and written, but for the writer's part that is being filled
        self._since = self._tried = time.monotonic()
        self._kept: set[str] = set()
        self._thread = Thread(target=self._run, name="trajkit-keeper", daemon=True)
        self._thread.start()

    def restore(self) -> list[RunLog]:
        """The runs of before, the oldest first. One that was under way when its server was killed is over now, and its
        last event says so."""
        labels, found = read_labels(self.folder), []
        for file in sorted(self._events.glob("*.jsonl")):
            log = self._restored(file) if _NAME.fullmatch(file.stem) else None
            if log is not None:
                log.set_label(labels.get(log.id))
                found.append(log)
        return found

    def note(self, log: RunLog) -> None:
        """There is something new of a run."""
        if not log.noted:
            log.noted = True
            self._inbox.put(log)

    def is_kept(self, log: RunLog) -> bool:
        """Whether all that there is of a run that is over is on the disk."""
        return log.id in self._kept

    def file_of(self, log: RunLog) -> Path:
        """Where its events are, one a line."""
        return self._events / f"{log.id}.jsonl"

    def forget(self, log: RunLog) -> None:
        """Its events are wanted no longer."""
        if not self.is_kept(log):
            _log.error("run %s is lost: it waited to be kept, and there is no memory left to wait in", log.id)
        self._inbox.put(log.id)

    def set_label(self, id_: str, label: str | None) -> None:
        """Keep a label beside the traces. Raises InputError where it cannot be."""
        set_label(self.folder, id_, label)  # type: ignore[arg-type]

    def close(self) -> None:
        """Write all that waits, as far as that can be, and let go of the folder. A disk that does not answer is waited
        for half a minute."""
        self._inbox.put(None)
        self._thread.join(_HANGING)
        if self._thread.is_alive():
            _log.error("%s does not answer; what waited to be written there is lost", self.folder)

    def _restored(self, file: Path) -> RunLog | None:
        last, lines = _last_line(file), list[str]()
        if last is None or last["event"] != "end":
            lines = _whole_lines(file)
            last = _object(lines[-1].encode()) if lines else None
        over = last if last is not None and last["event"] == "end" else None
        try:
            log = RunLog.of_file(file, over) if over else RunLog.of_events(file.stem, lines, self.note)
            answer = log.answer
            check_row(log.row)
        except (LookupError, TypeError):
            _log.warning("%s holds no events of a run and is left alone", file)
            return None
        if over:
            self._kept.add(file.stem)
            return log
        size = sum(len(line.encode()) + 1 for line in lines)
        self._files[log.id] = _Lines(file, len(lines), size)
        log.add(
            "end",
            {
                "state": "stopped",
                "reason": "the server stopped while it was under way",
                "stopped": True,
                "answer": answer,
                "n_tokens": log.row["n_tokens"],
            },
        )
        return log

    def _run(self) -> None:
        going = True
        while going:
            going = self._take_in()
            try:
                self._work(closing=not going)
            except Exception:  # of whatever run, the others are to be kept
                _log.exception("a run could not be kept")
        try:
            self._held.close()
        except InputError as error:
            _log.error("%s are not saved: %s", count(len(self._waiting), "run"), error)

    def _take_in(self) -> bool:
        """Wait for news, or until something is to be tried again; whether to go on."""
        wait = None
        if self._behind or self.trouble:
            wait = AGAIN_SECONDS
        elif self._waiting:
            wait = max(0.0, self._since + FLUSH_SECONDS - time.monotonic())
        news: list[RunLog | str | None] = []
        with contextlib.suppress(Empty):
            news.append(self._inbox.get(timeout=wait))
            while True:
                news.append(self._inbox.get_nowait())
        for one in news:
            if isinstance(one, RunLog):
                one.noted = False
                self._behind[one.id] = one
            elif one is not None:
                self._clear(one)
        return None not in news

    def _work(self, closing: bool) -> None:
        for log in self._behind.values():
            if log.over:
                self._take_trace(log)
        if self.trouble and not closing and time.monotonic() < self._tried + AGAIN_SECONDS:
            return
        self._tried = time.monotonic()
        try:
            for log in list(self._behind.values()):
                self._write(log)
            if self._waiting and (closing or time.monotonic() >= self._since + FLUSH_SECONDS):
                self._writer.flush()
                self._kept.update(log.id for log in self._waiting)
                self._waiting.clear()
        except (OSError, WriteError) as error:
            self._say(error)
        else:
            self._say(None)

    def _take_trace(self, log: RunLog) -> None:
        """Make the Trace of a run that is over and hand it to the writer, in memory for now."""
        make, log.trace = log.trace, None
        if make is None:
            return
        if self.trouble and len(self._waiting) + len(self._behind) > _MOST_WAITING:
            _log.error("run %s is not saved as a trace: too many wait for room on the disk", log.id)
            return
        try:
            trace = make()
            if trace.n_steps:
                self._writer.add(_as_kept(trace, log))
        except WriteError:  # it waits with those before
            pass
        except Exception as error:
            _log.error("run %s cannot be saved as a trace: %s", log.id, error)

    def _write(self, log: RunLog) -> None:
        over = log.over  # before its events are looked at
        file = self._files.get(log.id)
        if file is None:
            file = self._files[log.id] = _Lines(self.file_of(log))
        file.add(log.events[file.n :])
        if over:
            file.close()
            del self._files[log.id]
            if not self._waiting:
                self._since = time.monotonic()
            self._waiting.append(log)
        del self._behind[log.id]

    def _clear(self, id_: str) -> None:
        self._behind.pop(id_, None)
        self._kept.discard(id_)
        if (file := self._files.pop(id_, None)) is not None:
            with contextlib.suppress(OSError):
                file.close()
        with contextlib.suppress(OSError):
            (self._events / f"{id_}.jsonl").unlink()

    def _say(self, error: OSError | WriteError | None) -> None:
        if error is None:
            if self.trouble:
                _log.warning("runs are kept in %s again, and none is missing", self.folder, extra=_OF_DISK)
            self.trouble = ""
            return
        cause = error if isinstance(error, OSError) else error.__cause__
        why = getattr(cause, "strerror", None) or str(cause or error)
        before, self.trouble = self.trouble, f"Runs cannot be saved in {self.folder} ({why}). They wait in memory."
        if not before:
            _log.error("%s", self.trouble, extra=_OF_DISK)


class _Lines:
    """A file to which lines are added. n: those in it. size: of these, in bytes. What a full disk leaves of a line that
    it has no room for is taken back."""

    def __init__(self, path: Path, n: int = 0, size: int = 0) -> None:
        self.n = n
        self._path, self._size = path, size
        self._file: IO[bytes] | None = None

    def add(self, lines: Sequence[str]) -> None:
        """Raises OSError, and then none is added."""
        if not lines:
            return
        data = memoryview("".join(f"{line}\n" for line in lines).encode())
        try:
            file = self._open()
            at = 0
            while at < len(data):
                at += file.write(data[at:]) or 0
        except OSError:
            self._drop()
            raise
        self.n, self._size = self.n + len(lines), self._size + len(data)

    def close(self) -> None:
        """Bring it to the disk. Raises OSError."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def _open(self) -> IO[bytes]:
        if self._file is None:
            self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115  `close` does
            self._cut(self._file)
        return self._file

    def _drop(self) -> None:
        """Take back what is half written; it is opened again for the next."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._cut(self._file)
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _cut(self, file: IO[bytes]) -> None:
        if os.fstat(file.fileno()).st_size > self._size:
            file.truncate(self._size)


def _as_kept(trace: Trace, log: RunLog) -> Trace:
    """Under the id by which it was looked at, and with what its steps do not tell."""
    row = log.row
    meta = {**trace.meta, "began": row["began"]}
    if log.unexplained:
        meta["unexplained"] = log.unexplained
    answer = trace.answer or (row["answer"] if row["state"] == "ended" else "")
    return replace(trace, transcript_id=log.id, meta=meta, answer=answer)


def _whole_lines(file: Path) -> list[str]:
    """The lines of a file up to the first that is not whole; none where it cannot be read."""
    try:
        lines = file.read_bytes().split(b"\n")[:-1]
    except OSError:
        return []
    return [line.decode() for line in _sound(lines)]


def _sound(lines: Sequence[bytes]) -> Iterator[bytes]:
    for line in lines:
        if _object(line) is None:
            return
        yield line


def _last_line(file: Path) -> dict[str, Any] | None:
    """The last line, where it is whole and not longer than usual."""
    try:
        with open(file, "rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _TAIL))
            lines = stream.read().split(b"\n")
    except OSError:
        return None
    return _object(lines[-2]) if len(lines) > 1 and not lines[-1] else None


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = parse_json(line.decode())
    except (ValueError, InputError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("event"), str) else None
