"""Told tokens belong to the steps that the same tokens make when they are generated."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajkit.traces.importers.placing import place
from trajkit.traces.importers.run import ToldToken
from trajkit.traces.importers.sentences import sentences
from trajkit.traces.importers.told import entropy_bound, told_tokens
from trajkit.vlm.sentences import StepSplitter

TEXT = st.lists(
    st.sampled_from(["a", "row", "7", "12", ".", "!", " ", " ", "\n", '"', "e.g.", "Dr."]), min_size=1, max_size=30
).map("".join)
PATTERNS = (r"\n|[^\S\n]*[^\s]+|[^\S\n]+", r"\n|[^\S\n]?[^\W]+|[^\S\n]?[^\w\s]|\s")


def told(*texts: str) -> list[ToldToken]:
    return [ToldToken(text, -1.0) for text in texts]


def generated(pieces: list[str]) -> list[tuple[str, int, int]]:
    """(kind, start, end) of the steps of a generation whose tokens are these, tags and end token among them."""
    opening, closing = [i for i, p in enumerate(pieces) if p == "<think>"], pieces.index("</think>")
    shown = ["" if piece in ("<think>", "</think>", "<|im_end|>") else piece for piece in pieces]
    splitter = StepSplitter(lambda ids: "".join(shown[i] for i in ids), opening[0] if opening else -1, closing)
    spans = [span for token in range(len(pieces)) if (span := splitter.push(token))]
    last = splitter.finish(len(pieces) - (pieces[-1] == "<|im_end|>"))
    return [(span.kind, span.start, span.end) for span in [*spans, *([last] if last else [])]]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("tags", [("<think>",), ()], ids=["opened", "opened by the prompt"])
@settings(max_examples=200, deadline=None)
@given(thinking=TEXT, answer=TEXT, ends=st.booleans(), spaced=st.booleans())
def test_tokens_belong_to_the_steps_of_their_generation(pattern, tags, thinking, answer, ends, spaced):
    answer = answer.rstrip()  # white space between an answer and the end token is its own
    pieces = [*tags, *re.findall(pattern, thinking), "</think>", *re.findall(pattern, answer), *["<|im_end|>"] * ends]
    steps = generated(pieces)
    texts = sentences(thinking)
    placed = place(told(*pieces), texts, answer.strip() or None)
    assert placed is not None
    assert placed.whole
    kinds = ["thinking"] * len(texts) + ["answer"] * bool(answer.strip())
    assert [(kind, *own) for kind, own in zip(kinds, placed.ranges, strict=True)] == steps


def test_white_space_that_servers_leave_out_is_not_missed():
    tokens = told("row", "2", ".", "It", "is", ".", "</think>", "4", "empty", "<|im_end|>")
    placed = place(tokens, ["row 2.", "It is."], "4 empty")
    assert placed.ranges == ((0, 3), (3, 6), (7, 9))


def test_tags_may_be_several_tokens_and_share_one_with_the_text():
    placed = place(told("<", "think", ">", "Look", ".</", "think", ">\n", "no"), ["Look."], "no")
    assert placed.ranges == ((3, 5), (7, 8))


def test_tokens_of_the_answer_alone_are_placed_and_count_nothing():
    placed = place(told("4", " em", "pty"), ["Look.", "See."], "4 empty")
    assert placed.ranges == (None, None, (0, 3))
    assert not placed.whole


def test_tokens_of_another_text_are_not_placed():
    assert place(told("another", " text"), ["Look."], "no") is None
    assert place(told("Look"), ["Look."], None) is None


def test_a_run_that_was_cut_is_placed_without_an_answer():
    assert place(told("One", ".", " Tw"), ["One.", "Tw"], None).ranges == ((0, 2), (2, 3))


def test_a_character_of_several_tokens_is_the_last_ones():
    halves = [{"bytes": [0xE2], "logprob": -1}, {"bytes": [0x80, 0xA6], "logprob": -2}]
    entries = [{"token": "?", **half} for half in halves]
    assert [token.text for token in told_tokens(entries)] == ["", "…"]


def test_a_logprob_that_stands_for_none_is_none():
    entries = [{"token": "a", "logprob": -9999.0}, {"token": "b", "logprob": None}, {"token": "c", "logprob": -0.5}]
    assert [token.logprob for token in told_tokens(entries)] == [None, None, -0.5]


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=8), st.integers(1, 7))
def test_the_entropy_of_the_told_is_at_most_that_of_all(weights, n_told):
    shares = sorted((w / sum(weights) for w in weights), reverse=True)
    entropy = -sum(p * math.log(p) for p in shares)
    bound = entropy_bound([math.log(p) for p in shares[:n_told]])
    assert 0 <= bound <= entropy + 1e-9
    if n_told >= len(shares) - 1:
        assert bound == pytest.approx(entropy, abs=1e-6)
