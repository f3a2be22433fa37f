"""Generations that go on from tokens they have begun with, as if the model had just written them itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from trajkit.errors import InputError
from trajkit.vlm.model import VLM


class Beginnings:
    """The tokens that each row of a batch begins with, and where in the batch they stand.

    They are put behind prompts whose settings, positions and limits are those of the prompts alone, so that all that
    counts from the beginning counts them. Rows that begin with fewer are moved to the right: padding is on the left.
    """

    def __init__(self, vlm: VLM, rows: Sequence[Sequence[int]], prompt_length: int, max_new_tokens: int) -> None:
        """Raises InputError for a token that the model does not know or that stands for an image or video, and where
        as many tokens as can be generated are there already."""
        known = vlm.model.get_input_embeddings().num_embeddings
        placeholders = {vlm.model.config.image_token_id, vlm.model.config.video_token_id}
        self.rows = [[int(token) for token in row] for row in rows]
        for row in self.rows:
            check_tokens(row, known, placeholders)
        self.longest = max(map(len, self.rows), default=0)
        if self.longest >= max_new_tokens:
            raise InputError(
                f"a generation begins with {self.longest} tokens and may have {max_new_tokens}; raise max_new_tokens, "
                "which counts them."
            )
        self.starts = [prompt_length + self.longest - len(row) for row in self.rows]
        """Column of the first generated token of each row."""

    @property
    def uneven(self) -> int:
        """By how many tokens the longest is longer than the shortest."""
        return self.longest - min(map(len, self.rows), default=0)

    def put(self, model: Any, input_ids: Tensor, model_kwargs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """(B, S) `input_ids` and the arguments of the model's passes, with the beginnings behind the prompts."""
        if not self.longest:
            return input_ids, model_kwargs
        pad = int(model.generation_config.pad_token_id or 0)
        padded = [row + [pad] * (self.longest - len(row)) for row in self.rows]
        input_ids = torch.cat([input_ids, torch.tensor(padded, device=input_ids.device)], 1)
        model_kwargs = model._update_model_kwargs_for_generation({}, model_kwargs, num_new_tokens=self.longest)
        if self.uneven and model_kwargs.get("attention_mask") is None:  # `generate` drops one that is all ones
            model_kwargs["attention_mask"] = torch.ones_like(input_ids)
        in_columns = {name: model_kwargs[name] for name in _IN_COLUMNS if model_kwargs.get(name) is not None}
        moved = {name: value.clone() for name, value in in_columns.items()}
        for i, row in enumerate(self.rows):
            shift = self.longest - len(row)
            if shift:
                input_ids[i] = input_ids[i].roll(shift)
                for value in moved.values():
                    value[..., i, :] = value[..., i, :].roll(shift, -1)
                moved["attention_mask"][i, :shift] = 0
        return input_ids, model_kwargs | moved


_IN_COLUMNS = ("attention_mask", "mm_token_type_ids", "position_ids")
"""Arguments of a pass with one entry a token, as their last dimension; the one before counts rows."""


def check_tokens(tokens: Sequence[int], known: int, placeholders: set[int]) -> None:
    """Raise InputError for a token that a model of `known` ones does not have, or one of its placeholders."""
    for token in tokens:
        if not 0 <= token < known:
            raise InputError(f"token {token} is none of the {known} that the model knows; was it another model's?")
        if token in placeholders:
            raise InputError(f"token {token} stands for an image or video in a prompt; a generation has none.")


class Budget(StoppingCriteria):
    """Ends each row after `n` generated tokens, those that it begins with among them."""

    def __init__(self, beginnings: Beginnings, n: int, device: torch.device) -> None:
        self.n, self._ends = n, torch.tensor(beginnings.starts, device=device) + n

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return input_ids.shape[1] >= self._ends
