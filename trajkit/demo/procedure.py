"""A procedure: what a careful reasoner may do next, the one account that writing and checking go by.

It takes the acts of a run one after the other, whether they are allowed or not, and says after each which acts would
be: a run that does something else has lost its way there, and is followed from where it says it is.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any

from trajkit.demo.acts import Act, Read, Unclear
from trajkit.demo.grid import Cell, Position
from trajkit.demo.questions import Question


class Procedure:
    """State of one run. `options()` are the acts allowed next, readings without what they see; `answer()` what it may
    answer, None while it may not."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.believed: dict[Position, Cell] = {}
        self.state: Any = self.start()
        self.last: Read | None = None
        self._before_last: Any = self.state

    def start(self) -> Any:
        raise NotImplementedError

    def options(self) -> list[Act]:
        raise NotImplementedError

    def answer(self) -> str | None:
        raise NotImplementedError

    def after(self, act: Act) -> Any:
        """The state that an act leads to."""
        raise NotImplementedError

    def copy(self) -> Procedure:
        """Another run that has come as far."""
        other = copy(self)
        other.believed = dict(self.believed)
        return other

    def allows(self, act: Act) -> bool:
        """Whether an act is one of the options, or a correction of what was read last."""
        if isinstance(act, Read):
            if act.again:
                return self.last is not None and act.at == self.last.at
            return Read(act.at, None, act.direction) in self.options()
        if isinstance(act, Unclear):
            return Read(act.at, None, act.direction) in self.options()
        return act in self.options()

    def take(self, act: Act) -> None:
        """Go on from an act, allowed or not."""
        if isinstance(act, Unclear):
            return
        if isinstance(act, Read):
            if act.again and self.last is not None and act.at == self.last.at:
                self.state = self._before_last
                act = replace(self.last, seen=act.seen)
            self._before_last, self.last = self.state, act
            self.believed[act.at] = act.seen
        self.state = self.after(act)
