"""Training batches of the demo model: fresh scenes, several questions on each, laid out as token rows.

The questions about one image share its tokens: a row is `prefix | segment | segment | …` where every segment sees the
prefix and itself alone, at the positions it would have if it stood there by itself. One row of six questions costs
about half of six rows of one question, and the model cannot tell the difference (a test compares the logits).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.demo.model import IMAGE_TOKENS, PATCH_PX
from pipelines.demo.reasoning import Transcript, write_reasoning
from trajkit.demo.digits import Split
from trajkit.demo.scene import CELL_PX, COLOURS, GRID, IMAGE_PX, Scene, draw_scene
from trajkit.demo.tasks import Task, draw_task

_SIDE = IMAGE_PX // PATCH_PX
_WORD = re.compile(r"\w+|[^\w\s]")


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


def patches(images: NDArray[np.uint8]) -> Tensor:
    """(B, H, W, 3) uint8 → (B·IMAGE_TOKENS, 3·PATCH_PX²) float32, as the demo's image processor lays them out."""
    x = torch.tensor(images).float().div_(127.5).sub_(1.0)  # (B, H, W, 3)
    x = x.reshape(-1, _SIDE, PATCH_PX, _SIDE, PATCH_PX, 3)  # (B, gh, ph, gw, pw, C)
    return x.permute(0, 1, 3, 5, 2, 4).reshape(-1, 3 * PATCH_PX * PATCH_PX)


def cell_targets(scenes: list[Scene]) -> dict[str, Tensor]:
    """What the cell of an image token holds: `digit` (10: empty), `colour` (4: empty), `row`, `col`."""
    digit = np.array(
        [[[10 if (x := s.at(r, c)) is None else x[1] for c in range(GRID)] for r in range(GRID)] for s in scenes]
    )
    colour = np.array(
        [
            [[4 if (x := s.at(r, c)) is None else COLOURS.index(x[0]) for c in range(GRID)] for r in range(GRID)]
            for s in scenes
        ]
    )
    row, col = np.broadcast_to(np.indices((GRID, GRID))[:, None], (2, len(scenes), GRID, GRID))
    per = CELL_PX // PATCH_PX
    return {
        name: torch.from_numpy(np.repeat(np.repeat(v, per, 1), per, 2).reshape(-1).astype(np.int64))
        for name, v in {"digit": digit, "colour": colour, "row": row, "col": col}.items()
    }


def draw_scenes(
    rng: np.random.Generator, split: Split, n: int, difficulty: Difficulty
) -> tuple[list[Scene], NDArray[np.uint8]]:
    """`n` fresh scenes and their pictures (n, H, W, 3)."""
    drawn = [draw_scene(rng, split, float(rng.uniform(difficulty.low, difficulty.high))) for _ in range(n)]
    return [scene for scene, _ in drawn], np.stack([image for _, image in drawn])


@dataclass(frozen=True)
class Batch:
    """Inputs of one training step, the loss weight of each next-token target, (B, S), and the scenes of its images."""

    inputs: dict[str, Tensor]
    targets: Tensor
    weights: Tensor
    scenes: list[Scene]


class BatchMaker:
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
        positions = torch.arange(before)[None].expand(3, -1)
        image_positions = torch.stack([torch.zeros_like(grid), grid // _SIDE, grid % _SIDE]) + before
        after = torch.full((3, 1), before + _SIDE)
        self.prefix_positions = torch.cat([positions, image_positions, after], 1)  # (3, prefix)
        self.first_position = before + _SIDE + 1

    def words(self, text: str) -> list[int]:
        return [self.vocab[w] for w in _WORD.findall(text)]

    def segment(self, task: Task, transcript: Transcript, stress: float = 1.0) -> tuple[list[int], list[float]]:
        """Token ids of question, thinking and answer, and the weight of predicting each of them."""
        ids = [*self.words(task.question), *self.to_think]
        weights = [0.0] * len(ids)
        for number, sentence in enumerate(transcript.sentences):
            weight = stress if number >= transcript.conclusion else 1.0
            for position, chunk in enumerate(sentence.split()):
                words = self.words(chunk)
                ids += words
                slipped = (number, position) in transcript.slips
                weights += [0.0 if slipped else weight] + [weight] * (len(words) - 1)
        tail = [self.end_think, *self.words(transcript.answer), self.end]
        return ids + tail, weights + [stress] * len(tail)

    def batch(
        self, scenes: list[Scene], images: NDArray[np.uint8], rows: list[list[tuple[list[int], list[float]]]]
    ) -> Batch:
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
        mask = (sees & causal)[:, None]  # (B, 1, S, S)
        inputs = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": positions,
            "pixel_values": patches(images),
            "image_grid_thw": torch.tensor([[1, _SIDE, _SIDE]] * len(rows)),
        }
        return Batch(inputs, ids[:, 1:], weights[:, 1:], scenes)

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
        return self.batch(scenes, pictures, rows)
