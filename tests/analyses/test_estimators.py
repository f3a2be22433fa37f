"""What the comparison of estimators shows them is what the library's own features are made of."""

from __future__ import annotations

import numpy as np
import pytest

from analyses.estimators import attention_to_tokens, influence
from trajkit.attribution.features import token_weights
from trajkit.attribution.item import Item
from trajkit.attribution.measure import generations
from trajkit.attribution.replay import replay
from trajkit.vlm.generation import Sampling


@pytest.fixture(scope="module")
def run(demo_vlm, scene_image):
    return next(generations(demo_vlm, [Item("a", scene_image, "read row 2.", "g")], Sampling(0), "vision"))


def test_attention_to_tokens_summed_over_regions_is_the_direct_part_of_the_features(demo_vlm, run):
    features = replay(demo_vlm, run.prompt, run.tokens, run.spans, run.regions, "sum").features
    attention, norms = attention_to_tokens(demo_vlm, run)
    pooled = (attention @ token_weights(run.regions, run.prompt)).swapaxes(1, 2)
    np.testing.assert_allclose(pooled, features[..., : demo_vlm.n_features], atol=1e-5)
    assert norms.shape == attention.shape[1:]
    assert (norms > 0).all()


def test_hiding_a_region_moves_its_own_tokens_most(demo_vlm, run):
    moved = influence(demo_vlm, run)
    own = token_weights(run.regions, run.prompt).astype(bool)
    seen = moved.max(0) > 0.2  # empty regions look like their fill
    assert seen.any()
    assert (moved * own).max(0)[seen].mean() > 2 * (moved * ~own).max(0)[seen].mean()
