"""Requests are read as OpenAI's clients write them, and refused by name where they ask for what is not served."""

from __future__ import annotations

import json

import pytest

from tests.live.conftest import messages_about
from trajkit.errors import InputError
from trajkit.live.request import parse_request


def parsed(**fields):
    return parse_request(json.dumps({"messages": messages_about("s00-0")} | fields).encode())


def test_a_question_with_a_picture_as_a_data_url():
    asked = parsed(model="any", temperature=0, max_tokens=30, seed=3, stop=["x"], stream=True)
    assert asked.chat.question == "how many times is row 5 more than row 6?"
    assert len(asked.chat.images) == 1
    assert (asked.sampling.temperature, asked.sampling.max_new_tokens, asked.sampling.seed) == (0, 30, 3)
    assert asked.stream
    assert asked.wish.effects == "top"


def test_fields_that_ask_for_nothing_pass_and_others_are_refused_by_name():
    parsed(n=1, frequency_penalty=0, logprobs=False, tools=[], response_format={"type": "text"}, user="me", top_k=-1)
    for name, value in (("n", 2), ("frequency_penalty", 0.5), ("tools", [{"type": "function"}]), ("best_off", 1)):
        with pytest.raises(InputError, match=name):
            parsed(**{name: value})


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"policy": "shout"}, "trajkit.policy must be one of flag, stop"),
        ({"effects": "some"}, "trajkit.effects"),
        ({"alpha": 2}, "trajkit.alpha"),
        ({"polcy": "stop"}, "polcy"),
        ("stop", "must be an object"),
    ],
)
def test_wishes_that_are_none_are_refused(own, said):
    with pytest.raises(InputError, match=said):
        parsed(trajkit=own)


def test_a_wish_that_is_null_is_none():
    assert parsed(trajkit=dict.fromkeys(["policy", "tries", "from", "hint", "alpha", "effects"])).wish == parsed().wish


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://example.org/a.png", "nothing is fetched"),
        ("file:///etc/passwd", "nothing is fetched"),
        ("data:image/png;base64,????", "damaged"),
        ("data:image/png;base64,aGVsbG8=", "image"),
    ],
)
def test_a_picture_that_is_none_is_refused(url, said):
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "what?"}]
    with pytest.raises(InputError, match=said):
        parsed(messages=[{"role": "user", "content": content}])


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b"{}", b"[" * 100_000])
def test_a_body_that_is_no_request_is_refused(body):
    with pytest.raises(InputError):
        parse_request(body)
