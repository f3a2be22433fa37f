"""A long run retold: its remarkable sentences, and the stretches between them in a few words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from trajkit.demo.acts import Read, parse
from trajkit.demo.grid import Position
from trajkit.tables.words import count
from trajkit.traces.step_labels import labels_of
from trajkit.traces.trace import Step, Trace

Note = Literal["", "misread", "lost", "put right"]
_CORRECTIONS = 2
"""How many corrections of a run are remarkable: the first."""


class Stretch(NamedTuple):
    """Sentences first ≤ i < end, two or more, that are passed over. course: where the run was, "" where that is not
    told apart. misread, lost: how many of them."""

    first: int
    end: int
    course: Literal["on course", "off course", ""]
    misread: int
    lost: int

    def said(self) -> str:
        """`9 sentences, on course`, `14 sentences, off course: 2 misread, 5 lost`."""
        where = f", {self.course}" if self.course else ""
        wrong = ", ".join(f"{n} {what}" for n, what in ((self.misread, "misread"), (self.lost, "lost")) if n)
        return f"{count(self.end - self.first, 'sentence')}{where}{f': {wrong}' if wrong else ''}"


def thinking(run: Trace) -> list[Step]:
    """The sentences of a run, without its answer."""
    return [step for step in run.steps if step.kind == "thinking"]


def notes(run: Trace) -> list[Note]:
    """Of each thinking sentence of a judged run: whether it misreads a cell, reads one that stood misread as it is, or
    goes the wrong way."""
    standing, found = set[Position](), list[Note]()
    for step, label in zip(thinking(run), labels_of(run), strict=True):
        act = parse(step.text)
        if label == "false":
            standing |= {act.at} if isinstance(act, Read) else set()
            found.append("misread")
        elif isinstance(act, Read) and act.at in standing:
            standing.remove(act.at)
            found.append("put right")
        else:
            found.append("lost" if label == "lost" else "")
    return found


def cause(run: Trace) -> int | None:
    """The sentence that a judged run failed by; None where it did not fail, or by its answer alone."""
    first = run.meta["first_wrong"]
    return None if first is None or first >= len(thinking(run)) else int(first)


def alarm(run: Trace) -> int | None:
    """The sentence after which the alarm was raised; None where none was."""
    return next((i for i, step in enumerate(thinking(run)) if step.alarm), None)


def retold(run: Trace) -> list[int | Stretch]:
    """The sentences of a judged run in their order: the 0-based numbers of the remarkable, the others as stretches.

    Remarkable are the first and the last, the first that is wrong, what a run failed by with the ones beside it, the
    one that alarmed with the one before it, and the first corrections with the misreadings that they correct.
    """
    what, n = notes(run), len(thinking(run))
    wrong = [i for i, note in enumerate(what) if note in ("misread", "lost")]
    told = {0, n - 1, *wrong[:1]}
    if (failed := cause(run)) is not None:
        told |= {failed - 1, failed, failed + 1}
    if (alarmed := alarm(run)) is not None:
        told |= {alarmed - 1, alarmed}
    for corrected in [i for i, note in enumerate(what) if note == "put right"][:_CORRECTIONS]:
        told |= {corrected, _misread(run, what, corrected)}
    shown = sorted(i for i in told if 0 <= i < n)
    found: list[int | Stretch] = []
    for last, index in pairwise([-1, *shown]):
        found += [*_between(run, what, last + 1, index), index]
    return found


def _misread(run: Trace, what: Sequence[Note], corrected: int) -> int:
    """The sentence that misread the cell which a later one reads as it is."""
    acts = [parse(step.text) for step in thinking(run)[: corrected + 1]]
    at = [act.at if isinstance(act, Read) else None for act in acts]
    return max(i for i in range(corrected) if what[i] == "misread" and at[i] == at[corrected])


def _between(run: Trace, what: Sequence[Note], first: int, end: int) -> list[int | Stretch]:
    """What is told of the sentences first ≤ i < end, none of which is remarkable."""
    if end - first < 2:
        return list(range(first, end))
    failed, of = cause(run), Counter(what[first:end])
    off = failed is not None and first > failed
    course: Literal["on course", "off course", ""] = "off course" if off else "" if of["lost"] else "on course"
    return [Stretch(first, end, course, of["misread"], of["lost"])]
