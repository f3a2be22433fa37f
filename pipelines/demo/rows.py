"""Training batches of the demo model: fresh scenes, several questions on each, laid out as token rows.

The questions about one image share its tokens: a row is `prefix | segment | segment | …` where every segment sees the
prefix and itself alone, at the positions it would have if it stood there by itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.demo.architectures import IMAGE_TOKENS, MERGE, PATCH_PX, SIDE
from pipelines.demo.writer import Transcript, write_reasoning
from trajkit.demo.acts import Read, parse, place, say
from trajkit.demo.grid import COLOURS, GRID, Scene, draw_scene
from trajkit.demo.picture import paint, smudges
from trajkit.demo.questions import FAMILIES, Question, draw_question

CONCLUDES = 3.0
"""Loss weight of answers and of sentences that are no readings."""
_WORD = re.compile(r"\w+|[^\w\s]")
Segment = tuple[list[int], list[float]]
"""Token ids and the loss weight of predicting each of them."""


@dataclass(frozen=True)
class Draw:
    """What a training stage draws from: the range of picture difficulty, freedom of the reasoning and habits, and the
    families of its questions, the likelier the more often they stand there."""

    low: float
    high: float
    freedom: float = 0.0
    habit: float = 0.0
    usual: float = 0.8
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


def patches(images: NDArray[np.uint8]) -> Tensor:
    """(B, H, W, 3) uint8 → (B·patches, 3·PATCH_PX²) float32, as the demo's image processor lays them out."""
    x = torch.tensor(images).float().div_(127.5).sub_(1.0)  # (B, H, W, 3)
    x = x.reshape(-1, SIDE, MERGE, PATCH_PX, SIDE, MERGE, PATCH_PX, 3)  # (B, gh, mh, ph, gw, mw, pw, C)
    return x.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(-1, 3 * PATCH_PX * PATCH_PX)


def image_grids(n: int) -> Tensor:
    """(n, 3): patches of each image in time, height and width."""
    return torch.tensor([[1, SIDE * MERGE, SIDE * MERGE]] * n)


def cell_targets(scenes: list[Scene]) -> dict[str, Tensor]:
    """What the cell of each image token holds: `digit` (10: empty), `colour` (4: empty), `row`, `col`."""
    cells = [cell for scene in scenes for row in scene.cells for cell in row]
    row, col = np.broadcast_to(np.indices((GRID, GRID))[:, None], (2, len(scenes), GRID, GRID)).reshape(2, -1)
    return {
        "digit": torch.tensor([10 if cell is None else cell[1] for cell in cells]),
        "colour": torch.tensor([len(COLOURS) if cell is None else COLOURS.index(cell[0]) for cell in cells]),
        "row": torch.from_numpy(row.copy()),
        "col": torch.from_numpy(col.copy()),
    }


@dataclass(frozen=True)
class Batch:
    """Inputs of one training step, the loss weight of each next-token target, (B, S), and the scenes of its images."""

    inputs: dict[str, Tensor]
    targets: Tensor
    weights: Tensor
    scenes: list[Scene]


class RowMaker:
    """Turns questions and transcripts into token rows for one tokenizer."""

    def __init__(self, tokenizer: Any, config: Any) -> None:
        self.vocab: dict[str, int] = tokenizer.get_vocab()
        word = self.vocab.__getitem__
        start, end = (
            getattr(config, f"vision_{side}_token_id", None) or getattr(config, f"image_{side}_token_id")
            for side in ("start", "end")
        )
        self.prefix = [word("<|im_start|>"), word("user"), start, *[config.image_token_id] * IMAGE_TOKENS, end]
        self.to_think = [word("<|im_end|>"), word("<|im_start|>"), word("assistant"), word("<think>")]
        self.end_think, self.end = word("</think>"), word("<|im_end|>")
        self.pad = word("<|endoftext|>")
        grid = torch.arange(IMAGE_TOKENS)
        before = 3
        image_positions = torch.stack([torch.zeros_like(grid), grid // SIDE, grid % SIDE]) + before
        self.prefix_positions = torch.cat(
            [torch.arange(before)[None].expand(3, -1), image_positions, torch.full((3, 1), before + SIDE)], 1
        )  # (3, prefix)
        self.first_position = before + SIDE + 1

    def words(self, text: str) -> list[int]:
        return [self.vocab[w] for w in _WORD.findall(text)]

    def segment(self, question: Question, transcript: Transcript) -> Segment:
        """Question, thinking and answer; what is wrong on purpose is not learned, and what concludes counts more.

        Readings take many more words and are learned first: without that weight they would drown all else.
        """
        ids = [*self.words(question.text), *self.to_think]
        weights = [0.0] * len(ids)
        for number, sentence in enumerate(transcript.sentences):
            weight = 1.0 if isinstance(parse(sentence), Read) else CONCLUDES
            for position, chunk in enumerate(sentence.split()):
                words = self.words(chunk)
                ids += words
                slipped = (number, position) in transcript.slips
                weights += [0.0 if slipped else weight] + [weight] * (len(words) - 1)
        tail = [self.end_think, *self.words(transcript.answer), self.end]
        return ids + tail, weights + [CONCLUDES] * len(tail)

    def address(self, scene: Scene, rng: np.random.Generator) -> Segment:
        """What a cell holds whose name is said."""
        at = (int(rng.integers(GRID)), int(rng.integers(GRID)))
        ids = list(self.to_think)
        words = self.words(say(Read(at, scene.at(at))))
        named = len(self.words(f"{place(at)} is"))
        return ids + words, [0.0] * (len(ids) + named) + [2.0] * (len(words) - named)

    def batch(self, pictured: list[Pictured], rows: list[list[Segment]]) -> Batch:
        """One row per scene, of the prefix with its image and the given segments."""
        n_prefix = len(self.prefix)
        length = max(n_prefix + sum(len(ids) for ids, _ in row) for row in rows)
        ids = torch.full((len(rows), length), self.pad)
        weights = torch.zeros(len(rows), length)
        owner = torch.full((len(rows), length), -1)  # 0 = prefix, s = segment, -1 = padding
        positions = torch.zeros(3, len(rows), length, dtype=torch.long)
        ids[:, :n_prefix] = torch.tensor(self.prefix)
        owner[:, :n_prefix] = 0
        positions[:, :, :n_prefix] = self.prefix_positions[:, None]
        for b, row in enumerate(rows):
            at = n_prefix
            for s, (segment, weight) in enumerate(row, start=1):
                end = at + len(segment)
                ids[b, at:end] = torch.tensor(segment)
                weights[b, at:end] = torch.tensor(weight)
                owner[b, at:end] = s
                positions[:, b, at:end] = torch.arange(self.first_position, self.first_position + len(segment))
                at = end
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        sees = (owner[:, :, None] == owner[:, None, :]) | (owner[:, None, :] == 0)
        inputs = {
            "input_ids": ids,
            "attention_mask": (sees & causal)[:, None],  # (B, 1, S, S)
            "position_ids": positions,
            "pixel_values": patches(np.stack([p.image for p in pictured])),
            "image_grid_thw": image_grids(len(rows)),
        }
        return Batch(inputs, ids[:, 1:], weights[:, 1:], [p.scene for p in pictured])

    def draw(self, rng: np.random.Generator, images: int, tokens: int, addresses: int, draw: Draw) -> Batch:
        """A fresh batch: `images` scenes, each with `addresses` named cells and questions of about `tokens`."""
        pictured = [picture_scene(rng, draw) for _ in range(images)]
        return self.batch(pictured, [self._row(rng, p, tokens, addresses, draw) for p in pictured])

    def _row(
        self, rng: np.random.Generator, pictured: Pictured, tokens: int, addresses: int, draw: Draw
    ) -> list[Segment]:
        row = [self.address(pictured.scene, rng) for _ in range(addresses)]
        left = tokens
        while left > 0:
            question = draw_question(rng, pictured.scene, draw.families[rng.integers(len(draw.families))])
            if question is None:
                continue
            written = write_reasoning(question, pictured.scene, pictured.hardness, rng, draw.freedom)
            segment = self.segment(question, written)
            if len(segment[0]) > left and len(row) > addresses:
                break
            row.append(segment)
            left -= len(segment[0])
        return row
