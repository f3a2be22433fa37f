"""The tap changes nothing, and what it keeps gives the attention that the eager kernel would have shown."""

from __future__ import annotations

import pytest
import torch

from tests.attribution.conftest import random_vlm
from trajkit.attribution.ablation import full_inputs
from trajkit.attribution.features import image_attention
from trajkit.attribution.tap import AttentionTap
from trajkit.errors import InputError


def eager_attention(vlm, inputs):
    """(L, H, S, S) attention of the eager kernel."""
    vlm.model.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            return torch.cat(vlm.model(**inputs, output_attentions=True).attentions)
    finally:
        vlm.model.set_attn_implementation("sdpa")


def tapped_attention(vlm, inputs, rows, image_tokens):
    with AttentionTap(vlm, last_only=False) as tap, torch.inference_mode():
        vlm.model(**inputs)
    queries, keys = tap.take(0, 1)
    return image_attention([q[0, :, rows] for q in queries], [k[0] for k in keys], rows, image_tokens, tap.scaling)


def test_recomputed_attention_equals_eager_attention(demo_vlm, prompt, generated):
    inputs = full_inputs(demo_vlm, prompt, generated)
    rows = torch.arange(prompt.length - 1, prompt.length - 1 + len(generated))
    ours = tapped_attention(demo_vlm, inputs, rows, prompt.image_tokens)
    eager = eager_attention(demo_vlm, inputs)[:, :, rows][..., prompt.image_tokens]
    assert ours.max() > 0.1
    torch.testing.assert_close(ours, eager, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
def test_grouped_query_heads_and_merged_patches_are_handled(heads, kv_heads):
    vlm = random_vlm(heads, kv_heads)
    image = vlm.model.config.image_token_id
    ids = torch.cat([torch.tensor([1, 10, 3]), torch.full((16,), image), torch.randint(20, 60, (9,))])[None]
    kinds = (ids == image).long()
    inputs = {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": kinds,
        "pixel_values": torch.randn(64, 768), "image_grid_thw": torch.tensor([[1, 8, 8]]),
    }  # fmt: skip
    rows, at = torch.arange(19, 28), torch.arange(3, 19)
    ours = tapped_attention(vlm, inputs, rows, at)
    torch.testing.assert_close(ours, eager_attention(vlm, inputs)[:, :, rows][..., at], atol=1e-5, rtol=0)


@pytest.mark.parametrize("do_sample", [False, True])
def test_generated_tokens_are_identical_with_and_without_the_tap(demo_vlm, prompt, do_sample):
    def run():
        torch.manual_seed(5)
        return demo_vlm.model.generate(**prompt.inputs, do_sample=do_sample, max_new_tokens=80)

    plain = run()
    with AttentionTap(demo_vlm) as tap:
        tapped = run()
    assert tap.n_passes == tapped.shape[1] - prompt.length
    assert torch.equal(plain, tapped)


def test_logits_are_bit_identical_with_the_tap(demo_vlm, prompt):
    with torch.inference_mode():
        plain = demo_vlm.model(**prompt.inputs).logits
        with AttentionTap(demo_vlm):
            tapped = demo_vlm.model(**prompt.inputs).logits
    assert torch.equal(plain, tapped)


def test_taps_nest_and_each_sees_every_pass(demo_vlm, prompt):
    with torch.inference_mode(), AttentionTap(demo_vlm) as outer:
        demo_vlm.model(**prompt.inputs)
        with AttentionTap(demo_vlm) as inner:
            demo_vlm.model(**prompt.inputs)
    assert (outer.n_passes, inner.n_passes) == (2, 1)
    assert torch.equal(outer.queries[0][1], inner.queries[0][0])


def test_leaving_a_tap_restores_the_model_even_after_an_error(demo_vlm):
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    before = set(ALL_ATTENTION_FUNCTIONS)
    with pytest.raises(ValueError, match="exactly one of"), AttentionTap(demo_vlm):
        demo_vlm.model(input_ids=torch.zeros(1, 2, dtype=torch.long), inputs_embeds="none")
    assert demo_vlm.text_config._attn_implementation == "sdpa"
    assert set(ALL_ATTENTION_FUNCTIONS) == before


def test_an_eager_model_is_refused():
    vlm = random_vlm(2, 2)
    vlm.model.set_attn_implementation("eager")
    with pytest.raises(InputError, match="needs a model on a fast kernel"), AttentionTap(vlm):
        pass
