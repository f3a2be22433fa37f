"""Every architecture goes the whole way: prompt, batches with padding, stream, trace; one image or several."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import trajkit as tk
from pipelines.demo.model import ARCHITECTURES
from trajkit.attribution.ablation import measure_effects, single_region_masks
from trajkit.attribution.collect import collect, generate_runs
from trajkit.attribution.estimator import Binding
from trajkit.attribution.item import Item
from trajkit.attribution.linear import LinearEstimator
from trajkit.errors import InputError
from trajkit.vlm.generation import Sampling
from trajkit.vlm.sentences import split_steps

pytestmark = pytest.mark.parametrize("architecture", ARCHITECTURES)
QUESTIONS = ("sort row 1 down.", "how many red in col 1 to col 3?", "how many blue in row 2 to row 4?")


@pytest.fixture
def vlm(random_vlm, architecture):
    return random_vlm(architecture)


def estimator_for(vlm):
    return LinearEstimator(
        {"weights": np.full(vlm.n_features, 1 / vlm.n_features, np.float32)},
        Binding(vlm.fingerprint, vlm.name, None, "vision", "sum", "mean"),
    )


def test_a_prompt_marks_the_tokens_of_every_image(vlm, scene_image):
    prompt = vlm.prepare([scene_image, scene_image.resize((128, 64))], QUESTIONS[0])
    assert len(prompt.grids) == 2
    assert len(prompt.image_tokens) == sum(r * c for r, c in prompt.grids)
    assert vlm.tokenizer.unk_token_id not in prompt.inputs["input_ids"]
    seen = vlm.image_features(prompt.canvas.images)
    assert [grid for _, grid in seen] == list(prompt.grids)
    assert [len(features) for features, _ in seen] == [r * c for r, c in prompt.grids]


def test_padding_in_a_batch_changes_no_token(vlm, scene_image):
    images = [scene_image, scene_image.resize((128, 64)), [scene_image, scene_image]]
    items = [Item(str(i), image, q, "g") for i, (image, q) in enumerate(zip(images, QUESTIONS, strict=True))]
    together = [runs[0] for _, _, runs in generate_runs(vlm, items, 1, Sampling(0, 16))]
    alone = [next(iter(generate_runs(vlm, [item], 1, Sampling(0, 16))))[2][0] for item in items]
    assert together == alone


def test_a_stream_over_two_images_has_effects_of_the_regions_of_both(vlm, scene_image):
    images = [scene_image, Image.new("RGB", (128, 128), "white")]
    running = tk.stream(vlm, images, QUESTIONS[1], estimator=estimator_for(vlm), seed=0, max_new_tokens=40)
    steps = list(running)
    assert steps
    assert all(step.effects.shape == (running.regions.k,) and (step.effects > 0).all() for step in steps)
    assert 16 <= running.regions.k <= 128


def test_a_collected_run_equals_a_streamed_one(vlm, scene_image):
    estimator, item = estimator_for(vlm), Item("a", scene_image, QUESTIONS[0], "g")
    (saved,) = collect(vlm, [item], estimator=estimator, sampling=Sampling(0, 30))
    live = tk.trace(vlm, scene_image, QUESTIONS[0], estimator=estimator, temperature=0, max_new_tokens=30)
    assert [s.text for s in saved.steps] == [s.text for s in live.steps]
    np.testing.assert_allclose(saved.effects, live.effects, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("ablation", ["mean", "tokens"])
def test_hiding_regions_of_one_image_or_another_changes_what_is_likely(vlm, scene_image, ablation):
    prompt = vlm.prepare([scene_image, scene_image.rotate(90)], QUESTIONS[0])
    tokens = torch.arange(20, 40)
    regions = tk.segment(prompt.canvas.images, "blocks", (8, 8))
    spans, _, _ = split_steps(tokens.tolist(), vlm)
    masks = np.concatenate([np.zeros((1, 8), bool), single_region_masks(8)])
    effects = measure_effects(vlm, prompt, tokens, spans, regions, masks, ablation)
    np.testing.assert_allclose(effects[0], 0, atol=1e-4)
    assert np.abs(effects[1:5]).max() > 1e-4
    assert np.abs(effects[5:]).max() > 1e-4


def test_video_is_refused(vlm):
    with pytest.raises(InputError, match="video is not supported"):
        vlm.prepare(["clip.mp4"], "what happens?")
    with pytest.raises(InputError, match="video is not supported"):
        vlm.prepare(np.zeros((8, 64, 64, 3), np.uint8), "what happens?")


def test_a_prompt_longer_than_the_context_is_refused(vlm, scene_image):
    with pytest.raises(InputError, match="context ends at 1024"):
        vlm.prepare(scene_image, "row " * 1200)
