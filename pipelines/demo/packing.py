"""Token rows of several questions about one image, which share its tokens.

A row is `prefix | segment | segment | …` where every segment sees the prefix and itself alone, at the positions it
would have if it stood there by itself. One row of six questions costs about half of six rows of one question, and the
model cannot tell the difference (a test compares the logits).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.demo.model import MERGE, PATCH_PX, SIDE
from trajkit.demo.cells import COLOURS
from trajkit.demo.grid import GRID, Scene

_WORD = re.compile(r"\w+|[^\w\s]")
Segment = tuple[list[int], list[float]]
"""Token ids and the loss weight of predicting each of them."""


@dataclass(frozen=True)
class Batch:
    """Inputs of one training step, the loss weight of each next-token target, (B, S), and the scenes of its images."""

    inputs: dict[str, Tensor]
    targets: Tensor
    weights: Tensor
    scenes: Sequence[Scene]


def patches(images: NDArray[np.uint8]) -> Tensor:
    """(B, H, W, 3) uint8 → (B·patches, 3·PATCH_PX²) float32, as the demo's image processor lays them out."""
    x = torch.as_tensor(images).float().div_(127.5).sub_(1.0)  # (B, H, W, 3)
    x = x.reshape(-1, SIDE, MERGE, PATCH_PX, SIDE, MERGE, PATCH_PX, 3)  # (B, gh, mh, ph, gw, mw, pw, C)
    return x.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(-1, 3 * PATCH_PX * PATCH_PX)


def image_grids(n: int) -> Tensor:
    """(n, 3): patches of each image in time, height and width."""
    return torch.tensor([[1, SIDE * MERGE, SIDE * MERGE]] * n)


def cell_targets(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """What the cell of each image token holds: `digit` (10: empty), `colour` (4: empty), `row`, `col`."""
    cells = [cell for scene in scenes for row in scene.cells for cell in row]
    digit = [10 if cell is None else cell[1] for cell in cells]
    colour = [len(COLOURS) if cell is None else COLOURS.index(cell[0]) for cell in cells]
    at = torch.arange(GRID**2).repeat(len(scenes))
    return {"digit": torch.tensor(digit), "colour": torch.tensor(colour), "row": at // GRID, "col": at % GRID}


class Packer:
    """Lays segments out as token rows for one tokenizer."""

    def __init__(self, tokenizer: Any, config: Any) -> None:
        self.vocab: dict[str, int] = tokenizer.get_vocab()
        word = self.vocab.__getitem__
        start, end = (
            getattr(config, f"vision_{side}_token_id", None) or getattr(config, f"image_{side}_token_id")
            for side in ("start", "end")
        )
        before = 3
        self.prefix = [word("<|im_start|>"), word("user"), start, *[config.image_token_id] * SIDE**2, end]
        self.to_think = [word("<|im_end|>"), word("<|im_start|>"), word("assistant"), word("<think>")]
        self.end_think, self.end = word("</think>"), word("<|im_end|>")
        self.pad = word("<|endoftext|>")
        grid = torch.arange(SIDE**2)
        positions = torch.arange(before)[None].expand(3, -1)
        image_positions = torch.stack([torch.zeros_like(grid), grid // SIDE, grid % SIDE]) + before
        after = torch.full((3, 1), before + SIDE)
        self.prefix_positions = torch.cat([positions, image_positions, after], 1)  # (3, prefix)
        self.first_position = before + SIDE + 1

    def words(self, text: str) -> list[int]:
        return [self.vocab[w] for w in _WORD.findall(text)]

    def written(
        self,
        question: str,
        sentences: Sequence[str],
        answer: str,
        slips: Collection[tuple[int, int]],
        weight: Callable[[int, str], float],
        last: float,
    ) -> Segment:
        """Question, thinking and answer. slips: (sentence, word) pairs that carry no loss, words split at spaces.
        weight: of a sentence, by its number and text; last: of the answer."""
        ids = [*self.words(question), *self.to_think]
        weights = [0.0] * len(ids)
        for number, sentence in enumerate(sentences):
            own = weight(number, sentence)
            for position, chunk in enumerate(sentence.split()):
                words = self.words(chunk)
                ids += words
                weights += [0.0 if (number, position) in slips else own] + [own] * (len(words) - 1)
        tail = [self.end_think, *self.words(answer), self.end]
        return ids + tail, weights + [last] * len(tail)

    def pack(self, scenes: Sequence[Scene], images: NDArray[np.uint8], rows: Sequence[Sequence[Segment]]) -> Batch:
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
            "pixel_values": patches(images),
            "image_grid_thw": image_grids(len(rows)),
        }
        return Batch(inputs, ids[:, 1:], weights[:, 1:], scenes)
