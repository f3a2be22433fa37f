"""Measured effects: hiding a region runs the model again, for real."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import trajkit as tk
from trajkit.attribution.ablation import measure_effects, single_region_masks
from trajkit.errors import InputError
from trajkit.vlm.sentences import split_steps


@pytest.fixture(scope="module")
def run(demo_vlm, prompt, generated):
    spans, texts, _ = split_steps(generated.tolist(), demo_vlm)
    return spans, texts, tk.segment(prompt.canvas.images, "blocks", (36, 36))


def measure(vlm, prompt, generated, run, masks, ablation="mean", **kwargs):
    spans, _, regions = run
    return measure_effects(vlm, prompt, generated, spans, regions, masks, ablation, **kwargs)


def test_hiding_nothing_has_no_effect(demo_vlm, prompt, generated, run):
    for ablation in ("mean", "tokens"):
        effects = measure(demo_vlm, prompt, generated, run, np.zeros((1, 36), bool), ablation)
        np.testing.assert_allclose(effects, 0, atol=1e-4)


@pytest.mark.parametrize("ablation", ["mean", "blur", "gray", "tokens"])
def test_a_reading_rests_on_the_cell_that_it_names(demo_vlm, prompt, generated, run, ablation):
    """With the regular 6 × 6 blocks a region is a cell; hiding it must cost the sentence about it the most."""
    _, texts, _ = run
    effects = measure(demo_vlm, prompt, generated, run, single_region_masks(36), ablation)  # (36, T)
    right = []
    for t, text in enumerate(texts):
        words = text.rstrip(".").split()
        if words[0] == "row" and "empty" not in words:
            row, col = int(words[1]), int(words[3])
            right.append(effects[:, t].argmax() == (row - 1) * 6 + col - 1)
    assert right
    assert np.mean(right) >= 0.75


def test_effects_do_not_depend_on_the_batch_size(demo_vlm, prompt, generated, run):
    masks = np.random.default_rng(0).random((7, 36)) < 0.5
    one = measure(demo_vlm, prompt, generated, run, masks, batch_size=1)
    many = measure(demo_vlm, prompt, generated, run, masks, batch_size=5)
    np.testing.assert_allclose(one, many, atol=1e-3)


def test_an_effect_is_the_drop_in_log_probability(demo_vlm, prompt, generated, run):
    """Against two plain forward passes, put together by hand."""
    from PIL import Image

    spans, _, regions = run
    mask = np.zeros((1, 36), bool)
    mask[0, 5] = True
    pixels = np.asarray(prompt.canvas.picture).copy()
    pixels[regions.labels == 5] = pixels.reshape(-1, 3).mean(0).round()
    drop = []
    for image in (prompt.canvas.picture, Image.fromarray(pixels)):
        inputs = demo_vlm.prepare(image, prompt.question).inputs
        ids = torch.cat([inputs["input_ids"], generated[None]], 1)
        kinds = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, len(generated)))
        inputs |= {"input_ids": ids, "mm_token_type_ids": kinds, "attention_mask": torch.ones_like(ids)}
        with torch.inference_mode():
            logp = demo_vlm.model(**inputs).logits[0].log_softmax(-1)
        place = torch.arange(prompt.length - 1, ids.shape[1] - 1)
        chosen = logp[place, generated]
        drop.append([float(chosen[s.start : s.end].sum()) for s in spans])
    expected = np.subtract(drop[0], drop[1])
    np.testing.assert_allclose(measure(demo_vlm, prompt, generated, run, mask)[0], expected, atol=1e-3)


@pytest.mark.parametrize(
    ("masks", "ablation", "message"),
    [
        (np.zeros((1, 3), bool), "mean", r"masks must be \(M, 36\)"),
        (np.zeros((1, 36), bool), "zap", "ablation must be one of"),
    ],
)
def test_bad_arguments_are_refused(demo_vlm, prompt, generated, run, masks, ablation, message):
    with pytest.raises(InputError, match=message):
        measure(demo_vlm, prompt, generated, run, masks, ablation)
