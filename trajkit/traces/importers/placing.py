"""Which of the tokens that a log tells belong to which step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trajkit.sentence_ends import ends_sentence
from trajkit.traces.importers.run import TAGS, ToldToken


@dataclass(frozen=True)
class Placed:
    """ranges: [start, end) of each step among the told tokens; None of a step of which none is told. whole: whether
    these are all the tokens of the run, so that they count what was generated."""

    ranges: tuple[tuple[int, int] | None, ...]
    whole: bool


def place(told: Sequence[ToldToken], thinking: Sequence[str], answer: str | None) -> Placed | None:
    """The tokens of each step: `thinking` sentences, then the `answer`, if any. None where they are of another text.

    White space is not compared: servers tell tokens without it, and parsers take it from the ends of a text. A token
    belongs to the step that holds its first other character, and one of white space alone to the step that
    `vlm.sentences.StepSplitter` has it in. Tags of the thinking span and what follows the answer belong to none.
    """
    bare = ["".join(token.text.split()) for token in told]
    written = "".join(bare)
    texts = [*thinking, *([] if answer is None else [answer])]
    steps = ["".join(text.split()) for text in texts]
    starts = _starts(written, steps, len(thinking))
    if starts is not None:
        owners = _owners(told, bare, _characters(len(written), steps, starts), texts, len(thinking))
        return Placed(tuple(_ranges(owners, len(steps))), True)
    if answer is not None and steps[-1] and written.startswith(steps[-1]):
        owners = _owners(told, bare, _characters(len(written), steps[-1:], [0]), [answer], 0)
        return Placed((*[None] * len(thinking), *_ranges(owners, 1)), False)
    return None


def _starts(written: str, steps: Sequence[str], n_thinking: int) -> list[int] | None:
    """Where each step begins in what was written; None where it is another text."""
    for opening, closing in TAGS:
        at = len(opening) if written.startswith(opening) else 0
        starts: list[int] = []
        for number, step in enumerate(steps):
            if number == n_thinking and written.startswith(closing, at):
                at += len(closing)
            if not written.startswith(step, at):
                break
            starts.append(at)
            at += len(step)
        if len(starts) == len(steps):
            return starts
    return None


def _characters(n: int, steps: Sequence[str], starts: Sequence[int]) -> list[int | None]:
    """The step of each of the `n` characters that were written."""
    owners: list[int | None] = [None] * n
    for number, (step, start) in enumerate(zip(steps, starts, strict=True)):
        owners[start : start + len(step)] = [number] * len(step)
    return owners


def _owners(
    told: Sequence[ToldToken],
    bare: Sequence[str],
    characters: Sequence[int | None],
    texts: Sequence[str],
    n_thinking: int,
) -> list[int | None]:
    """The step of each token. bare: their texts without white space. characters: the step of each of those."""
    at, owners = 0, []
    for text in bare:
        owners.append(characters[at] if text else None)
        at += len(text)
    following = _following(owners, bare)
    step, ended = None, False  # ended: white space begins the next step
    for i, token in enumerate(told):
        if bare[i]:
            step = owners[i]
            ended = step is not None and step < n_thinking and ends_sentence(texts[step])
        elif step is None or ended:
            owners[i] = following[i]
        else:
            owners[i] = step
            ended = step < n_thinking and token.text.endswith("\n") and following[i] != step
    return owners


def _following(owners: Sequence[int | None], bare: Sequence[str]) -> list[int | None]:
    """The step of the next token, from each on, that is more than white space."""
    step, found = None, []
    for owner, text in zip(reversed(owners), reversed(bare), strict=True):
        step = owner if text else step
        found.append(step)
    return found[::-1]


def _ranges(owners: Sequence[int | None], n_steps: int) -> list[tuple[int, int]]:
    """[first, last + 1) of each step's tokens; an empty one where a token before it holds all of it."""
    own: dict[int, list[int]] = {}
    for i, owner in enumerate(owners):
        if owner is not None:
            own.setdefault(owner, []).append(i)
    ranges, end = [], 0
    for step in range(n_steps):
        start, end = (own[step][0], own[step][-1] + 1) if step in own else (end, end)
        ranges.append((start, end))
    return ranges
