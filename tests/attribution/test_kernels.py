"""The kernels' own log-sum-exp, beside an output that is theirs to the bit."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from trajkit.attribution.kernels import attention, one_row, row_lse, scores_of_rows, with_lse
from trajkit.attribution.tap import AttentionTap

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def drawn(heads, kv_heads, n, n_keys, width=64, batch=1, dtype=torch.float32):
    torch.manual_seed(0)
    shapes = (heads, n), (kv_heads, n_keys), (kv_heads, n_keys)
    return [torch.randn(batch, *shape, width).to(dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "n_keys", "causal"), [(1, 700, False), (300, 300, True), (20, 320, False)])
@pytest.mark.parametrize("kv_heads", [8, 2, 1])
def test_output_is_the_kernels_own_to_the_bit_and_its_log_sum_exp_is_that_of_the_scores(
    dtype, n, n_keys, causal, kv_heads
):
    query, key, value = drawn(8, kv_heads, n, n_keys, dtype=dtype)
    mask = None if causal or n == 1 else torch.ones(n, n_keys, dtype=torch.bool).tril(n_keys - n)
    given = {"attn_mask": mask, "is_causal": causal, "scale": 0.1, "enable_gqa": kv_heads != 8}
    out, lse = attention(query, key, value, **given)
    assert torch.equal(out, scaled_dot_product_attention(query, key, value, **given))
    expected = torch.logsumexp(scores_of_rows(query[0], key[0], 0.1), -1)
    torch.testing.assert_close(lse[0], expected, atol=3e-4 if dtype != torch.float32 else 5e-6, rtol=0)


def test_masks_of_numbers_and_of_truth_values_count():
    query, key, value = drawn(4, 4, 1, 50, batch=2)
    seen = torch.rand(2, 1, 1, 50) > 0.4
    numbers = torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))
    expected = ((query @ key.transpose(2, 3)) * 0.2 + numbers).logsumexp(-1)
    for mask in (seen, numbers):
        out, lse = attention(query, key, value, attn_mask=mask, scale=0.2)
        assert torch.equal(out, scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.2))
        torch.testing.assert_close(lse, expected, atol=5e-6, rtol=0)


def test_a_kernel_that_tells_nothing_gives_its_output_and_none():
    query, key, value = (x.double() for x in drawn(4, 2, 1, 30))
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        out, lse = attention(query, key, value, enable_gqa=True)
        assert torch.equal(out, scaled_dot_product_attention(query, key, value, enable_gqa=True))
    assert lse is None


@pytest.mark.parametrize("at_once", [2**22, 4 * 30 * 7, 1])
def test_row_lse_is_that_of_all_visible_keys(at_once, monkeypatch):
    monkeypatch.setattr("trajkit.attribution.kernels._SCORES_AT_ONCE", at_once)
    query, key, _ = drawn(4, 2, 12, 30)
    expected = torch.logsumexp(scores_of_rows(query[0], key[0], 0.1), -1)
    torch.testing.assert_close(row_lse(query[0], key[0], 0.1), expected)


def test_a_kernel_that_returns_its_log_sum_exp_is_heard_too():
    """As flex attention does on a GPU; in half precision it is too coarse, and is not taken."""
    query, key, value = drawn(4, 4, 3, 9)
    for dtype in DTYPES:
        told = torch.ones(1, 4, 3, dtype=dtype)
        tell = with_lse(lambda module, q, k, v, told=told: (q.transpose(1, 2), told))
        assert (tell(None, query, key, value).lse is None) == (dtype != torch.float32)


def test_the_short_way_of_one_row_is_given_up_where_it_is_another(demo_vlm, prompt, monkeypatch):
    def off(*given):
        found = one_row(*given)
        return found._replace(result=(found.result[0] * 1.0001, None))

    plain = demo_vlm.model.generate(**prompt.inputs, do_sample=False, max_new_tokens=20)
    monkeypatch.setattr("trajkit.attribution.tap.one_row", off)
    with AttentionTap(demo_vlm, prompt.first_row) as tap:
        assert torch.equal(plain, demo_vlm.model.generate(**prompt.inputs, do_sample=False, max_new_tokens=20))
    assert not tap._quick


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_the_short_way_is_transformers_own_to_the_bit_also_in_a_padded_batch(kv_heads):
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    query, key, value = drawn(4, kv_heads, 1, 60, batch=3)
    module = SimpleNamespace(num_key_value_groups=4 // kv_heads, is_causal=True)
    padding = (torch.arange(60) >= torch.tensor([[0], [7], [30]]))[:, None, None]
    for mask in (None, padding):
        own, lse = one_row(query, key, value, 0.2, mask)
        assert torch.equal(own[0], sdpa_attention_forward(module, query, key, value, mask, scaling=0.2)[0])
        scores = query @ key.repeat_interleave(4 // kv_heads, 1).transpose(2, 3) * 0.2
        expected = (scores if mask is None else scores.masked_fill(~mask, float("-inf"))).logsumexp(-1)
        torch.testing.assert_close(lse, expected, atol=5e-6, rtol=0)


def test_it_is_said_once_where_attention_must_be_normalised_here(demo_vlm, prompt, monkeypatch):
    monkeypatch.setattr("trajkit.attribution.kernels._FUSED", {})
    with warnings.catch_warnings(record=True) as said, AttentionTap(demo_vlm, prompt.first_row):
        warnings.simplefilter("always")
        demo_vlm.model.generate(**prompt.inputs, do_sample=False, max_new_tokens=5)
    assert ["log-sum-exp" in str(one.message) for one in said] == [True]
