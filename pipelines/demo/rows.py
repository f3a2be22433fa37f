"""Training batches of the demo model: fresh scenes, cells and questions on each, as token rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.demo.packing import Batch, Packer, Segment
from pipelines.demo.writer import Transcript, write_reasoning
from trajkit.demo.acts import Read, parse, place, say
from trajkit.demo.grid import GRID, Scene, draw_scene
from trajkit.demo.picture import paint, smudges
from trajkit.demo.questions import FAMILIES, Question, draw_question, supports

CONCLUDES = 3.0
"""Loss weight of answers and of sentences that are no readings."""


@dataclass(frozen=True)
class Draw:
    """What a training stage draws from: the range of picture difficulty, freedom of the reasoning and habits, and the
    families of its questions, the likelier the more often they stand there."""

    low: float
    high: float
    freedom: float = 0.0
    habit: float = 0.0
    usual: float = 0.65
    families: tuple[str, ...] = FAMILIES


@dataclass(frozen=True)
class Pictured:
    """A scene, its picture (H, W, 3) and how hard its cells are to read."""

    scene: Scene
    image: NDArray[np.uint8]
    hardness: NDArray[np.float64]


def picture_scene(rng: np.random.Generator, draw: Draw) -> Pictured:
    """A fresh scene of train digits."""
    scene = draw_scene(rng, draw.habit, draw.usual)
    hardness = smudges(rng, float(rng.uniform(draw.low, draw.high)))
    return Pictured(scene, paint(rng, scene, "train", hardness), hardness)


class RowMaker(Packer):
    """Turns questions and transcripts into token rows for one tokenizer."""

    def segment(self, question: Question, transcript: Transcript) -> Segment:
        """Question, thinking and answer; what is wrong on purpose is not learned, and what concludes counts more.

        Readings take many more words and are learned first: without that weight they would drown all else.
        """
        return self.written(
            question.text,
            transcript.sentences,
            transcript.answer,
            transcript.slips,
            lambda _, sentence: 1.0 if isinstance(parse(sentence), Read) else CONCLUDES,
            CONCLUDES,
        )

    def address(self, scene: Scene, rng: np.random.Generator) -> Segment:
        """What a cell holds whose name is said."""
        at = (int(rng.integers(GRID)), int(rng.integers(GRID)))
        ids = list(self.to_think)
        words = self.words(say(Read(at, scene.at(at))))
        named = len(self.words(f"{place(at)} is"))
        return ids + words, [0.0] * (len(ids) + named) + [2.0] * (len(words) - named)

    def batch(self, pictured: list[Pictured], rows: list[list[Segment]]) -> Batch:
        """One row per scene, of the prefix with its image and the given segments."""
        return self.pack([p.scene for p in pictured], np.stack([p.image for p in pictured]), rows)

    def draw(self, rng: np.random.Generator, images: int, tokens: int, addresses: int, draw: Draw) -> Batch:
        """A fresh batch: `images` scenes, each with `addresses` named cells and questions of about `tokens`."""
        pictured = [picture_scene(rng, draw) for _ in range(images)]
        return self.batch(pictured, [self._row(rng, p, tokens, addresses, draw) for p in pictured])

    def _row(
        self, rng: np.random.Generator, pictured: Pictured, tokens: int, addresses: int, draw: Draw
    ) -> list[Segment]:
        row = [self.address(pictured.scene, rng) for _ in range(addresses)]
        families = [f for f in draw.families if supports(pictured.scene, f)]
        left = tokens if families else 0
        while left > 0:
            question = draw_question(rng, pictured.scene, families[rng.integers(len(families))])
            if question is None:
                continue
            written = write_reasoning(question, pictured.scene, pictured.hardness, rng, draw.freedom)
            segment = self.segment(question, written)
            if len(segment[0]) > left and len(row) > addresses:
                break
            row.append(segment)
            left -= len(segment[0])
        return row
