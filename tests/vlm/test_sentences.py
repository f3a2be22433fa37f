"""A generation is cut into sentences and an answer, alike whether tokens come one by one or all at once."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajkit.sentence_ends import FINAL, NOT_FINAL, ends_sentence, shortened
from trajkit.vlm.sentences import Span, StepSplitter

OPEN, CLOSE = 0, 1


def cut(*pieces: str, opened: bool = False) -> list[tuple[str, str]]:
    """Steps of a generation whose tokens decode to `pieces`; "</think>" and "<think>" are the tags."""
    texts: dict[int, str] = {OPEN: "", CLOSE: ""}
    tokens = []
    for piece in pieces:
        if piece in ("<think>", "</think>"):
            tokens.append(OPEN if piece == "<think>" else CLOSE)
        else:
            tokens.append(len(texts))
            texts[len(texts)] = piece
    splitter = StepSplitter(lambda ids: "".join(texts[i] for i in ids), OPEN, CLOSE)
    spans = [span for token in tokens if (span := splitter.push(token))]
    last = splitter.finish()
    return [(splitter.text(s), s.kind) for s in [*spans, *([last] if last else [])]]


def test_a_sentence_ends_where_white_space_follows_a_final_mark():
    assert cut("A", " cat", ".", " It", " sits", "!", "</think>", "yes") == [
        ("A cat.", "thinking"),
        ("It sits!", "thinking"),
        ("yes", "answer"),
    ]


def test_a_decimal_point_does_not_end_a_sentence():
    assert cut("It", " is", " 3", ".", "14", " m", ".", "</think>") == [("It is 3.14 m.", "thinking")]


@pytest.mark.parametrize("text", ["e.g.", "Fig.", "1.", "Dr.", "cf."])
def test_abbreviations_and_list_numbers_do_not_end_a_sentence(text):
    assert cut(text, " this", " one", ".", "</think>") == [(f"{text} this one.", "thinking")]


def test_a_line_break_ends_a_sentence():
    assert [t for t, _ in cut("First", " line", "\n", "Second", " line", "</think>")] == ["First line", "Second line"]


def test_an_opening_tag_in_the_output_belongs_to_no_step():
    assert cut("<think>", "Look", ".", "</think>", "no") == [("Look.", "thinking"), ("no", "answer")]


def test_tags_may_be_ordinary_text_over_several_tokens():
    pieces = [
        "<",
        "think",
        ">",
        "\n",
        "Look",
        ".",
        " It",
        " is",
        " red",
        ".\n",
        "</",
        "think",
        ">\n\n",
        "<answer>",
        "red",
        "</answer>",
    ]
    splitter = StepSplitter(lambda ids: "".join(pieces[i] for i in ids), None, None, ("<answer>", "</answer>"))
    spans = [span for token in range(len(pieces)) if (span := splitter.push(token))]
    spans.append(splitter.finish())
    assert [(splitter.text(s), s.kind) for s in spans] == [
        ("Look.", "thinking"),
        ("It is red.", "thinking"),
        ("red", "answer"),
    ]
    assert splitter.closed


def test_text_tags_in_the_middle_of_a_line_end_the_step_before_them():
    pieces = ["Look", ".", "</", "think", ">", "yes"]
    splitter = StepSplitter(lambda ids: "".join(pieces[i] for i in ids), None, None)
    spans = [span for token in range(len(pieces)) if (span := splitter.push(token))]
    assert [(s.start, s.end) for s in [*spans, splitter.finish()]] == [(0, 2), (5, 6)]


def test_a_thinking_span_that_never_closes_is_all_thinking():
    assert cut("Look", ".", " Hmm") == [("Look.", "thinking"), ("Hmm", "thinking")]


def test_an_empty_thinking_span_gives_the_answer_alone():
    assert cut("</think>", "yes") == [("yes", "answer")]


def test_the_answer_is_one_step_however_many_sentences_it_has():
    assert cut("Ok", ".", "</think>", "Yes", ".", " It", " is", ".")[1:] == [("Yes. It is.", "answer")]


def test_every_token_of_the_span_belongs_to_exactly_one_step(demo_vlm):
    from trajkit.vlm.sentences import split_steps

    text = "row 1 col 2 is red 7. wait, row 1 col 2 is red 1. </think> red 1"
    tokens = demo_vlm.tokenizer(text).input_ids
    spans, texts, closed = split_steps(tokens, demo_vlm)
    assert closed
    assert texts == ["row 1 col 2 is red 7.", "wait, row 1 col 2 is red 1.", "red 1"]
    covered = [i for s in spans for i in range(s.start, s.end)]
    assert covered == [i for i, t in enumerate(tokens) if t != demo_vlm.think_end]


class WholeText:
    """The rule written down plainly: the step's whole text is decoded again with every token."""

    def __init__(self, decode, think_start, think_end):
        self.decode, self.think_start, self.think_end = decode, think_start, think_end
        self.tokens, self.start, self.text, self.kind = [], 0, "", "thinking"

    def push(self, token):
        at = len(self.tokens)
        self.tokens.append(token)
        if self.kind == "answer":
            return None
        if token == self.think_end:
            return self.close(at, at + 1, "answer")
        if token == self.think_start and not self.text.strip():
            self.start, self.text = at + 1, ""
            return None
        longer = self.decode(self.tokens[self.start :])
        if self.think_end is None and "</think>" in longer:
            end = self.start
            while len(self.decode(self.tokens[self.start : end + 1])) <= longer.index("</think>"):
                end += 1
            return self.close(end, at + 1, "answer")
        if self.think_start is None and longer.strip() == "<think>":
            self.start, self.text = at + 1, ""
            return None
        breaks = longer[len(self.text) :][:1].isspace() and ends_sentence(self.text.rstrip())
        if breaks or (self.text.endswith("\n") and self.text.strip()):
            done = self.close(at, at, "thinking")
            self.text = self.decode(self.tokens[at:])
            return done
        self.text = longer
        return None

    def finish(self):
        return self.close(len(self.tokens), len(self.tokens), self.kind)

    def close(self, end, start, kind):
        text = self.decode(self.tokens[self.start : end])
        span = Span(self.start, end, self.kind) if text.strip() else None
        self.start, self.text, self.kind = start, "", kind
        return span


def pieces_of_bytes(tokens):
    """As byte-level BPE decodes: characters may be cut between tokens."""
    return lambda ids: b"".join(tokens[i] for i in ids).decode(errors="replace")


def pieces_of_words(tokens):
    """As SentencePiece decodes: a mark for a space, and none in front."""
    return lambda ids: "".join(tokens[i] for i in ids).replace("▁", " ").removeprefix(" ")


def words_with_spaces(tokens):
    """As WordPiece decodes: spaces between words, some of which are cleaned up."""
    return lambda ids: re.sub(r" ([.,!?)])", r"\1", " ".join(tokens[i] for i in ids if tokens[i]))


_TEXTS = [
    "a",
    "B",
    " the",
    " cat",
    "12",
    " 3",
    ".",
    "!",
    "。",
    "…",
    ")",
    '"',
    "”",
    " ",
    "  ",
    "\n",
    "\u3000",
    "e.g",
    "Dr",
    " Prof",
    "approx",
    "<",
    "think",
    ">",
    "</",
    "</think>",
    "<think>",
    "é",
    "猫",
    "",
    " Z",
    "x" * 40,
]
_EMOJI = ["👩‍🚀".encode()[i : i + 1] for i in range(11)] + [b"\xe7", b"\x8c\xab", b"\xff"]
_DECODERS = [
    (pieces_of_bytes, [t.encode() for t in _TEXTS] + _EMOJI),
    (pieces_of_words, [t.replace(" ", "▁") for t in _TEXTS]),
    (words_with_spaces, [t.strip(" ") for t in _TEXTS]),
]


def both(decode, tokens, think_start, think_end):
    found = []
    for splitter in (StepSplitter(decode, think_start, think_end), WholeText(decode, think_start, think_end)):
        spans = [splitter.push(token) for token in tokens]
        found.append(([*spans, splitter.finish()], splitter._kind if hasattr(splitter, "_kind") else splitter.kind))
    return found


@pytest.mark.parametrize("kind", _DECODERS, ids=lambda kind: kind[0].__name__)
@settings(deadline=None, max_examples=60, derandomize=True)
@given(seed=st.integers(0, 2**32), few=st.integers(1, 8), tags=st.booleans())
def test_it_cuts_as_if_the_whole_text_were_decoded_with_every_token(kind, seed, few, tags):
    make, vocabulary = kind
    draw = random.Random(seed)
    words = draw.sample(range(len(vocabulary)), few)  # of few words, so that steps are long
    tokens = [draw.choice(words) if draw.random() < 0.98 else draw.randrange(len(vocabulary)) for _ in range(150)]
    of_tag = (_TEXTS.index("<think>"), _TEXTS.index("</think>")) if tags else (None, None)
    ours, plainly = both(make(vocabulary), tokens, *of_tag)
    assert ours == plainly


@pytest.mark.parametrize("kind", _DECODERS, ids=lambda kind: kind[0].__name__)
def test_a_text_tag_is_found_behind_a_long_sentence_whatever_comes_before_it(kind):
    make, vocabulary = kind
    tag = [_TEXTS.index(t) for t in ("</", "think", ">")]
    for n in range(30, 80):
        for filler in ("a", " ", "12", ")", ""):
            tokens = [_TEXTS.index(filler)] * n + tag + [_TEXTS.index("a")] * 3
            ours, plainly = both(make(vocabulary), tokens, None, None)
            assert ours == plainly
            assert ours[1] == "answer" or make is words_with_spaces


@pytest.mark.parametrize("kind", _DECODERS, ids=lambda kind: kind[0].__name__)
def test_tokens_without_text_between_two_words_change_no_cut(kind):
    make, vocabulary = kind
    tokens = [_TEXTS.index("…"), *[_TEXTS.index("")] * 60, _TEXTS.index("”"), _TEXTS.index(" cat")]
    ours, plainly = both(make(vocabulary), tokens, None, None)
    assert ours == plainly


@settings(deadline=None, max_examples=300, derandomize=True)
@given(
    before=st.lists(st.sampled_from([*_TEXTS, "1" * 30, " " * 30, ")" * 30]), max_size=12),
    behind=st.lists(st.sampled_from(_TEXTS), max_size=8),
)
def test_a_shortened_text_ends_sentences_as_the_whole_does(before, behind):
    text, more = "".join(before), "".join(behind)
    short = shortened(text)
    assert len(short) <= len(text)
    assert short[-1:] == text[-1:]
    for rule in (FINAL, NOT_FINAL):
        assert bool(rule.search((short + more).rstrip())) == bool(rule.search((text + more).rstrip()))
    assert bool((short + more).strip()) == bool((text + more).strip())
    assert ((short + more).strip() == "<think>") == ((text + more).strip() == "<think>")


@pytest.mark.parametrize("filler", [" word", "\n", ")", " ", "7", "猫"])
def test_the_work_grows_with_the_number_of_tokens_and_not_with_its_square(filler):
    """Counted and not timed: tokens that are decoded, and characters that are kept."""
    decoded = []

    def decode(ids):
        decoded.append(len(ids))
        return filler * len(ids)

    splitter = StepSplitter(decode, None, None)
    for token in range(16_000):
        assert splitter.push(token) is None
        assert len(splitter._text) < 40 + 40 * len(filler)
    assert sum(decoded) < 60 * 16_000
