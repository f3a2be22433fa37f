"""Written text is cut into the sentences that its tokens are cut into."""

from __future__ import annotations

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajkit.demo import paths
from trajkit.traces.importers.sentences import sentence_spans, sentences
from trajkit.traces.store import read_traces
from trajkit.vlm.sentences import StepSplitter

WRITTEN = st.lists(
    st.sampled_from(
        [
            *(
                "a",
                "row",
                "7",
                "12",
                ".",
                "!",
                "?",
                "。",
                "…",
                " ",
                "  ",
                "\n",
                "\t",
                '"',
                ")",
                "’",
                "e.g.",
                "Dr.",
                "No",
            ),
            *("X.", "i.e", "approx", "3.14", "x" * 40, "9" * 40, '")' * 20),
        ]
    ),
    max_size=40,
).map("".join)
TOKENS = {
    "characters": r"(?s).",
    "words that begin with their space": r"\n|[^\S\n]*[^\s]+|[^\S\n]+",
    "marks apart": r"\n|[^\S\n]?[^\W]+|[^\S\n]?[^\w\s]|\s",
    "line breaks behind words": r"[^\S\n]*[^\s]+\n?|\n|[^\S\n]+",
}


def cut_by_token(text: str, pattern: str) -> list[str]:
    """The sentences of a thinking span whose tokens are the matches of `pattern`."""
    pieces = re.findall(pattern, text)
    assert "".join(pieces) == text
    splitter = StepSplitter(lambda ids: "".join(pieces[i] for i in ids), -1, -2)
    spans = [span for token in range(len(pieces)) if (span := splitter.push(token))]
    last = splitter.finish()
    return [splitter.text(span) for span in [*spans, *([last] if last else [])]]


@pytest.mark.parametrize("pattern", TOKENS.values(), ids=TOKENS)
@settings(max_examples=300, deadline=None)
@given(text=WRITTEN)
def test_text_is_cut_as_its_tokens_are(pattern, text):
    assert sentences(text) == cut_by_token(text, pattern)


def test_runs_of_the_demo_are_cut_into_their_steps():
    for run in read_traces(paths.TRACES).column("steps"):
        steps = [step["text"] for step in run if step["kind"] == "thinking"]
        assert sentences(" " + " ".join(steps) + " ") == steps


@given(text=WRITTEN)
def test_spans_follow_each_other_and_leave_out_white_space_alone(text):
    spans = sentence_spans(text)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert "".join("".join(text[a:b] for a, b in spans).split()) == "".join(text.split())


LONG = {
    "abbreviations": "e.g. " * 200_000,
    "white space": " " * 1_000_000,
    "brackets": ")" * 300_000 + " ",
    "a number": "9" * 500_000 + ". x. " * 50_000,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_a_long_text_without_an_end_takes_no_time_that_grows_with_its_square(text):
    start = time.perf_counter()
    sentences(text)
    assert time.perf_counter() - start < 10
