"""Baselines: each does what its paper says, on every architecture, and leaves the model as it was."""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import trajkit as tk
from trajkit.attribution.ablation import fill, measure_effects, single_region_masks
from trajkit.attribution.baselines import baselines, best_head, single_head
from trajkit.attribution.baselines.attnlrp import (
    constant_variance,
    identity,
    image_leaves,
    lrp_rules,
    scale,
    uniform_attention,
)
from trajkit.attribution.baselines.contextcite import contextcite
from trajkit.attribution.baselines.gradients import integrated_gradients
from trajkit.attribution.baselines.kernel import causal_attention
from trajkit.attribution.baselines.pixels import patch_labels, pool_pixels
from trajkit.attribution.baselines.replayed import pass_inputs
from trajkit.attribution.baselines.tam import rank_gaussian, without_interference
from trajkit.attribution.estimator import StepExample
from trajkit.attribution.features import token_weights
from trajkit.errors import InputError
from trajkit.vlm.sentences import Span, split_steps

ARCHITECTURES = ("qwen3_vl", "qwen2_5_vl", "glm4v")
NEED_CAPTUM = ("input × gradient", "integrated gradients", "feature ablation")
QUICK = {"integrated gradients": partial(integrated_gradients, steps=4)}
"""With fewer steps than shipped, to keep the tests quick."""
NO_GUIDE = ("attention rollout", "TAM", "input × gradient")
"""On the demo model rollout and TAM are near chance, as measured. Input × gradient finds the place and not the sign: of
50 readings of six scenes its largest product lies in the named cell for 8 %, its largest in size for 60 %."""
EVERY = {name: QUICK.get(name, method) for name, method in baselines().items() if "64" not in name}
EVERY["one head"] = partial(single_head, head=5)


@pytest.fixture(scope="module")
def readings(demo_vlm, prompt, generated):
    """The sentences of the run that read a cell, that cell for each, and the 6 × 6 cells as regions."""
    spans, texts, _ = split_steps(generated.tolist(), demo_vlm)
    found = []
    for span, text in zip(spans, texts, strict=True):
        words = text.rstrip(".").split()
        if words[0] == "row" and "empty" not in words:
            row, col = int(words[1]), int(words[3])
            found.append((span, (row - 1) * 6 + col - 1))
    return (
        [span for span, _ in found],
        [cell for _, cell in found],
        tk.segment(prompt.canvas.images, "blocks", (36, 36)),
    )


@pytest.fixture(scope="module")
def small(random_vlm):
    """A random model, a prompt, 6 tokens, two steps and 8 regions, by architecture."""

    def make(architecture):
        vlm = random_vlm(architecture)
        noise = np.random.default_rng(0).integers(0, 255, (64, 256, 3), dtype=np.uint8)
        prompt = vlm.prepare(Image.fromarray(noise), "sort row 2 up.")
        regions = tk.segment(prompt.canvas.images, "voronoi", (8, 8))
        tokens = torch.tensor(vlm.tokenizer("row 2 col 1 is red")["input_ids"])
        return vlm, prompt, tokens, [Span(0, 4, "thinking"), Span(4, 6, "thinking")], regions

    return make


def logits(vlm, prompt, tokens):
    return vlm.model(**pass_inputs(vlm, prompt, tokens), use_cache=False).logits


def eager(vlm, prompt, tokens):
    """(L, H, S, S) attention by transformers' own eager kernel."""
    vlm.model.set_attn_implementation({"text_config": "eager"})
    try:
        with torch.no_grad():
            out = vlm.model(**pass_inputs(vlm, prompt, tokens), output_attentions=True)
    finally:
        vlm.model.set_attn_implementation({"text_config": "sdpa"})
    return torch.cat(out.attentions)


@pytest.mark.parametrize("name", [n for n in baselines() if n not in NO_GUIDE])
def test_a_reading_rests_on_the_cell_that_it_names(demo_vlm, prompt, generated, readings, name):
    """Chance is 1 in 36."""
    spans, cells, regions = readings
    if name in QUICK:
        spans, cells = spans[:2], cells[:2]
    scores = QUICK.get(name, baselines()[name])(demo_vlm, prompt, generated, spans, regions)
    assert scores.shape == (len(spans), 36)
    assert np.mean(scores.argmax(1) == cells) >= 0.5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_runs_and_is_left_as_it_was(small, architecture):
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    vlm, prompt, tokens, spans, regions = small(architecture)

    def state():
        kernels = [module.config._attn_implementation for module in vlm.model.modules() if hasattr(module, "config")]
        patched = [vars(m).get("forward") or m._forward_pre_hooks or m._forward_hooks for m in vlm.model.modules()]
        registries = sorted(ALL_ATTENTION_FUNCTIONS), sorted(ALL_MASK_ATTENTION_FUNCTIONS)
        wants = [p.requires_grad or p.grad is not None for p in vlm.model.parameters()]
        return kernels, any(patched), any(wants), registries, vlm.fingerprint, vlm.model.training

    before, state_before = logits(vlm, prompt, tokens), state()
    for name, method in EVERY.items():
        scores = method(vlm, prompt, tokens, spans, regions)
        assert scores.shape == (2, regions.k), name
        assert np.isfinite(scores).all(), name
        assert np.ptp(scores) > 0, name
        assert torch.equal(logits(vlm, prompt, tokens), before), name
        assert state() == state_before, name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pixels_are_counted_to_the_region_that_they_lie_in(small, architecture):
    """A picture that is white in one region only: what the processor makes of it, pooled, is white there only."""
    vlm, prompt, _, _, regions = small(architecture)
    labels = patch_labels(vlm, prompt, regions)
    for k in (0, regions.k - 1):
        white = np.repeat(np.where(regions.labels == k, 255, 0).astype(np.uint8)[..., None], 3, 2)
        values = vlm.pixel_values([Image.fromarray(white)])
        pooled = pool_pixels((values > 0).float(), labels, regions.k)
        assert pooled[k] > 0.99 * pooled.sum() > 0  # all but for borders that were smoothed by resizing


def test_an_error_says_how_to_install_captum(demo_vlm, prompt, generated, readings, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    spans, _, regions = readings
    for name in NEED_CAPTUM:
        with pytest.raises(InputError, match=r"pip install 'trajkit\[baselines\]'"):
            baselines()[name](demo_vlm, prompt, generated, spans, regions)


def test_captums_ablation_agrees_with_the_measured_effects(demo_vlm, prompt, generated, readings):
    spans, _, regions = readings
    measured = measure_effects(demo_vlm, prompt, generated, spans, regions, single_region_masks(36))
    captum = baselines()["feature ablation"](demo_vlm, prompt, generated, spans, regions)
    np.testing.assert_allclose(captum, measured.T, atol=1e-3)


def test_captums_ablation_takes_several_images(demo_vlm, scene_image):
    prompt = demo_vlm.prepare([scene_image, scene_image.rotate(90)], "sort row 2 up.")
    regions = tk.segment(prompt.canvas.images, "blocks", (8, 8))
    tokens, spans = torch.tensor(demo_vlm.tokenizer("row 2 col 1")["input_ids"]), [Span(0, 4, "thinking")]
    measured = measure_effects(demo_vlm, prompt, tokens, spans, regions, single_region_masks(8))
    captum = baselines()["feature ablation"](demo_vlm, prompt, tokens, spans, regions)
    np.testing.assert_allclose(captum, measured.T, atol=1e-3)


def test_integrated_gradients_add_up_to_hiding_everything(small):
    """On a picture of little contrast, where 32 steps are many."""
    vlm, _, tokens, spans, regions = small("qwen3_vl")
    noise = np.random.default_rng(0).integers(120, 136, (64, 256, 3), dtype=np.uint8)
    prompt = vlm.prepare(Image.fromarray(noise), "sort row 2 up.")
    everything = measure_effects(vlm, prompt, tokens, spans, regions, np.ones((1, regions.k), bool))[0]
    scores = integrated_gradients(vlm, prompt, tokens, spans, regions)
    np.testing.assert_allclose(scores.sum(1), everything, rtol=0.05, atol=0.005)


def test_input_x_gradient_is_the_slope_of_fading_into_the_fill(small):
    """Moving the pixels by ε · (x − x′) changes the log-probability by ε · Σ (x − x′) · gradient."""
    from trajkit.attribution.baselines.replayed import StepLogprobs

    vlm, prompt, tokens, spans, regions = small("glm4v")
    scores = baselines()["input × gradient"](vlm, prompt, tokens, spans, regions)
    logprobs, pixels = StepLogprobs(vlm, prompt, tokens, spans), prompt.inputs["pixel_values"][None]
    away = pixels - vlm.pixel_values([Image.fromarray(fill(image, "mean")) for image in prompt.canvas.images])
    with torch.no_grad():
        slope = (logprobs(pixels + 0.01 * away) - logprobs(pixels - 0.01 * away))[0] / 0.02
    np.testing.assert_allclose(scores.sum(1), slope, rtol=0.05, atol=0.01)


def test_rollout_multiplies_the_attention_of_all_layers(small):
    vlm, prompt, tokens, spans, regions = small("qwen3_vl")
    flow = torch.eye(prompt.length + len(tokens))
    for attention in eager(vlm, prompt, tokens).mean(1):
        flow = (0.5 * attention + 0.5 * torch.eye(len(flow))) @ flow
    rows = torch.stack([flow[prompt.length - 1 + s.start : prompt.length - 1 + s.end].mean(0) for s in spans])
    expected = rows[:, prompt.image_tokens].numpy() @ token_weights(regions, prompt)
    found = baselines()["attention rollout"](vlm, prompt, tokens, spans, regions)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_head_is_its_attention_to_the_region(small, architecture):
    vlm, prompt, tokens, spans, regions = small(architecture)
    attention = eager(vlm, prompt, tokens)
    heads = attention.shape[1]
    for layer, place in ((0, 0), (2, 3)):
        rows = attention[layer, place, prompt.length - 1 : -1, prompt.image_tokens]
        rows = torch.stack([rows[s.start : s.end].mean(0) for s in spans])
        found = single_head(vlm, prompt, tokens, spans, regions, head=layer * heads + place)
        np.testing.assert_allclose(found, rows.numpy() @ token_weights(regions, prompt), atol=1e-6)


def test_the_best_head_is_the_one_that_predicts_masks():
    rng = np.random.default_rng(0)
    examples = []
    for _ in range(6):
        features, masks = rng.random((10, 7)).astype(np.float32), rng.random((32, 10)) < 0.5
        effects = masks @ features[:, 3].astype(float) + rng.normal(0, 0.1, 32)
        features[:, 6] = features[:, 3]  # not a head: it stands behind the first six
        examples.append(StepExample(features, masks, effects, features[:, 3].astype(float)))
    assert best_head(examples, 6) == 3


def test_contextcite_finds_the_few_regions_that_matter(monkeypatch):
    weights = np.zeros((2, 20))
    weights[0, [3, 11]], weights[1, 5] = (4, -2), 6
    module = sys.modules["trajkit.attribution.baselines.contextcite"]
    monkeypatch.setattr(module, "measure_effects", lambda *args: args[5] @ weights.T)
    regions = tk.segment(Image.new("RGB", (40, 40)), "blocks", (20, 20))
    spans = [Span(0, 4, "thinking"), Span(4, 6, "thinking")]
    found = contextcite(None, None, torch.arange(6), spans, regions)
    np.testing.assert_allclose(found, weights, atol=0.2)
    assert (found == 0).mean() > 0.5
    np.testing.assert_array_equal(found, contextcite(None, None, torch.arange(6), spans, regions))
    assert not np.array_equal(found, contextcite(None, None, torch.arange(6), spans, regions, seed=1))


def test_lrp_conserves_relevance_through_norm_gate_products_and_residuals():
    """Input relevance sums to the output where no softmax and no bias takes any in."""
    torch.manual_seed(0)
    d = 8
    q, k, v, gate, up, down, head = (torch.randn(d, d) / d**0.5 for _ in range(7))
    norm = nn.RMSNorm(d)
    norm.variance_epsilon = 1e-6
    normed, silu = constant_variance(norm), identity(nn.functional.silu)
    x = torch.randn(5, d, requires_grad=True)
    h = normed(x)
    h = x + scale(scale(h @ q, 0.5) @ scale(h @ k, 0.5).T, 0.5) @ scale(h @ v, 0.5)
    n = normed(h)
    h = h + scale(silu(n @ gate) * (n @ up), 0.5) @ down
    output = (normed(h) @ head)[-1, 2]
    relevance = torch.autograd.grad(output, x)[0] * x
    torch.testing.assert_close(relevance.sum(), output, rtol=1e-4, atol=1e-5)


def test_lrp_of_attention_follows_the_published_rules():
    """Against the paper's equations written out: half to the values, Taylor at the softmax, half each to q and k."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 1, 5, 4, requires_grad=True) for _ in range(3))

    def kernel(module, query, key, value):
        return causal_attention(query[0], key[0], 0.5) @ value[0], None

    out = uniform_attention(kernel)(None, q, k, v)[0]
    start = torch.randn_like(out)  # R_out / out
    gradients = torch.autograd.grad((out * start).sum(), (q, k, v))
    found = [(g * x).detach()[0, 0] for g, x in zip(gradients, (q, k, v), strict=True)]

    q, k, v, start = q[0, 0].detach(), k[0, 0].detach(), v[0, 0].detach(), start[0]
    scores, attention = q @ k.T * 0.5, causal_attention(q[None], k[None], 0.5)[0]
    parts = attention[:, :, None] * v[None] * start[:, None]  # (i, j, d): R that passes A_ij · v_jd
    to_attention, to_value = parts.sum(2) / 2, parts.sum(0) / 2
    seen = scores.tril()
    to_scores = seen * (to_attention - attention * to_attention.sum(1, keepdim=True))
    share = to_scores[:, :, None] * (q[:, None] * k[None] * 0.5) / scores[:, :, None] / 2
    for a, b in zip(found, (share.sum(1), share.sum(0), to_value), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_lrp_conserves_relevance_in_each_architecture(small, architecture):
    """With attention's output off, nothing takes relevance in: what enters the text stack sums to the logit."""
    vlm, prompt, tokens, _, _ = small(architecture)
    outputs = [layer.self_attn.o_proj.weight for layer in vlm.model.model.language_model.layers]
    kept = [weight.clone() for weight in outputs]
    for weight in outputs:
        weight.zero_()
    try:
        plain = logits(vlm, prompt, tokens)
        with lrp_rules(vlm), image_leaves(vlm) as leaves:
            found = logits(vlm, prompt, tokens)
        assert torch.equal(found, plain)
        chosen = found[0, prompt.image_tokens[3]].max()
        relevance = sum((g * x).sum() for g, x in zip(torch.autograd.grad(chosen, leaves), leaves, strict=True))
    finally:
        for weight, value in zip(outputs, kept, strict=True):
            weight.copy_(value)
    torch.testing.assert_close(relevance, chosen, rtol=1e-3, atol=1e-4)


def test_lrp_rules_are_undone_after_an_error(small):
    vlm, prompt, tokens, _, _ = small("qwen3_vl")
    before = logits(vlm, prompt, tokens)
    with pytest.raises(KeyboardInterrupt), lrp_rules(vlm):
        raise KeyboardInterrupt
    assert torch.equal(logits(vlm, prompt, tokens), before)
    assert not any("forward" in vars(module) for module in vlm.model.modules())
    assert vlm.text_config._attn_implementation == "sdpa"


def test_tam_takes_out_what_earlier_words_already_showed():
    mine, theirs = torch.tensor([0.0, 0, 5, 0]), torch.tensor([[4.0, 0, 0, 0], [0, 0, 0, 2]])
    mixed = mine + 3 * theirs[0]
    cleaned = without_interference(mixed, theirs, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(cleaned, mine)
    assert torch.equal(without_interference(mine, theirs, torch.zeros(2)), mine)


def test_the_rank_gaussian_filter_is_the_papers():
    """Against its definition written out with loops; a lone spike on a dark field is damped."""
    image = np.random.default_rng(0).random((5, 7))
    padded, expected, ranks = np.pad(image, 1, mode="reflect"), np.zeros_like(image), np.arange(9) - 4
    for i, j in np.ndindex(image.shape):
        window = np.sort(padded[i : i + 3, j : j + 3].ravel())
        weights = np.exp(-(ranks**2) / (2 * (window.std() / window.mean()) ** 2))
        expected[i, j] = (window * weights).sum() / weights.sum()
    np.testing.assert_allclose(rank_gaussian(torch.from_numpy(image)), expected, rtol=1e-6)
    spike = torch.zeros(5, 5)
    spike[2, 2] = 9
    assert rank_gaussian(spike).max() < 1.1
    assert torch.equal(rank_gaussian(torch.zeros(1, 4)), torch.zeros(1, 4))


def test_tam_finds_the_image_token_that_says_the_word(small):
    """An image token whose last hidden state is the word's own row of the output layer stands out."""
    vlm, prompt, tokens, _, regions = small("qwen3_vl")
    spans = [Span(5, 6, "thinking")]
    stack = vlm.model.model.language_model

    def tell(module, args, output):
        states = torch.rand(output.last_hidden_state.shape, generator=torch.Generator().manual_seed(0)) * 0.01
        at = prompt.image_tokens[token_weights(regions, prompt)[:, 4] > 0.5]
        states[0, at] = vlm.model.lm_head.weight[tokens[5]]
        output.last_hidden_state = states
        return output

    handle = stack.register_forward_hook(tell)
    try:
        scores = baselines()["TAM"](vlm, prompt, tokens, spans, regions)
    finally:
        handle.remove()
    assert scores[0].argmax() == 4
