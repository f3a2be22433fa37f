"""An image is given as what is at hand: a path, bytes, an open picture, an array; or several of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import trajkit as tk
from trajkit.errors import InputError
from trajkit.vlm.canvas import opened, opened_all

PATH = Path(__file__).parents[2] / "data" / "demo" / "example.png"
PIXELS = np.asarray(Image.open(PATH).convert("RGB"))
KINDS = {
    "path": PATH,
    "text": str(PATH),
    "bytes": PATH.read_bytes(),
    "open": Image.open(PATH),
    "uint8": PIXELS,
    "float32": (PIXELS / 255).astype(np.float32),
    "float64, not contiguous": np.asfortranarray(PIXELS / 255),
}


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_are_the_same_picture(kind):
    image = opened(KINDS[kind])
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), PIXELS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_and_regions_are_made_of_any_kind(demo_vlm, kind):
    prompt = demo_vlm.prepare(KINDS[kind], "sort row 2 up.")
    expected = demo_vlm.prepare(KINDS["open"], "sort row 2 up.")
    assert torch.equal(prompt.inputs["pixel_values"], expected.inputs["pixel_values"])
    labels = tk.segment(KINDS[kind], vlm=demo_vlm).labels
    np.testing.assert_array_equal(labels, tk.segment(KINDS["open"], vlm=demo_vlm).labels)


def test_several_are_given_in_a_list_of_any_kinds(demo_vlm):
    assert len(opened_all([PATH, PIXELS, KINDS["bytes"]])) == 3
    assert len(opened_all(PATH)) == 1
    assert len(demo_vlm.prepare((str(PATH), PIXELS), "what changed?").canvas.images) == 2


def test_stream_trace_watch_and_follow_take_them(demo_vlm, demo_estimator):
    question, options, greedy = (
        "sort row 2 up.",
        {"estimator": demo_estimator},
        {"temperature": 0, "max_new_tokens": 60},
    )
    first = tk.trace(demo_vlm, PATH, question, **greedy, **options)
    again = tk.trace(demo_vlm, PIXELS / 255, question, **greedy, **options)
    np.testing.assert_array_equal(first.effects, again.effects)
    assert first.image == again.image
    with tk.watch(demo_vlm.model, demo_vlm.processor, str(PATH), question, **options) as run:
        demo_vlm.model.generate(**run.inputs, **run.kwargs, do_sample=False, max_new_tokens=60)
    np.testing.assert_allclose(run.trace().effects, first.effects, atol=1e-4)
    running = tk.stream(demo_vlm, KINDS["bytes"], question, **greedy, **options)
    steps = list(running)
    followed = list(tk.follow(demo_vlm, PATH, question, [running.tokens], **options))
    assert [step.text for step in steps] == [step.text for step in followed]


def test_prompts_side_by_side_are_lists(demo_vlm, demo_estimator):
    asked = ["sort row 2 up.", "sort row 1 down."]
    watch = tk.watch(demo_vlm.model, demo_vlm.processor, [PATH, PIXELS], asked, estimator=demo_estimator)
    assert watch.inputs["input_ids"].shape[0] == 2
    with pytest.raises(InputError, match="several prompts are given in a list"):
        tk.watch(demo_vlm.model, demo_vlm.processor, PATH, asked, estimator=demo_estimator)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nope.png", r"nope\.png does not exist; expected an image file"),
        (Path("nope.png"), r"nope\.png does not exist"),
        (b"no picture", "not an image that can be opened"),
        ("https://example.org/a.png", "nothing is fetched; download the image"),
        ("data:image/png;base64,AAAA", "nothing is fetched"),
        ("clip.mp4", "video is not supported"),
        (np.zeros((4, 64, 64, 3), np.uint8), "Several images are given in a list; video is not supported"),
        (np.zeros((64, 64), np.uint8), r"must be \(height, width, 3\); got shape \(64, 64\)"),
        (np.zeros((3, 64, 64), np.uint8), r"got shape \(3, 64, 64\)"),
        (np.full((64, 64, 3), 255.0), "floats must hold 0 to 1; got 255 to 255. Divide"),
        (np.full((64, 64, 3), np.nan), "floats must hold 0 to 1"),
        (np.zeros((64, 64, 3), np.int64), "of uint8, or of floats in .0, 1.; got int64"),
        (np.zeros((8, 64, 3), np.uint8), "at least 16 pixels a side"),
        (np.broadcast_to(np.uint8(0), (20_000, 20_000, 3)), "at most 40 million pixels"),
        (Image.new("1", (8000, 8000)), "at most 40 million pixels"),
        (torch.zeros(3, 64, 64), r"got Tensor\. Of a tensor \(3, H, W\) take"),
        (3, "expected an image, or several in a list"),
        ([PATH, 3], "expected an image"),
    ],
)
def test_what_is_no_image_is_told(given, said):
    with pytest.raises(InputError, match=said):
        opened_all(given)
