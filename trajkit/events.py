"""What trajkit tells a program: one JSON object a line, each with its `event`, and the one writer of such lines.

`trajkit stream --json`, `trajkit monitor -` and `json_lines`, a callback for your own loop, all write these.
docs/events.md says every field.
"""

from __future__ import annotations

import io
import json
import math
import reprlib
from dataclasses import dataclass, fields
from pathlib import Path
from threading import Lock
from typing import IO, Any, ClassVar, Protocol

from trajkit.errors import InputError, WriteError

RunName = str | int
"""How a program calls a run."""
LONGEST_NAME = 200
"""Characters of a run's name."""


class Telling(Protocol):
    """What can be told: a LiveStep, a Verdict, a Decision, or one of the records below."""

    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class _Record:
    event: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, kw_only=True)
class StreamStart(_Record):
    """`trajkit stream --json` begins: what is asked, and where the regions lie whose effects follow."""

    event: ClassVar[str] = "start"

    question: str
    """What is asked, the last turn of a chat."""
    model: str
    """Folder or hub id of the model."""
    fingerprint: str
    """Hash of its weights."""
    height: int
    """Of the image, pixels."""
    width: int
    """Of the image, pixels."""
    region_method: str
    """How regions were drawn."""
    regions: list[dict[str, Any]]
    """In the order of effects: `box`, [left, top, right, bottom] in pixels, and `area`, a share of the image."""


@dataclass(frozen=True, kw_only=True)
class StreamEnd(_Record):
    """`trajkit stream --json` ends, also where it was stopped."""

    event: ClassVar[str] = "end"

    answered: bool
    """Whether the thinking was closed and an answer followed."""
    stopped: bool
    """Whether it was stopped before the model had ended: by its policy, Ctrl-C, a signal or an error."""
    n_steps: int
    """Steps told, the answer's too."""
    n_tokens: int
    """Tokens generated, of several tries in the last; where the run failed, those of the steps told."""
    n_regions: int
    """Regions that effects are about."""
    model: str
    """Folder or hub id of the model."""


@dataclass(frozen=True, kw_only=True)
class WatchStart(_Record):
    """`trajkit monitor -` answers a `start` line: the run is watched from here on."""

    event: ClassVar[str] = "start"

    threshold: float | None
    """The risk above which it is alarmed; null where the monitor cannot alarm."""
    alpha: float
    """At most this share of successful runs is alarmed; of failing ones, where success is watched for."""
    watches: str
    """`failure`, or `success`, of which an alarm then is the good news."""


@dataclass(frozen=True, kw_only=True)
class WatchEnd(_Record):
    """`trajkit monitor -` lets go of a run: what the whole of it came to."""

    event: ClassVar[str] = "end"

    closed: bool
    """Whether an `end` line closed it; false where the input ended, or the program was stopped, before."""
    n_steps: int
    """Thinking steps seen."""
    n_tokens: int
    """Tokens of these steps."""
    max_risk: float | None
    """Largest risk after any of them; before the first 0, and null where scores are of your own."""
    threshold: float | None
    """The risk above which it is alarmed; null where the monitor cannot alarm."""
    alarmed: bool
    """Whether the alarm was raised."""
    alarm_step: int | None
    """The thinking step, from 1, at which it was; null where it was not."""
    drift_p: float | None
    """How likely scores so unlike those of the calibration are, by chance, over the groups so far; null before one."""


@dataclass(frozen=True, kw_only=True)
class Failure(_Record):
    """A line could not be used, or a run failed."""

    event: ClassVar[str] = "error"

    message: str
    """What was expected, what came, and what to do."""
    line: int | None = None
    """Which line of the input, from 1; null where it is about no line."""


def event_of(record: Telling) -> str:
    """The name of its event. Raises InputError on what is none."""
    if isinstance(record, _Record):
        return record.event
    from trajkit.detection.monitor import Verdict
    from trajkit.detection.policies import Decision
    from trajkit.traces.trace import Step

    if isinstance(record, Step):
        return "step"
    if isinstance(record, Verdict):
        return "verdict"
    if isinstance(record, Decision):
        return "decision"
    raise InputError(f"json_lines writes steps, verdicts and decisions; got a {type(record).__name__}.")


def as_line(record: Telling, run: RunName | None = None, row: int = 0) -> str:
    """A record as one line of JSON (ASCII, standard: what is not finite is null), without the line's end.

    run, row: stand behind the event; the one where it is given, the other where it is not 0.
    """
    told: dict[str, Any] = {"event": event_of(record)}
    if run is not None:
        told["run"] = run
    if row:
        told["row"] = row
    return as_json(told | record.to_dict())


def as_json(told: dict[str, Any]) -> str:
    """One line of JSON (ASCII, standard: what is not finite is null), without the line's end."""
    try:
        return json.dumps(told, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(told), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_name(value: Any) -> RunName:
    """A run's name, as it is. Raises InputError on what is none."""
    if isinstance(value, str) and len(value) <= LONGEST_NAME:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return value
    found = "nothing" if value is None else reprlib.repr(value)
    raise InputError(f'"run" must be a text of at most {LONGEST_NAME} characters or a whole number; got {found}.')


class JsonLines:
    """Writes records to a file as lines of JSON. Made by `json_lines`.

    A line is one write, flushed before the call returns, and whole: threads take turns, and processes that append to
    one file do not cut into each other's lines.
    """

    def __init__(self, file: str | Path | IO[str], run: RunName | None = None) -> None:
        if run is not None:
            check_name(run)
        self._run, self._lock = run, Lock()
        self._own = isinstance(file, str | Path)
        self._file: IO[str] = _appending(Path(file)) if isinstance(file, str | Path) else file

    def __call__(self, record: Telling) -> None:
        """Write one; after a step what a policy decides on it, where it does. Raises WriteError where a file of its own
        cannot be written."""
        self.write(record, self._run)
        decision = getattr(record, "decision", None)
        if decision is not None:
            self.write(decision, self._run, getattr(record, "row", 0))

    def write(self, record: Telling, run: RunName | None = None, row: int = 0) -> None:
        """Write this record alone, of a run and row of its own."""
        line = as_line(record, run, row) + "\n"
        with self._lock:
            try:
                self._file.write(line)
                self._file.flush()
            except OSError as error:
                if self._own:
                    raise WriteError(f"{self._file.name} cannot be written: {error.strerror}.") from error
                raise

    def close(self) -> None:
        """Close the file, if it was opened here."""
        if self._own:
            self._file.close()

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def json_lines(file: str | Path | IO[str], run: RunName | None = None) -> JsonLines:
    """A callback that writes what it is given as lines of JSON, for `on_step` and `on_alarm`.

        with tk.watch(…, on_step=tk.json_lines("steps.jsonl", run="7")) as run: …

    file: a path, which is appended to, or an open text file, which stays open. run: a name that every line then has.
    The lines are those of `trajkit stream --json`, and what `trajkit monitor -` reads. Raises WriteError where the path
    cannot be written.

    See also: `watch`, `stream`.

    >>> tell = tk.json_lines(folder / "steps.jsonl", run="7")
    >>> for step in steps:
    ...     tell(step)
    >>> tell.close()
    >>> print((folder / "steps.jsonl").read_text().splitlines()[0][:70])
    {"event": "step", "run": "7", "text": "row 1 col 1 is red 2.", "kind":
    """
    return JsonLines(file, run)


def _appending(path: Path) -> IO[str]:
    try:
        raw = open(path, "ab", buffering=0)  # noqa: SIM115
    except OSError as error:
        raise WriteError(
            f"{path} cannot be written: {error.strerror}. Name a file in a folder that is there."
        ) from error
    return io.TextIOWrapper(io.BufferedWriter(raw, 1 << 20), encoding="ascii", newline="\n")
