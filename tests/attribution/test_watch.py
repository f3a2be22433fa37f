"""A call of `generate` that is somebody else's writes the same tokens under watch, and its steps are heard."""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, DynamicCache, LogitsProcessor, StaticCache
from transformers.generation.streamers import BaseStreamer

import trajkit as tk
from tests.attribution.conftest import QUESTION
from tests.attribution.test_stream import Broken, watching
from trajkit.attribution.tap import AttentionTap
from trajkit.demo import paths
from trajkit.errors import EstimatorMismatchError, InputError, StreamError, WriteError
from trajkit.vlm.adapter import adapter_for
from trajkit.vlm.load import vlm_of
from trajkit.vlm.processor import load_processor

DEMO = paths.MODEL.parent
FOLDERS = {"qwen3_vl": paths.MODEL, "qwen2_5_vl": DEMO / "qwen2_5_vl", "glm4v": DEMO / "glm4v"}
ROOT = Path(__file__).parents[2]
SECOND = "how many red in row 1 to row 3?"


@cache
def loaded(architecture="qwen3_vl"):
    """Model and processor of a checkpoint as transformers loads them, and its estimator."""
    folder = FOLDERS[architecture]
    model = AutoModelForImageTextToText.from_pretrained(folder)
    estimator = "estimator" if architecture == "qwen3_vl" else f"{architecture}-estimator"
    processor = load_processor(str(folder), adapter_for(model.config))
    return model, processor, tk.EffectEstimator.load(folder.parent / estimator)


def chat(image, question):
    return [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": question}]}]


def inputs_of(processor, *chats):
    options = {"processor_kwargs": {"padding": True, "padding_side": "left"}} if len(chats) > 1 else {}
    return processor.apply_chat_template(
        list(chats), add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt", **options
    )


class Kept(BaseStreamer):
    """Keeps what it is given."""

    def __init__(self):
        self.given = []

    def put(self, value):
        self.given.append(value.tolist())

    def end(self):
        self.given.append("end")


class Shy(LogitsProcessor):
    """Somebody's own processor: one token is less likely."""

    def __call__(self, input_ids, scores):
        scores[:, 20] -= 5.0
        return scores


class Words:
    """The demo's tokenizer as transformers' stop strings need one, with a beginning that is in no token."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __call__(self, text, **options):
        return {"input_ids": []}

    def __len__(self):
        return len(self._tokenizer)

    def get_vocab(self):
        return self._tokenizer.get_vocab()

    def convert_tokens_to_string(self, tokens):
        return "abcdef" + "".join(tokens).replace("Ġ", " ")


def options_of(name, tokenizer):
    return {
        "greedy": {"do_sample": False},
        "top_p": {"do_sample": True, "top_p": 0.9, "temperature": 1.3},
        "repetition penalty": {"do_sample": True, "repetition_penalty": 1.3},
        "stop strings": {"stop_strings": ["blue"], "tokenizer": Words(tokenizer)},
        "own processor": {"logits_processor": [Shy()]},
        "streamer": {"streamer": Kept()},
        "scores": {"return_dict_in_generate": True, "output_scores": True},
    }[name]


OPTIONS = ("greedy", "top_p", "repetition penalty", "stop strings", "own processor", "streamer", "scores")


def generate(model, processor, option, seed=0, **kwargs):
    torch.manual_seed(seed)
    options = options_of(option, processor.tokenizer)
    return model.generate(**kwargs, **options, max_new_tokens=60), options


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("architecture", FOLDERS)
def test_a_watched_call_gives_the_tokens_of_an_unwatched_one(scene_image, architecture, option):
    model, processor, estimator = loaded(architecture)
    inputs = inputs_of(processor, chat(scene_image, QUESTION))
    plain, before = generate(model, processor, option, **inputs)
    heard = []
    with tk.watch(model, processor, scene_image, QUESTION, estimator=estimator, on_step=heard.append) as run:
        watched, after = generate(model, processor, option, **inputs, **run.kwargs)
    if option == "scores":
        assert all(map(torch.equal, plain.scores, watched.scores))
        plain, watched = plain.sequences, watched.sequences
    if option == "streamer":
        assert len(before["streamer"].given) > 10
        assert after["streamer"].given == before["streamer"].given
    if option == "stop strings":
        assert processor.tokenizer.decode(plain[0]).endswith("blue")
    assert torch.equal(plain, watched)
    assert len(heard) >= 2
    assert [s.text for s in heard] == [s.text for s in run.trace().steps]
    assert run.runs[0].tokens == watched[0, inputs["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize("architecture", FOLDERS)
def test_unchanged_checkpoints_of_every_architecture_are_watched_as_they_are_streamed(scene_image, architecture):
    model, processor, estimator = loaded(architecture)
    inputs = inputs_of(processor, chat(scene_image, QUESTION))
    with tk.watch(model, processor, scene_image, QUESTION, estimator=estimator) as run:
        model.generate(**inputs, **run.kwargs, do_sample=False)
    watched = run.trace()
    vlm = tk.load_vlm(FOLDERS[architecture])
    streamed = tk.trace(vlm, scene_image, QUESTION, estimator=estimator, temperature=0)
    assert [s.text for s in watched.steps] == [s.text for s in streamed.steps]
    np.testing.assert_allclose(watched.effects, streamed.effects, atol=1e-4)
    assert watched.answer == streamed.answer != ""
    assert (watched.meta["fingerprint"], watched.meta["temperature"]) == (vlm.fingerprint, 0)
    assert not [name for name in vars(model) if name.startswith("_extract")]
    assert model.config.text_config._attn_implementation == "sdpa"


@pytest.mark.filterwarnings("ignore:the monitor is used beyond its calibration")
@pytest.mark.parametrize("architecture", FOLDERS)
def test_the_lines_of_the_readme_run(architecture, demo_vlm, scene_image):
    _, processor, estimator = loaded(architecture)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(from transformers import .*?)```", text, re.DOTALL)
    monitor = watching(demo_vlm) if architecture == "qwen3_vl" else None
    names = {"tk": tk, "vlm": SimpleNamespace(processor=processor), "image": scene_image, "question": QUESTION}
    names |= {"estimator": estimator, "monitor": monitor}
    torch.manual_seed(0)
    exec(lines.replace("data/demo", str(DEMO)).replace(str(DEMO / "model"), str(FOLDERS[architecture])), names)
    assert names["trace"].n_steps >= 2
    assert names["run"].runs[0].tokens == names["output"][0, names["inputs"]["input_ids"].shape[1] :].tolist()


ASKED = (QUESTION, "sort row 1 down.", "how many blue and red in row 2 to row 4?")
GREEDY = {"do_sample": False, "max_new_tokens": 80}


def three(image, processor):
    """Images, and the inputs of three prompts of different lengths."""
    images = [image, image.rotate(90), image]
    return images, inputs_of(processor, *map(chat, images, ASKED))


@pytest.fixture
def batch(scene_image):
    return three(scene_image, loaded()[1])


@pytest.mark.parametrize("architecture", FOLDERS)
def test_several_prompts_in_a_batch_are_each_what_they_are_alone(scene_image, architecture):
    model, processor, estimator = loaded(architecture)
    images, inputs = three(scene_image, processor)
    assert len({int(n) for n in inputs["attention_mask"].sum(1)}) == 3
    plain = model.generate(**inputs, **GREEDY)
    heard = []
    with tk.watch(model, processor, images, ASKED, estimator=estimator, on_step=heard.append) as run:
        watched = model.generate(**inputs, **run.kwargs, **GREEDY)
    assert torch.equal(plain, watched)
    assert len(run.runs) == 3
    for row, (one, image, question) in enumerate(zip(run.runs, images, ASKED, strict=True)):
        with tk.watch(model, processor, image, question, estimator=estimator) as alone:
            model.generate(**alone.inputs, **alone.kwargs, **GREEDY)
        expected, found = alone.trace(), one.trace()
        assert found.question == question
        assert [s.text for s in found.steps] == [s.text for s in expected.steps]
        assert [s.text for s in heard if s.row == row] == [s.text for s in expected.steps]
        np.testing.assert_allclose(found.effects, expected.effects, atol=1e-4)
        np.testing.assert_allclose([s.logprob for s in found.steps], [s.logprob for s in expected.steps], atol=1e-5)
        assert found.answer == expected.answer
    with pytest.raises(InputError, match="this watch has 3 runs; ask each"):
        run.trace()


def test_chats_are_watched_with_their_images_in_place_or_apart(scene_image):
    model, processor, estimator = loaded()
    turns = [*chat(scene_image, ASKED[1]), {"role": "assistant", "content": "6 6"}, *chat(scene_image, QUESTION)]
    apart = [turn | {"content": [dict(part) for part in turn["content"]]} for turn in turns[:1]] + turns[1:2]
    apart += [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
    del apart[0]["content"][0]["image"]
    inputs = inputs_of(processor, turns)
    traces = []
    for given in (
        {"messages": turns},
        {"images": [scene_image, scene_image], "question": apart},
        {"images": None, "question": [turns, chat(scene_image, ASKED[1])]},
    ):
        with tk.watch(model, processor, **given, estimator=estimator) as run:
            several = len(given.get("question", ())) == 2
            model.generate(**(run.inputs if several else inputs), **run.kwargs, **GREEDY)
        traces.append(run.runs[0].trace())
    first, *others = traces
    assert [turn["role"] for turn in first.meta["messages"]] == ["user", "assistant", "user"]
    for other in others:
        assert other.question == QUESTION
        assert [s.text for s in other.steps] == [s.text for s in first.steps]
        np.testing.assert_allclose(other.effects, first.effects, atol=1e-4)
    with pytest.raises(InputError, match="more images than parts"):
        tk.watch(model, processor, scene_image, turns, estimator=estimator)
    with pytest.raises(InputError, match="with a list of as many images"):
        tk.watch(model, processor, scene_image, ASKED, estimator=estimator)


def test_several_samples_of_a_prompt_are_a_run_each(batch):
    model, processor, estimator = loaded()
    images, inputs = batch
    drawing = {"do_sample": True, "num_return_sequences": 2, "max_new_tokens": 80}
    torch.manual_seed(0)
    plain = model.generate(**inputs, **drawing)
    with tk.watch(model, processor, images, ASKED, estimator=estimator) as run:
        torch.manual_seed(0)
        watched = model.generate(**inputs, **run.kwargs, **drawing)
    assert torch.equal(plain, watched)
    traces = [one.trace() for one in run.runs]
    assert [trace.question for trace in traces] == [question for question in ASKED for _ in range(2)]
    assert len({trace.transcript_id for trace in traces}) == 6
    length = inputs["input_ids"].shape[1]
    for one, row in zip(run.runs, watched, strict=True):
        assert one.tokens == row[length : length + len(one.tokens)].tolist()


def test_a_policy_stops_one_run_of_a_batch_and_the_others_go_on(batch, demo_vlm):
    model, processor, estimator = loaded()
    images, inputs = batch
    monitor = replace(watching(demo_vlm), threshold=1.0)
    with tk.watch(model, processor, images, ASKED, estimator=estimator, monitor=monitor) as run:
        plain = model.generate(**inputs, **run.kwargs, **GREEDY)
    *_, second, first = sorted(max(step.risk for step in one.steps) for one in run.runs)
    strict = replace(monitor, threshold=(first + second) / 2)
    (at,) = [one.row for one in run.runs if any(step.risk == first for step in one.steps)]
    with tk.watch(
        model, processor, images, ASKED, estimator=estimator, monitor=strict, policy=tk.Policy("stop")
    ) as run:
        watched = model.generate(**inputs, **run.kwargs, **GREEDY)
    assert [one.ended for one in run.runs] == [row != at for row in range(3)]
    length = inputs["input_ids"].shape[1]
    for one in run.runs:
        assert one.tokens == plain[one.row, length : length + len(one.tokens)].tolist()
        assert one.trace().meta.get("stopped", False) is (one.row == at)
    assert watched.shape[1] <= plain.shape[1]


def test_alarms_are_heard_between_two_tokens_of_the_thread_that_generates(scene_image, demo_vlm):
    model, processor, estimator = loaded()
    heard, stream = [], Kept()
    with tk.watch(
        model,
        processor,
        scene_image,
        "sort row 1 down.",
        estimator=estimator,
        monitor=watching(demo_vlm),
        on_step=lambda step: heard.append(("step", step.index, len(stream.given))),
        on_alarm=lambda step: heard.append(("alarm", step.index, len(stream.given))),
    ) as run:
        model.generate(**run.inputs, **run.kwargs, do_sample=False, streamer=stream)
    kinds = [kind for kind, _, _ in heard]
    assert kinds[:2] == ["step", "alarm"]
    assert kinds.count("alarm") == 1
    assert [index for kind, index, _ in heard if kind == "step"] == list(range(run.trace().n_steps))
    assert heard[1][2] < len(stream.given) - 5  # while the model still wrote
    assert [step.alarm for step in run.trace().steps].count(True) == 1


@pytest.mark.parametrize("error", [LookupError, WriteError])
def test_what_a_callback_raises_comes_out_of_generate_and_loses_nothing(scene_image, error):
    model, processor, estimator = loaded()

    def refuse(step):
        if step.index == 1:
            raise error("enough of this")

    watch = tk.watch(model, processor, scene_image, "sort row 1 down.", estimator=estimator, on_step=refuse)
    with pytest.raises(error, match="enough of this"), watch as run:
        model.generate(**run.inputs, **run.kwargs, do_sample=False)
    trace = run.trace()
    assert trace.n_steps >= 2
    assert trace.steps[-1].token_end == len(run.runs[0].tokens)  # the sentence that was being written, too
    assert trace.meta["stopped"] is True
    assert model.config.text_config._attn_implementation == "sdpa"
    assert not [name for name in vars(model) if name.startswith("_extract")]


def test_a_callback_may_use_the_model(scene_image):
    model, processor, estimator = loaded()
    asked = scene_image, "sort row 1 down."
    with tk.watch(model, processor, *asked, estimator=estimator) as alone:
        expected = model.generate(**alone.inputs, **alone.kwargs, do_sample=False)
    heard = []

    def use(step):
        if step.index == 1:
            plain = model.generate(**alone.inputs, do_sample=False)
            with tk.watch(model, processor, *asked, estimator=estimator) as inner:
                heard.extend([plain, model.generate(**inner.inputs, **inner.kwargs, do_sample=False), inner.trace()])

    with tk.watch(model, processor, *asked, estimator=estimator, on_step=use) as run:
        tokens = model.generate(**run.inputs, **run.kwargs, do_sample=False)
    assert all(torch.equal(one, expected) for one in (tokens, *heard[:2]))
    for trace in (run.trace(), heard[2]):
        np.testing.assert_array_equal(trace.effects, alone.trace().effects)
    assert model.config.text_config._attn_implementation == "sdpa"


@pytest.mark.parametrize("fails", ["callback", "worker"])
def test_a_call_that_failed_holds_no_keys(scene_image, fails):
    model, processor, estimator = loaded()
    if fails == "worker":
        estimator = Broken({"weights": np.ones(24, np.float32)}, estimator.binding)
    watch = tk.watch(
        model, processor, scene_image, "sort row 1 down.", estimator=estimator, on_step=lambda step: 1 // 0
    )
    with pytest.raises((ZeroDivisionError, StreamError)), watch as run:
        model.generate(**run.inputs, **run.kwargs, do_sample=False)
    gc.collect()
    assert not [one for one in gc.get_objects() if isinstance(one, AttentionTap)]
    assert len(run.runs[0].tokens) > 0


def test_a_worker_that_fails_ends_the_call(scene_image):
    model, processor, estimator = loaded()
    broken = Broken({"weights": np.ones(24, np.float32)}, estimator.binding)
    with (
        pytest.raises(StreamError, match="ZeroDivisionError: no such effect"),
        tk.watch(model, processor, scene_image, "sort row 1 down.", estimator=broken) as run,
    ):
        model.generate(**run.inputs, **run.kwargs, do_sample=False)
    assert run.trace().n_steps == 0
    assert len(run.runs[0].tokens) > 0


def test_stop_ends_the_call_as_its_own_limit_would(scene_image):
    model, processor, estimator = loaded()
    with tk.watch(
        model, processor, scene_image, "sort row 1 down.", estimator=estimator, on_step=lambda step: run.stop()
    ) as run:
        output = model.generate(**run.inputs, **run.kwargs, do_sample=False)
    whole = model.generate(**run.inputs, do_sample=False)
    assert torch.equal(output[0], whole[0, : output.shape[1]])
    assert output.shape[1] < whole.shape[1]
    assert run.trace().meta["stopped"] is True
    with tk.watch(model, processor, scene_image, "sort row 1 down.", estimator=estimator) as run:
        run.stop()  # before it has begun
        model.generate(**run.inputs, **run.kwargs, do_sample=False)
    assert len(run.runs[0].tokens) == 1


@pytest.mark.parametrize("action", ["stop", "answer now"])
def test_a_policy_acts_on_a_call_of_somebody_elses(scene_image, demo_vlm, action):
    model, processor, estimator = loaded()
    policy = tk.Policy(action)
    given = {"estimator": estimator, "monitor": watching(demo_vlm), "policy": policy}
    with tk.watch(model, processor, scene_image, "sort row 1 down.", **given) as run:
        output = model.generate(**run.inputs, **run.kwargs, do_sample=False)
    trace = run.trace()
    assert [decision["action"] for decision in trace.meta["decisions"]] == [action]
    whole = model.generate(**run.inputs, do_sample=False)
    assert output.shape[1] < whole.shape[1]
    if action == "stop":
        assert (trace.meta["stopped"], trace.answer) == (True, "")
    else:
        assert "stopped" not in trace.meta
        assert trace.steps[-1].kind == "answer"


def test_a_running_call_cannot_ask_again(scene_image, demo_vlm):
    model, processor, estimator = loaded()
    with pytest.raises(InputError, match="cannot ask again"):
        tk.watch(
            model,
            processor,
            scene_image,
            QUESTION,
            estimator=estimator,
            monitor=watching(demo_vlm),
            policy=tk.Policy("ask again"),
        )


REFUSED = {
    "num_beams = 2": {"num_beams": 2},
    "use_cache = False": {"use_cache": False},
    "cache_implementation = 'static'": {"cache_implementation": "static"},
    "prompt_lookup_num_tokens = 3": {"prompt_lookup_num_tokens": 3},
    "guidance_scale = 1.5": {"guidance_scale": 1.5},
    "dola_layers": {"dola_layers": "high"},
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_be_followed_is_refused_before_the_first_token(scene_image, said):
    model, processor, estimator = loaded()
    heard, passes = [], []
    hook = model.register_forward_hook(lambda *_: passes.append(1))
    try:
        with (
            pytest.raises(InputError, match=said),
            tk.watch(model, processor, scene_image, QUESTION, estimator=estimator, on_step=heard.append) as run,
        ):
            model.generate(**run.inputs, **run.kwargs, **REFUSED[said], max_new_tokens=8)
    finally:
        hook.remove()
    assert not heard
    assert not passes


def test_a_model_that_drafts_and_a_cache_of_another_kind_are_refused(scene_image):
    model, processor, estimator = loaded()
    filled = DynamicCache(config=model.config)
    for given, said in (
        ({"assistant_model": model}, "assistant_model"),
        ({"past_key_values": StaticCache(config=model.config, max_cache_len=400)}, "a StaticCache of 0 tokens"),
    ):
        with (
            pytest.raises(InputError, match=said),
            tk.watch(model, processor, scene_image, QUESTION, estimator=estimator) as run,
        ):
            model.generate(**run.inputs, **run.kwargs, **given, max_new_tokens=8)
    with tk.watch(model, processor, scene_image, QUESTION, estimator=estimator) as run:
        model.generate(**run.inputs, **run.kwargs, past_key_values=filled, max_new_tokens=8)
    assert run.runs[0].ended


def test_inputs_of_another_prompt_are_refused(scene_image):
    model, processor, estimator = loaded()
    other = scene_image.rotate(90)
    for question, image, said in (
        (SECOND, scene_image, "tokens that generate was given are not those"),
        (QUESTION, other, "pixel_values that generate was given are not those"),
        (QUESTION, scene_image.resize((160, 96)), "tokens that generate was given"),
    ):
        inputs = inputs_of(processor, chat(image, question))
        with (
            pytest.raises(InputError, match=said),
            tk.watch(model, processor, scene_image, QUESTION, estimator=estimator) as run,
        ):
            model.generate(**inputs, **run.kwargs, max_new_tokens=8)


def test_a_watch_that_watches_nothing_says_so(scene_image):
    model, processor, estimator = loaded()
    with (
        pytest.raises(InputError, match=r"nothing was generated under this watch; call model.generate\(\*\*inputs"),
        tk.watch(model, processor, scene_image, QUESTION, estimator=estimator) as run,
    ):
        model.generate(**run.inputs, max_new_tokens=4)
    with pytest.raises(InputError, match="nothing has been generated"):
        run.trace()


def test_a_watch_is_of_one_call_in_its_block(scene_image):
    model, processor, estimator = loaded()
    outside = tk.watch(model, processor, scene_image, QUESTION, estimator=estimator)
    with pytest.raises(InputError, match="a watch is a context"):
        model.generate(**outside.inputs, **outside.kwargs, max_new_tokens=4)
    with pytest.raises(LookupError), outside:
        raise LookupError
    with pytest.raises(InputError, match="a watch is a context"):
        model.generate(**outside.inputs, **outside.kwargs, max_new_tokens=4)
    with tk.watch(model, processor, scene_image, QUESTION, estimator=estimator) as run:
        model.generate(**run.inputs, **run.kwargs, max_new_tokens=4)
        with pytest.raises(InputError, match="make another one for each call"):
            model.generate(**run.inputs, **run.kwargs, max_new_tokens=4)
    assert run.trace().n_steps == 1


def test_watches_stand_in_each_other(scene_image):
    model, processor, estimator = loaded()
    outer = tk.watch(model, processor, scene_image, QUESTION, estimator=estimator)
    inner = tk.watch(model, processor, scene_image, SECOND, estimator=estimator)
    with outer:
        with inner:
            model.generate(**inner.inputs, **inner.kwargs, max_new_tokens=20)
        model.generate(**outer.inputs, **outer.kwargs, max_new_tokens=20)
    assert inner.trace().question == SECOND
    assert outer.trace().question == QUESTION
    assert not [name for name in vars(model) if name.startswith("_extract")]


def test_watches_of_two_threads_take_turns_and_both_keep_their_streamers(scene_image):
    model, processor, estimator = loaded()
    streams, watches, given = [Kept(), Kept()], [], {}

    def run(at):
        with tk.watch(model, processor, scene_image, ASKED[at], estimator=estimator) as watch:
            watches.append(watch)
            given[at] = model.generate(**watch.inputs, **watch.kwargs, **GREEDY, streamer=streams[at])

    threads = [threading.Thread(target=run, args=(at,)) for at in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at in range(2):
        (own,) = [watch for watch in watches if watch.trace().question == ASKED[at]]
        assert [number for one in streams[at].given[1:-1] for number in one] == own.runs[0].tokens
        assert torch.equal(given[at], model.generate(**own.inputs, **GREEDY))
    assert not [name for name in vars(model) if name.startswith("_extract")]


def test_a_model_that_was_trained_on_since_is_another_model(scene_image):
    model, processor, estimator = loaded("glm4v")
    weight = model.get_output_embeddings().weight
    assert vlm_of(model, processor).fingerprint == estimator.binding.fingerprint
    before = weight.data.clone()
    try:
        weight.data *= 1.01
        with pytest.raises(EstimatorMismatchError):
            tk.watch(model, processor, scene_image, QUESTION, estimator=estimator)
    finally:
        weight.data.copy_(before)
    assert vlm_of(model, processor).fingerprint == estimator.binding.fingerprint


def test_views_of_one_model_share_its_lock_and_it_is_freed_with_them(demo_vlm):
    model, processor, _ = loaded()
    assert vlm_of(model, processor).lock is vlm_of(model, processor).lock
    assert vlm_of(demo_vlm.model, demo_vlm.processor).lock is demo_vlm.lock
    assert vlm_of(model, processor).lock is not demo_vlm.lock


def test_interrupts_leave_what_there_is():
    """In a process of its own: `watch_worker` prints for each signal what is left."""
    worker = [sys.executable, "-m", "tests.attribution.watch_worker"]
    ended = subprocess.run(worker, capture_output=True, text=True, timeout=120, check=False, env={**os.environ})
    assert ended.returncode == 0, ended.stderr
    left = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [one["raised"] for one in left] == ["KeyboardInterrupt", "SystemExit"]
    assert all(one["steps"] >= 1 and one["stopped"] and one["tokens"] == one["explained"] > 0 for one in left)
    assert all(one["threads"] == 0 and one["kernel"] == "sdpa" for one in left)
