"""A run as a chat, whatever turns led to it."""

from __future__ import annotations

from typing import Any

import pytest

from trajkit.traces.exporters.said import chat_of, n_tokens

from ..factory import make_trace

PICTURE = {"type": "image", "image": "attachment://0"}


def chat(**meta: Any) -> list[dict[str, Any]]:
    """The prompt of the chat, without ids."""
    made = chat_of(make_trace(0, meta=meta), PICTURE)
    assert made[-1]["role"] == "assistant"
    assert len({turn["id"] for turn in made}) == len(made)
    return [{name: turn[name] for name in ("role", "content")} for turn in made[:-1]]


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def test_a_question_has_its_picture_first_and_the_system_prompt_before_it() -> None:
    asked = {"role": "user", "content": [PICTURE, text("is there a red 7?")]}
    assert chat() == [asked]
    assert chat(system="Think.") == [{"role": "system", "content": "Think."}, asked]


def test_turns_before_are_told_with_their_reasoning_and_the_picture_where_it_stood() -> None:
    turns = [
        {"role": "developer", "content": [text("Think.")]},
        {"role": "user", "content": [text("look"), {"type": "image"}]},
        {"role": "assistant", "content": [text("yes")], "reasoning_content": "a 7."},
        {"role": "function", "content": [{"type": "tool_result"}]},
        {"role": "user", "content": [{"type": "image"}, text("and now?")]},
    ]
    assert chat(messages=turns, system="Think.") == [
        {"role": "system", "content": [text("Think.")]},
        {"role": "user", "content": [text("look"), PICTURE]},
        {"role": "assistant", "content": [{"type": "reasoning", "reasoning": "a 7."}, text("yes")]},
        {"role": "tool", "content": [text("[tool_result]")]},
        {"role": "user", "content": [text("[image]"), text("and now?")]},
    ]


@pytest.mark.parametrize(
    "turns", [3, [], [None, 3], [{}], [{"role": None, "content": {"a": 1}}], [{"content": [None, 3, []]}]]
)
def test_turns_of_any_kind_become_turns(turns: Any) -> None:
    for turn in chat(messages=turns):
        assert turn["role"] == "user"
        assert isinstance(turn["content"], str | list)


def test_words_are_no_tokens_and_what_the_server_counted_is() -> None:
    assert n_tokens(make_trace(0)) == 42
    assert n_tokens(make_trace(0, meta={"counted_in": "words"})) is None
    assert n_tokens(make_trace(0, meta={"counted_in": "words", "completion_tokens": 50})) == 50
