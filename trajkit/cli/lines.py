"""`trajkit monitor -`: many runs watched at once, a line in, its answer out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from trajkit.cli.policy import EXIT_STOPPED, Asked
from trajkit.errors import InputError

if TYPE_CHECKING:
    from trajkit.detection.lines import Said
    from trajkit.detection.monitor import Monitor
    from trajkit.events import JsonLines

EXIT_LINES = 1
"""Some lines could not be used."""
EXIT_STRICT = 2
"""One could not, and it stopped there."""


def monitor_lines(detectors: Path, asked: Asked, strict: bool) -> int:
    """Answer each line of standard input before the next is read; at its end, or where the program is stopped, say what
    the runs came to that are still open. Returns the exit code."""
    from trajkit.cli.output import note
    from trajkit.detection.lines import LineMonitor
    from trajkit.events import Failure, json_lines

    source = _input()
    monitor, enough = _monitors(detectors)
    policy = asked.policy_with(monitor, enough)
    if not monitor.can_alarm:
        note(monitor.message)
    if source.isatty():
        note("reading lines of JSON from the terminal; Ctrl-D ends them.")
    lines, out = LineMonitor(monitor, policy), json_lines(sys.stdout)
    failed = stopped = False
    try:
        for line in read_lines(source):
            for said in lines.answer(line):
                out.write(said.what, *said.about)
                if isinstance(said.what, Failure):
                    note(f"trajkit: line {said.what.line}: {said.what.message}")
                    failed = True
                stopped = stopped or _stops(said)
            if failed and strict:
                return EXIT_STRICT
    finally:
        _tell_ends(lines.end_all(), out)
    return EXIT_STOPPED if stopped else EXIT_LINES if failed else 0


def _monitors(folder: Path) -> tuple[Monitor, Monitor | None]:
    """The monitor of a folder, of `fit` or of `Monitor.save`, and the one of success where there is one."""
    from trajkit.detection.store import FILE, MONITOR_FILE, load_detectors, load_monitor

    if (folder / MONITOR_FILE).is_file() and not (folder / FILE).is_file():
        return load_monitor(folder), None
    found = load_detectors(folder)
    return found.monitor, found.enough


def read_lines(source: IO[bytes]) -> Iterator[bytes]:
    """The lines of `source`, each as soon as it is whole; of one longer than LONGEST_LINE only its first part, which is
    longer too."""
    from trajkit.detection.lines import LONGEST_LINE

    while line := source.readline(LONGEST_LINE + 2):
        yield line
        while not line.endswith(b"\n") and (line := source.readline(LONGEST_LINE)):
            pass


def _input() -> IO[bytes]:
    if sys.stdin is None:
        raise InputError("standard input is closed; pipe lines of JSON into `trajkit monitor -`.")
    return sys.stdin.buffer


def _stops(said: Said) -> bool:
    from trajkit.detection.policies import Decision

    return isinstance(said.what, Decision) and said.what.action == "stop"


def _tell_ends(ends: Iterator[Said], out: JsonLines) -> None:
    for said in ends:
        out.write(said.what, *said.about)
