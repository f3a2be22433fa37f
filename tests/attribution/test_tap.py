"""The tap changes nothing, and what it keeps gives the attention that the eager kernel would have shown."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from threading import Thread

import pytest
import torch

from pipelines.demo.model import ARCHITECTURES
from tests.attribution.conftest import QUESTION
from trajkit.attribution.collect import pad_left
from trajkit.attribution.tap import AttentionTap
from trajkit.errors import InputError


def queries(rows):
    """(L, H, n, D)."""
    return torch.stack([query for query, _ in rows.layers()])


def tapped_attention(vlm, inputs, rows, image_tokens):
    with AttentionTap(vlm) as tap, torch.inference_mode():
        vlm.model(**inputs)
    end = int(rows[-1]) + 1
    layers = []
    for (query, lse), key in zip(tap.take(end).layers(), tap.keys(end), strict=True):
        key = key.repeat_interleave(len(query) // len(key), 0)
        scores = query[:, rows].float() @ key[:, image_tokens].float().transpose(1, 2) * tap.scaling
        layers.append((scores - lse[:, rows, None]).exp())
    return torch.stack(layers)


def test_recomputed_attention_equals_eager_attention(demo_vlm, prompt, generated, eager_attention):
    inputs = prompt.followed_by(generated)
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
    inputs = prompt.followed_by(tokens)
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
    assert tap.waiting() == tapped.shape[1] - prompt.length
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
    assert torch.equal(queries(outer.take(n)), queries(inner.take(n)))
    assert (outer.waiting(), inner.waiting()) == (1, 0)


def test_rows_are_kept_from_the_first_one_asked_for_and_taken_in_order(demo_vlm, prompt):
    with torch.inference_mode(), AttentionTap(demo_vlm) as whole, AttentionTap(demo_vlm, prompt.length - 3) as some:
        demo_vlm.model(**prompt.inputs)
    first, rest = some.take(1), some.take(2)
    assert queries(rest).shape[2] == 2
    assert some.waiting() == 0
    assert torch.equal(torch.cat([queries(first), queries(rest)], 2), queries(whole.take(prompt.length))[:, :, -3:])
    assert whole.keys(5)[0].shape[1] == 5


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


def after_the_prompt(vlm, prompt, change):
    """Two passes under a tap; `change` is done to the cache between them."""
    with torch.inference_mode(), AttentionTap(vlm, prompt.first_row):
        cache = vlm.model(**prompt.inputs, use_cache=True).past_key_values
        change(cache)
        vlm.model(input_ids=prompt.inputs["input_ids"][:, -1:], past_key_values=cache)


def test_a_cache_that_keeps_every_key_is_taken(demo_vlm, prompt):
    after_the_prompt(demo_vlm, prompt, lambda cache: None)


def test_a_cache_that_drops_keys_is_refused(demo_vlm, prompt):
    n = prompt.length
    with pytest.raises(InputError, match=rf"1 rows came with {n - 2} keys in layer 0, where {n} \+ 1"):
        after_the_prompt(demo_vlm, prompt, lambda cache: cache.crop(-3))


def test_a_cache_that_moves_or_rounds_keys_is_refused(demo_vlm, prompt):
    def move(cache):
        cache.layers[1].keys = cache.layers[1].keys.roll(1, 2)

    def rounded(cache):
        cache.layers[2].keys = cache.layers[2].keys.to(torch.bfloat16).float()

    for change, layer in ((move, 1), (rounded, 2)):
        with pytest.raises(InputError, match=f"keys of earlier rows have changed in layer {layer}"):
            after_the_prompt(demo_vlm, prompt, change)


def test_passes_without_a_cache_are_refused(demo_vlm, prompt):
    with pytest.raises(InputError, match="rows came with"), AttentionTap(demo_vlm):
        demo_vlm.model.generate(**prompt.inputs, use_cache=False, max_new_tokens=3)


def test_a_batch_is_refused(demo_vlm, prompt):
    inputs = {name: torch.cat([value, value]) for name, value in prompt.inputs.items()}
    with pytest.raises(InputError, match="2 sequences at once"), torch.inference_mode(), AttentionTap(demo_vlm):
        demo_vlm.model(**inputs)


def test_sequences_of_a_padded_batch_are_kept_as_alone(demo_vlm, scene_image):
    """Rows, log-sum-exp and keys of each, in positions without its padding."""
    prompts = [demo_vlm.prepare(scene_image, text) for text in (QUESTION, "sort row 1 down.")]
    inputs = pad_left([one.inputs for one in prompts], demo_vlm.tokenizer.pad_token_id)
    longest = max(one.length for one in prompts)
    padding = [longest - one.length for one in prompts]
    firsts = [one.first_row for one in prompts]
    assert min(padding) == 0 < max(padding)
    with torch.inference_mode(), AttentionTap(demo_vlm, firsts, padding) as together:
        out = demo_vlm.model.generate(**inputs, do_sample=False, max_new_tokens=20, min_new_tokens=20)
    for i, one in enumerate(prompts):
        tokens = one.followed_by(out[i, longest:-1])
        with torch.inference_mode(), AttentionTap(demo_vlm, one.first_row) as alone:
            demo_vlm.model(**tokens)
        n, end = alone.waiting(), one.length + 19
        assert together.waiting(i) == n == end - one.first_row
        first, rest = together.take(5, i), together.take(n - 5, i)
        for layer, (query, lse) in enumerate(alone.take(n).layers()):
            parts = list(first.layers())[layer], list(rest.layers())[layer]
            torch.testing.assert_close(torch.cat([part[0] for part in parts], 1), query, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(torch.cat([part[1] for part in parts], 1), lse, atol=1e-4, rtol=1e-4)
        for ours, theirs in zip(together.keys(end, i), alone.keys(end), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_rows_that_every_sequence_has_taken_or_will_not_take_are_dropped(demo_vlm, scene_image):
    prompt = demo_vlm.prepare(scene_image, QUESTION)
    inputs = pad_left([prompt.inputs, prompt.inputs], 0)
    with torch.inference_mode(), AttentionTap(demo_vlm, prompt.first_row, (0, 0)) as tap:
        demo_vlm.model.generate(**inputs, do_sample=False, max_new_tokens=9, min_new_tokens=9)
    n = tap.waiting(0)
    tap.take(n, 0)
    assert sum(one.n for one in tap._passes) == n
    tap.release(1)
    assert len(tap._passes) == 1  # which has room for more
    tap.release(0)
    assert not tap._passes
    with pytest.raises(InputError, match="sequence 1 was released"):
        tap.take(1, 1)


def test_rows_before_the_first_are_not_held_behind_those_that_are_kept(demo_vlm, prompt):
    with AttentionTap(demo_vlm, prompt.first_row) as tap, torch.inference_mode():
        demo_vlm.model(**prompt.inputs)
    (kept,) = tap.take(prompt.length - prompt.first_row).passes
    for held in (*kept.queries, *kept.lse):
        assert held.untyped_storage().nbytes() == held.nbytes


def test_a_long_question_is_not_held_for_the_sake_of_its_last_row(demo_vlm, scene_image):
    prompt = demo_vlm.prepare(scene_image, " ".join(["sort row 2 down."] * 40))
    with torch.inference_mode(), AttentionTap(demo_vlm, prompt.first_row) as tap:
        demo_vlm.model(**prompt.inputs)
    n = prompt.length - prompt.first_row
    whole = tap.take(n - 1).nbytes
    assert tap.take(1).nbytes * (n - 1) < 1.1 * whole


@contextmanager
def on_kernel(vlm, kernel):
    """The model on another kernel than transformers'."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register("of_a_test", kernel)
    ALL_MASK_ATTENTION_FUNCTIONS.register("of_a_test", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    vlm.model.set_attn_implementation({"text_config": "of_a_test"})
    try:
        yield
    finally:
        vlm.model.set_attn_implementation({"text_config": "sdpa"})
        for registry in (ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS):
            type(registry)._global_mapping.pop("of_a_test")


def attend(module, query, key, value, change):
    """Eager attention with `change`d scores, (B, n, H, D)."""
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    scores = query @ key.transpose(2, 3) * module.scaling
    later = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1 + key.shape[2] - query.shape[2])
    return (change(scores, later) @ value).transpose(1, 2), None


def usual(scores, later):
    return scores.masked_fill(later, float("-inf")).softmax(-1)


def scaled(scores, later):
    return usual(scores * 1.05, later)


def capped(scores, later):
    return usual(2 * torch.tanh(scores / 2), later)


def with_sink(scores, later):
    sink = torch.zeros_like(scores[..., :1])
    return torch.cat([scores.masked_fill(later, float("-inf")), sink], -1).softmax(-1)[..., :-1]


def windowed(scores, later):
    return usual(scores, later | torch.ones_like(later).tril(scores.shape[-1] - scores.shape[-2] - 30))


@pytest.mark.parametrize("change", [scaled, capped, with_sink, windowed])
def test_another_attention_than_ours_is_noticed(demo_vlm, prompt, change):
    with (
        on_kernel(demo_vlm, lambda module, q, k, v, *args, **kwargs: attend(module, q, k, v, change)),
        pytest.raises(InputError, match="differ from the kernel's by"),
        torch.inference_mode(),
        AttentionTap(demo_vlm),
    ):
        demo_vlm.model(**prompt.inputs)


def test_our_own_attention_by_another_kernel_is_taken(demo_vlm, prompt):
    with (
        on_kernel(demo_vlm, lambda module, q, k, v, *args, **kwargs: attend(module, q, k, v, usual)),
        torch.inference_mode(),
        AttentionTap(demo_vlm),
    ):
        demo_vlm.model(**prompt.inputs)


def test_attention_that_becomes_another_while_the_model_generates_is_noticed(demo_vlm, prompt):
    """Passes 1, 2, 4, 8 … are looked at."""
    looked_at = []

    def from_the_third_pass_on(module, query, key, value, *args, **kwargs):
        if module.layer_idx == 0:
            looked_at.append(key.shape[2])
        return attend(module, query, key, value, usual if len(looked_at) < 3 else scaled)

    with (
        on_kernel(demo_vlm, from_the_third_pass_on),
        pytest.raises(InputError, match="differ from the kernel's by"),
        AttentionTap(demo_vlm),
    ):
        demo_vlm.model.generate(**prompt.inputs, max_new_tokens=20, do_sample=False)
    assert len(looked_at) == 4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_rounding_is_no_other_attention(random_vlm, scene_image, architecture, dtype):
    vlm = random_vlm(architecture, dtype=dtype)
    prompt = vlm.prepare(scene_image, QUESTION)
    with AttentionTap(vlm) as tap:
        vlm.model.generate(**prompt.inputs, do_sample=False, max_new_tokens=33, min_new_tokens=33)
    assert tap.waiting() == prompt.length + 32


def test_a_model_with_sliding_windows_is_refused(random_vlm, tmp_path):
    from trajkit.vlm.load import load_vlm

    folder = tmp_path / "windows"
    shutil.copytree(random_vlm("qwen2_5_vl").name, folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}
    config["text_config"].pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="layer_types 'sliding_attention'"), AttentionTap(load_vlm(folder)):
        pass


def test_a_tap_that_cannot_restore_the_model_leaves_no_lock_and_no_kernel_behind(random_vlm, monkeypatch):
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    vlm = random_vlm()
    before = set(ALL_ATTENTION_FUNCTIONS)
    restore = vlm.model.set_attn_implementation
    with pytest.raises(ZeroDivisionError), AttentionTap(vlm):
        monkeypatch.setattr(vlm.model, "set_attn_implementation", lambda kernel: 1 // 0)
    monkeypatch.undo()
    restore({"text_config": "sdpa"})
    free = []
    other = Thread(target=lambda: free.append(vlm.lock.acquire(timeout=1) and not vlm.lock.release()))
    other.start()
    other.join()
    assert free == [True]
    assert set(ALL_ATTENTION_FUNCTIONS) == before
