"""What is asked, and what came of it: an item, its judgement, and the judge that knows the right answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from trajkit.errors import InputError
from trajkit.traces.trace import Outcome
from trajkit.vlm.canvas import Images


@dataclass(frozen=True, eq=False)
class Item:
    """A question to collect runs of, about one image or several. target: the right answer, None when not known."""

    id: str
    image: Images
    question: str
    group_id: str
    target: str | None = None
    task_set: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


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


def judge_by_target(item: Item, sentences: Sequence[str], answer: str | None) -> Judgement:
    """Success when the answer equals the target but for case, spacing and a final stop; a wrong one is a `failure`."""
    if item.target is None:
        return Judgement("unknown", None)
    right = answer is not None and _plain(answer) == _plain(item.target)
    return Judgement("success" if right else "failure", right)


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(". ")
