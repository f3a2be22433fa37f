"""The tap changes nothing, and what it keeps gives the attention that the eager kernel would have shown."""

from __future__ import annotations

import pytest
import torch

from tests.attribution.conftest import QUESTION
from trajkit.attribution.ablation import full_inputs
from trajkit.attribution.features import attention_rows
from trajkit.attribution.tap import AttentionTap
from trajkit.demo.model import ARCHITECTURES
from trajkit.errors import InputError


def tapped_attention(vlm, inputs, rows, image_tokens):
    with AttentionTap(vlm) as tap, torch.inference_mode():
        vlm.model(**inputs)
    end = int(rows[-1]) + 1
    queries, keys = tap.take(end), tap.keys(end)
    layers = [attention_rows(q[0, :, rows], k[0], tap.scaling) for q, k in zip(queries, keys, strict=True)]
    return torch.stack(layers)[..., image_tokens]


def test_recomputed_attention_equals_eager_attention(demo_vlm, prompt, generated, eager_attention):
    inputs = full_inputs(demo_vlm, prompt, generated)
    rows = torch.arange(prompt.length - 1, prompt.length - 1 + len(generated))
    ours = tapped_attention(demo_vlm, inputs, rows, prompt.image_tokens)
    eager = eager_attention(demo_vlm, inputs)[:, :, rows][..., prompt.image_tokens]
    assert ours.max() > 0.1
    torch.testing.assert_close(ours, eager, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_it_equals_eager_attention_for_every_architecture_and_number_of_key_heads(
    random_vlm, scene_image, eager_attention, architecture, kv_heads
):
    vlm = random_vlm(architecture, 4, kv_heads)
    prompt = vlm.prepare([scene_image, scene_image.resize((128, 64))], QUESTION)
    tokens = torch.arange(20, 32)
    inputs = full_inputs(vlm, prompt, tokens)
    rows = torch.arange(prompt.length - 1, prompt.length - 1 + len(tokens))
    ours = tapped_attention(vlm, inputs, rows, prompt.image_tokens)
    eager = eager_attention(vlm, inputs)[:, :, rows][..., prompt.image_tokens]
    assert ours.std() > 1e-3
    torch.testing.assert_close(ours, eager, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("do_sample", [False, True])
def test_tokens_are_identical_with_the_tap_for_every_architecture(
    random_vlm, scene_image, architecture, dtype, do_sample
):
    vlm = random_vlm(architecture, dtype=dtype)
    prompt = vlm.prepare(scene_image, QUESTION)

    def run():
        torch.manual_seed(5)
        return vlm.model.generate(**prompt.inputs, do_sample=do_sample, max_new_tokens=12)

    plain = run()
    with AttentionTap(vlm):
        assert torch.equal(run(), plain)


@pytest.mark.parametrize("do_sample", [False, True])
def test_generated_tokens_are_identical_with_and_without_the_tap(demo_vlm, prompt, do_sample):
    def run():
        torch.manual_seed(5)
        return demo_vlm.model.generate(**prompt.inputs, do_sample=do_sample, max_new_tokens=80)

    plain = run()
    with AttentionTap(demo_vlm, prompt.length - 1) as tap:
        tapped = run()
    assert tap.n_rows == tapped.shape[1] - prompt.length
    assert torch.equal(plain, tapped)


def test_logits_are_bit_identical_with_the_tap(demo_vlm, prompt):
    with torch.inference_mode():
        plain = demo_vlm.model(**prompt.inputs).logits
        with AttentionTap(demo_vlm):
            tapped = demo_vlm.model(**prompt.inputs).logits
    assert torch.equal(plain, tapped)


def test_taps_nest_and_each_sees_every_pass(demo_vlm, prompt):
    with torch.inference_mode(), AttentionTap(demo_vlm) as outer:
        with AttentionTap(demo_vlm) as inner:
            cache = demo_vlm.model(**prompt.inputs, use_cache=True).past_key_values
        demo_vlm.model(input_ids=prompt.inputs["input_ids"][:, -1:], past_key_values=cache)
    n = prompt.length
    assert (outer.n_rows, inner.n_rows) == (n + 1, n)
    assert torch.equal(outer.take(n)[0], inner.take(n)[0])


def test_rows_are_kept_from_the_first_one_asked_for_and_taken_in_order(demo_vlm, prompt):
    with torch.inference_mode(), AttentionTap(demo_vlm) as whole, AttentionTap(demo_vlm, prompt.length - 3) as some:
        demo_vlm.model(**prompt.inputs)
    assert some.n_rows == 3
    first, rest = some.take(1), some.take(2)
    assert some.n_rows == 0
    assert torch.equal(torch.cat([first[2], rest[2]], 2), whole.take(prompt.length)[2][:, :, -3:])
    assert whole.keys(5)[0].shape[2] == 5


def test_leaving_a_tap_restores_the_model_even_after_an_error(demo_vlm):
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    before = set(ALL_ATTENTION_FUNCTIONS)
    with pytest.raises(ValueError, match="exactly one of"), AttentionTap(demo_vlm):
        demo_vlm.model(input_ids=torch.zeros(1, 2, dtype=torch.long), inputs_embeds="none")
    assert demo_vlm.text_config._attn_implementation == "sdpa"
    assert set(ALL_ATTENTION_FUNCTIONS) == before


def test_an_eager_model_is_refused(random_vlm):
    vlm = random_vlm()
    vlm.model.set_attn_implementation("eager")
    try:
        with pytest.raises(InputError, match="needs a model on a fast kernel"), AttentionTap(vlm):
            pass
    finally:
        vlm.model.set_attn_implementation("sdpa")
