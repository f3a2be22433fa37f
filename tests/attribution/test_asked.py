"""What a saved run was asked, as the prompt that it had."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from tests.traces.factory import make_trace
from trajkit.attribution.asked import images_of, prompt_of
from trajkit.errors import InputError
from trajkit.traces.images import to_png
from trajkit.vlm.canvas import Canvas

QUESTION = "how many red in row 1 to row 3?"


@pytest.fixture(scope="module")
def pictures(scene_image):
    return (scene_image, scene_image.resize((64, 96)), scene_image.rotate(90))


def saved(pictures, **meta):
    """A run about pictures, as a file has it."""
    sizes = {"image_sizes": [list(one.size) for one in pictures]} if len(pictures) > 1 else {}
    image = to_png(Canvas(tuple(pictures)).picture)
    return make_trace(question=QUESTION, image=image, image_sha256="", meta=json.loads(json.dumps(sizes | meta)))


def assert_same(prompt, expected):
    assert prompt.inputs.keys() == expected.inputs.keys()
    for name, value in expected.inputs.items():
        assert torch.equal(prompt.inputs[name], value), name


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_question_about_several_images_is_the_prompt_that_it_was(demo_vlm, pictures, n):
    trace = saved(pictures[:n])
    assert [one.tobytes() for one in images_of(trace)] == [one.tobytes() for one in pictures[:n]]
    assert_same(prompt_of(demo_vlm, trace), demo_vlm.prepare(list(pictures[:n]), QUESTION))


def test_a_conversation_has_its_images_where_they_were(demo_vlm, pictures):
    turns = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "look:"}, {"type": "image"}, {"type": "text", "text": "?"}],
        },
        {"role": "assistant", "content": "yes", "reasoning_content": "row 1 col 1 is empty."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]},
    ]
    expected = demo_vlm.prepare_chat(turns, list(pictures[:2]))
    assert_same(prompt_of(demo_vlm, saved(pictures[:2], messages=turns)), expected)
    assert_same(prompt_of(demo_vlm, saved(pictures[:2], messages=expected.chat)), expected)


def test_a_system_prompt_that_the_run_tells_goes_before_the_models_own(demo_vlm, pictures):
    ours = replace(demo_vlm, system="look.")
    theirs = replace(demo_vlm, system="read.")
    told = saved(pictures[:1], system="read.")
    expected = theirs.prepare(pictures[0], QUESTION)
    assert expected.length > demo_vlm.prepare(pictures[0], QUESTION).length
    for vlm in (demo_vlm, ours, theirs):
        assert_same(prompt_of(vlm, told), expected)
    assert_same(prompt_of(theirs, saved(pictures[:1])), expected)
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
    assert_same(prompt_of(ours, saved(pictures[:1], system="read.", messages=turns)), expected)
    for role in ("system", "developer"):
        first = {"role": role, "content": [{"type": "text", "text": "read."}]}
        assert_same(prompt_of(ours, saved(pictures[:1], system="read.", messages=[first, *turns])), expected)


def test_a_run_without_an_image_or_with_sizes_that_are_none_is_refused(demo_vlm, pictures):
    with pytest.raises(InputError, match="no image, which effects are about"):
        prompt_of(demo_vlm, make_trace(image=None, image_sha256=""))
    whole = pictures[0].width
    for sizes in ([[whole, 1]], [[10, 128], [whole - 11, 128]], "wide", [[whole]], [[0, 128], [whole, 128]]):
        trace = saved(pictures[:1], image_sizes=sizes)
        with pytest.raises(InputError, match="image_sizes must be"):
            prompt_of(demo_vlm, trace)
    with pytest.raises(InputError, match="messages must be a list of turns"):
        prompt_of(demo_vlm, saved(pictures[:1], messages=["hello"]))
    with pytest.raises(InputError, match="role must be one of"):
        prompt_of(demo_vlm, saved(pictures[:1], messages=[{"role": "tool", "content": "5"}]))


def test_an_image_is_opened_safely(demo_vlm):
    with pytest.raises(InputError):
        prompt_of(demo_vlm, make_trace(image=b"no image", image_sha256=""))
    small = to_png(Image.new("RGB", (4, 4)))
    with pytest.raises(InputError):
        prompt_of(demo_vlm, make_trace(image=small, image_sha256=""))
