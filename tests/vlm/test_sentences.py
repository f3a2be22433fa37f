"""A generation is cut into sentences and an answer, alike whether tokens come one by one or all at once."""

from __future__ import annotations

import pytest

from trajkit.vlm.sentences import StepSplitter

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
        ("A cat.", "thinking"), ("It sits!", "thinking"), ("yes", "answer")
    ]  # fmt: skip


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
        ("Look.", "thinking"), ("It is red.", "thinking"), ("red", "answer")
    ]  # fmt: skip
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
