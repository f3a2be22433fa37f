"""Training rows are what the model will meet."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import trajkit as tk
from pipelines.demo.model import ARCHITECTURES, SIDE, build_model, build_tokenizer, save_checkpoint
from pipelines.demo.packing import cell_targets
from pipelines.demo.rows import Draw, RowMaker, picture_scene
from pipelines.demo.writer import Transcript, write_reasoning
from trajkit.demo.questions import draw_question, parse_question

FREE = Draw(0.0, 1.0, freedom=1.0, habit=0.5)


@pytest.fixture(params=sorted(ARCHITECTURES))
def vlm(request, tmp_path):
    """An untrained model of each architecture, saved and loaded as any other."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(request.param)
    save_checkpoint(build_model(tokenizer, request.param), tokenizer, tmp_path)
    return tk.load_vlm(tmp_path)


def test_a_row_begins_as_the_prompt_does_that_the_model_is_asked_with(vlm):
    maker, rng = RowMaker(vlm.tokenizer, vlm.model.config), np.random.default_rng(0)
    pictured = picture_scene(rng, FREE)
    question = draw_question(rng, pictured.scene)
    written = write_reasoning(question, pictured.scene, pictured.hardness, rng, 1.0)
    row = maker.batch([pictured], [[maker.segment(question, written)]]).inputs
    prompt = vlm.prepare(Image.fromarray(pictured.image), question.text)
    assert (prompt.inputs["input_ids"] == vlm.model.config.image_token_id).sum() == SIDE**2
    assert torch.equal(row["input_ids"][:, : prompt.length], prompt.inputs["input_ids"])
    assert torch.equal(row["position_ids"][..., : prompt.length], vlm.position_ids(prompt.inputs))
    torch.testing.assert_close(row["pixel_values"], prompt.inputs["pixel_values"])


def test_questions_that_share_a_row_cannot_see_each_other(vlm):
    """The logits of a segment are those it would have in a row of its own."""
    maker, rng = RowMaker(vlm.tokenizer, vlm.model.config), np.random.default_rng(0)
    pictured = picture_scene(rng, FREE)
    segments = [maker.address(pictured.scene, rng) for _ in range(3)]
    with torch.inference_mode():
        together = vlm.model(**maker.batch([pictured], [segments]).inputs).logits[0]
        alone = vlm.model(**maker.batch([pictured], [segments[2:]]).inputs).logits[0]
    n, prefix = len(segments[2][0]), len(maker.prefix)
    torch.testing.assert_close(together[-n:], alone[prefix:], atol=1e-4, rtol=1e-4)


def test_words_that_are_wrong_on_purpose_carry_no_loss_and_answers_carry_more():
    tokenizer = build_tokenizer()
    maker = RowMaker(tokenizer, build_model(tokenizer).config)
    said = Transcript(("row 1 col 1 is red 4.", "smallest at row 1 col 1 is 4."), "4", frozenset({(0, 6)}))
    ids, loss = maker.segment(parse_question("sort row 1 up."), said)
    text = tokenizer.convert_ids_to_tokens(ids)
    start, end = text.index("<think>") + 1, text.index("</think>")
    assert loss[:start] == [0.0] * start
    assert loss[start : start + 8] == [1, 1, 1, 1, 1, 1, 0, 1]  # row 1 col 1 is red (4) .
    assert set(loss[start + 8 :]) == {3.0}
    assert text[end:] == ["</think>", "4", "<|im_end|>"]


def test_rows_hold_as_many_questions_as_fit_and_at_least_one():
    tokenizer = build_tokenizer()
    maker = RowMaker(tokenizer, build_model(tokenizer).config)
    for tokens, least in ((1, 1), (900, 2)):
        batch = maker.draw(np.random.default_rng(0), 4, tokens, 2, FREE)
        answers = (batch.inputs["input_ids"] == maker.end_think).sum(1)
        assert answers.min() >= least
        assert batch.inputs["input_ids"].shape[1] <= max(tokens, 560) + len(maker.prefix) + 2 * 20


def test_each_image_token_has_its_cell_as_a_target():
    rng = np.random.default_rng(0)
    scenes = [picture_scene(rng, FREE).scene for _ in range(2)]
    targets = {name: value.reshape(2, 6, 6) for name, value in cell_targets(scenes).items()}
    for i, r, c in np.ndindex(2, 6, 6):
        cell = scenes[i].at((r, c))
        assert targets["digit"][i, r, c] == (10 if cell is None else cell[1])
        assert (targets["row"][i, r, c], targets["col"][i, r, c]) == (r, c)
    assert set(targets["colour"].unique().tolist()) == {0, 1, 2, 3, 4}
