"""Pooling attention over regions weighs every image token by the area that it shares with the region."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trajkit.attribution.features import image_weights, pool, token_weights
from trajkit.attribution.regions import segment
from trajkit.errors import InputError


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
    prompt = random_vlm().prepare(images, "read row 1.")
    first, second = (rows * cols for rows, cols in prompt.grids)
    regions = segment(images, "blocks", (8, 8))
    weights = token_weights(regions, prompt)
    assert weights.shape == (first + second, 8)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    assert weights[:first, 4:].max() == 0
    assert weights[first:, :4].max() == 0


def test_sum_pooling_keeps_all_attention_and_mean_pooling_divides_by_area():
    attention = torch.rand(2, 3, 5, 4)  # (L, H, n, N)
    weights = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    total = pool(attention, weights, "sum")
    assert total.shape == (2, 6)
    torch.testing.assert_close(total.sum(0), attention.mean(2).sum(-1).flatten())
    torch.testing.assert_close(pool(attention, weights, "mean")[0], total[0] / 3)


def test_unknown_pooling_is_refused():
    with pytest.raises(InputError, match="'mean' or 'sum'; got 'max'"):
        pool(torch.rand(1, 1, 1, 1), torch.ones(1, 1), "max")  # type: ignore[arg-type]
