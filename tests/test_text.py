"""What files and models say is text wherever it is shown: on a terminal, in Markdown, in a spreadsheet."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from trajkit.tables import Table
from trajkit.tables.render import markdown
from trajkit.text import clean, code, escaped, for_spreadsheet, inert

HOSTILE = (
    "[click](javascript:alert(1))",
    "![see](https://evil.example/x.png)",
    "<https://evil.example>",
    "<b>bold</b>",
    "<img src=x onerror=alert(1)>",
    "**bold**",
    "`code`",
    "a | b",
    "[a]: https://evil.example",
    "&lt;b&gt;",
    "https://evil.example/x",
    "www.evil.example",
    "someone@evil.example",
    "\\[a](b)",
    "$x$",
    "~~gone~~",
    "_a_",
    "mailto:someone@evil.example",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_in_markdown_a_text_is_itself(text):
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    kinds = {
        child.type
        for source in (f"x {escaped(text)}\n", markdown(Table(pd.DataFrame({"a": [text]}))))
        for token in parser.parse(source)
        for child in [token, *(token.children or [])]
    }
    assert not kinds & {
        "link_open",
        "image",
        "html_inline",
        "html_block",
        "code_inline",
        "em_open",
        "strong_open",
        "s_open",
    }
    shown = "".join(child.content for child in parser.parse(f"x {escaped(text)}")[1].children or [])
    assert shown == f"x {text}"


@pytest.mark.parametrize("text", ["a `b` ``c``", "`", "plain"])
def test_a_command_stays_in_its_code_span(text):
    spans = MarkdownIt().parse(f"Run {code(text)}.")[1].children or []
    assert [child.content for child in spans if child.type == "code_inline"] == [text]


FORMULAS = ("=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "\uff1d1", "\n=1")


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_runs_no_text(text):
    read = pd.read_csv(io.StringIO(for_spreadsheet(pd.DataFrame({text: [text]}))), lineterminator="\n")
    assert read.columns[0].startswith("'")
    assert str(read.iloc[0, 0]).startswith("'")


def test_a_spreadsheet_keeps_numbers_and_harmless_text():
    frame = pd.DataFrame({"n": [-1.5, 2.0], "signed": ["-0.12", "+3"], "text": ["a=b", "–"], "none": [None, "x"]})
    again = pd.read_csv(io.StringIO(for_spreadsheet(frame)))
    assert again["n"].tolist() == [-1.5, 2.0]
    assert again["signed"].tolist() == [-0.12, 3]
    assert again["text"].tolist() == ["a=b", "–"]


def test_control_characters_go_and_lines_stay():
    nasty = "a\x1b]52;c;aGk=\x07b\x1b[2Jc\x9b31md\re\x00f\u202eg\nh\x85i\x7f\ud800"
    assert inert(nasty) == "abcdefg\nhi"
    assert clean("a\nb\r\nc\u2028d") == "a b c d"
