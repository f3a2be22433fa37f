"""Tokens of another engine are explained as if this one had written them: each read once, alone or with other runs."""

from __future__ import annotations

import gc
import json
import weakref
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

import trajkit as tk
from tests.attribution.conftest import QUESTION
from tests.attribution.test_stream import watching
from trajkit.attribution.follow import Followers
from trajkit.attribution.packed import ReadSequence
from trajkit.attribution.replay import replay
from trajkit.demo import paths
from trajkit.detection.policies import Policy
from trajkit.errors import EstimatorMismatchError, InputError
from trajkit.vlm.generation import Sampling, generate
from trajkit.vlm.sentences import split_steps

ESTIMATORS = {"qwen3_vl": "estimator", "qwen2_5_vl": "qwen2_5_vl-estimator", "glm4v": "glm4v-estimator"}
RECORDED = Path(__file__).parents[1] / "live" / "recorded"
TOLERANCE = {"atol": 1e-4, "rtol": 0}


class Keeping(tk.NetworkEstimator):
    """Keeps the features that it is asked about."""

    kept: ClassVar[list] = []

    def predict_interval(self, features):
        self.kept.append(features)
        return super().predict_interval(features)


@cache
def loaded(architecture):
    folder = paths.MODEL if architecture == "qwen3_vl" else paths.MODEL.parent / architecture
    vlm = tk.load_vlm(folder)
    return vlm, tk.EffectEstimator.load(paths.MODEL.parent / ESTIMATORS[architecture])


@pytest.fixture
def keeping(demo_estimator):
    Keeping.kept = []
    return Keeping(demo_estimator.arrays, demo_estimator.binding, demo_estimator.card)


def written(vlm, prompt, seed=3, **sampling):
    return generate(vlm, prompt.inputs, Sampling(seed=seed, **sampling))[0]


def replayed(vlm, prompt, tokens, regions, pooling):
    spans, texts, closed = split_steps(tokens, vlm)
    return texts, closed, replay(vlm, prompt, torch.tensor(tokens), spans, regions, pooling)


@contextmanager
def passes(vlm):
    """Rows of each pass of the text stack."""
    rows = []
    hook = vlm.model.model.language_model.layers[0].register_forward_hook(
        lambda module, inputs, output: rows.append(inputs[0].shape[1])
    )
    try:
        yield rows
    finally:
        hook.remove()


@pytest.mark.parametrize("architecture", ESTIMATORS)
@pytest.mark.parametrize("portion", [1, 7, 1000])
def test_features_and_effects_are_those_of_a_replay_and_each_token_is_read_once(scene_image, architecture, portion):
    vlm, estimator = loaded(architecture)
    prompt = vlm.prepare([scene_image, scene_image.resize((128, 64))], QUESTION)
    tokens = written(vlm, prompt)
    portions = [tokens[at : at + portion] for at in range(0, len(tokens), portion)]
    with passes(vlm) as rows:
        following = tk.follow(vlm, prompt, portions, estimator=estimator)
        steps = list(following)
    assert sum(rows) == prompt.length - 1 + steps[-1].token_end  # the last row that is needed predicts the last token
    texts, closed, seen = replayed(vlm, prompt, tokens, following.regions, estimator.binding.pooling)
    assert [step.text for step in steps] == texts
    assert following.closed == closed
    np.testing.assert_allclose([step.effects for step in steps], estimator.predict(seen.features), **TOLERANCE)
    np.testing.assert_allclose([step.logprob for step in steps], seen.logprob, **TOLERANCE)
    np.testing.assert_allclose([step.entropy for step in steps], seen.entropy, **TOLERANCE)


def test_features_are_those_of_the_tap(demo_vlm, keeping, scene_image):
    live = list(running := tk.stream(demo_vlm, scene_image, QUESTION, estimator=keeping, seed=3))
    of_stream, Keeping.kept = Keeping.kept, []
    steps = list(tk.follow(demo_vlm, scene_image, QUESTION, iter(running.tokens), estimator=keeping))
    assert [step.text for step in steps] == [step.text for step in live]
    assert len(Keeping.kept) == len(of_stream) > 3
    for ours, theirs in zip(Keeping.kept, of_stream, strict=True):
        assert np.abs(theirs).max() > 0.1
        np.testing.assert_allclose(ours, theirs, **TOLERANCE)


def streamed(name):
    """The events of a recorded stream."""
    events = (RECORDED / name).read_text("utf-8").split("\n\n")
    return [json.loads(event.removeprefix("data: ")) for event in events if event.startswith("data: {")]


def test_what_vllm_wrote_is_followed_as_it_is_replayed(demo_vlm, demo_estimator):
    asked = json.loads((RECORDED / "questions.jsonl").read_text().splitlines()[1])
    first, *events = streamed("s00-1.sampled.sse")
    choices = [choice for event in events for choice in event["choices"]]
    portions = [choice["token_ids"] for choice in choices]
    given = [[one["logprob"] for one in choice["logprobs"]["content"]] for choice in choices]
    image, tokens = Image.open(RECORDED / asked["image"]), [token for portion in portions for token in portion]
    steps = {}
    for logprobs in (None, given):
        following = tk.follow(
            demo_vlm,
            image,
            asked["question"],
            portions,
            estimator=demo_estimator,
            logprobs=logprobs,
            prompt_token_ids=first["prompt_token_ids"],
        )
        steps[logprobs is None] = list(following)
    prompt = following.prompt
    texts, _, seen = replayed(demo_vlm, prompt, tokens, following.regions, demo_estimator.binding.pooling)
    for own, made in steps.items():
        assert [step.text for step in made] == texts
        tolerance = 1e-4 if own else 1e-3  # its log-probabilities are of other kernels
        np.testing.assert_allclose([s.effects for s in made], demo_estimator.predict(seen.features), atol=tolerance)
        np.testing.assert_allclose([s.logprob for s in made], seen.logprob, atol=tolerance)
    flat = np.concatenate(given)
    for step in steps[False]:
        assert step.logprob == pytest.approx(flat[step.token_start : step.token_end].mean(), abs=1e-6)
    trace = following.trace()
    assert (trace.answer, trace.meta["thinking_closed"], trace.meta["followed"]) == (texts[-1], True, True)
    assert "stopped" not in trace.meta


def chat(image):
    """Two turns, the first about an image."""
    return [
        {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "sort row 1 down."}]},
        {"role": "assistant", "content": "7"},
        {"role": "user", "content": "sort row 2 down."},
    ]


def runs_of(vlm, image):
    """Prompts of one image and two, of a chat, long and short, and what was written after them."""
    asked = [
        vlm.prepare(image, "sort row 1 down."),
        vlm.prepare([image, image.rotate(90)], QUESTION),
        vlm.prepare(image.resize((96, 160)), "how many blue in row 2 to row 4?"),
        vlm.prepare_chat(chat(image)),
    ]
    return [(prompt, written(vlm, prompt, seed)) for seed, prompt in enumerate(asked)]


@pytest.mark.parametrize("architecture", ESTIMATORS)
def test_runs_that_share_passes_are_as_alone(scene_image, architecture):
    vlm, estimator = loaded(architecture)
    runs = runs_of(vlm, scene_image)
    alone = [list(tk.follow(vlm, prompt, tokens, estimator=estimator)) for prompt, tokens in runs]
    group, rng = Followers(vlm, estimator=estimator), np.random.default_rng(0)
    waiting, made, left = list(enumerate(runs)), {}, {}
    with passes(vlm) as rows:
        while waiting or left:
            if waiting and (len(waiting) == len(runs) or rng.random() < 0.3):  # they join as time goes on
                number, (prompt, tokens) = waiting.pop(0)
                follower = group.join(prompt)
                left[follower], made[follower] = list(tokens), (number, [])
            given = {run: rest[: rng.integers(0, 12)] for run, rest in left.items()}
            for run, steps in group.push(given).items():
                made[run][1].extend(steps)
                del left[run][: len(given[run])]
            for run in [run for run, rest in left.items() if not rest]:
                made[run][1].extend(group.finish(run)[run])
                del left[run]
    assert sum(rows) == sum(prompt.length - 1 + alone[i][-1].token_end for i, (prompt, _) in enumerate(runs))
    assert len(rows) < sum(len(steps) for steps in alone) + len(runs)
    for run, (number, steps) in made.items():
        assert [step.text for step in steps] == [step.text for step in alone[number]]
        assert {step.row for step in steps} == {number}
        np.testing.assert_allclose([s.effects for s in steps], [s.effects for s in alone[number]], **TOLERANCE)
        np.testing.assert_allclose([s.logprob for s in steps], [s.logprob for s in alone[number]], **TOLERANCE)
        assert run.nbytes == 0
    assert not group.open
    assert group.nbytes == 0


def test_a_run_that_leaves_takes_its_keys_with_it_and_the_others_go_on(demo_vlm, demo_estimator, scene_image):
    group = Followers(demo_vlm, estimator=demo_estimator)
    (first, tokens), (second, others) = runs_of(demo_vlm, scene_image)[:2]
    a, b = group.join(first), group.join(second)
    group.push({a: tokens[:20], b: others[:20]})
    both = group.nbytes
    assert both == a.nbytes + b.nbytes > b.nbytes > 0
    group.leave(a)
    assert (a.nbytes, group.nbytes, group.open) == (0, b.nbytes, {b})
    with pytest.raises(InputError, match="the run that is followed is over"):
        group.push({a: tokens[20:], b: others[20:]})
    assert len(b.tokens) == 20  # nothing was taken
    steps = b.push(others[20:]) + b.finish()
    alone = list(tk.follow(demo_vlm, second, others, estimator=demo_estimator))
    assert b.steps[-len(steps) :] == steps
    np.testing.assert_allclose([s.effects for s in b.steps], [s.effects for s in alone], **TOLERANCE)
    stopped = a.trace()
    assert stopped.meta["stopped"] is True
    assert stopped.n_steps == len(a.steps) > 0


def test_steps_come_as_soon_as_they_are_finished_with_verdicts_and_decisions(demo_vlm, demo_estimator, scene_image):
    given = []
    prompt = demo_vlm.prepare(scene_image, QUESTION)
    tokens = written(demo_vlm, prompt)

    def source():
        for token in tokens:
            given.append(token)
            yield token

    monitor = watching(demo_vlm)
    following = tk.follow(demo_vlm, prompt, source(), estimator=demo_estimator, monitor=monitor, policy=Policy("stop"))
    first = next(following)
    assert len(given) == first.token_end + 1  # the token that shows the sentence to be complete
    steps = [first, *following]
    live = tk.stream(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, monitor=monitor, seed=3)
    assert [(s.risk, s.alarm) for s in steps] == [(pytest.approx(s.risk, abs=1e-5), s.alarm) for s in live]
    assert [step.decision.action for step in steps if step.decision] == ["stop"]
    assert following.decisions == [step.decision for step in steps if step.decision]


def test_the_same_tokens_are_the_same_trace_and_another_runs_are_not(demo_vlm, demo_estimator, scene_image, tmp_path):
    prompt = demo_vlm.prepare(scene_image, QUESTION)

    def trace(seed):
        following = tk.follow(demo_vlm, prompt, written(demo_vlm, prompt, seed), estimator=demo_estimator)
        list(following)
        return following.trace(target="0")

    once, again, other = trace(3), trace(3), trace(4)
    stopped = tk.follow(demo_vlm, prompt, estimator=demo_estimator)
    stopped.push(written(demo_vlm, prompt))
    assert once.transcript_id == again.transcript_id
    assert len({one.transcript_id for one in (once, other, stopped.trace())}) == 3
    (back,) = tk.read_traces(tk.write_traces([once], tmp_path / "runs.parquet"))
    assert back.steps == once.steps


def test_a_chat_is_told_in_the_trace(demo_vlm, demo_estimator, scene_image):
    tokens = written(demo_vlm, demo_vlm.prepare_chat(chat(scene_image)))
    list(following := tk.follow(demo_vlm, messages=chat(scene_image), tokens=tokens, estimator=demo_estimator))
    trace = following.trace()
    assert trace.question == "sort row 2 down."
    assert [turn["role"] for turn in trace.meta["messages"]] == ["user", "assistant", "user"]
    assert trace.meta["messages"][0]["content"][0] == {"type": "image", "image": 0}


def test_where_the_source_fails_what_there_was_is_kept(demo_vlm, demo_estimator, scene_image):
    prompt = demo_vlm.prepare(scene_image, QUESTION)
    tokens = written(demo_vlm, prompt)

    def source():
        yield tokens[:20]
        raise ConnectionError("the server went away")

    following = tk.follow(demo_vlm, prompt, source(), estimator=demo_estimator)
    with pytest.raises(ConnectionError):
        list(following)
    assert following.trace().n_steps == len(following.steps) > 0
    assert following.trace().meta["stopped"] is True


class Failing(tk.NetworkEstimator):
    def predict_interval(self, features):
        if len(Failing.of) == Failing.at:
            raise ZeroDivisionError("no such effect")
        Failing.of.append(1)
        return super().predict_interval(features)

    of: ClassVar[list] = []
    at = 1


def test_a_run_that_cannot_be_explained_is_left_and_the_others_go_on(demo_vlm, demo_estimator, scene_image):
    failing = Failing(demo_estimator.arrays, demo_estimator.binding, demo_estimator.card)
    Failing.of, Failing.at = [], 1
    group = Followers(demo_vlm, estimator=failing)
    (first, tokens), (second, others) = runs_of(demo_vlm, scene_image)[:2]
    a, b = group.join(first), group.join(second)
    cut = next(i for i in range(len(tokens)) if len(split_steps(tokens[:i], demo_vlm)[0]) > 1)
    assert len(group.push({a: tokens[: cut + 1]})[a]) == 1
    keys = weakref.ref(a._sequence)
    made = group.push({a: tokens[cut + 1 :]})
    assert isinstance(a.error, ZeroDivisionError)
    assert keys() is None  # nor does the error hold them, by where it was raised
    assert made == {a: []}
    assert group.open == {b}
    assert len(a.steps) == 1
    Failing.at = None
    assert b.push(others)
    Failing.at = len(Failing.of)
    with pytest.raises(ZeroDivisionError):
        b.finish()


def test_a_run_that_nobody_refers_to_takes_its_keys_with_it(demo_vlm, demo_estimator, scene_image):
    gc.disable()
    try:
        following = tk.follow(demo_vlm, scene_image, QUESTION, estimator=demo_estimator)
        following.push([20] * 40)
        keys = weakref.ref(following._sequence)
        assert following.nbytes > 0
        del following
        assert keys() is None
    finally:
        gc.enable()


def test_where_one_of_several_passes_fails_what_the_others_saw_is_kept(
    demo_vlm, demo_estimator, scene_image, monkeypatch
):
    group = Followers(demo_vlm, estimator=demo_estimator)
    (first, tokens), (second, others) = runs_of(demo_vlm, scene_image)[:2]
    a, b = group.join(first), group.join(second)
    put = ReadSequence.put

    def full(self, layer, key, value):
        if self is b._sequence:
            raise MemoryError
        return put(self, layer, key, value)

    with monkeypatch.context() as patch:
        patch.setattr("trajkit.attribution.packed.ROWS_AT_ONCE", 1)
        patch.setattr(ReadSequence, "put", full)
        for _ in range(2):
            with pytest.raises(MemoryError):
                group.push({a: tokens, b: others})
            tokens, others = [], []
        assert len(a.steps) > 1
        assert not b.steps
        with pytest.raises(MemoryError):
            b.finish()
    assert b.finish()
    a.finish()
    for run in (a, b):
        alone = list(tk.follow(demo_vlm, run.prompt, run.tokens, estimator=demo_estimator))
        np.testing.assert_allclose([s.effects for s in run.steps], [s.effects for s in alone], **TOLERANCE)


def test_a_pass_that_fails_can_be_made_again(demo_vlm, demo_estimator, scene_image, monkeypatch):
    prompt = demo_vlm.prepare(scene_image, QUESTION)
    tokens = written(demo_vlm, prompt)
    following = tk.follow(demo_vlm, prompt, estimator=demo_estimator)
    following.push(tokens[:20])
    before, put = len(following.steps), ReadSequence.put

    def full(self, layer, key, value):
        if layer == 2:
            raise MemoryError
        return put(self, layer, key, value)

    with monkeypatch.context() as patch:
        patch.setattr(ReadSequence, "put", full)
        with pytest.raises(MemoryError):
            following.push(tokens[20:])
    assert demo_vlm.text_config._attn_implementation == "sdpa"
    assert len(following.steps) == before
    following.push([])
    following.finish()
    alone = list(tk.follow(demo_vlm, prompt, tokens, estimator=demo_estimator))
    np.testing.assert_allclose([s.effects for s in following.steps], [s.effects for s in alone], **TOLERANCE)


@pytest.mark.parametrize(
    ("tokens", "logprobs", "named"),
    [
        ([10**6], None, "token 1000000 is none of the"),
        ([5], None, "stands for an image or video"),
        ([20] * 2000, None, "the model's context ends at"),
        ([20, 21], [-0.1], "logprobs must be one for each token"),
        ([20], [0.5], "logprobs must be numbers of at most 0; got 0.5"),
        ([20], [float("nan")], "logprobs must be numbers of at most 0; got nan"),
        ([20], [float("-inf")], "logprobs must be numbers of at most 0; got -inf"),
        ([], [-0.1], "logprobs must be one for each token, from the first on, or none; got 1 for 0"),
        ("text", None, "tokens must be numbers, one or a list; got 'text'"),
        ([20.5], None, r"tokens must be numbers, one or a list; got \[20.5\]"),
    ],
)
def test_what_the_model_cannot_have_written_is_refused_and_nothing_taken(
    demo_vlm, demo_estimator, scene_image, tokens, logprobs, named
):
    following = tk.follow(demo_vlm, scene_image, QUESTION, estimator=demo_estimator)
    with pytest.raises(InputError, match=named):
        following.push(tokens, logprobs)
    assert following.tokens == []


def test_log_probabilities_of_the_other_engine_take_the_place_of_the_models_own(demo_vlm, keeping, scene_image):
    prompt = demo_vlm.prepare(scene_image, QUESTION)
    tokens = written(demo_vlm, prompt)
    given = (-np.arange(1, len(tokens) + 1) / 10).tolist()
    steps = list(tk.follow(demo_vlm, prompt, tokens, estimator=keeping, logprobs=given))
    means = [np.mean(given[step.token_start : step.token_end]) for step in steps]
    np.testing.assert_allclose([step.logprob for step in steps], means, rtol=1e-6)
    np.testing.assert_allclose([features[0, -3] for features in Keeping.kept], means, rtol=1e-6)
    assert all(0 <= step.entropy < 5 for step in steps)


def test_tokens_come_as_numbers_of_any_kind_one_or_several(demo_vlm, demo_estimator, scene_image):
    following = tk.follow(demo_vlm, scene_image, QUESTION, estimator=demo_estimator)
    for portion in (20, [21, 22], np.array([23, 24]), np.int64(25), torch.tensor([26, 27]), (), range(28, 30)):
        following.push(portion)
    assert following.tokens == list(range(20, 30))
    assert all(type(token) is int for token in following.tokens)


def test_a_run_is_pushed_to_where_it_joined_and_not_iterated_over_without_a_source(
    demo_vlm, demo_estimator, scene_image
):
    following = tk.follow(demo_vlm, scene_image, QUESTION, estimator=demo_estimator)
    with pytest.raises(InputError, match="by the group that it joined"):
        Followers(demo_vlm, estimator=demo_estimator).push({following: [20]})
    with pytest.raises(InputError, match="no tokens were given to iterate over"):
        next(following)
    assert not following._over


def test_log_probabilities_are_given_for_all_tokens_or_none(demo_vlm, demo_estimator, scene_image):
    following = tk.follow(demo_vlm, scene_image, QUESTION, estimator=demo_estimator)
    following.push(20, -0.5)
    with pytest.raises(InputError, match="from the first on, or none; got 0 for 1"):
        following.push(21)
    following.push([])


def test_another_prompt_than_the_other_engines_is_refused(demo_vlm, demo_estimator, scene_image):
    ids = demo_vlm.prepare(scene_image, QUESTION).inputs["input_ids"][0].tolist()
    for theirs, named in (([*ids[:-3], 20, *ids[-2:]], f"at position {len(ids) - 3}"), (ids[:-1], "and .* tokens")):
        with pytest.raises(InputError, match=f"the other engine's prompt is not the one made here: .*{named}"):
            tk.follow(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, prompt_token_ids=theirs)


def test_what_does_not_belong_together_is_refused(demo_vlm, demo_estimator, scene_image):
    other = loaded("glm4v")[1]
    with pytest.raises(EstimatorMismatchError):
        tk.follow(demo_vlm, scene_image, QUESTION, [], estimator=other)
    with pytest.raises(EstimatorMismatchError, match="'blocks'"):
        tk.follow(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, regions=tk.segment(scene_image, "blocks"))
    with pytest.raises(InputError, match="there is no question; ask one beside the image, or give messages"):
        tk.follow(demo_vlm, scene_image, estimator=demo_estimator)
    prompt = demo_vlm.prepare(scene_image, QUESTION)
    for twice in ({"question": QUESTION}, {"messages": chat(scene_image)}):
        with pytest.raises(InputError, match="a prompt holds its question already"):
            tk.follow(demo_vlm, prompt, estimator=demo_estimator, **twice)


def test_the_model_is_free_for_others_between_pushes(demo_vlm, demo_estimator, scene_image):
    prompt = demo_vlm.prepare(scene_image, QUESTION)
    tokens = written(demo_vlm, prompt)
    following = tk.follow(demo_vlm, prompt, estimator=demo_estimator)
    following.push(tokens[:20])
    assert written(demo_vlm, prompt) == tokens
    live = list(tk.stream(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, seed=3))
    following.push(tokens[20:])
    following.finish()
    np.testing.assert_allclose([s.effects for s in following.steps], [s.effects for s in live], **TOLERANCE)


def test_nothing_pushed_is_a_run_without_steps(demo_vlm, demo_estimator, scene_image):
    following = tk.follow(demo_vlm, scene_image, QUESTION, [], estimator=demo_estimator)
    assert list(following) == []
    assert following.trace().n_steps == 0
