"""A curriculum that is interrupted goes on as if it had not been."""

from __future__ import annotations

import errno

import pytest
import torch

from pipelines.demo.curriculum import STAGES, Stage, trainer
from pipelines.demo.model import build_model, build_tokenizer
from pipelines.demo.rows import Draw
from trajkit.errors import WriteError

TINY = (
    Stage("see", 2, 2, 0, 0, 1e-3, 0.1, Draw(0, 0.5), cells=1.0),
    Stage("reason", 3, 2, 1, 1, 1e-3, 0.1, Draw(0, 1, freedom=1.0), cells=0.5),
)


def tiny_trainer(folder, seed=0):
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    return trainer(build_model(tokenizer, "qwen2_5_vl"), tokenizer, folder, TINY, seed)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def test_a_stage_that_also_asks_for_cells_moves_the_readings_of_the_tower(tmp_path):
    trainer = tiny_trainer(tmp_path)
    trainer.stage = 1
    before = [p.detach().clone() for p in trainer.cells.parameters()]
    trainer.run(lambda *_: None)
    assert not all(torch.equal(a, b) for a, b in zip(before, trainer.cells.parameters(), strict=True))


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
    assert rates[0] < 0.03 * stage.rate
    assert max(rates) == pytest.approx(stage.rate, rel=0.05)
    assert rates[-1] < 0.03 * stage.rate
