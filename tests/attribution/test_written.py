"""Written generations explained together: as each alone, as `collect` does, and as the stream of a running model."""

from __future__ import annotations

import numpy as np
import pytest

import trajkit as tk
from trajkit.attribution import written
from trajkit.attribution.assemble import settings
from trajkit.attribution.collect import collect
from trajkit.attribution.written import Pictures, Written, explain_written, passes
from trajkit.demo.items import demo_items
from trajkit.errors import InputError
from trajkit.vlm.generation import Sampling

SAMPLING = Sampling(temperature=1.0, max_new_tokens=120, seed=3)


@pytest.fixture(scope="module")
def items():
    return list(demo_items("test", 4, seed=3))


@pytest.fixture(scope="module")
def collected(demo_vlm, demo_estimator, items):
    return list(collect(demo_vlm, items, estimator=demo_estimator, sampling=SAMPLING, samples=2, keep_hidden=True))


@pytest.fixture(scope="module")
def runs(demo_vlm, items, collected):
    asked = {item.id: item for item in items}
    prompts = {item.id: demo_vlm.prepare(item.image, item.question) for item in items}
    return [
        Written(asked[run.task_id], run.task_repeat, run.tokens.tolist(), prompts[run.task_id]) for run in collected
    ]


def explained(vlm, estimator, runs, **options):
    made_by = settings(vlm, estimator, SAMPLING, True)
    return list(explain_written(vlm, runs, estimator=estimator, made_by=made_by, keep_hidden=True, **options))


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_however_many_share_a_pass_the_traces_are_those_of_collect(
    demo_vlm, demo_estimator, collected, runs, batch_size
):
    traces = explained(demo_vlm, demo_estimator, runs, batch_size=batch_size)
    assert [trace.transcript_id for trace in traces] == [trace.transcript_id for trace in collected]
    for trace, expected in zip(traces, collected, strict=True):
        assert [step.text for step in trace.steps] == [step.text for step in expected.steps]
        np.testing.assert_allclose(trace.effects, expected.effects, atol=1e-3)
        np.testing.assert_allclose(trace.hidden, expected.hidden, atol=1e-4)
        np.testing.assert_array_equal(trace.tokens, expected.tokens)
        assert (trace.outcome, trace.answer, dict(trace.meta)) == (
            expected.outcome,
            expected.answer,
            dict(expected.meta),
        )
        assert trace.image == expected.image


def test_effects_are_those_of_the_tap_on_the_running_model(demo_vlm, demo_estimator, items):
    live = tk.stream(demo_vlm, items[1].image, items[1].question, estimator=demo_estimator, temperature=1.0, seed=5)
    steps = list(live)
    run = Written(items[1], 0, live.tokens, demo_vlm.prepare(items[1].image, items[1].question))
    (trace,) = explained(demo_vlm, demo_estimator, [run])
    assert [step.text for step in trace.steps] == [step.text for step in steps]
    np.testing.assert_allclose(trace.effects, np.stack([step.effects for step in steps]), atol=1e-3)
    np.testing.assert_allclose([step.logprob for step in trace.steps], [step.logprob for step in steps], atol=1e-4)


def test_runs_of_one_picture_are_segmented_once(demo_vlm, demo_estimator, items, runs, monkeypatch):
    counted = []
    monkeypatch.setattr(written, "segment", lambda *args, **kw: counted.append(1) or tk.segment(*args, **kw))
    assert len(explained(demo_vlm, demo_estimator, runs, batch_size=2)) == len(runs)
    assert len(counted) == len(items)


def test_pictures_are_told_apart_by_their_pixels_and_the_latest_are_kept(demo_vlm, items, runs, monkeypatch):
    monkeypatch.setattr(written, "_PICTURES", 1)
    pictures = Pictures(demo_vlm, "blocks")
    first = pictures.regions(runs[0].prompt)
    assert pictures.regions(demo_vlm.prepare(items[0].image.copy(), "another?")) is first
    assert pictures.png(runs[-1].prompt) != pictures.png(runs[0].prompt)
    pictures.regions(runs[-1].prompt)
    assert pictures.regions(runs[0].prompt) is not first


def test_facts_of_a_run_stand_in_its_meta_and_one_without_a_step_is_left_out(demo_vlm, demo_estimator, runs):
    told = Written(runs[0].item, 0, runs[0].tokens, runs[0].prompt, {"source": {"format": "test"}})
    ended = [*demo_vlm.end_tokens]
    nothing = Written(runs[1].item, 1, ended, runs[1].prompt)
    (trace,) = explained(demo_vlm, demo_estimator, [nothing, told])
    assert trace.meta["source"] == {"format": "test"}
    assert trace.meta["estimator"] == demo_estimator.digest


def test_a_run_whose_attention_is_not_finite_is_set_aside_and_the_others_are_explained(flawed_model, items):
    from tests.test_aside import estimator_for

    flawed = tk.load_vlm(flawed_model)
    estimator, told = estimator_for(flawed), []
    ids = flawed.tokenizer.encode("row 1 col 1 is empty.")
    questions = ["sort row 2 down.", "what is 18?", "sort row 3 down."]
    runs = [Written(items[n], 0, ids, flawed.prepare(items[n].image, q)) for n, q in enumerate(questions)]
    made_by = settings(flawed, estimator, SAMPLING)
    traces = list(
        explain_written(
            flawed, runs, estimator=estimator, made_by=made_by, set_aside=lambda item, error: told.append((item, error))
        )
    )
    assert [trace.task_id for trace in traces] == [items[0].id, items[2].id]
    assert [item for item, _ in told] == [items[1]]
    with pytest.raises(InputError, match="NaN or infinite"):
        list(explain_written(flawed, runs, estimator=estimator, made_by=made_by))


def test_passes_hold_so_many_runs_and_tokens_as_they_may(runs, monkeypatch):
    assert [len(some) for some in passes(runs, 3)] == [3, 3, 2]
    longest = max(run.prompt.length + len(run.tokens) for run in runs)
    monkeypatch.setattr(written, "ROWS_AT_ONCE", 2 * longest)
    some = list(passes(runs))
    assert [run for group in some for run in group] == runs
    assert all(sum(run.prompt.length + len(run.tokens) for run in group) <= 2 * longest for group in some)
    assert max(map(len, some)) >= 2
    monkeypatch.setattr(written, "ROWS_AT_ONCE", 1)
    assert [len(group) for group in passes(runs)] == [1] * len(runs)
