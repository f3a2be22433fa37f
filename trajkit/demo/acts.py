"""The sentences of the demo's reasoning: what each kind of sentence claims, and how it is said and read back."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trajkit.demo.grid import COLOURS, DIRECTIONS, GRID, Cell, Position


@dataclass(frozen=True)
class Read:
    """What is in a cell: "right row 2 col 5 is red 7." `again`: a correction of what was read last ("wait, …")."""

    at: Position
    seen: Cell = None
    direction: str = ""
    again: bool = False


@dataclass(frozen=True)
class Unclear:
    """A cell that is about to be read is hard to make out."""

    at: Position
    direction: str = ""


@dataclass(frozen=True)
class On:
    """A search goes on to the cell of the trail that it has found."""

    at: Position


@dataclass(frozen=True)
class Back:
    """A trail goes no further; the search goes back to where it came from."""

    at: Position


@dataclass(frozen=True)
class Restart:
    """A search came back to its start without a find."""

    at: Position


@dataclass(frozen=True)
class Found:
    """Where the 0 of a trail is."""

    at: Position


@dataclass(frozen=True)
class Before:
    """The digit before the 0 of a trail."""

    digit: int


@dataclass(frozen=True)
class Move:
    """One step of a walk: its number, its direction and where it leads."""

    step: int
    direction: str
    at: Position


@dataclass(frozen=True)
class Verdict:
    """Whether the first digit is larger (`more`), or the colours are the same."""

    first: str
    second: str
    more: bool
    holds: bool


@dataclass(frozen=True)
class Tally:
    """How many there are so far, of each colour where colours are counted."""

    counts: tuple[int, ...]
    colours: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pick:
    """The next digit of a sort and where it was read."""

    digit: int
    at: Position
    largest: bool


Act = Read | Unclear | On | Back | Restart | Found | Before | Move | Verdict | Tally | Pick


def place(at: Position) -> str:
    """The name of a position."""
    return f"row {at[0] + 1} col {at[1] + 1}"


def content(cell: Cell) -> str:
    """What is said of a cell's content."""
    return "empty" if cell is None else f"{cell[0]} {cell[1]}"


def say(act: Act) -> str:
    """The sentence of an act."""
    match act:
        case Read(at, seen, direction, again):
            lead = "wait, " if again else f"{direction} " if direction else ""
            return f"{lead}{place(at)} is {content(seen)}."
        case Unclear(at, direction):
            return f"{f'{direction} ' if direction else ''}{place(at)} is unclear."
        case On(at):
            return f"on to {place(at)}."
        case Back(at):
            return f"dead end, back to {place(at)}."
        case Restart(at):
            return f"no 0, again from {place(at)}."
        case Found(at):
            return f"the 0 is at {place(at)}."
        case Before(digit):
            return f"before it is {digit}."
        case Move(step, direction, at):
            return f"step {step}, {direction} to {place(at)}."
        case Verdict(first, second, more, holds):
            return f"{first} {'more than' if more else 'and'} {second}, {'yes' if holds else 'no'}."
        case Tally(counts, colours):
            named = [f" {colour}" for colour in colours] or [""]
            return f"that makes {' and '.join(f'{n}{name}' for n, name in zip(counts, named, strict=True))}."
        case Pick(digit, at, largest):
            return f"{'largest' if largest else 'smallest'} at {place(at)} is {digit}."


_PLACE = rf"row ([1-{GRID}]) col ([1-{GRID}])"
_LONGEST = 200
"""Characters of a sentence, beyond which it is none of the world's."""
_COLOUR = f"({'|'.join(COLOURS)})"
_WAY = f"({'|'.join(DIRECTIONS)})"
_READ = re.compile(rf"(?:(wait), |{_WAY} )?{_PLACE} is (?:(empty)|(unclear)|{_COLOUR} (\d))")
_PLACES: dict[str, type[On] | type[Back] | type[Restart] | type[Found]] = {
    "on to": On,
    "dead end, back to": Back,
    "no 0, again from": Restart,
    "the 0 is at": Found,
}
_PLACED = re.compile(rf"({'|'.join(_PLACES)}) {_PLACE}")
_BEFORE = re.compile(r"before it is (\d)")
_MOVE = re.compile(rf"step (\d+), {_WAY} to {_PLACE}")
_MORE = re.compile(r"(\d|empty) more than (\d|empty), (yes|no)")
_SAME = re.compile(rf"({_COLOUR}|empty) and ({_COLOUR}|empty), (yes|no)")
_TALLY = re.compile(rf"that makes (\d+)(?: {_COLOUR}(?: and (\d+) {_COLOUR})?)?")
_PICK = re.compile(rf"(largest|smallest) at {_PLACE} is (\d)")


def normalise(text: str) -> str:
    """Lower case, single spaces, no space before punctuation, no final stop."""
    return re.sub(r"\s+([.,;?])", r"\1", " ".join(text.lower().split())).rstrip(". ")


def parse(sentence: str) -> Act | None:
    """The act of a sentence; None when it is none of the world's, or names a cell outside of the grid."""
    if len(sentence) > _LONGEST:
        return None
    text = normalise(sentence)
    if found := _READ.fullmatch(text):
        wait, way, row, col, empty, unclear, colour, digit = found.groups()
        at, direction = _position(row, col), way or ""
        if unclear:
            return None if wait else Unclear(at, direction)
        return Read(at, None if empty else (colour, int(digit)), direction, bool(wait))
    if found := _PLACED.fullmatch(text):
        return _PLACES[found[1]](_position(found[2], found[3]))
    if found := _BEFORE.fullmatch(text):
        return Before(int(found[1]))
    if found := _MOVE.fullmatch(text):
        return Move(int(found[1]), found[2], _position(found[3], found[4]))
    if found := _MORE.fullmatch(text):
        return Verdict(found[1], found[2], True, found[3] == "yes")
    if found := _SAME.fullmatch(text):
        return Verdict(found[1], found[3], False, found[5] == "yes")
    if found := _TALLY.fullmatch(text):
        first, colour, second, other = found.groups()
        counts = (int(first), int(second)) if second else (int(first),)
        return Tally(counts, tuple(c for c in (colour, other) if c))
    if found := _PICK.fullmatch(text):
        return Pick(int(found[4]), _position(found[2], found[3]), found[1] == "largest")
    return None


def _position(row: str, col: str) -> Position:
    return int(row) - 1, int(col) - 1
