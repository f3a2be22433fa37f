"""Judges: whether an answer is right by the accepted ones, and so what came of the run."""

from __future__ import annotations

import importlib
import reprlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trajkit.errors import InputError
from trajkit.traces.answers import letter_of, number_of, says_yes
from trajkit.traces.told_outcomes import read_outcomes
from trajkit.traces.trace import OUTCOMES, Outcome

Judge = Callable[[str | None, Sequence[str]], bool | None]
"""(answer, accepted targets) → whether it is right; None where that cannot be told. An answer of None, which did not
come, is wrong."""
__all__ = ["Judge", "Judged", "OutcomeJudge", "judge_of", "read_outcomes"]
NAMES = "exact, choice, number, number:TOLERANCE, pope or MODULE:FUNCTION"


@dataclass(frozen=True)
class Judged:
    """success: None where it cannot be told, and outcome is then `unknown`."""

    success: bool | None
    outcome: Outcome


@dataclass(frozen=True)
class OutcomeJudge:
    """Tells what came of a run. name: as `judge_of` takes it. judge: may also say an outcome by name."""

    name: str
    judge: Callable[[str | None, Sequence[str]], bool | Outcome | None]

    def __call__(self, answer: str | None, targets: Sequence[str], wrong: Outcome | None = None) -> Judged:
        """answer: None where none came. targets: the accepted answers. wrong: the
        outcome of a wrong answer of which the judge knows no more, by default `failure`.

        Raises InputError where a function of the user's own fails, or says something else than True, False, None or an
        outcome.
        """
        said = self.judge(answer, targets)
        if said is None or said == "unknown":
            return Judged(None, "unknown")
        if isinstance(said, str):
            return Judged(said == "success", (wrong or said) if said == "failure" else said)
        return Judged(True, "success") if said else Judged(False, wrong or "failure")


def judge_of(name: str) -> OutcomeJudge:
    """The judge of that name.

    exact: the answer is one of the accepted ones, but for case, spacing and a final stop.
    choice: it gives the letter of one of them (`answers.letter_of`), or is one of them; unknown where it gives none.
    number, number:0.01: it gives the number of one of them (`answers.number_of`), exactly or within 0.01 times it. An
    answer without a number is wrong.
    pope: it says yes where yes is right, or no where no is; a yes where no is right is a hallucination.
    module:function: a function of a module in the current folder, or one that is installed, as `Judge`; it may also
    return an outcome by name.
    Raises InputError on any other name, and where there is no such function.
    """
    kind, _, detail = name.partition(":")
    if name in _BY_NAME:
        return OutcomeJudge(name, _BY_NAME[name])
    if kind == "number" and detail:
        return OutcomeJudge(name, partial(is_number, tolerance=_tolerance(detail)))
    if kind and detail and kind not in _BY_NAME:
        return OutcomeJudge(name, _told(name, _function(kind, detail)))
    raise InputError(f"a judge must be {NAMES}; got {name!r}.")


def is_exact(answer: str | None, targets: Sequence[str]) -> bool | None:
    """Whether the answer is one of the accepted ones, but for case, spacing and a final stop."""
    if not targets:
        return None
    return answer is not None and plain(answer) in map(plain, targets)


def is_choice(answer: str | None, targets: Sequence[str]) -> bool | None:
    """Whether the answer gives the letter of one of the accepted ones, or is one of them."""
    if not targets or is_exact(answer, targets):
        return True if targets else None
    if answer is None or not answer.strip():
        return False
    letters, given = {letter_of(target) for target in targets} - {None}, letter_of(answer)
    return None if not letters or given is None else given in letters


def is_number(answer: str | None, targets: Sequence[str], tolerance: float = 0.0) -> bool | None:
    """Whether the answer gives the number of one of the accepted ones, within `tolerance` times it."""
    numbers = [number for target in targets if (number := number_of(target))]
    if not numbers:
        return None
    given = number_of(answer or "")
    return given is not None and any(given.near(number, tolerance) for number in numbers)


def is_yes_no(answer: str | None, targets: Sequence[str]) -> bool | Outcome | None:
    """Whether the answer says yes or no as the accepted one does; a yes where no is right is a `hallucination`."""
    truths = {says_yes(target) for target in targets}
    if len(truths) != 1 or None in truths:
        return None
    [truth] = truths
    said = says_yes(answer or "")
    if said is None:
        return None if answer and answer.strip() else False
    return "hallucination" if said and not truth else said == truth


def plain(text: str) -> str:
    """What of an answer is compared: lower case, single spaces, no final stop."""
    return " ".join(text.lower().split()).rstrip(". ")


_BY_NAME: dict[str, Callable[[str | None, Sequence[str]], bool | Outcome | None]] = {
    "exact": is_exact,
    "choice": is_choice,
    "number": is_number,
    "pope": is_yes_no,
}


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise InputError(f"the tolerance of number:TOLERANCE must be a number from 0 to 1, such as 0.01; got {text!r}.")
    return value


def _function(module: str, name: str) -> Callable[..., Any]:
    """A function of a module of the current folder, or an installed one. Raises InputError where there is none."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:
        raise InputError(
            f"the judge's module {module!r} could not be imported ({type(error).__name__}: {error}); expected "
            f"{module.replace('.', '/')}.py in {here}, or a module that is installed."
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(found):
        raise InputError(f"module {module!r} has no function {name!r}; a judge is named {NAMES}.")
    return found


def _told(name: str, function: Callable[..., Any]) -> Callable[[str | None, Sequence[str]], bool | Outcome | None]:
    """A function of the user's own, whose failures and other values are told in words."""

    def judge(answer: str | None, targets: Sequence[str]) -> bool | Outcome | None:
        try:
            said = function(answer, tuple(targets))
        except Exception as error:
            raise InputError(
                f"the judge {name} failed on the answer {reprlib.repr(answer)} ({type(error).__name__}: {error})."
            ) from error
        if said is None or (isinstance(said, str) and said in OUTCOMES):
            return said
        if type(said).__name__ in ("bool", "bool_"):  # numpy's too
            return bool(said)
        raise InputError(
            f"the judge {name} must say True, False, None or one of {', '.join(OUTCOMES)}; for the answer "
            f"{reprlib.repr(answer)} it said {reprlib.repr(said)}."
        )

    return judge
