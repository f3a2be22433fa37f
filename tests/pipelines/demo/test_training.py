"""Training rows are what the model will meet, and a run that is interrupted goes on as if it had not been."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen3VLForConditionalGeneration

import trajkit as tk
from pipelines.demo.batches import BatchMaker, Difficulty, draw_scenes
from pipelines.demo.model import ARCHITECTURES, build_config, build_tokenizer
from pipelines.demo.reasoning import Transcript, write_reasoning
from pipelines.demo.training import STAGES, Stage, trainer
from trajkit.demo import paths
from trajkit.demo.tasks import draw_task, parse_question
from trajkit.errors import WriteError

TINY = (
    Stage("see", 2, 2, 0, 1e-3, 0.1, Difficulty(0, 0.5, 0), cells=1.0),
    Stage("reason", 3, 2, 2, 1e-3, 0.1, Difficulty(0, 1, 1, stress=2.0, spell_out=True), cells=0.5),
)


def tiny_trainer(folder, seed=0):
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    model = Qwen3VLForConditionalGeneration(build_config(tokenizer, width=32, layers=2, heads=2, vision_width=32))
    return trainer(model, tokenizer, folder, TINY, seed)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def test_questions_that_share_a_row_cannot_see_each_other(demo_vlm):
    """The logits of a segment are those it would have in a row of its own."""
    maker, rng = BatchMaker(demo_vlm.tokenizer, demo_vlm.model.config), np.random.default_rng(0)
    scenes, images = draw_scenes(rng, "train", 1, Difficulty(0, 0, 0))
    tasks = [draw_task(rng, scenes[0]) for _ in range(3)]
    segments = [maker.segment(t, write_reasoning(t, scenes[0], rng, 1.0)) for t in tasks]
    with torch.inference_mode():
        together = demo_vlm.model(**maker.pack(scenes, images, [segments]).inputs).logits[0]
        alone = demo_vlm.model(**maker.pack(scenes, images, [segments[2:]]).inputs).logits[0]
    n, prefix = len(segments[2][0]), len(maker.prefix)
    torch.testing.assert_close(together[-n:], alone[prefix:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_row_of_a_batch_begins_as_the_prompt_does_that_the_model_is_asked_with(architecture):
    vlm = tk.load_vlm(paths.model(architecture))
    maker, rng = BatchMaker(vlm.tokenizer, vlm.model.config), np.random.default_rng(0)
    scenes, images = draw_scenes(rng, "train", 1, Difficulty(0, 1, 0))
    task = draw_task(rng, scenes[0])
    row = maker.pack(scenes, images, [[maker.segment(task, write_reasoning(task, scenes[0], rng, 1.0))]]).inputs
    prompt = vlm.prepare(Image.fromarray(images[0]), task.question)
    assert torch.equal(row["input_ids"][:, : prompt.length], prompt.inputs["input_ids"])
    assert torch.equal(row["position_ids"][..., : prompt.length], vlm.position_ids(prompt.inputs))
    torch.testing.assert_close(row["pixel_values"], prompt.inputs["pixel_values"])


def test_a_stage_that_also_asks_for_cells_moves_the_readings_of_the_tower(tmp_path):
    trainer = tiny_trainer(tmp_path)
    trainer.stage = 1
    before = [p.detach().clone() for p in trainer.cells.parameters()]
    trainer.run(lambda *_: None)
    assert not all(torch.equal(a, b) for a, b in zip(before, trainer.cells.parameters(), strict=True))


def test_words_that_are_wrong_on_purpose_carry_no_loss_and_conclusions_carry_more():
    tokenizer = build_tokenizer()
    maker = BatchMaker(tokenizer, build_config(tokenizer))
    said = Transcript(("row 1 col 1 is red 4.", "the sum is 4."), "4", 1, frozenset({(0, 6)}))
    ids, loss = maker.segment(parse_question("what is the sum of row 1?"), said, stress=3.0)
    text = tokenizer.convert_ids_to_tokens(ids)
    start = text.index("<think>") + 1
    assert loss[:start] == [0.0] * start
    assert loss[start : start + 8] == [1, 1, 1, 1, 1, 1, 0, 1]  # row 1 col 1 is red (4) .
    assert set(loss[start + 8 :]) == {3.0}


def test_an_interrupted_run_equals_an_uninterrupted_one(tmp_path):
    whole = tiny_trainer(tmp_path / "whole")
    whole.run(lambda *_: None)

    class Killed(Exception):
        pass

    def kill(stage, step, *_):
        if (stage.name, step) == ("reason", 2):
            raise Killed

    first = tiny_trainer(tmp_path / "cut")
    with pytest.raises(Killed):
        first.run(kill, save_every=1)
    second = tiny_trainer(tmp_path / "cut", seed=0)
    assert second.resume()
    assert (second.stage, second.step) == (1, 1)
    second.run(lambda *_: None)
    torch.testing.assert_close(weights(second), weights(whole), atol=1e-6, rtol=1e-5)


def test_a_state_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    trainer = tiny_trainer(tmp_path)
    trainer.save()
    before = trainer.state_file.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trajkit.files.os.fsync", full)
    trainer.step = 1
    with pytest.raises(WriteError, match="No space left on device"):
        trainer.save()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def test_a_state_of_another_plan_is_not_resumed(tmp_path):
    tiny_trainer(tmp_path).save()
    with pytest.raises(ValueError, match="other stages, settings or another seed"):
        tiny_trainer(tmp_path, seed=1).resume()


def test_the_learning_rate_warms_up_and_falls_to_its_floor():
    stage = STAGES[-1]
    rates = [stage.rate_at(s) for s in range(stage.steps)]
    assert rates[0] < 0.02 * stage.rate
    assert max(rates) == pytest.approx(stage.rate, rel=0.05)
    assert rates[-1] < 0.02 * stage.rate
