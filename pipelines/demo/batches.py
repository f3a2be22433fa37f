"""Training batches of the demo model: fresh scenes, several questions on each, laid out as token rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.demo.model import SHORT
from pipelines.demo.packing import Batch, Packer, Segment
from pipelines.demo.reasoning import Transcript, write_reasoning
from trajkit.demo.digits import Split
from trajkit.demo.scene import Scene, draw_scene
from trajkit.demo.tasks import Task, draw_task


@dataclass(frozen=True)
class Difficulty:
    """What a training stage draws from: the range of scene difficulty and the freedom of its reasoning, in [0, 1].

    stress: loss weight of the words that conclude and answer; looking takes many more words and would drown them.
    spell_out: whether comparisons are said in full (see `write_reasoning`).
    """

    low: float
    high: float
    freedom: float
    stress: float = 1.0
    spell_out: bool = False


def draw_scenes(
    rng: np.random.Generator, split: Split, n: int, difficulty: Difficulty
) -> tuple[list[Scene], NDArray[np.uint8]]:
    """`n` fresh scenes and their pictures (n, H, W, 3)."""
    drawn = [draw_scene(rng, split, float(rng.uniform(difficulty.low, difficulty.high))) for _ in range(n)]
    return [scene for scene, _ in drawn], np.stack([image for _, image in drawn])


class BatchMaker(Packer):
    """Turns questions and transcripts into token rows for one tokenizer."""

    def __init__(self, tokenizer: Any, config: Any) -> None:
        super().__init__(tokenizer, config, SHORT)

    def segment(self, task: Task, transcript: Transcript, stress: float = 1.0) -> Segment:
        """Token ids of question, thinking and answer, and the weight of predicting each of them."""
        first = transcript.conclusion
        return self.written(
            task.question,
            transcript.sentences,
            transcript.answer,
            transcript.slips,
            lambda number, _: stress if number >= first else 1.0,
            stress,
        )

    def draw(
        self, rng: np.random.Generator, split: Split, images: int, questions: int, difficulty: Difficulty
    ) -> Batch:
        """A fresh batch: `images` scenes with `questions` each."""
        scenes, pictures = draw_scenes(rng, split, images, difficulty)
        rows = []
        for scene in scenes:
            tasks = [draw_task(rng, scene) for _ in range(questions)]
            written = [write_reasoning(t, scene, rng, difficulty.freedom, difficulty.spell_out) for t in tasks]
            rows.append([self.segment(t, w, difficulty.stress) for t, w in zip(tasks, written, strict=True)])
        return self.pack(scenes, pictures, rows)
