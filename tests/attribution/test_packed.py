"""Pieces of several sequences share a pass, and each attends to its own sequence and to all of it."""

from __future__ import annotations

from threading import Thread

import pytest
import torch

from pipelines.demo.model import ARCHITECTURES
from tests.attribution.conftest import QUESTION
from tests.attribution.test_kernels import DTYPES, drawn
from trajkit.attribution.kernels import row_lse, scores_of_rows
from trajkit.attribution.packed import Piece, ReadSequence, last_rows, read_pieces
from trajkit.errors import InputError


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "n_keys"), [(1, 1), (1, 300), (40, 40), (7, 300), (299, 300)])
@pytest.mark.parametrize("kv_heads", [8, 2, 1])
def test_the_last_rows_attend_to_all_before_them_and_tell_their_log_sum_exp(dtype, n, n_keys, kv_heads):
    query, key, value = drawn(8, kv_heads, n, n_keys, dtype=dtype)
    out, lse = last_rows(query, key, value, 0.1)
    scores = scores_of_rows(query[0], key[0], 0.1)  # (H, n, S)
    expected = scores.softmax(-1) @ value[0].float().repeat_interleave(8 // kv_heads, 0)
    rounding = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    assert out.dtype == dtype
    torch.testing.assert_close(out[0].float(), expected, atol=rounding, rtol=rounding)
    torch.testing.assert_close(lse[0], scores.logsumexp(-1), atol=5e-6 if dtype == torch.float32 else 3e-4, rtol=0)


def test_a_kernel_that_keeps_its_log_sum_exp_is_given_a_mask(monkeypatch):
    query, key, value = drawn(8, 2, 7, 300)
    expected, _ = last_rows(query, key, value, 0.1)
    monkeypatch.setattr("trajkit.attribution.kernels._FUSED", {})
    out, lse = last_rows(query, key, value, 0.1)
    assert lse is None
    torch.testing.assert_close(out, expected)


def inputs_after(prompt, tokens):
    return torch.cat([prompt.inputs["input_ids"][0], tokens])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_hidden_states_and_rows_are_those_of_one_pass_over_each_sequence(random_vlm, scene_image, architecture, dtype):
    vlm = random_vlm(architecture, dtype=dtype)
    prompts = [
        vlm.prepare([scene_image, scene_image.resize((128, 64))], QUESTION),
        vlm.prepare(scene_image.resize((64, 128)), "sort row 1 down."),
    ]
    after = [torch.arange(20, 80), torch.arange(60, 20, -1)]
    ids = [inputs_after(prompt, tokens) for prompt, tokens in zip(prompts, after, strict=True)]
    sequences = [ReadSequence(vlm, prompt) for prompt in prompts]

    def read(*ends):
        """The sequences up to these positions, in one pass."""
        pieces = [
            Piece(one, own[one.n : end], one.prompt.first_row)
            for one, own, end in zip(sequences, ids, ends, strict=False)
        ]
        return list(read_pieces(vlm, pieces))

    a, b = prompts[0].length, prompts[1].length
    parts = [*read(a - 3), *read(a + 5, b - 1), *read(a + 60, b + 1), *read(a + 60, b + 40)[1:]]
    of_first, of_second = [parts[0], parts[1], parts[3]], [parts[2], parts[4], parts[5]]
    for prompt, tokens, own, seen in zip(prompts, after, sequences, (of_first, of_second), strict=True):
        with torch.inference_mode():
            whole = vlm.model.model(**prompt.followed_by(tokens), use_cache=False).last_hidden_state[0]
        rounding = {"atol": 1e-4, "rtol": 1e-4} if dtype == "float32" else {"atol": 0.3, "rtol": 0.1}
        hidden = torch.cat([part.hidden for part in seen])
        torch.testing.assert_close(hidden, whole, **rounding)
        assert own.n == len(whole)
        assert sum(part.rows.n for part in seen) == len(whole) - prompt.first_row
        queries, lse = next(iter(seen[-1].rows.layers()))
        expected = row_lse(queries, own.keys(own.n)[0], own.scaling)
        torch.testing.assert_close(lse, expected, atol=1e-5 if dtype == "float32" else 1e-2, rtol=0)


def test_pieces_that_are_too_much_for_one_pass_are_read_in_several(random_vlm, scene_image, monkeypatch):
    vlm = random_vlm()
    prompt = vlm.prepare(scene_image, QUESTION)
    ids, after = prompt.inputs["input_ids"][0], prompt.first_row
    lengths = [len(ids), after, after + 1, after + 2]

    def read(at_once):
        monkeypatch.setattr("trajkit.attribution.packed.ROWS_AT_ONCE", at_once)
        rows = []
        layer = vlm.model.model.language_model.layers[0]
        hook = layer.register_forward_hook(lambda module, inputs, output: rows.append(inputs[0].shape[1]))
        try:
            seen = list(read_pieces(vlm, [Piece(ReadSequence(vlm, prompt), ids[:n], 0) for n in lengths]))
        finally:
            hook.remove()
        return rows, seen

    together, one_by_one = read(10**6), read(2 * after + 1)
    assert together[0] == [sum(lengths)]
    assert one_by_one[0] == [len(ids), 2 * after + 1, after + 2]
    for a, b in zip(together[1], one_by_one[1], strict=True):
        torch.testing.assert_close(a.hidden, b.hidden, atol=1e-4, rtol=1e-4)


def test_passes_of_other_threads_are_as_they_were(random_vlm, scene_image):
    vlm = random_vlm()
    prompt = vlm.prepare(scene_image, QUESTION)
    ids, found = prompt.inputs["input_ids"][0], []

    def plain():
        with torch.inference_mode():
            found.append(vlm.model(**prompt.inputs).logits)

    plain()

    def meanwhile(module, inputs, output):
        hook.remove()
        other = Thread(target=plain)
        other.start()
        other.join()

    hook = vlm.model.model.language_model.layers[1].register_forward_hook(meanwhile)
    sequence = ReadSequence(vlm, prompt)
    list(read_pieces(vlm, [Piece(sequence, ids, 0)]))
    assert len(found) == 2
    assert torch.equal(found[0], found[1])
    assert sequence.n == len(ids)
    assert sequence.keys(len(ids))[0].shape[1] == len(ids)


def test_the_model_is_as_before_after_a_pass_that_failed(random_vlm, scene_image):
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    vlm = random_vlm()
    prompt = vlm.prepare(scene_image, QUESTION)
    before = set(ALL_ATTENTION_FUNCTIONS)
    hook = vlm.model.model.language_model.layers[2].register_forward_hook(lambda *args: 1 // 0)
    sequence = ReadSequence(vlm, prompt)
    with pytest.raises(ZeroDivisionError):
        list(read_pieces(vlm, [Piece(sequence, prompt.inputs["input_ids"][0], 0)]))
    hook.remove()
    assert sequence.n == 0
    assert vlm.text_config._attn_implementation == "sdpa"
    assert set(ALL_ATTENTION_FUNCTIONS) == before


@pytest.mark.parametrize("name", ["sliding_window", "softcap", "s_aux"])
def test_attention_of_another_kind_is_refused(random_vlm, scene_image, name, monkeypatch):
    vlm = random_vlm()
    prompt = vlm.prepare(scene_image, QUESTION)
    inner = vlm.model.model.language_model.layers[1].self_attn
    forward = inner.forward
    monkeypatch.setattr(inner, "forward", lambda *args, **kwargs: forward(*args, **kwargs, **{name: 8}))
    with pytest.raises(InputError, match=f"the model's attention has {name}"):
        list(read_pieces(vlm, [Piece(ReadSequence(vlm, prompt), prompt.inputs["input_ids"][0], 0)]))


def test_an_eager_model_is_refused(random_vlm, scene_image):
    vlm = random_vlm()
    prompt = vlm.prepare(scene_image, QUESTION)
    piece = Piece(ReadSequence(vlm, prompt), prompt.inputs["input_ids"][0], prompt.first_row)
    vlm.model.set_attn_implementation("eager")
    try:
        with pytest.raises(InputError, match="needs a model on a fast kernel"):
            list(read_pieces(vlm, [piece]))
    finally:
        vlm.model.set_attn_implementation("sdpa")
