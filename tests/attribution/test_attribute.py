"""Effects for runs that another tool, or another day, has written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import trajkit as tk
from tests.attribution.test_recovered import of_text
from tests.live.conftest import RECORDED
from trajkit.attribution import attribute as module
from trajkit.attribution.ablation import measure_effects, single_region_masks
from trajkit.attribution.attribute import attribute, how_to
from trajkit.attribution.collect import collect
from trajkit.demo import paths
from trajkit.demo.items import demo_items
from trajkit.errors import EstimatorMismatchError, InputError
from trajkit.traces.images import open_image, to_png
from trajkit.vlm.canvas import Canvas
from trajkit.vlm.generation import Sampling
from trajkit.vlm.sentences import Span


@pytest.fixture(scope="module")
def saved(demo_vlm, demo_estimator):
    items = list(demo_items("test", 6, seed=3))
    return list(collect(demo_vlm, items, estimator=demo_estimator, sampling=Sampling(1.0, 200, 3)))


@pytest.fixture
def told():
    return []


@pytest.fixture
def set_aside(told):
    return lambda trace, error: told.append((trace.transcript_id, str(error)))


def imported(vlm, trace, **meta):
    """The run as it would come out of a log that tells its text: no effects, regions, ids or entropies."""
    steps = tuple(replace(step, entropy=None, risk=0.5, alarm=True, seconds=1.5) for step in trace.steps)
    source = {"source": {"format": "test"}, "entropy": "lower bound from 5", "fingerprint": None}
    return replace(
        of_text(vlm, trace, "", **source, **meta),
        model="openai/demo",
        steps=steps,
        effects=np.zeros((len(steps), 0), np.float32),
        effects_kind=None,
        regions=np.zeros((0, 0), np.uint8),
    )


@pytest.mark.parametrize("form", ["ids", "text", "steps"])
def test_effects_are_those_of_collect_whatever_the_run_tells(demo_vlm, demo_estimator, saved, form):
    runs = {
        "ids": saved,
        "text": [imported(demo_vlm, trace) for trace in saved],
        "steps": [replace(trace, tokens=None) for trace in saved],
    }[form]
    found = list(attribute(demo_vlm, runs, estimator=demo_estimator, batch_size=4))
    assert [trace.transcript_id for trace in found] == [trace.transcript_id for trace in saved]
    for trace, expected in zip(found, saved, strict=True):
        np.testing.assert_allclose(trace.effects, expected.effects, atol=1e-3)
        np.testing.assert_array_equal(trace.regions, expected.regions)
        np.testing.assert_array_equal(trace.tokens, expected.tokens)
        for step, wanted in zip(trace.steps, expected.steps, strict=True):
            assert (step.text, step.token_start, step.token_end) == (wanted.text, wanted.token_start, wanted.token_end)
            assert step.logprob == pytest.approx(wanted.logprob, abs=1e-4)
            assert step.entropy == pytest.approx(wanted.entropy, abs=1e-4)
        assert trace.effects_kind == "estimated"
        assert trace.meta["token_ids"] == ("told" if form == "ids" else "made")
        assert trace.meta["logprob_difference"] < 1e-4
        assert "doubt" not in trace.meta


def test_what_the_run_is_stays_and_what_was_of_other_effects_goes(demo_vlm, demo_estimator, saved):
    run = imported(demo_vlm, replace(saved[0], success=False, score=0.25, outcome="hallucination"), difficulty=0.5)
    (found,) = attribute(demo_vlm, [run], estimator=demo_estimator)
    for name in ("transcript_id", "group_id", "question", "answer", "target", "score", "success", "outcome", "image"):
        assert getattr(found, name) == getattr(run, name), name
    assert all((step.risk, step.alarm, step.seconds) == (None, None, 1.5) for step in found.steps)
    assert found.meta["source"] == {"model": "openai/demo", "format": "test"}
    assert found.meta["difficulty"] == 0.5
    assert found.meta["written"] == run.meta["written"]
    assert "entropy" not in found.meta
    assert (found.model, found.meta["fingerprint"]) == (demo_vlm.name, demo_vlm.fingerprint)


def test_several_images_and_a_conversation_are_read_as_they_were_asked(demo_vlm, demo_estimator, saved, scene_image):
    images = [scene_image, scene_image.rotate(180)]
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "sort row 2 down."}]},
        {"role": "assistant", "content": "empty"},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "how many red in row 1 to row 3?"}]},
    ]
    live = tk.stream(demo_vlm, images, turns, estimator=demo_estimator, temperature=0)
    steps = list(live)
    sizes = [list(image.size) for image in images]
    run = replace(live.trace(), image=to_png(Canvas(tuple(images)).picture), tokens=None, image_sha256="")
    run = replace(run, meta=dict(run.meta) | {"messages": turns, "image_sizes": sizes})
    (found,) = attribute(demo_vlm, [run], estimator=demo_estimator)
    np.testing.assert_allclose(found.effects, np.stack([step.effects for step in steps]), atol=1e-3)
    assert found.regions.shape == (192, 384)


def test_a_run_that_was_cut_keeps_its_outcome_and_has_the_steps_that_there_are(demo_vlm, demo_estimator, saved):
    whole = max(saved, key=lambda trace: trace.n_steps)
    n = whole.steps[2].token_end
    run = replace(
        imported(demo_vlm, whole, cut="length", thinking_closed=False),
        steps=whole.steps[:3],
        effects=np.zeros((3, 0), np.float32),
        outcome="unknown",
        success=None,
    )
    text = demo_vlm.tokenizer.decode(whole.tokens[:n], skip_special_tokens=True)
    run = replace(run, meta=dict(run.meta) | {"written": {"thinking": text, "answer": ""}})
    (found,) = attribute(demo_vlm, [run], estimator=demo_estimator)
    np.testing.assert_allclose(found.effects, whole.effects[:3], atol=1e-3)
    np.testing.assert_array_equal(found.tokens, whole.tokens[:n])
    assert (found.outcome, found.meta["thinking_closed"]) == ("unknown", False)


def test_measured_effects_are_those_of_hiding_each_region(demo_vlm, demo_estimator, saved):
    run = min(saved, key=lambda trace: trace.n_steps)
    (found,) = attribute(demo_vlm, [imported(demo_vlm, run)], measured=True)
    assert found.effects_kind == "measured"
    assert (found.meta["ablation"], found.meta["estimator"]) == ("mean", None)
    prompt = demo_vlm.prepare(open_image(run.image), run.question)
    spans = [Span(step.token_start, step.token_end, step.kind) for step in run.steps]
    regions = tk.Regions(run.regions, run.n_regions, "vision")
    tokens = torch.tensor(run.tokens.tolist())
    masks = single_region_masks(run.n_regions)
    expected = measure_effects(demo_vlm, prompt, tokens, spans, regions, masks, "mean").T
    np.testing.assert_allclose(found.effects, expected, atol=1e-4)
    (gray,) = attribute(demo_vlm, [run], measured=True, ablation="gray")
    assert np.abs(gray.effects - found.effects).max() > 0.01


def test_log_probabilities_of_another_model_are_told(demo_vlm, demo_estimator, saved):
    run = imported(demo_vlm, saved[0])
    off = replace(run, steps=tuple(replace(step, logprob=step.logprob - 0.25) for step in run.steps))
    (found,) = attribute(demo_vlm, [off], estimator=demo_estimator)
    assert found.meta["logprob_difference"] == pytest.approx(0.25, abs=1e-3)
    assert "differ from those here by 0.25 nats a token" in found.meta["doubt"]
    silent = replace(run, steps=tuple(replace(step, logprob=None) for step in run.steps))
    (found,) = attribute(demo_vlm, [silent], estimator=demo_estimator)
    assert "logprob_difference" not in found.meta
    assert "doubt" not in found.meta


@pytest.mark.parametrize(("log", "source"), [("s00-0.greedy", "told"), ("s01-0.plain", "made"), ("s01-1.cut", "told")])
def test_a_recorded_stream_has_the_effects_of_following_it(demo_vlm, demo_estimator, log, source):
    [run] = tk.import_traces(RECORDED / f"{log}.sse", questions=RECORDED / "questions.jsonl")
    (found,) = attribute(demo_vlm, [run], estimator=demo_estimator)
    assert found.meta["token_ids"] == source
    assert "doubt" not in found.meta
    followed = tk.follow(demo_vlm, open_image(run.image), run.question, found.tokens.tolist(), estimator=demo_estimator)
    np.testing.assert_allclose(found.effects, np.stack([step.effects for step in followed]), atol=1e-3)
    (again,) = attribute(demo_vlm, [replace(run, tokens=None)], estimator=demo_estimator)
    np.testing.assert_array_equal(again.tokens, found.tokens)


def test_another_prompt_is_told(demo_vlm, demo_estimator, saved):
    n = demo_vlm.prepare(open_image(saved[0].image), saved[0].question).length
    for asked, doubted in ((n, False), (n + 4, True)):
        (found,) = attribute(demo_vlm, [imported(demo_vlm, saved[0], prompt_tokens=asked)], estimator=demo_estimator)
        assert (f"its prompt had {asked} tokens" in found.meta.get("doubt", "")) == doubted


def test_another_revision_is_told(demo_vlm, demo_estimator, saved):
    vlm = replace(demo_vlm, revision="b" * 40)
    (found,) = attribute(vlm, [imported(demo_vlm, saved[0], revision="a" * 40)], estimator=demo_estimator)
    assert found.meta["doubt"].startswith("revision aaaa")
    (found,) = attribute(vlm, [imported(demo_vlm, saved[0], revision="b" * 40)], estimator=demo_estimator)
    assert "doubt" not in found.meta


def test_a_run_that_cannot_be_read_again_is_set_aside_and_the_others_go_on(
    demo_vlm, demo_estimator, saved, told, set_aside
):
    runs = [
        saved[0],
        replace(saved[1], image=None, image_sha256=""),
        replace(saved[2], meta=dict(saved[2].meta) | {"fingerprint": "0123456789abcdef"}),
        imported(demo_vlm, replace(saved[3], tokens=saved[4].tokens)),
        saved[5],
    ]
    found = list(attribute(demo_vlm, runs, estimator=demo_estimator, set_aside=set_aside))
    assert [trace.transcript_id for trace in found] == [saved[0].transcript_id, saved[5].transcript_id]
    assert [name for name, _ in told] == [run.transcript_id for run in runs[1:4]]
    reasons = [reason for _, reason in told]
    assert "it has no image" in reasons[0]
    assert "(0123456789abcdef) wrote it" in reasons[1]
    assert "goes on with" in reasons[2]
    with pytest.raises(InputError, match="it has no image"):
        list(attribute(demo_vlm, runs, estimator=demo_estimator))


def test_runs_that_are_done_are_not_read_again(demo_vlm, demo_estimator, saved):
    done = frozenset(trace.transcript_id for trace in saved[:4])
    found = attribute(demo_vlm, saved, estimator=demo_estimator, done=done)
    assert [trace.transcript_id for trace in found] == [trace.transcript_id for trace in saved[4:]]


def test_where_memory_does_not_suffice_fewer_runs_are_read_together(
    demo_vlm, demo_estimator, saved, told, set_aside, monkeypatch
):
    sizes, real = [], module.explain

    def short_of_memory(vlm, runs, *rest):
        sizes.append(len(runs))
        if len(runs) > 2 or saved[5].transcript_id in [run.item.id for run in runs]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(vlm, runs, *rest)

    monkeypatch.setattr(module, "explain", short_of_memory)
    found = list(attribute(demo_vlm, saved, estimator=demo_estimator, set_aside=set_aside))
    assert [trace.transcript_id for trace in found] == [trace.transcript_id for trace in saved[:5]]
    assert sizes[0] == 6
    assert [name for name, _ in told] == [saved[5].transcript_id]
    assert "do not fit in memory" in told[0][1]


def test_what_effects_come_from_is_checked_before_any_run_is_read(demo_vlm, demo_estimator, saved):
    with pytest.raises(InputError, match="give one, or measured=True"):
        list(attribute(demo_vlm, saved))
    other = replace(demo_estimator.binding, fingerprint="0123456789abcdef")
    with pytest.raises(EstimatorMismatchError):
        list(attribute(demo_vlm, saved, estimator=replace(demo_estimator, binding=other)))
    with pytest.raises(InputError, match="ablation must be one of"):
        list(attribute(demo_vlm, saved, measured=True, ablation="paint"))
    assert how_to(demo_vlm, demo_estimator, "mean").region_method == demo_estimator.binding.region_method


def test_shipped_runs_come_back_with_the_same_effects_where_their_ids_are_not_told(
    demo_vlm, demo_estimator, told, set_aside
):
    shipped = [replace(run, tokens=None) for run in tk.read_traces(paths.TRACES)[::97]]
    found = {
        run.transcript_id: run for run in attribute(demo_vlm, shipped, estimator=demo_estimator, set_aside=set_aside)
    }
    same = [
        run.transcript_id in found and np.abs(found[run.transcript_id].effects - run.effects).max() < 1e-3
        for run in shipped
    ]
    assert np.mean(same) >= 0.97
    assert len(found) + len(told) == len(shipped)


def test_a_path_and_one_run_are_runs_and_slips_are_told(demo_vlm, demo_estimator, saved, tmp_path):
    path = tk.write_traces(saved[:1], tmp_path / "one.parquet")
    for given in (path, str(path), saved[0]):
        (run,) = attribute(demo_vlm, given, estimator=demo_estimator)
        assert run.transcript_id == saved[0].transcript_id
    with pytest.raises(InputError, match=r"load_vlm\('data/demo/model'\)"):
        list(attribute("data/demo/model", saved, estimator=demo_estimator))
    with pytest.raises(InputError, match=r"EffectEstimator.load\('here'\)"):
        list(attribute(demo_vlm, saved, estimator="here"))
    (tmp_path / "run.eval").touch()
    with pytest.raises(InputError, match="trajkit import"):
        list(attribute(demo_vlm, tmp_path / "run.eval", estimator=demo_estimator))
