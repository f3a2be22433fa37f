"""Between two tokens: callbacks are told, and what a policy decides is done, at most once in a generation."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import trajkit as tk
from tests.attribution.conftest import QUESTION
from tests.attribution.test_stream import watching
from trajkit.attribution import loop
from trajkit.attribution.loop import Forced
from trajkit.attribution.replay import replay
from trajkit.errors import InputError, StreamError
from trajkit.vlm.sentences import split_steps

ROW = "sort row 1 down."


@pytest.fixture
def ask(demo_vlm, demo_estimator, scene_image):
    """Stream the demo model under a monitor that alarms after the first step."""

    def stream(question=ROW, monitor=None, **options):
        return tk.stream(
            demo_vlm,
            scene_image,
            question,
            monitor=monitor or watching(demo_vlm),
            **{"estimator": demo_estimator, "seed": 3} | options,
        )

    return stream


def text_of(vlm, tokens):
    return vlm.tokenizer.decode(tokens)


def test_callbacks_hear_every_step_in_order_in_the_thread_that_generates(ask):
    heard = []

    def hear(name):
        return lambda step: heard.append((name, step.index, threading.current_thread().name))

    running = ask(on_step=hear("step"), on_alarm=hear("alarm"))
    live = list(running)
    assert [index for name, index, _ in heard if name == "step"] == [step.index for step in live]
    assert [(name, index) for name, index, _ in heard][:2] == [("step", 0), ("alarm", 0)]
    assert [name for name, _, _ in heard].count("alarm") == 1
    assert all("_produce" in thread for _, _, thread in heard)


def test_what_a_callback_raises_comes_out_of_the_iteration(ask, demo_vlm):
    def refuse(step):
        raise LookupError("enough of this")

    running = ask(on_alarm=refuse)
    with pytest.raises(LookupError, match="enough of this"):
        list(running)
    assert running.trace().n_steps >= 1
    assert running.trace().meta["stopped"] is True
    assert demo_vlm.text_config._attn_implementation == "sdpa"


def test_a_callback_that_runs_out_is_an_error_like_others(ask):
    with pytest.raises(StreamError, match="stopped by StopIteration"):
        list(ask(on_step=lambda step: next(iter(()))))


def test_a_callback_cannot_wait_for_another_run_of_its_model(ask):
    other = []

    def wait(step):
        other.append(ask(max_new_tokens=20))
        next(other[0])

    with pytest.raises(InputError, match="Iterate over it when that call has ended"):
        list(ask(on_alarm=wait))
    assert len(list(other[0])) >= 1


def test_a_callback_can_close_its_stream(ask):
    running = ask(on_step=lambda step: running.close())
    assert len(list(running)) <= 2
    assert running.trace().meta["stopped"] is True


def test_stop_ends_the_generation_soon_after_the_alarm(ask):
    whole, running = list(ask()), ask(policy=tk.Policy("stop"))
    live = list(running)
    assert [step.decision.action for step in live if step.decision] == ["stop"]
    assert live[0].decision is running.decisions[0]
    assert len(live) < len(whole)
    trace = running.trace(target="0")
    assert (trace.meta["stopped"], trace.answer, trace.success) == (True, "", False)
    assert trace.meta["decisions"] == [running.decisions[0].to_dict()]


def test_answer_now_closes_the_thinking_at_the_end_of_a_sentence(ask, demo_vlm):
    plain, running = ask(), ask(policy=tk.Policy("answer now"))
    whole, live = list(plain), list(running)
    assert [step.decision.action for step in live if step.decision] == ["answer now"]
    at = running.tokens.index(demo_vlm.think_end)
    assert running.tokens[:at] == plain.tokens[:at]
    assert text_of(demo_vlm, running.tokens[:at]).endswith(".")
    assert at < plain.tokens.index(demo_vlm.think_end)
    assert [step.kind for step in live].count("answer") == 1
    assert [step.text for step in live[:-1]] == [step.text for step in whole[: len(live) - 1]]
    trace = running.trace()
    assert trace.answer == live[-1].text
    assert trace.transcript_id != plain.trace().transcript_id


def test_a_sentence_without_an_end_is_not_waited_for_long(ask, demo_vlm, monkeypatch):
    monkeypatch.setattr(loop, "PATIENCE", 0)
    running = ask(policy=tk.Policy("answer now"))
    list(running)
    at = running.tokens.index(demo_vlm.think_end)
    assert not text_of(demo_vlm, running.tokens[:at]).endswith(".")
    assert running.closed


def test_a_decision_that_comes_in_the_answer_changes_nothing(ask, demo_vlm, demo_estimator, monkeypatch):
    monkeypatch.setattr(loop, "PATIENCE", 0)
    plain = ask()
    list(plain)
    answering = threading.Event()

    class Late(type(demo_estimator)):
        def predict_interval(self, features):
            answering.wait(20)
            return super().predict_interval(features)

    def wait_for_decision(module, args, kwargs):
        if kwargs["input_ids"][0, -1] == demo_vlm.think_end:
            answering.set()
            until = time.monotonic() + 20
            while not running.decisions and time.monotonic() < until:
                time.sleep(0.005)

    hook = demo_vlm.model.register_forward_pre_hook(wait_for_decision, with_kwargs=True)
    try:
        late = Late(demo_estimator.arrays, demo_estimator.binding)
        with demo_vlm.lock:  # it begins when `running` is there
            running = ask(estimator=late, policy=tk.Policy("answer now"))
        live = list(running)
    finally:
        hook.remove()
    assert live[0].decision.action == "answer now"
    assert running.tokens == plain.tokens
    assert "stopped" not in running.trace().meta


def test_enough_closes_the_thinking_too_and_nothing_is_done_twice(ask, demo_vlm):
    silent = replace(watching(demo_vlm), threshold=1.0)
    policy = tk.Policy("stop", enough=replace(watching(demo_vlm), watches="success"))
    running = ask(monitor=silent, policy=policy)
    live = list(running)
    assert [step.decision.action for step in live if step.decision] == ["enough"]
    assert live[-1].kind == "answer"
    both = ask(policy=policy)
    assert [step.decision.action for step in both if step.decision] == ["stop"]


def test_flag_and_the_answer_change_nothing(ask):
    plain, running = ask(), ask(policy=tk.Policy())
    list(plain), list(running)
    assert running.tokens == plain.tokens
    assert [decision.action for decision in running.decisions] == ["flag"]
    assert running.trace().transcript_id == plain.trace().transcript_id


def test_asking_again_draws_another_run(ask):
    running = ask(policy=tk.Policy("ask again", tries=2))
    live = list(running)
    assert [step.attempt for step in live] == sorted(step.attempt for step in live)
    assert {step.attempt for step in live} == {0, 1, 2}
    assert next(step.index for step in live if step.attempt == 2) == 0
    assert [decision.action for decision in running.decisions] == ["ask again", "ask again", "flag"]
    trace = running.trace()
    assert [step.text for step in trace.steps] == [step.text for step in live if step.attempt == 2]
    assert trace.meta["attempt"] == 2
    assert trace.meta["abandoned"] == sum(len(run.tokens) for run in running._run.attempts[:2])
    second = ask(seed=5)
    list(second)
    assert second.tokens == running.tokens  # of the seed two further on


def test_a_hint_is_where_the_thinking_goes_on(ask, demo_vlm):
    running = ask(QUESTION, policy=tk.Policy("ask again", hint="wait, row 2 col 2 is red 6."), temperature=0)
    live = list(running)
    again = [step for step in live if step.attempt == 1]
    assert again[0].text == "wait, row 2 col 2 is red 6."
    assert np.isfinite(again[0].effects).all()
    assert again[-1].kind == "answer"


@pytest.mark.filterwarnings("ignore:the monitor is used beyond its calibration")
def test_asking_again_can_go_on_from_the_last_good_step(ask, demo_vlm, demo_estimator):
    strict = replace(watching(demo_vlm), threshold=0.45)
    given = {"question": QUESTION, "seed": 1, "temperature": 1.3}
    first = list(ask(monitor=replace(strict, threshold=1.0), **given))
    risks = [step.risk for step in first if step.kind == "thinking"]
    at = next(t for t, risk in enumerate(risks) if risk > 0.45)
    kept = min(reversed(range(at)), key=lambda t: risks[t])
    policy = tk.Policy("ask again", start="last good step", hint="wait, row 2 col 2 is red 6.")
    running = ask(monitor=strict, policy=policy, **given)
    live = list(running)
    again = [step for step in live if step.attempt == 1]
    assert [step.index for step in again][:1] == [kept + 1]
    assert again[0].text == policy.hint
    assert again[0].token_start == first[kept].token_end
    trace = running.trace()
    assert [step.text for step in trace.steps[: kept + 1]] == [step.text for step in first[: kept + 1]]
    assert trace.n_steps == kept + 1 + len(again)
    spans, texts, _ = split_steps(running.tokens, demo_vlm)
    assert texts == [step.text for step in trace.steps]
    tokens = torch.tensor(running.tokens)
    seen = replay(demo_vlm, running.prompt, tokens, spans, running.regions, demo_estimator.binding.pooling)
    np.testing.assert_allclose(trace.effects, demo_estimator.predict(seen.features), atol=1e-4)
    np.testing.assert_allclose([s.logprob for s in trace.steps], seen.logprob, atol=1e-5)
    watch = strict.start()
    assert again[0].verdict is None  # words that the model has not chosen
    assert [watch.update(step).risk for step in (*first[: kept + 1], *again[1:])][kept + 1 :] == [
        step.risk for step in again[1:]
    ]


@pytest.mark.filterwarnings("ignore:the monitor is used beyond its calibration")
def test_a_hint_raises_no_alarm_by_itself(ask, demo_vlm):
    """None of its words is of the model's own choice, and so unlikely that each try would end with it."""
    policy = tk.Policy("ask again", tries=3, start="last good step", hint="the 0 is at row 6 col 6.")
    live = list(ask(policy=policy))
    hints = [step for step in live if step.text == policy.hint]
    assert hints
    assert all(step.decision is None and step.verdict is None and not step.alarm for step in hints)
    assert all(step.logprob < -3 for step in hints)
    assert all(live[i + 1].attempt == step.attempt for i, step in enumerate(live) if step in hints)


def test_asking_again_for_the_likeliest_run_would_make_a_copy(ask):
    with pytest.raises(InputError, match="asking again would make a copy"):
        ask(policy=tk.Policy("ask again"), temperature=0)


def test_a_policy_without_a_monitor_is_refused(demo_vlm, demo_estimator, scene_image):
    with pytest.raises(InputError, match="needs a monitor"):
        tk.stream(demo_vlm, scene_image, ROW, estimator=demo_estimator, policy=tk.Policy("stop"))


@pytest.mark.parametrize("action", ["stop", "answer now", "ask again"])
def test_a_policy_does_not_act_on_the_good_news_of_a_monitor_of_success(demo_vlm, demo_estimator, scene_image, action):
    monitor = replace(watching(demo_vlm), watches="success")
    given = {"estimator": demo_estimator, "monitor": monitor}
    with pytest.raises(InputError, match=r"watches for success.*Policy\(enough=…\)"):
        tk.stream(demo_vlm, scene_image, ROW, policy=tk.Policy(action), **given)


def test_a_part_of_the_wrong_kind_is_told_by_name(demo_vlm, demo_estimator, scene_image):
    for wrong, named in (
        (
            {"estimator": "data/demo/estimator"},
            r"estimator must be what EffectEstimator.load\('data/demo/estimator'\) gives; got str",
        ),
        ({"monitor": SimpleNamespace()}, r"monitor must be what load_detectors\(folder\).monitor gives; got Simple"),
        ({"policy": "stop"}, r'policy must be what Policy\("stop"\) gives; got str'),
    ):
        with pytest.raises(InputError, match=named):
            tk.stream(demo_vlm, scene_image, ROW, **{"estimator": demo_estimator} | wrong)
    with pytest.raises(InputError, match=r"seed must be a whole number .*; got '1'"):
        tk.stream(demo_vlm, scene_image, ROW, estimator=demo_estimator, seed="1")


def test_forced_tokens_are_the_only_ones_possible_each_once():
    forced, scores = Forced(), torch.zeros(2, 6)
    assert forced(torch.zeros(2, 1), scores) is scores
    forced.put(1, [4, 2])
    for token in (4, 2):
        seen = forced(torch.zeros(2, 1), scores)
        assert torch.isfinite(seen).sum(1).tolist() == [6, 1]
        assert seen[1].argmax() == token
    assert forced(torch.zeros(2, 1), scores) is scores
    assert (scores == 0).all()
