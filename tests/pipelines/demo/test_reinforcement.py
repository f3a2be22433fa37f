"""Reinforcement makes what is rewarded likelier, leaves alone what tells nothing, and goes on where it was stopped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import trajkit as tk
from pipelines.demo.reinforcement import TOKENS_AT_ONCE, Lesson, Plan, Reinforcement, together
from pipelines.demo.rollouts import Rollout, roll_out
from pipelines.reinforce_demo_model import fresh
from trajkit.attribution.item import Judgement
from trajkit.demo import paths
from trajkit.demo.items import Mix, demo_items, judge_by_scene
from trajkit.errors import InputError

SMALL = Plan(questions=2, samples=3, passes=2, longest=300, rate=1e-3, warm_up=1)
SMUDGED = Mix(smudged=1.0, damage=(1.0, 1.0))


def judge_all(success):
    return lambda item, sentences, answer: Judgement("success" if success else "failure", success)


def sure(item, sentences, answer):
    """A run that calls nothing unclear is right, whatever else it says."""
    return Judgement("success", answer is not None and not any("unclear" in said for said in sentences))


def walks(n, seed=7):
    """Questions with the shortest runs, about pictures in which much is unclear."""
    return demo_items("train", n, seed, SMUDGED, families=("code",))


def trainer(folder, judge=judge_by_scene, plan=SMALL, questions=None):
    vlm = tk.load_vlm(paths.MODEL)
    return Reinforcement(vlm, questions or (lambda n: walks(plan.questions, n)), judge, folder, plan)


def weights(one):
    return torch.cat([p.detach().flatten().clone() for p in one.model.parameters()])


def test_what_is_rewarded_becomes_likelier(tmp_path):
    plan = replace(SMALL, questions=4, samples=6, kl=0.0, rate=3e-4)
    learner = trainer(tmp_path, sure, plan, lambda n: walks(4))
    learner.run(6, lambda update: None)
    shares = [update.reward for update in learner.updates]
    assert min(shares[-2:]) > shares[0] + 0.15


@pytest.mark.parametrize("success", [True, False, None])
def test_groups_that_agree_change_nothing(tmp_path, success):
    learner = trainer(tmp_path, judge_all(success))
    before = weights(learner)
    learner.run(1, lambda update: None)
    (update,) = learner.updates
    assert (update.reward, update.disagree, update.kl) == (float(success is True), 0.0, None)
    assert torch.equal(before, weights(learner))
    assert "backward" not in update.seconds


def test_a_run_that_has_not_ended_earns_nothing(tmp_path):
    learner = trainer(tmp_path, judge_all(True), replace(SMALL, longest=5))
    learner.run(1, lambda update: None)
    assert learner.updates[0].reward == 0.0
    assert learner.updates[0].length == 5.0


@pytest.fixture(scope="module")
def scored(demo_vlm):
    """Runs of two questions, with advantages of both signs."""
    drawn = roll_out(demo_vlm, list(walks(2)), 2, 80, seed=0)
    return [one for runs in drawn for one in zip(runs, (0.5, -0.5), strict=True)]


@pytest.fixture
def model():
    return tk.load_vlm(paths.MODEL).model.requires_grad_(True)


def gradient(model):
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_the_first_step_follows_the_policy_gradient(demo_vlm, scored, model):
    """Fresh runs: the gradient is that of the sum of each token's log-probability times its run's advantage."""
    lesson = Lesson.of(demo_vlm, demo_vlm.model, scored)
    loss, kl = lesson.loss(model, replace(SMALL, kl=0.0))
    loss.backward()
    found = gradient(model)
    model.zero_grad()
    log_p = lesson.reading.log_probs(model).gather(2, lesson.reading.tokens[..., None])[..., 0]
    advantage = torch.tensor([0.5, -0.5, 0.5, -0.5])[:, None]
    (-(log_p * advantage)[lesson.reading.real].sum()).backward()
    torch.testing.assert_close(found, gradient(model), atol=2e-3, rtol=2e-3)
    assert kl == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("moved", [0.5, -0.5])
@pytest.mark.parametrize("advantage", [0.5, -0.5])
def test_tokens_that_have_moved_far_enough_as_they_should_are_let_go(demo_vlm, scored, model, moved, advantage):
    """moved: how much likelier tokens have become, in nats."""
    lesson = Lesson.of(demo_vlm, demo_vlm.model, [(run, advantage) for run, _ in scored])
    loss, _ = replace(lesson, drawn=lesson.drawn - moved).loss(model, replace(SMALL, kl=0.0))
    loss.backward()
    assert (gradient(model).abs().max() == 0) == (moved == advantage)


def test_divergence_is_that_of_the_whole_distribution_and_holds_the_model_back(demo_vlm, scored, model):
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.05)
    lesson = Lesson.of(demo_vlm, demo_vlm.model, [(run, 0.0) for run, _ in scored])
    loss, kl = lesson.loss(model, replace(SMALL, kl=2.0))
    new, old = (lesson.reading.log_probs(m).detach() for m in (model, demo_vlm.model))
    by_hand = sum(
        float(torch.nn.functional.kl_div(old[b, t], new[b, t], reduction="sum", log_target=True))
        for b, t in lesson.reading.real.nonzero().tolist()
    )
    assert kl == pytest.approx(by_hand, rel=1e-3)
    assert kl > 0.1
    assert float(loss.detach()) == pytest.approx(2.0 * kl, rel=1e-4)  # advantages are 0
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            if p.grad is not None:
                p.sub_(1e-5 * p.grad / gradient(model).norm())
        assert lesson.loss(model, SMALL)[1] < kl


def test_runs_that_are_read_together_are_of_like_length_and_not_too_many():
    lengths = [400, 30, 200, 35, 300, 32, 900, 5000] * 8
    runs = [Rollout(None, None, [0] * n, np.zeros(n), np.zeros(n), True) for n in lengths]
    batches = [[len(run.tokens) for run, _ in some] for some in together([(run, 0.0) for run in runs])]
    assert [n for batch in batches for n in batch] == sorted(lengths)
    assert all(len(batch) == 1 or max(batch) * len(batch) <= TOKENS_AT_ONCE for batch in batches)
    assert sum(max(batch) * len(batch) for batch in batches) < 1.2 * sum(lengths)


def test_an_interrupted_run_equals_an_uninterrupted_one(tmp_path):
    plan = replace(SMALL, samples=2)
    whole = trainer(tmp_path / "whole", sure, plan)
    whole.run(3, lambda update: None)

    class Killed(Exception):
        pass

    def kill(update):
        if update.number == 2:
            raise Killed

    with pytest.raises(Killed):
        trainer(tmp_path / "cut", sure, plan).run(3, kill, save_every=1)
    again = trainer(tmp_path / "cut", sure, plan)
    assert again.resume()
    assert [update.number for update in again.updates] == [1]
    again.run(3, lambda update: None)
    torch.testing.assert_close(weights(again), weights(whole), atol=1e-6, rtol=1e-5)
    told = [[replace(u, seconds={}) for u in one.updates] for one in (again, whole)]
    assert told[0] == told[1]
    assert len((tmp_path / "cut" / "updates.jsonl").read_text().splitlines()) == 3


def test_another_seed_draws_other_runs_of_the_same_questions(tmp_path):
    """A judge that finds all alike leaves the weights as they are."""

    def lengths(seed):
        learner = trainer(tmp_path, judge_all(False), replace(SMALL, seed=seed), lambda n: walks(2))
        learner.run(2, lambda update: None)
        return [update.length for update in learner.updates]

    assert lengths(0) == lengths(0)
    assert len({*lengths(0), *lengths(1)}) == 4


def test_a_state_of_another_plan_is_not_resumed(tmp_path):
    trainer(tmp_path).save()
    with pytest.raises(ValueError, match="another seed"):
        trainer(tmp_path, plan=replace(SMALL, seed=1)).resume()


def test_a_question_has_two_runs_or_more(tmp_path):
    with pytest.raises(InputError, match="samples must be 2 or more"):
        trainer(tmp_path, plan=replace(SMALL, samples=1))


def test_questions_are_fresh_in_each_update_and_of_all_families_alike():
    drawn = [item for update in range(5) for item in fresh(update, 4, seed=0)]
    assert len({item.id for item in drawn}) == 20
    families = [item.task_set for item in drawn]
    assert {families.count(name) for name in families} == {4}
    assert [item.id for item in fresh(2, 4, seed=0)] == [item.id for item in drawn[8:12]]
    assert not {item.id for item in drawn} & {item.id for item in fresh(0, 4, seed=1)}
    assert {item.meta["digits"] for item in drawn} == {"train"}
