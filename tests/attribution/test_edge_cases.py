"""Runs at the edge: thinking that never closes or is empty, steps of one token, tiny regions, logits that overflowed.

Random-weight models say what they like; a hook makes them say what a test needs.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import trajkit as tk
from trajkit.attribution.ablation import measure_effects, single_region_masks
from trajkit.attribution.collect import collect
from trajkit.attribution.estimator import Binding
from trajkit.attribution.item import Item
from trajkit.attribution.linear import LinearEstimator
from trajkit.attribution.regions import Regions
from trajkit.attribution.replay import replay
from trajkit.errors import InputError
from trajkit.vlm.generation import Sampling
from trajkit.vlm.sentences import Span

QUESTION = "sort row 1 down."


@pytest.fixture
def vlm(random_vlm):
    return random_vlm("qwen3_vl")


@pytest.fixture
def estimator(vlm):
    weights = np.full(vlm.n_features, 1 / vlm.n_features, np.float32)
    return LinearEstimator({"weights": weights}, Binding(vlm.fingerprint, vlm.name, None, "vision", "sum", "mean"))


@pytest.fixture
def script(vlm):
    """Make the model say these tokens and then end."""
    hooks = []

    def say(*words):
        ids = [*(vlm.tokenizer.convert_tokens_to_ids(word) for word in words), vlm.tokenizer.eos_token_id]
        assert vlm.tokenizer.unk_token_id not in ids
        turn = iter(ids)

        def scripted(module, inputs, output):
            if (token := next(turn, None)) is not None:  # a replay comes later, and is left alone
                output.logits[:, -1] = -20.0
                output.logits[:, -1, token] = 20.0

        hooks.append(vlm.model.register_forward_hook(scripted))

    yield say
    for hook in hooks:
        hook.remove()


def steps_of(vlm, image, estimator):
    return list(tk.stream(vlm, image, QUESTION, estimator=estimator, temperature=0, max_new_tokens=12))


def test_an_empty_thinking_span_leaves_the_answer_as_the_only_step(vlm, scene_image, estimator, script):
    script("<think>", "</think>", "7")
    steps = steps_of(vlm, scene_image, estimator)
    assert [(step.kind, step.text.strip()) for step in steps] == [("answer", "7")]
    assert np.isfinite(steps[0].effects).all()


def test_thinking_that_never_closes_is_all_thinking_and_has_no_answer(vlm, scene_image, estimator, script):
    script("<think>", "7", ".", "7")
    trace = tk.trace(vlm, scene_image, QUESTION, estimator=estimator, temperature=0, max_new_tokens=12, target="7")
    assert {step.kind for step in trace.steps} == {"thinking"}
    assert trace.answer == ""
    assert trace.success is False
    assert trace.meta["thinking_closed"] is False


def test_nothing_said_at_all_gives_a_run_without_steps(vlm, scene_image, estimator, script):
    script()
    assert steps_of(vlm, scene_image, estimator) == []


def test_a_step_of_one_token_has_effects_and_measurements(vlm, scene_image):
    prompt = vlm.prepare(scene_image, QUESTION)
    tokens = torch.tensor(vlm.tokenizer.convert_tokens_to_ids(["7", ".", "7"]))
    spans = [Span(i, i + 1, "thinking") for i in range(3)]
    regions = tk.segment(scene_image, vlm=vlm)
    seen = replay(vlm, prompt, tokens, spans, regions, "sum")
    assert seen.features.shape == (3, regions.k, 2 * vlm.n_features + 3)
    assert np.isfinite(seen.features).all()
    assert (seen.features[..., -1] == 1).all()
    measured = measure_effects(vlm, prompt, tokens, spans, regions, single_region_masks(regions.k))
    assert measured.shape == (regions.k, 3)
    assert np.isfinite(measured).all()


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_a_region_smaller_than_a_token_gets_its_share_of_it(vlm, scene_image, pooling):
    labels = np.zeros((192, 192), np.int64)
    labels[:3, :3] = 1
    regions = Regions(labels, 2, "vision")
    prompt = vlm.prepare(scene_image, QUESTION)
    tokens = torch.tensor(vlm.tokenizer.convert_tokens_to_ids(["7", "."]))
    seen = replay(vlm, prompt, tokens, [Span(0, 2, "thinking")], regions, pooling).features[0]
    alone = np.zeros((192, 192), np.int64)
    side = 192 // prompt.grids[0][0]
    alone[:side, :side] = 1
    token = replay(vlm, prompt, tokens, [Span(0, 2, "thinking")], Regions(alone, 2, "vision"), pooling).features[0]
    share = 9 / side**2 if pooling == "sum" else 1.0
    n = vlm.n_features
    np.testing.assert_allclose(seen[1, :n], share * token[1, :n], rtol=1e-4)


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_logits_that_are_not_finite_stop_the_run_with_their_cause(
    vlm, scene_image, estimator, monkeypatch, temperature
):
    weight = vlm.model.lm_head.weight
    monkeypatch.setattr(weight, "data", torch.full_like(weight, float("nan")))
    with pytest.raises(InputError, match="logits hold NaN or infinite values"):
        list(tk.stream(vlm, scene_image, QUESTION, estimator=estimator, temperature=temperature))
    with pytest.raises(InputError, match="logits hold NaN or infinite values"):
        list(collect(vlm, [Item("a", scene_image, QUESTION, "a")], estimator=estimator, sampling=Sampling(temperature)))
