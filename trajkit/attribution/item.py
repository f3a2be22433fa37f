"""What is asked, and what came of it: an item, its judgement, and the judge that knows the right answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from trajkit.errors import InputError
from trajkit.traces.judges import OutcomeJudge, judge_of
from trajkit.traces.trace import Outcome
from trajkit.vlm.canvas import Images


@dataclass(frozen=True, eq=False)
class Item:
    """A question to collect runs of, about one image or several.

    target: the right answer, None when not known. targets: every accepted answer, the target first. wrong: what a wrong
    answer is, None where that is not said.
    """

    id: str
    image: Images
    question: str
    group_id: str
    target: str | None = None
    task_set: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    wrong: Outcome | None = None

    def __post_init__(self) -> None:
        if self.target is not None:
            object.__setattr__(self, "targets", tuple(dict.fromkeys((self.target, *self.targets))))


SetAside = Callable[[Item, InputError], None]
"""Told of an item whose run cannot be made or used, and why."""


@dataclass(frozen=True)
class Judgement:
    """What came of a run: its outcome, whether it succeeded (None: cannot be told), and facts for `meta`."""

    outcome: Outcome
    success: bool | None
    facts: dict[str, Any] = field(default_factory=dict)


Judge = Callable[[Item, Sequence[str], str | None], Judgement]
"""(item, sentences of the thinking span, answer or None) → Judgement."""


def judge_by(judge: OutcomeJudge) -> Judge:
    """The judge of runs that compares the answer with the item's targets as `judge` does."""

    def judged(item: Item, sentences: Sequence[str], answer: str | None) -> Judgement:
        found = judge(answer, item.targets, item.wrong)
        return Judgement(found.outcome, found.success, {"judge": judge.name} if item.targets else {})

    return judged


judge_by_target = judge_by(judge_of("exact"))
"""Success when the answer equals a target but for case, spacing and a final stop; a wrong one is a `failure`, or
what the item says."""
