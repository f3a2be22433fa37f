"""Steps come out of a running generation with the effects that a replay would give; failures reach the caller."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import trajkit as tk
from tests.attribution.conftest import QUESTION
from tests.detection.world import make_frame, make_runs
from trajkit.attribution.collect import collect
from trajkit.attribution.item import Item
from trajkit.attribution.replay import replay
from trajkit.attribution.stream import Stream
from trajkit.detection import EarlyFailurePredictor, Monitor
from trajkit.errors import EstimatorMismatchError, InputError, StreamError
from trajkit.vlm.generation import Sampling
from trajkit.vlm.sentences import split_steps


def test_streamed_effects_equal_those_of_a_replay(demo_vlm, demo_estimator, scene_image):
    running = tk.stream(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, seed=3)
    live = list(running)
    spans, texts, closed = split_steps(running.tokens, demo_vlm)
    assert [s.text for s in live] == texts
    assert closed == running.closed
    tokens = torch.tensor(running.tokens)
    again = replay(demo_vlm, running.prompt, tokens, spans, running.regions, demo_estimator.binding.pooling)
    np.testing.assert_allclose([s.effects for s in live], demo_estimator.predict(again.features), atol=1e-4)
    np.testing.assert_allclose([s.half_width for s in live], demo_estimator.half_width(again.features), atol=1e-4)
    np.testing.assert_allclose([s.logprob for s in live], again.logprob, atol=1e-5)
    np.testing.assert_allclose([s.entropy for s in live], again.entropy, atol=1e-5)


def test_log_probabilities_are_the_models_own_whatever_generation_does_to_them(demo_vlm, demo_estimator, scene_image):
    settings = demo_vlm.model.generation_config
    settings.repetition_penalty = 1.3
    try:
        running = tk.stream(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, seed=3)
        live = list(running)
    finally:
        settings.repetition_penalty = None
    spans, _, _ = split_steps(running.tokens, demo_vlm)
    again = replay(demo_vlm, running.prompt, torch.tensor(running.tokens), spans, running.regions, "sum")
    np.testing.assert_allclose([s.logprob for s in live], again.logprob, atol=1e-5)


def test_a_pass_of_another_thread_is_none_of_a_streams_business(demo_vlm, demo_estimator, scene_image, prompt):
    expected = [s.effects for s in tk.stream(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, seed=3)]
    found = []
    for step in tk.stream(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, seed=3):
        with torch.inference_mode():
            demo_vlm.model(**prompt.inputs)
        found.append(step.effects)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_streaming_generates_what_plain_generation_does(demo_vlm, demo_estimator, prompt, scene_image, generated):
    how = {"temperature": 0, "max_new_tokens": len(generated)}
    running = tk.stream(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, **how)
    list(running)
    assert running.tokens == generated.tolist()


def test_the_first_step_is_there_before_generation_ends(demo_vlm, demo_estimator, scene_image):
    running = tk.stream(demo_vlm, scene_image, "sort row 1 down.", estimator=demo_estimator, temperature=0)
    next(running)
    assert running.tokens == []  # filled in at the end
    assert list(running)
    assert running.tokens


def test_closing_stops_the_generation(demo_vlm, demo_estimator, scene_image):
    running = tk.stream(demo_vlm, scene_image, "sort row 1 down.", estimator=demo_estimator, temperature=0)
    next(running)
    running.close()
    assert not any(t.is_alive() for t in running._run._threads)
    assert demo_vlm.text_config._attn_implementation == "sdpa"


class Broken(tk.LinearEstimator):
    def predict(self, features):
        raise ZeroDivisionError("no such effect")


def test_a_failing_worker_stops_the_run_and_reaches_the_caller(demo_vlm, demo_estimator, scene_image):
    before = set(threading.enumerate())
    broken = Broken({"weights": np.ones(24, np.float32)}, demo_estimator.binding)
    running = tk.stream(demo_vlm, scene_image, QUESTION, estimator=broken, seed=1)
    with pytest.raises(StreamError, match="ZeroDivisionError: no such effect"):
        list(running)
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive(), thread
    assert demo_vlm.text_config._attn_implementation == "sdpa"


class Slow(tk.LinearEstimator):
    def predict(self, features):
        time.sleep(0.3)
        return super().predict(features)


def test_generation_does_not_wait_for_a_slow_worker(demo_vlm, demo_estimator, scene_image):
    slow = Slow({"weights": np.ones(24, np.float32)}, demo_estimator.binding)
    running: Stream = tk.stream(demo_vlm, scene_image, "sort row 1 down.", estimator=slow, temperature=0)
    steps = list(running)
    assert len(steps) >= 4
    assert running.max_backlog >= 2  # steps were handed over while the worker slept
    assert running.lagged
    assert steps[-1].delay > 0.3
    assert running.held_bytes > 0


def test_an_estimator_of_another_model_is_refused(demo_vlm, demo_estimator, scene_image):
    from dataclasses import replace

    other = replace(demo_estimator, binding=replace(demo_estimator.binding, fingerprint="0" * 16))
    with pytest.raises(EstimatorMismatchError):
        tk.stream(demo_vlm, scene_image, QUESTION, estimator=other)


def test_regions_that_the_estimator_was_not_made_for_are_refused(demo_vlm, demo_estimator, scene_image):
    blocks = tk.segment(scene_image, "blocks")
    with pytest.raises(EstimatorMismatchError, match=r"regions of method 'vision' and does not fit.*'blocks'"):
        tk.stream(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, regions=blocks)


def test_greedy_samples_would_be_copies_and_are_refused(demo_vlm, demo_estimator, scene_image):
    items = [Item("a", scene_image, QUESTION, "a")]
    with pytest.raises(InputError, match="3 samples would be copies of one"):
        list(collect(demo_vlm, items, estimator=demo_estimator, samples=3, sampling=Sampling(0)))


def test_a_trace_holds_the_steps_of_the_stream(demo_vlm, demo_estimator, scene_image):
    trace = tk.trace(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, seed=3, target="0")
    live = list(tk.stream(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, seed=3))
    assert [s.text for s in trace.steps] == [s.text for s in live]
    np.testing.assert_array_equal(trace.effects, [s.effects for s in live])
    assert trace.steps[-1].kind == "answer"
    assert trace.answer == trace.steps[-1].text
    assert trace.success == (trace.answer == "0")


def watching(vlm, features="length"):
    """A monitor that alarms at some step of most runs."""
    frame = make_frame(make_runs(40, 2, seed=4))
    predictor = EarlyFailurePredictor(features).fit(frame, frame["outcome"] != "success")
    return replace(Monitor.calibrate(predictor, frame, model=vlm.name, fingerprint=vlm.fingerprint), threshold=0.0)


def test_a_stream_that_has_ended_is_a_trace_with_what_was_said_of_each_step(
    demo_vlm, demo_estimator, scene_image, tmp_path
):
    running = tk.stream(
        demo_vlm,
        scene_image,
        QUESTION,
        estimator=demo_estimator,
        monitor=watching(demo_vlm),
        seed=3,
        task_set="general",
        form="present",
    )
    live = list(running)
    trace = running.trace(target=live[-1].text)
    assert (trace.success, trace.task_set, trace.meta["kind"]) == (True, "general", "present")
    assert [(s.risk, s.alarm) for s in trace.steps] == [(s.verdict.risk, s.verdict.alarm) for s in live]
    assert sum(step.alarm for step in trace.steps) == 1
    np.testing.assert_array_equal(trace.half_widths, [s.half_width for s in live])
    (back,) = tk.read_traces(tk.write_traces([trace], tmp_path / "runs.parquet"))
    assert back.steps == trace.steps
    np.testing.assert_array_equal(back.half_widths, trace.half_widths)
    again = tk.trace(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, monitor=watching(demo_vlm), seed=3)
    assert again.transcript_id == trace.transcript_id
    assert [(s.risk, s.alarm) for s in again.steps] == [(s.verdict.risk, s.verdict.alarm) for s in live]


def test_a_stream_that_is_stopped_is_a_trace_of_what_there_is(demo_vlm, demo_estimator, scene_image):
    running = tk.stream(demo_vlm, scene_image, "sort row 1 down.", estimator=demo_estimator, temperature=0)
    first = next(running)
    trace = running.trace(target="0")
    assert trace.meta["stopped"] is True
    assert (trace.steps[0].text, trace.answer, trace.success) == (first.text, "", False)
    whole = tk.trace(demo_vlm, scene_image, "sort row 1 down.", estimator=demo_estimator, temperature=0)
    assert trace.n_steps < whole.n_steps
    assert "stopped" not in whole.meta
    np.testing.assert_array_equal(trace.effects[0], whole.effects[0])


def test_steps_and_verdicts_are_json(demo_vlm, demo_estimator, scene_image):
    running = tk.stream(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, monitor=watching(demo_vlm), seed=3)
    for step in running:
        said = json.loads(json.dumps(step.to_dict()))
        assert (said["text"], said["risk"], len(said["effects"])) == (step.text, step.verdict.risk, running.regions.k)
    assert json.loads(json.dumps(running.trace().steps[0].to_dict()))["alarm"] is True


def test_a_run_cut_off_while_thinking_has_no_answer(demo_vlm, demo_estimator, scene_image):
    trace = tk.trace(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, seed=3, max_new_tokens=6)
    assert trace.n_steps == 1
    assert trace.answer == ""
    assert trace.meta["thinking_closed"] is False


def test_breaking_out_of_the_loop_stops_the_generation_and_leaves_the_model_fit_for_another(
    demo_vlm, demo_estimator, scene_image
):
    before = threading.active_count()
    for _ in tk.stream(demo_vlm, scene_image, "sort row 1 down.", estimator=demo_estimator, temperature=0):
        break
    until = time.monotonic() + 10  # nobody waits for the threads: the garbage collector must not
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() == before
    assert demo_vlm.text_config._attn_implementation == "sdpa"
    again = [list(tk.stream(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, seed=3)) for _ in range(2)]
    assert [s.text for s in again[0]] == [s.text for s in again[1]]


def test_two_streams_of_one_model_take_turns(demo_vlm, demo_estimator, scene_image):
    def run():
        return tk.stream(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, temperature=0)

    alone = [s.effects for s in run()]
    both = [run(), run()]
    for stream in both:
        np.testing.assert_allclose([s.effects for s in stream], alone, atol=1e-5)


def test_a_run_that_nobody_waits_for_hangs_nothing():
    """In a process of its own: `stream_worker` says what each case is, and which it came past."""
    worker = [sys.executable, "-m", "tests.attribution.stream_worker"]
    ended = subprocess.run(worker, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.stdout.split(), ended.returncode) == (["interrupt", "cycle", "leave"], 0), ended.stderr


@pytest.mark.parametrize("nth", [1, 2])
def test_a_thread_that_cannot_start_leaves_nothing_running(demo_vlm, demo_estimator, scene_image, monkeypatch, nth):
    started = []

    class Refused(threading.Thread):
        def start(self):
            started.append(self)
            if len(started) == nth:
                raise RuntimeError("can't start new thread")
            super().start()

    for module in ("explainer", "stream"):
        monkeypatch.setattr(f"trajkit.attribution.{module}.Thread", Refused)
    before = threading.active_count()
    with pytest.raises(StreamError, match="could not begin: can't start new thread"):
        tk.stream(demo_vlm, scene_image, QUESTION, estimator=demo_estimator)
    assert threading.active_count() == before
    free = []
    other = threading.Thread(target=lambda: free.append(demo_vlm.lock.acquire(timeout=1) and demo_vlm.lock.release()))
    other.start()
    other.join()
    assert free == [None]


def test_a_run_that_waits_for_the_model_can_be_stopped(demo_vlm, demo_estimator, scene_image):
    with demo_vlm.lock:
        waiting = tk.stream(demo_vlm, scene_image, QUESTION, estimator=demo_estimator)
        waiting.close()
        assert list(waiting) == []


def test_the_monitor_is_told_the_family_and_form_of_the_question(demo_vlm, demo_estimator, scene_image):
    world = [replace(run, form="sum") for run in make_runs(40)]
    frame = make_frame(world)
    predictor = EarlyFailurePredictor("uncertainty+task").fit(frame, frame["outcome"] != "success")
    monitor = Monitor.calibrate(predictor, frame, model=demo_vlm.name, fingerprint=demo_vlm.fingerprint)
    known = {"task_set": "math", "form": "sum"}
    steps = list(
        tk.stream(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, monitor=monitor, temperature=0, **known)
    )
    watch = monitor.start(**known)
    assert [step.verdict for step in steps] == [watch.update(step) for step in steps]
    with pytest.warns(UserWarning, match="unknown"):
        watch = monitor.start()
    assert steps[0].verdict.risk != watch.update(steps[0]).risk


def test_a_chat_is_streamed_as_its_turns_are_asked(demo_vlm, demo_estimator, scene_image):
    asked = [
        {
            "role": "user",
            "content": [{"type": "image", "image": scene_image}, {"type": "text", "text": "sort row 1 down."}],
        },
        {"role": "assistant", "content": "6 6 6 6"},
        {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
    ]
    running = tk.stream(demo_vlm, messages=asked, estimator=demo_estimator, temperature=0, max_new_tokens=60)
    live = list(running)
    tokens = torch.tensor(running.tokens)
    spans, _, _ = split_steps(running.tokens, demo_vlm)
    again = replay(demo_vlm, running.prompt, tokens, spans, running.regions, demo_estimator.binding.pooling)
    np.testing.assert_allclose([s.effects for s in live], demo_estimator.predict(again.features), atol=1e-4)
    trace = running.trace()
    assert trace.question == QUESTION
    assert [turn["role"] for turn in trace.meta["messages"]] == ["user", "assistant", "user"]
    with pytest.raises(InputError, match="not both"):
        tk.stream(demo_vlm, scene_image, QUESTION, messages=asked, estimator=demo_estimator)


def test_settings_of_sampling_are_those_of_the_run(demo_vlm, demo_estimator, scene_image):
    given = {"estimator": demo_estimator, "seed": 3, "temperature": 3.0}
    wide = tk.trace(demo_vlm, scene_image, QUESTION, **given)
    narrow = tk.trace(demo_vlm, scene_image, QUESTION, **given, top_p=0.01)
    likeliest = tk.trace(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, temperature=0)
    assert [s.text for s in narrow.steps] == [s.text for s in likeliest.steps] != [s.text for s in wide.steps]
    assert narrow.meta["top_p"] == 0.01
    ended = tk.trace(demo_vlm, scene_image, QUESTION, **given, top_k=1, stop_strings=["blue"])
    assert ended.steps[-1].text.endswith("blue")
    assert "stopped" not in ended.meta
