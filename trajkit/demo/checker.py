"""Checks a run's reasoning against its scene, sentence by sentence, and labels its outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from trajkit.demo.acts import Act, Pick, Read, Restart, normalise, parse
from trajkit.demo.grid import Cell, Position, Scene
from trajkit.demo.procedure import Procedure
from trajkit.demo.procedures import go_on, procedure
from trajkit.demo.questions import Question
from trajkit.traces.step_labels import StepLabel

Outcome = Literal["success", "hallucination", "reasoning_failure", "unknown"]
Detail = Literal[
    "",
    "misreading",
    "misreading, then wrong step",
    "wrong step",
    "wrong step, then misreading",
    "wrong answer",
    "no answer",
]


@dataclass(frozen=True)
class Label:
    """The verdict on a run.

    A run is on course while going on without a mistake would end in the right answer (`Check`). What took it off its
    course for good is the cause of its failure.

    outcome: `success` when the answer is right. Otherwise `hallucination` when a false reading was the cause;
    `reasoning_failure` when it was another sentence, or the answer itself, and no false reading came after it;
    `unknown` when one did. Reading a cell that was not due is another sentence, where its true content would have done
    the same.
    detail: the cause, "" on success.
    steps: of each sentence, `false` when it reads a cell as what it is not, `lost` when it is none of the things that
    follow from what was said before (see `procedure`), "" when neither.
    first_wrong: the 0-based sentence that was the cause; the number of sentences when it was the answer; None on
    success. Of a run that stayed on its course and never answered it is the first that was lost, or that misread a cell
    of the trail so that the search came back without a find.
    false_readings: how many cells stand misread at the end. corrections: how many misreadings were put right.
    """

    outcome: Outcome
    detail: Detail
    steps: tuple[StepLabel, ...]
    first_wrong: int | None
    false_readings: int
    corrections: int


class Check:
    """A run held against its scene while it is said.

    steps: the label of each sentence so far. misread: the cells that stand misread, and the sentences that did it.
    corrections: misreadings put right.
    left: the sentence that took the run off its course, None while it is on it. Where one did that follows from what
    was misread before, it is the misreading of the cell that is picked, or else the last one that stands.
    misled: whether what that sentence misread was the cause.
    missed: the first misreading that hid a trail from a search which came back to its start, None where none did.
    """

    def __init__(self, question: Question, scene: Scene) -> None:
        self.question, self.scene = question, scene
        self.procedure = procedure(question)
        self.steps: list[StepLabel] = []
        self.misread: dict[Position, int] = {}
        self.corrections = 0
        self.left: int | None = None
        self.misled = False
        self.missed: int | None = None
        self._right = question.answer(scene)

    def update(self, sentence: str) -> StepLabel:
        """Take the next sentence and label it."""
        act = parse(sentence)
        if act is None:
            self.steps.append("lost")
            return "lost"
        before = self.procedure.copy()
        label: StepLabel = "" if before.allows(act) else "lost"
        self.procedure.take(act)
        if isinstance(act, Read) and act.seen != self.scene.at(act.at):
            label = "false"
            self.misread[act.at] = len(self.steps)
        elif isinstance(act, Read) and act.at in self.misread:
            del self.misread[act.at]
            self.corrections += 1
        if isinstance(act, Restart) and not label and self.missed is None:
            self.missed = min((i for at, i in self.misread.items() if self._is_hidden(at)), default=None)
        self.steps.append(label)
        if label or self.misread or self.left is not None:  # all else keeps a run on its course
            if self._is_right_from(self.procedure.copy()):
                self.left = None
            elif self.left is None:
                self._leave(act, before)
        return label

    def _is_hidden(self, at: Position) -> bool:
        """Whether a cell has the colour that is asked about and was read as one that has not."""
        colour = self.question.colours[:1]
        return _colour(self.scene.at(at)) == colour != _colour(self.procedure.believed[at])

    def _leave(self, act: Act, before: Procedure) -> None:
        """Note what took the run off its course with this act."""
        label, last = self.steps[-1], max(self.misread.values(), default=0)
        if not label:
            self.left, self.misled = self.misread.get(act.at, last) if isinstance(act, Pick) else last, True
            return
        self.left, self.misled = len(self.steps) - 1, label == "false"
        if isinstance(act, Read) and self.misled and not before.allows(act):
            before.take(replace(act, seen=self.scene.at(act.at)))
            self.misled = self._is_right_from(before)

    def _is_right_from(self, rest: Procedure) -> bool:
        """Whether going on without a mistake from where a procedure stands comes to the right answer."""
        go_on(rest, self.scene)
        return rest.answer() == self._right


def _colour(cell: Cell) -> tuple[str, ...]:
    return () if cell is None else (cell[0],)


def label_run(question: Question, scene: Scene, sentences: Sequence[str], answer: str | None) -> Label:
    """Label a run from its thinking `sentences` and its `answer` (None when the run never answered)."""
    check = Check(question, scene)
    for sentence in sentences:
        check.update(sentence)
    facts = len(check.misread), check.corrections
    if answer is not None and normalise(answer) == question.answer(scene):
        return Label("success", "", tuple(check.steps), None, *facts)
    outcome, detail = _cause(check, answer is None)
    return Label(outcome, detail, tuple(check.steps), _first_wrong(check, answer is None), *facts)


def _first_wrong(check: Check, unanswered: bool) -> int:
    if check.left is not None:
        return check.left
    end = len(check.steps)
    if not unanswered:
        return end
    lost = check.steps.index("lost") if "lost" in check.steps else end
    return min(lost, end if check.missed is None else check.missed)


def _cause(check: Check, unanswered: bool) -> tuple[Outcome, Detail]:
    first = _first_wrong(check, unanswered)
    missed = unanswered and check.left is None and first == check.missed
    if check.left is None and not missed:
        return "reasoning_failure", "no answer" if unanswered else "wrong answer"
    after = check.steps[first + 1 :]
    if missed or check.misled:
        return "hallucination", "misreading, then wrong step" if "lost" in after else "misreading"
    if "false" in after:
        return "unknown", "wrong step, then misreading"
    return "reasoning_failure", "wrong step"
