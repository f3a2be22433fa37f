"""A chat of several turns and images makes a prompt as one question does; what cannot be asked is named."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.demo.model import ARCHITECTURES
from trajkit.errors import InputError
from trajkit.vlm.load import load_vlm
from trajkit.vlm.messages import Chat

PICTURE = Image.new("RGB", (64, 64), "red")


def image(picture=PICTURE):
    return {"type": "image", "image": picture}


def text(words):
    return {"type": "text", "text": words}


def user(*parts):
    return {"role": "user", "content": list(parts)}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_chat_is_what_the_chat_template_makes_of_it_with_all_image_tokens_in_order(
    random_vlm, scene_image, architecture
):
    vlm = random_vlm(architecture)
    wide = scene_image.resize((128, 64))
    messages = [
        {"role": "system", "content": "read carefully."},
        user(image(scene_image), text("sort row 1 down.")),
        {"role": "assistant", "content": "red 7"},
        user(text("and row 2"), image(wide), text("of this one?")),
    ]
    prompt = vlm.prepare_chat(messages)
    expected = vlm.processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    for name, value in expected.items():
        assert torch.equal(prompt.inputs[name], value), name
    assert prompt.canvas.images[1].size == wide.size
    assert len(prompt.image_tokens) == sum(rows * cols for rows, cols in prompt.grids)
    assert prompt.question == "and row 2\nof this one?"
    assert json.loads(json.dumps(prompt.chat))[3]["content"][1] == {"type": "image", "image": 1}
    assert prompt.asked != prompt.question


def test_a_chat_of_one_question_is_that_question(demo_vlm, scene_image):
    asked = demo_vlm.prepare([scene_image, PICTURE], "sort row 1 down.")
    chat = demo_vlm.prepare_chat([user(image(scene_image), image(), text("sort row 1 down."))])
    assert torch.equal(asked.inputs["input_ids"], chat.inputs["input_ids"])
    assert chat.chat is None
    assert chat.asked == asked.asked == "sort row 1 down."


def test_a_system_prompt_of_the_chat_takes_the_place_of_the_models(demo_vlm, scene_image, monkeypatch):
    monkeypatch.setitem(demo_vlm.__dict__, "system", "row 1.")
    plain = demo_vlm.prepare(scene_image, "sort row 2 down.")
    own = demo_vlm.prepare_chat(
        [{"role": "system", "content": [text("row 3.")]}, user(image(scene_image), text("sort row 2 down."))]
    )
    words = [demo_vlm.tokenizer.decode(prompt.inputs["input_ids"][0]) for prompt in (plain, own)]
    assert "system row 1" in words[0].replace("<unk>", "system")
    assert "row 3" in words[1]
    assert "row 1" not in words[1]


def test_the_thinking_of_an_earlier_answer_is_handed_to_the_template(random_vlm):
    vlm = load_vlm(random_vlm().name)
    vlm.processor.chat_template = vlm.processor.chat_template.replace(
        "{%- if message.content is string %}", "{{ message.reasoning_content }}{%- if message.content is string %}"
    )
    turns = [user(image(), text("sort row 1 down.")), {"role": "assistant", "content": "7"}, user(text("why?"))]
    without = vlm.prepare_chat(turns)
    for key in ("reasoning", "reasoning_content"):
        turns[1] = {"role": "assistant", "content": "7", key: "row 1 col 1 is red 7.", "tool_calls": None}
        prompt = vlm.prepare_chat(turns)
        assert prompt.length > without.length
        assert prompt.chat[1]["reasoning_content"] == "row 1 col 1 is red 7."


ASKED = user(image(), text("sort row 1 down."))
REFUSED = [
    ([], "messages must be a list of turns, each with a role and content; got an empty one"),
    (ASKED, "messages must be a list of turns, each with a role and content; got dict"),
    ("sort row 1 down.", "messages must be a list of turns"),
    (["sort row 1 down."], "turn 1 must be a mapping"),
    ([{"role": "tool", "content": "x"}], "turn 1: role must be one of system, user, assistant; got 'tool'"),
    ([ASKED | {"name": "a"}], "turn 1: a turn has a role and content; take out 'name'"),
    ([ASKED, {"role": "user", "content": 3}], "turn 2: content must be text or a list of parts; got int"),
    ([ASKED, {"role": "assistant", "content": " "}], "turn 2 is empty"),
    ([user(image(), {"type": "video", "video": "a.mp4"})], "turn 1, part 2 must be of type text or image"),
    ([user(image(), {"text": "x"})], "turn 1, part 2 must be of type text or image"),
    ([user({"type": "image", "url": "https://example.org/a.png"}, text("x"))], "turn 1, part 1: nothing is fetched"),
    ([user({"type": "image", "image": "a.png"}, text("x"))], "turn 1, part 1: nothing is fetched"),
    ([user({"type": "image_url", "image_url": {"url": "data:image/png;base64,"}})], "nothing is fetched"),
    ([user(image(3), text("x"))], "expected an image"),
    ([user(image(np.zeros((8, 8, 3), np.uint8)), text("x"))], "must be at least 16 pixels a side"),
    ([user(image(Image.new("RGB", (4000, 16))), text("x"))], "sides must differ by less than 200 times"),
    ([ASKED, {"role": "assistant", "content": [image()]}], "an image stands in a turn of the user"),
    ([ASKED, {"role": "system", "content": "x"}], "a system prompt must be the first turn"),
    ([ASKED, {"role": "assistant", "content": "x"}], "the last turn must be the user's"),
    ([user(text("sort row 1 down.")), user(image())], "the last turn asks nothing"),
    ([user(text("sort row 1 down."))], "no image in the messages"),
    ([user(image(), text("a\x00b"))], "turn 1, part 2 must be plain text"),
    ([user(image(), text(None))], "turn 1, part 2 must hold text; got NoneType"),
    ([ASKED, {"role": "assistant", "content": "x", "reasoning": 3}], "turn 2: reasoning must hold text; got int"),
]


@pytest.mark.parametrize(("messages", "named"), REFUSED)
def test_what_cannot_be_asked_is_named_with_its_turn(messages, named):
    with pytest.raises(InputError, match=named):
        Chat.of(messages)


@pytest.mark.parametrize("key", ["content", "reasoning"])
def test_a_placeholder_anywhere_in_a_chat_is_refused(demo_vlm, key):
    said = {"role": "assistant", "content": "7"} | {key: "see <|image_pad|>"}
    with pytest.raises(InputError, match=r"the chat holds <\|image_pad\|>, which stands for an image"):
        demo_vlm.prepare_chat([ASKED, said, user(text("why?"))])


def test_a_chat_longer_than_the_context_is_refused(demo_vlm):
    with pytest.raises(InputError, match="the model's context ends at"):
        demo_vlm.prepare_chat([ASKED, {"role": "assistant", "content": "row " * 1200}, user(text("why?"))])
