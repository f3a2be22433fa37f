"""Token ids of a saved run: as it tells them, or made of its text again and held against what it tells of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trajkit.attribution.tokens import TokensError, encode_exactly, opens_thinking, tag_tokens
from trajkit.attribution.told import checked_tokens
from trajkit.errors import InputError
from trajkit.traces.trace import Trace
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import CLOSE, OPEN, Split, split_steps

Source = Literal["told", "made", "unchecked"]
"""Where ids are from: told by the run; made of its text, as many as it counts; or made, and it counts none."""
_BEFORE, _BEHIND = (" ", "", "\n", "\n\n"), ("", "\n", "\n\n")
"""White space that stood around a step, the likeliest first, where only its bare text is kept."""
_WHY = (
    "another tokenizer wrote it, or it was sampled in other pieces than its text makes. Attribute it with the model "
    "that wrote it, and log the ids of tokens where you can."
)


@dataclass(frozen=True)
class Recovered:
    """split: their steps. doubt: what does not fit, in a sentence, where the ids are used all the same."""

    tokens: list[int]
    split: Split
    source: Source
    doubt: str = ""


def recover_tokens(vlm: VLM, trace: Trace, prompt: Prompt) -> Recovered:
    """The ids of a run: those that it tells, where they are of its text; else made of its text.

    Raises InputError where no tokens of this model are what was written.
    """
    doubt = ""
    if trace.tokens is not None:
        try:
            told = checked_tokens(vlm, trace.tokens.tolist(), prompt.length)
            return Recovered(told, _checked_split(vlm, told, trace), "told")
        except InputError as error:
            doubt = f"the ids that it tells are not used: {error}"
    unlike = "makes no tokens here"
    for candidate in _made(vlm, trace):
        made = checked_tokens(vlm, [*candidate, *_end(vlm, trace, len(candidate))], prompt.length)
        split = _checked_split(vlm, made, trace)
        unlike = _unlike(trace, made, len(candidate), split)
        if not unlike:
            unchecked = _counted(trace) is None and _told_number(trace) is None
            return Recovered(made, split, "unchecked" if unchecked else "made", doubt)
    raise TokensError(f"its text {unlike}: {_WHY}")


def _unlike(trace: Trace, made: Sequence[int], n_unended: int, split: Split) -> str:
    """What tells the number of ids from the one that the run tells; "" where nothing does.

    n_unended: of them, without the token that ends a generation, which some servers count and some do not.
    """
    told = _counted(trace)
    if told is not None:
        ours = split.spans[-1].end if split.spans else 0
        fits = ours == told
    else:
        told, ours = _told_number(trace), len(made)
        fits = told in (None, ours, n_unended)
    return "" if fits else f"makes {ours} tokens here, where it was written in {told}"


def _told_number(trace: Trace) -> int | None:
    """Tokens that the run's server counts; what a stop string had it leave out of the text is among them."""
    told = trace.meta.get("completion_tokens")
    return told if isinstance(told, int) and trace.meta.get("cut") != "stop string" else None


def _made(vlm: VLM, trace: Trace) -> Iterator[list[int]]:
    """Of its exact text, or else of that of its steps, the likeliest first; without the token that ends it."""
    written = trace.meta.get("written")
    if not isinstance(written, dict) and _counted(trace) is not None:
        yield _of_steps(vlm, trace)
        return
    for thinking, answer in _texts(vlm, trace, written):
        yield _of_text(vlm, thinking, answer, _closed(trace))


def _closed(trace: Trace) -> bool:
    return bool(trace.meta.get("thinking_closed", any(step.kind == "answer" for step in trace.steps)))


def _texts(vlm: VLM, trace: Trace, written: Any) -> Iterator[tuple[str, str]]:
    """(thinking, answer) as they may have been written, the likeliest first: tools take white space from their ends,
    and then it is what the chat template has there."""
    if isinstance(written, dict):
        thinking, answer = str(written.get("thinking") or ""), str(written.get("answer") or "")
    else:
        thinking, answer = (
            " ".join(step.text for step in trace.steps if step.kind == kind) for kind in ("thinking", "answer")
        )
    first, last, before = _around_tags(vlm)
    usual = (first + thinking.strip() if first else thinking.rstrip()) + last, before + answer.lstrip()
    bare = thinking == thinking.strip() and answer == answer.lstrip()
    yield from (usual, (thinking, answer)) if bare else ((thinking, answer), usual)


def _around_tags(vlm: VLM) -> tuple[str, str, str]:
    """White space that the chat template has in an answer: where its thinking begins, unless prompts end with that;
    where the thinking ends; and where the rest begins."""
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "?"}]},
        {"role": "assistant", "content": "1", "reasoning_content": "0"},
    ]
    try:
        text = str(vlm.processor.apply_chat_template(turns, tokenize=False))
    except Exception:  # a template is a program of the checkpoint's, and can fail in any way
        return "", "", ""
    thought, closing, said = text.rpartition(CLOSE)
    first, _, last = thought.rpartition(OPEN)[2].partition("0")
    around = "" if opens_thinking(vlm) else first, last, said.partition("1")[0]
    return around if closing and not "".join(around).strip() else ("", "", "")


def _of_text(vlm: VLM, thinking: str, answer: str, closed: bool) -> list[int]:
    opened = opens_thinking(vlm)
    if closed and not thinking.strip() and (opened or CLOSE in answer):
        raise InputError(
            "its text has no reasoning, which this model begins with: the log kept the answer alone. Write it with "
            "the setting that keeps the reasoning."
        )
    if not thinking.strip():
        return encode_exactly(vlm, answer)
    tokens = ([] if opened else tag_tokens(vlm, OPEN)) + encode_exactly(vlm, thinking)
    return tokens + (tag_tokens(vlm, CLOSE) + encode_exactly(vlm, answer) if closed else [])


def _of_steps(vlm: VLM, trace: Trace) -> list[int]:
    """Of bare texts with the range of tokens that each had: white space around them is what makes as many."""
    tokens: list[int] = [] if opens_thinking(vlm) else tag_tokens(vlm, OPEN)
    for number, step in enumerate(trace.steps):
        if step.kind == "answer":
            tokens += tag_tokens(vlm, CLOSE)
        before = _BEFORE if number else ("", *_BEFORE)
        around = ((a, b) for b in _BEHIND for a in before)
        made = (encode_exactly(vlm, a + step.text + b) for a, b in around)
        own = next((one for one in made if len(one) == step.n_tokens), None)
        if own is None:
            raise TokensError(
                f"step {number + 1} of it, {step.text[:60]!r}, makes no {step.n_tokens} tokens here, which it had: "
                f"{_WHY}"
            )
        tokens += own
    return tokens


def _end(vlm: VLM, trace: Trace, n: int) -> list[int]:
    """The token that ends a generation, behind `n` others, where it was not cut."""
    most = trace.meta.get("max_new_tokens") or vlm.model.generation_config.max_new_tokens
    cut = trace.meta.get("cut") or trace.meta.get("stopped") or (isinstance(most, int) and n >= most)
    if cut or not vlm.end_tokens:
        return []
    usual = vlm.tokenizer.eos_token_id
    return [usual if usual in vlm.end_tokens else min(vlm.end_tokens)]


def _counted(trace: Trace) -> int | None:
    """Tokens up to the end of the last step, where the run counts any."""
    if trace.meta.get("counted_in") == "words" or not trace.steps:
        return None
    return trace.steps[-1].token_end


def _checked_split(vlm: VLM, tokens: Sequence[int], trace: Trace) -> Split:
    """The steps of tokens. Raises TokensError where they are of another text than the run's; white space is not
    compared. A run that was stopped may have tokens behind its text."""
    split = split_steps(tokens, vlm)
    ours, theirs = _bare(vlm, split.texts), _bare(vlm, [step.text for step in trace.steps])
    stopped = trace.meta.get("cut") == "stop string" or trace.meta.get("stopped")
    if ours == theirs or (stopped and ours.startswith(theirs)):
        return split
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    raise TokensError(
        f"its tokens decode to {ours[at : at + 40]!r} where its text goes on with {theirs[at : at + 40]!r}, as those "
        "of another tokenizer would"
    )


def _bare(vlm: VLM, texts: Sequence[str]) -> str:
    text = "".join("".join(texts).split())
    for mark in vlm.adapter.marks:
        text = text.replace(mark, "")
    return text
