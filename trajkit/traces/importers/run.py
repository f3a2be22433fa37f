"""What a log says of one run, whatever tool wrote it, and what every importer is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trajkit.errors import InputError
from trajkit.sentence_ends import CLOSE, OPEN

if TYPE_CHECKING:
    from trajkit.traces.questions import Question

TAGS = ((OPEN, CLOSE), ("◁think▷", "◁/think▷"), ("[THINK]", "[/THINK]"), ("<thinking>", "</thinking>"))
"""Texts that open and close the thinking span of models that are met in logs."""
TOOL_CALLS = ("tool_calls", "function_call", "tool_use")
"""Reasons for an end that was a call of a tool: the thinking is over, and there may be no answer."""
_END = re.compile(r"<[|｜].*[|｜]>|</s>|<eos>|<end_of_turn>")
"""How tokens that end a generation are written."""


@dataclass(frozen=True)
class ToldToken:
    """A generated token as a log tells it. logprob: nats, None where it is not told. top: log-probabilities of the
    likeliest tokens at this place, in any order."""

    text: str
    logprob: float | None
    top: tuple[float, ...] = ()


@dataclass(frozen=True)
class SourceRun:
    """What a log says of one run.

    id: unique in the log. thinking, answer: exactly as written, white space included, without the tags of the thinking
    span. closed: whether the thinking span ended. cut: why the run did not end by itself ("length", "stop string",
    "unfinished", "content filter"), None where it did. images: encoded, in the order of the prompt. messages: the
    prompt's turns, images replaced by {"type": "image"}, where it is more than one user turn of images and one text.
    told: the generated tokens, all of them or those of the answer. tokens: ids of all of them. repeat: from 0. form:
    the question's template. targets: accepted answers. score: as the log has it. settings: named as
    `attribution.assemble.settings` names them. tool: name and version of what wrote the log. log: the log's own id.
    facts: what else goes to `meta`.
    """

    id: str
    model: str
    question: str
    thinking: str
    answer: str
    closed: bool = True
    cut: str | None = None
    images: tuple[bytes, ...] = ()
    messages: list[dict[str, Any]] | None = None
    system: str | None = None
    told: tuple[ToldToken, ...] = ()
    tokens: tuple[int, ...] | None = None
    task_set: str = ""
    task_id: str = ""
    repeat: int = 0
    group_id: str = ""
    form: str = ""
    targets: tuple[str, ...] = ()
    score: float | str | dict[str, Any] | None = None
    success: bool | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    tool: str = ""
    log: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """What whoever imports wants of an importer.

    images: the folder that names of images in the log are in; None: the log's own. questions: by id, what is known of
    the questions beside the log. set_aside: told of a run that cannot be used, by its id, and why. note: told, in a
    sentence, what a run is imported without. expect: told how many runs are to come, where the log says that before
    they are read; again for more.
    """

    images: Path | None = None
    questions: Mapping[str, Question] = field(default_factory=dict)
    set_aside: Callable[[str, InputError], None] = lambda run, error: None
    note: Callable[[str], None] = lambda text: None
    expect: Callable[[int], None] = lambda runs: None


class Importer(Protocol):
    """Reads the logs of one tool. keeps: which setting of the tool keeps the reasoning in its logs, as a sentence."""

    name: str
    keeps: str

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether this is such a log, by its content. head: the first bytes of a file (HEAD at most); b"" of a
        folder."""
        ...

    def read(self, path: Path, wanted: Wanted) -> Iterator[SourceRun]:
        """The runs of a log, one by one; those that cannot be used are told to `wanted.set_aside`.

        Raises InputError where the log as a whole cannot be read.
        """
        ...


def think_split(reasoning: str | None, text: str | None, *, opened: bool = False) -> tuple[str, str, bool]:
    """(thinking, answer, closed) of a message: its reasoning field, or what stands in its text up to the closing tag,
    with or without the opening one.

    opened: whether the prompt ended with the opening tag, so that a text without tags is thinking that was cut.
    """
    text = text or ""
    if reasoning and reasoning.strip():
        return reasoning, text, bool(text.strip())
    for opening, closing in TAGS:
        before, tag, after = text.partition(closing)
        begun = before.lstrip().startswith(opening)
        if tag or begun:
            thinking = before.lstrip().removeprefix(opening) if begun else before
            return thinking, after, bool(tag)
    return (text, "", False) if opened else ("", text, True)


def cut_of(reason: str | None, closed: bool, told: Sequence[ToldToken] = ()) -> str | None:
    """Why a run did not end by itself, from the reason that its server gives for its end (`finish_reason`); None where
    it did. One that stopped within its thinking met a stop string there, but where its last token ended it."""
    if reason in ("length", "max_tokens", "model_length", "max_output_tokens", "incomplete"):
        return "length"
    if reason in ("content_filter", "refusal", "sensitive"):
        return "content filter"
    if reason in ("abort", "aborted", "error", "network_error", "cancelled", "unfinished"):
        return "unfinished"
    if reason in TOOL_CALLS:
        return None
    ended = bool(told) and _END.fullmatch(told[-1].text.strip()) is not None
    return None if closed or ended else "stop string"


def is_closing(token: ToldToken) -> bool:
    """Whether a told token is the tag that closes the thinking span."""
    return any(token.text.strip() == closing for _, closing in TAGS)
