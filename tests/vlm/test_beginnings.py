"""A generation that goes on from tokens is the one that had not stopped: same tokens, same draws, same logits."""

from __future__ import annotations

import pytest
import torch

from pipelines.demo.model import ARCHITECTURES
from tests.attribution.conftest import QUESTION
from tests.vlm.test_generation import with_settings
from trajkit.attribution.collect import pad_left
from trajkit.errors import InputError
from trajkit.vlm.generation import Sampling, generate


class Seen:
    """A decoding loop that keeps the scores of each pass, by the length of the sequence that they follow."""

    def __init__(self):
        self.at = {}

    def __call__(self, model, input_ids, logits_processor, *args, **kwargs):
        logits_processor.insert(0, self.see)
        return type(model)._sample(model, input_ids, logits_processor, *args, **kwargs)

    def see(self, input_ids, scores):
        self.at[input_ids.shape[1]] = scores.clone()
        return scores


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_going_on_is_as_not_having_stopped(random_vlm, scene_image, architecture, temperature):
    vlm = random_vlm(architecture)
    prompt = vlm.prepare([scene_image, scene_image.resize((128, 64))], QUESTION)
    sampling, whole, rest = Sampling(temperature, 24, seed=3), Seen(), Seen()
    with with_settings(vlm, suppress_tokens=sorted(vlm.end_tokens)):
        (tokens,) = generate(vlm, prompt.inputs, sampling, loop=whole)
        (again,) = generate(vlm, prompt.inputs, sampling, begun=[tokens[:9]], loop=rest)
    assert len(tokens) == 24
    assert again == tokens
    assert min(rest.at) == prompt.length + 9
    for length, scores in rest.at.items():
        torch.testing.assert_close(scores, whole.at[length], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_of_other_prompts_and_beginnings_go_on_in_one_batch_as_alone(random_vlm, scene_image, architecture):
    vlm = random_vlm(architecture)
    asked = [
        vlm.prepare(scene_image, "sort row 1 down."),
        vlm.prepare([scene_image, scene_image.resize((128, 64))], "how many red in col 1 to col 3?"),
        vlm.prepare(scene_image.resize((64, 128)), "how many blue in row 2 to row 4?"),
    ]
    inputs, sampling = pad_left([prompt.inputs for prompt in asked], vlm.tokenizer.pad_token_id), Sampling(0, 20)
    with with_settings(vlm, suppress_tokens=sorted(vlm.end_tokens)):
        whole = [generate(vlm, prompt.inputs, sampling)[0] for prompt in asked]
        begun = [whole[0][:7], [], whole[2][:12]]
        seen = Seen()
        together = generate(vlm, inputs, sampling, begun=begun, loop=seen)
        drawn = generate(vlm, inputs, Sampling(1.0, 20, seed=0), 2, begun=begun)
    assert together == whole
    assert len(seen.at) == 20  # the row that begins with nothing takes as many passes
    assert [len(row) for row in drawn] == [20] * 6
    assert [row[: len(begun[i // 2])] for i, row in enumerate(drawn)] == [row for row in begun for _ in range(2)]
    assert drawn[0] != drawn[1]


def test_rows_of_one_prompt_that_begin_with_more_and_fewer_tokens_go_on_as_alone(random_vlm, scene_image):
    vlm = random_vlm("qwen3_vl")
    prompt = vlm.prepare(scene_image, QUESTION)
    inputs = pad_left([prompt.inputs] * 2, vlm.tokenizer.pad_token_id)
    with with_settings(vlm, suppress_tokens=sorted(vlm.end_tokens)):
        (whole,) = generate(vlm, prompt.inputs, Sampling(0, 16))
        assert generate(vlm, inputs, Sampling(0, 16), begun=[whole[:9], whole[:2]]) == [whole] * 2


@pytest.mark.parametrize(
    "settings",
    [
        {"min_new_tokens": 12},
        {"repetition_penalty": 1.4},
        {"no_repeat_ngram_size": 2},
        {"encoder_repetition_penalty": 1.3},
        {"begin_suppress_tokens": [20, 21, 22, 23]},
        {"exponential_decay_length_penalty": (4, 1.3)},
        {"top_p": 0.6, "top_k": 4},
    ],
)
def test_settings_count_from_the_beginning(random_vlm, scene_image, settings):
    vlm = random_vlm()
    prompt = vlm.prepare(scene_image, QUESTION)
    with with_settings(vlm, **settings):
        (tokens,) = generate(vlm, prompt.inputs, Sampling(1.2, 24, seed=1))
        half = len(tokens) // 2
        assert generate(vlm, prompt.inputs, Sampling(1.2, 24, seed=1), begun=[tokens[:half]]) == [tokens]


def test_a_stop_string_that_begins_before_is_found_and_one_that_lies_before_ends_nothing(random_vlm, scene_image):
    vlm = random_vlm()
    prompt = vlm.prepare(scene_image, QUESTION)
    drawn = {"temperature": 1.2, "max_new_tokens": 32, "seed": 1}
    (usual,) = generate(vlm, prompt.inputs, Sampling(**drawn))

    def text(start, end):
        return vlm.tokenizer.decode(usual[start:end])

    at = next(i for i in range(4, 32) if text(i - 2, i) not in text(0, i - 1))
    sampling = Sampling(**drawn, stop_strings=text(at - 2, at))
    assert generate(vlm, prompt.inputs, sampling) == [usual[:at]]
    assert generate(vlm, prompt.inputs, sampling, begun=[usual[: at - 1]]) == [usual[:at]]
    (on,) = generate(vlm, prompt.inputs, sampling, begun=[usual[:at]])
    assert at < len(on)
    assert on == usual[: len(on)]


@pytest.mark.parametrize(
    ("begun", "named"),
    [
        ([[10**6]], "token 1000000 is none of the"),
        ([[-1]], "token -1 is none of the"),
        ([[20] * 8], "begins with 8 tokens and may have 8"),
    ],
)
def test_what_no_generation_begins_with_is_refused(random_vlm, scene_image, begun, named):
    vlm = random_vlm()
    prompt = vlm.prepare(scene_image, QUESTION)
    with pytest.raises(InputError, match=named):
        generate(vlm, prompt.inputs, Sampling(0, 8), begun=begun)
    with pytest.raises(InputError, match="stands for an image or video"):
        generate(vlm, prompt.inputs, Sampling(0, 8), begun=[[vlm.model.config.image_token_id]])
