"""Pooling attention over regions weighs every image token by the area that it shares with the region."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trajkit.attribution.features import StepFeatures, image_weights, token_weights
from trajkit.attribution.regions import segment
from trajkit.attribution.replay import replay
from trajkit.attribution.rows import Pass, Rows
from trajkit.errors import InputError
from trajkit.vlm.sentences import split_steps


def test_a_region_that_is_one_token_gets_that_token_alone():
    labels = np.arange(4).reshape(2, 2).repeat(8, 0).repeat(8, 1)
    np.testing.assert_array_equal(image_weights(labels, 4, (2, 2)), np.eye(4))


def test_a_token_on_a_border_is_shared_by_area():
    labels = np.zeros((4, 8), int)
    labels[:, 3:] = 1  # the first of two tokens, 4 pixels wide, lies 3 : 1 in regions 0 and 1
    np.testing.assert_allclose(image_weights(labels, 2, (1, 2)), [[0.75, 0.25], [0, 1]])


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 40), st.integers(3, 40), st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_every_token_is_shared_out_whole_at_any_resolution(height, width, rows, cols, seed):
    labels = np.unique(np.random.default_rng(seed).integers(0, 5, (height, width)), return_inverse=True)[1]
    k = int(labels.max()) + 1
    weights = image_weights(labels.reshape(height, width), k, (rows, cols))
    assert weights.shape == (rows * cols, k)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)


def test_the_tokens_of_several_images_share_in_the_regions_of_their_own_image_alone(random_vlm):
    images = [Image.new("RGB", (160, 128), "red"), Image.new("RGB", (96, 96), "blue")]
    prompt = random_vlm().prepare(images, "sort row 1 down.")
    first, second = (rows * cols for rows, cols in prompt.grids)
    regions = segment(images, "blocks", (8, 8))
    weights = token_weights(regions, prompt)
    assert weights.shape == (first + second, 8)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    assert weights[:first, 4:].max() == 0
    assert weights[first:, :4].max() == 0


def extracted(vlm, prompt, tokens, spans, regions, pooling="sum"):
    return replay(vlm, prompt, tokens, spans, regions, pooling).features


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_features_are_means_of_eager_attention_direct_and_through_the_text(
    demo_vlm, prompt, generated, eager_attention, pooling
):
    """Put together by hand from the full attention matrix."""
    spans, _, _ = split_steps(generated.tolist(), demo_vlm)
    regions = segment(prompt.canvas.images, "blocks", (16, 16))
    attention = eager_attention(demo_vlm, prompt.followed_by(generated))  # (L, H, S, S)
    weights = torch.from_numpy(token_weights(regions, prompt))
    if pooling == "mean":
        weights = weights / weights.sum(0)
    to_regions = attention[..., prompt.image_tokens] @ weights  # (L, H, S, K)
    text = attention.clone()
    text[..., : prompt.first_row] = 0
    through = text @ to_regions.mean((0, 1))
    features = extracted(demo_vlm, prompt, generated, spans, regions, pooling)
    n = demo_vlm.n_features
    assert features.shape == (len(spans), 16, 2 * n + 3)
    for step, span in zip(features, spans, strict=True):
        rows = slice(span.start + prompt.length - 1, span.end + prompt.length - 1)
        np.testing.assert_allclose(step[:, :n], to_regions[:, :, rows].mean(2).flatten(0, 1).T, atol=1e-5)
        np.testing.assert_allclose(step[:, n : 2 * n], through[:, :, rows].mean(2).flatten(0, 1).T, atol=1e-5)
        assert (step[:, -1] == span.end - span.start).all()


def test_rows_taken_a_few_at_a_time_give_the_same_features(demo_vlm, prompt, generated, monkeypatch):
    spans, _, _ = split_steps(generated.tolist(), demo_vlm)
    regions = segment(prompt.canvas.images, "blocks", (16, 16))
    whole = extracted(demo_vlm, prompt, generated, spans, regions)
    for scores in (6 * 150 * 3, 100, 7):
        monkeypatch.setattr("trajkit.attribution.features._SCORES_AT_ONCE", scores)
        np.testing.assert_allclose(extracted(demo_vlm, prompt, generated, spans, regions), whole, atol=1e-6)


def test_features_are_the_same_where_the_kernel_tells_no_log_sum_exp(demo_vlm, prompt, generated, monkeypatch):
    spans, _, _ = split_steps(generated.tolist(), demo_vlm)
    regions = segment(prompt.canvas.images, "blocks", (16, 16))
    whole = extracted(demo_vlm, prompt, generated, spans, regions)
    monkeypatch.setattr("trajkit.attribution.kernels._FUSED", {})
    monkeypatch.setattr("trajkit.attribution.kernels._SCORES_AT_ONCE", 6 * 150 * 3)
    np.testing.assert_allclose(extracted(demo_vlm, prompt, generated, spans, regions), whole, atol=1e-5)


def test_many_words_between_two_images_are_not_read(random_vlm):
    images = [Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")]
    prompt = random_vlm().prepare(images, "sort row 1 down.")
    at, first = prompt.image_tokens, prompt.grids[0][0] * prompt.grids[0][1]
    apart = replace(prompt, image_tokens=torch.cat([at[:first], at[first:] + 500]))
    features = StepFeatures(segment(images, "blocks", (4, 4)), apart, "sum")
    together = StepFeatures(segment(images, "blocks", (4, 4)), prompt, "sum")
    assert len(features._images) == 2
    assert features._weights.sum() == together._weights.sum() == len(prompt.image_tokens)
    assert len(features._weights) <= len(together._weights)


def test_features_of_a_step_do_not_depend_on_what_comes_after(demo_vlm, prompt, generated):
    spans, _, _ = split_steps(generated.tolist(), demo_vlm)
    regions = segment(prompt.canvas.images, "blocks", (16, 16))
    whole = extracted(demo_vlm, prompt, generated, spans, regions)
    first = extracted(demo_vlm, prompt, generated[: spans[1].end], spans[:2], regions)
    np.testing.assert_allclose(whole[:2], first, atol=1e-5)


def test_attention_that_overflowed_is_an_error(demo_vlm, prompt, generated):
    features = StepFeatures(segment(prompt.canvas.images, "blocks"), prompt, "sum")
    n, heads = 4, 6
    nothing = torch.full((1, heads, n, 32), float("nan"))
    rows = Rows((Pass(prompt.first_row, n, [nothing] * 4, [nothing[..., 0]] * 4),), 0, n)
    with pytest.raises(InputError, match="NaN or infinite values"):
        features.push(rows, [torch.zeros(2, prompt.length + n, 32)] * 4, 1.0, 2, [torch.zeros(())] * 3)


def test_unknown_pooling_is_refused(prompt):
    with pytest.raises(InputError, match="'mean' or 'sum'; got 'max'"):
        StepFeatures(segment(prompt.canvas.images, "blocks"), prompt, "max")
