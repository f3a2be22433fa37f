"""Many runs at once are the runs that the library generates one by one, and are read again as they were drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import trajkit as tk
from pipelines.demo.model import ARCHITECTURES
from pipelines.demo.rollouts import Reading, pad_runs, roll_out
from trajkit.attribution.collect import generate_runs
from trajkit.demo import paths
from trajkit.demo.items import demo_items
from trajkit.vlm.generation import Sampling

LONGEST = 300


@pytest.fixture(scope="module")
def items():
    """Questions with the shorter runs."""
    return list(demo_items("test", 4, 3, families=("code", "document")))


@pytest.fixture(scope="module")
def drawn(demo_vlm, items):
    return roll_out(demo_vlm, items, 3, LONGEST, seed=1)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_greedy_runs_are_those_of_the_library(items, architecture):
    vlm = tk.load_vlm(paths.model(architecture))
    theirs = [runs[0] for _, _, runs in generate_runs(vlm, items, 1, Sampling(0.0, max_new_tokens=LONGEST))]
    ours = roll_out(vlm, items, 1, LONGEST, seed=None)
    assert [runs[0].tokens for runs in ours] == theirs
    assert len({len(tokens) for tokens in theirs}) > 2  # so that rows were dropped on the way


def test_a_token_has_the_log_probability_and_entropy_that_the_model_gives_it_alone(demo_vlm, drawn):
    config = demo_vlm.model.config
    for run in (drawn[0][1], drawn[3][2]):
        tokens = torch.tensor(run.tokens)
        prompt = demo_vlm.prepare(run.item.image, run.item.question)
        with torch.inference_mode():
            logits = demo_vlm.model(**prompt.followed_by(tokens)).logits[0, prompt.length - 1 : -1]
            logits[:, [config.image_token_id, config.video_token_id]] = -1e9  # no run may hold them
        log_p = logits.log_softmax(-1)
        np.testing.assert_allclose(run.logprob, log_p[range(len(tokens)), tokens], atol=1e-4)
        np.testing.assert_allclose(run.entropy, -(log_p.exp() * log_p).sum(-1), atol=1e-4)


def test_runs_that_are_read_together_have_the_log_probabilities_they_were_drawn_with(demo_vlm, drawn):
    runs = [run for group in drawn for run in group]
    np.random.default_rng(0).shuffle(runs)
    reading = Reading.lay_out(demo_vlm, runs)
    assert len(reading.prompts.first) == len(drawn)  # each is read once
    assert len({len(run.tokens) for run in runs}) > 2
    assert len({run.item.question for run in runs}) == len(drawn)
    with torch.no_grad():
        read = reading.log_probs(demo_vlm.model).gather(2, reading.tokens[..., None])[..., 0]
    as_drawn = pad_runs([run.logprob for run in runs], read.device, torch.float32)
    torch.testing.assert_close(read[reading.real], as_drawn[reading.real], atol=1e-4, rtol=1e-4)
    assert reading.real.sum(1).tolist() == [len(run.tokens) for run in runs]


def test_draws_follow_the_distribution(demo_vlm, items):
    """The mean surprise of what is drawn is the mean entropy of what it is drawn from."""
    runs = [run for group in roll_out(demo_vlm, items, 16, LONGEST, seed=2) for run in group]
    surprise = np.array([-run.logprob.sum() for run in runs])
    entropy = np.array([run.entropy.sum() for run in runs])
    error = (surprise - entropy).std() / np.sqrt(len(runs))
    assert abs((surprise - entropy).mean()) < 3 * error
    assert error < 0.2 * entropy.mean()


def test_a_seed_gives_the_same_runs_and_another_seed_others(demo_vlm, items, drawn):
    tokens = [[run.tokens for run in group] for group in drawn]
    again = roll_out(demo_vlm, items, 3, LONGEST, seed=1)
    assert [[run.tokens for run in group] for group in again] == tokens
    other = roll_out(demo_vlm, items, 3, LONGEST, seed=2)
    assert [[run.tokens for run in group] for group in other] != tokens


def test_a_run_ends_with_an_end_token_or_is_as_long_as_it_may_be(demo_vlm, items, drawn):
    assert all(run.ended and run.tokens[-1] in demo_vlm.end_tokens for group in drawn for run in group)
    cut = [run for group in roll_out(demo_vlm, items, 2, 4, seed=1) for run in group]
    assert all(not run.ended and len(run.tokens) == 4 for run in cut)


def test_a_token_that_stands_for_an_image_is_never_drawn(random_vlm):
    vlm = random_vlm()
    place = vlm.model.config.image_token_id
    items = list(demo_items("test", 2, seed=3))
    with torch.no_grad():
        lm_head = vlm.model.lm_head.weight
        kept = lm_head[place].clone()
        lm_head[place] = 100 * lm_head.abs().sum(0)  # by far the likeliest, or the least likely
        try:
            runs = [roll_out(vlm, items, 4, 12, seed=s) for s in range(2)]
        finally:
            lm_head[place] = kept
    assert all(place not in run.tokens and np.isfinite(run.entropy).all() for g in runs for two in g for run in two)
