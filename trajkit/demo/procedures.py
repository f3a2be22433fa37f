"""The procedures that answer the questions, one a family (see `procedure`), and their plans."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from trajkit.demo.acts import Act, Back, Before, Found, Move, On, Pick, Read, Restart, Tally, Verdict, place
from trajkit.demo.grid import DIRECTIONS, GRID, Cell, Position, Scene, beside, inside, wrapped
from trajkit.demo.procedure import Procedure
from trajkit.demo.questions import Question, holds


@dataclass(frozen=True)
class _Search:
    """path: positions from the start to where the search is. seen: all that it looked at. met: a cell of the trail that
    was read and not gone to yet."""

    path: tuple[Position, ...] = ()
    seen: frozenset[Position] = frozenset()
    met: Position | None = None
    found: Position | None = None
    before: int | None = None


class Trail(Procedure):
    """Depth-first search along a colour, directions in any order; no cell is looked at twice until it starts again."""

    state: _Search

    def start(self) -> _Search:
        return _Search()

    def options(self) -> list[Act]:
        s, start = self.state, self.question.start
        assert start is not None
        if s.found is not None:
            due = self.question.kind == "trail_before" and s.before is None
            digit = self._digit_before() if due else None
            return [] if digit is None else [Before(digit)]
        if not s.path:
            return [Read(start)]
        if s.met is not None:
            cell = self.believed.get(s.met)
            return [Found(s.met) if cell is not None and cell[1] == 0 else On(s.met)]
        at = s.path[-1]
        ways = [(d, to) for d in DIRECTIONS if inside(to := beside(at, d)) and to not in s.seen]
        if ways:
            return [Read(to, None, d) for d, to in ways]
        return [Back(s.path[-2])] if len(s.path) > 1 else [Restart(start)]

    def _digit_before(self) -> int | None:
        cell = self.believed.get(self.state.path[-1]) if self.state.path else None
        return None if cell is None else cell[1]

    def after(self, act: Act) -> _Search:
        s = self.state
        match act:
            case Read(at, seen):
                is_trail = seen is not None and seen[0] == self.question.colours[0] and at not in s.path
                return replace(s, path=s.path or (at,), seen=s.seen | {at}, met=at if s.path and is_trail else None)
            case On(at) | Back(at):
                path = s.path[: s.path.index(at) + 1] if at in s.path else (*s.path, at)
                return replace(s, path=path, seen=s.seen | {at}, met=None)
            case Restart(at):
                return _Search((at,), frozenset({at}))
            case Found(at):
                return replace(s, found=at)
            case Before(digit):
                return replace(s, before=digit)
        return s

    def answer(self) -> str | None:
        s = self.state
        if self.question.kind == "trail_end":
            return None if s.found is None else place(s.found)
        return None if s.before is None else str(s.before)


@dataclass(frozen=True)
class _Sort:
    """cells: those not picked yet; left: those not read in this pass; read: what was read in it; picks: digits."""

    cells: tuple[Position, ...]
    left: tuple[Position, ...]
    read: tuple[tuple[Position, int], ...] = ()
    picks: tuple[int, ...] = ()


class Sort(Procedure):
    """Selection sort: read all that are left, pick the smallest or largest, and read again what is left then."""

    state: _Sort

    def start(self) -> _Sort:
        return _Sort(self.question.cells, self.question.cells)

    def options(self) -> list[Act]:
        s = self.state
        if s.left:
            return [Read(s.left[0])]
        largest = self.question.kind == "sort_down"
        best = (max if largest else min)((digit for _, digit in s.read), default=None)
        return [Pick(digit, at, largest) for at, digit in s.read if digit == best]

    def after(self, act: Act) -> _Sort:
        s = self.state
        match act:
            case Read(at, seen):
                known = at in s.left
                left = s.left[s.left.index(at) + 1 :] if known else s.left
                if seen is None:
                    return replace(s, left=left, cells=tuple(c for c in s.cells if c != at))
                read = tuple(pair for pair in s.read if pair[0] != at)
                return replace(s, left=left, read=(*read, (at, seen[1])) if at in s.cells else read)
            case Pick(digit, at):
                cells = tuple(c for c in s.cells if c != at)
                return _Sort(cells, cells, (), (*s.picks, digit))
        return s

    def answer(self) -> str | None:
        s = self.state
        return None if s.left or s.read else " ".join(map(str, s.picks))


@dataclass(frozen=True)
class _Compare:
    """pairs: those not compared yet; first, second: what of the first of them was read; yes: a tally is due."""

    pairs: tuple[tuple[Position, Position], ...]
    read: int = 0
    yes: bool = False
    count: int = 0


class Compare(Procedure):
    """Two lines place by place: read both, say whether it holds, count."""

    state: _Compare

    def start(self) -> _Compare:
        cells = self.question.cells
        return _Compare(tuple(zip(cells[:GRID], cells[GRID:], strict=True)))

    def options(self) -> list[Act]:
        s = self.state
        if s.yes:
            return [Tally((s.count + 1,))]
        if not s.pairs:
            return []
        first, second = s.pairs[0]
        if s.read == 0:
            return [Read(first)]
        if s.read == 1:
            return [Read(second)]
        more = self.question.kind == "larger"
        a, b = self.believed.get(first), self.believed.get(second)
        return [Verdict(_value(a, more), _value(b, more), more, holds(more, a, b))]

    def after(self, act: Act) -> _Compare:
        s = self.state
        match act:
            case Read(at):
                for i, pair in enumerate(s.pairs):
                    if at in pair:
                        return replace(s, pairs=s.pairs[i:], read=1 + pair.index(at), yes=False)
                return s
            case Verdict(_, _, _, yes):
                return replace(s, pairs=s.pairs[1:], read=0, yes=yes)
            case Tally((count, *_)):
                return replace(s, count=count, yes=False)
        return s

    def answer(self) -> str | None:
        return None if self.state.pairs or self.state.yes else str(self.state.count)


def _value(cell: Cell, more: bool) -> str:
    return "empty" if cell is None else str(cell[1]) if more else cell[0]


@dataclass(frozen=True)
class _Count:
    """left: cells not read yet; counts: what the last tally says; due: the colour that the next one counts."""

    left: tuple[Position, ...]
    counts: tuple[int, ...]
    due: str = ""


class Count(Procedure):
    """One or two colours in three lines, cell by cell, with a tally at each find."""

    state: _Count

    def start(self) -> _Count:
        return _Count(self.question.cells, (0,) * len(self.question.colours))

    def options(self) -> list[Act]:
        s, colours = self.state, self.question.colours
        if s.due:
            return [Tally(tuple(n + (c == s.due) for n, c in zip(s.counts, colours, strict=True)), colours)]
        if s.left:
            return [Read(s.left[0])]
        return []

    def after(self, act: Act) -> _Count:
        s, colours = self.state, self.question.colours
        match act:
            case Read(at, seen):
                if at not in s.left:
                    return s
                due = seen[0] if seen is not None and seen[0] in colours else ""
                return replace(s, left=s.left[s.left.index(at) + 1 :], due=due)
            case Tally(counts, said) if said == colours:
                return replace(s, counts=counts, due="")
        return s

    def answer(self) -> str | None:
        s = self.state
        return None if s.left or s.due else " and ".join(map(str, s.counts))


@dataclass(frozen=True)
class _Walk:
    """Where the walk is, how many steps it took, its last direction, whether its cell was read; digits on the way."""

    at: Position
    step: int = 0
    towards: str = ""
    read: bool = False
    digits: tuple[int, ...] = field(default=())


class Walk(Procedure):
    """Read the cell, go where its colour leads, as many times as asked."""

    state: _Walk

    def start(self) -> _Walk:
        assert self.question.start is not None
        return _Walk(self.question.start)

    def options(self) -> list[Act]:
        s = self.state
        if s.step >= self.question.steps:
            return []
        if not s.read:
            return [Read(s.at)]
        towards = self.question.towards(self.believed.get(s.at), s.towards)
        return [Move(s.step + 1, towards, wrapped(beside(s.at, towards)))]

    def after(self, act: Act) -> _Walk:
        s = self.state
        match act:
            case Read(at, seen):
                digits = s.digits if seen is None else (*s.digits, seen[1])
                return replace(s, at=at, read=True, digits=digits)
            case Move(step, direction, at):
                return replace(s, at=at, step=step, towards=direction, read=False)
        return s

    def answer(self) -> str | None:
        s = self.state
        if s.step < self.question.steps:
            return None
        return place(s.at) if self.question.kind == "walk_end" else " ".join(map(str, s.digits))


PROCEDURES: dict[str, type[Procedure]] = {
    "general": Trail,
    "math": Sort,
    "document": Compare,
    "science": Count,
    "code": Walk,
}


def procedure(question: Question) -> Procedure:
    """The procedure that answers a question, before its first act."""
    return PROCEDURES[question.family](question)


def plan(question: Question, scene: Scene) -> list[Act]:
    """The acts that answer a question without a mistake, always taking the first option."""
    return go_on(procedure(question), scene)


def go_on(steps: Procedure, scene: Scene, most: int = 500) -> list[Act]:
    """Take acts without a mistake from where a procedure stands to its end, at most `most`; and return them."""
    acts: list[Act] = []
    while len(acts) < most and (options := steps.options()):
        act = options[0]
        acts.append(replace(act, seen=scene.at(act.at)) if isinstance(act, Read) else act)
        steps.take(acts[-1])
    return acts
