"""VLM: a loaded model with its processor, its prompts and the tokens of its thinking span."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from threading import RLock
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from trajkit.errors import InputError
from trajkit.vlm.adapter import Adapter

MAX_ASPECT = 200
"""Longest side over shortest that the image processors of Qwen take."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prepared question about one image.

    inputs: tensors of batch size 1 for the model. image_tokens: (N,) positions of the image's tokens in the prompt.
    grid: (rows, cols) of those tokens, N = rows·cols. image: the picture as the user gave it, RGB.
    """

    inputs: dict[str, Tensor]
    image_tokens: Tensor
    grid: tuple[int, int]
    image: Image.Image
    question: str

    @property
    def length(self) -> int:
        return self.inputs["input_ids"].shape[1]


@dataclass(frozen=True, eq=False)
class VLM:
    """A vision-language model. Made by `load_vlm`.

    name: the folder or hub id it was loaded from. revision: the hub's commit, or None for a folder. lock: held by the
    thread that taps the model's attention; a tap in another thread waits.
    """

    model: Any
    processor: Any
    adapter: Adapter
    name: str
    revision: str | None = None
    lock: Any = field(default_factory=RLock, repr=False)

    @property
    def tokenizer(self) -> Any:
        return self.processor.tokenizer

    @property
    def text_config(self) -> Any:
        return getattr(self.model.config, self.adapter.text_config_key)

    @property
    def n_features(self) -> int:
        """L·H: attention heads of the text stack over all layers."""
        return self.text_config.num_hidden_layers * self.text_config.num_attention_heads

    @cached_property
    def think_end(self) -> int:
        """The token that closes the thinking span. Raises InputError when the tokenizer has none."""
        token = self.tokenizer.convert_tokens_to_ids("</think>")
        if token is None or token == self.tokenizer.unk_token_id:
            raise InputError(f"{self.name}: no </think> token; trajkit needs a model that marks its thinking span.")
        return token

    @cached_property
    def think_start(self) -> int | None:
        """The token that opens the thinking span, where there is one."""
        token = self.tokenizer.convert_tokens_to_ids("<think>")
        return None if token == self.tokenizer.unk_token_id else token

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a generation."""
        ids = self.model.generation_config.eos_token_id
        return frozenset([ids] if isinstance(ids, int) else ids or [])

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the architecture and of a sample of every weight: two checkpoints differ in it, copies do not."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.model.named_parameters()):
            sample = weight.detach().reshape(-1)[:: max(1, weight.numel() // 64)][:64].float().cpu()
            digest.update(f"{name}{tuple(weight.shape)}".encode())
            digest.update(sample.numpy().tobytes())
        return digest.hexdigest()[:16]

    def prepare(self, image: Image.Image, question: str) -> Prompt:
        """Prompt of one image and question, through the model's own chat template, ready to think.

        Raises InputError when the question is empty, the image is too narrow, or its tokens do not come through whole.
        """
        if not question.strip():
            raise InputError("the question is empty; ask something about the image.")
        if max(image.size) >= MAX_ASPECT * min(image.size):
            raise InputError(
                f"the image is {image.width} × {image.height}; its sides must differ by less than {MAX_ASPECT} times. "
                "Crop it."
            )
        image = image.convert("RGB")
        content = [{"type": "image", "image": image}, {"type": "text", "text": question}]
        inputs = self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        inputs = {k: v.to(self.model.device) for k, v in inputs.items() if isinstance(v, Tensor)}
        grid = self.adapter.token_grid(self.model.config, inputs["image_grid_thw"])[0]
        at = torch.nonzero(inputs["input_ids"][0] == self.model.config.image_token_id)[:, 0]
        if len(at) != grid[0] * grid[1]:
            raise InputError(
                f"the prompt holds {len(at)} image tokens where the image needs {grid[0]} × {grid[1]}; "
                "it was truncated: use a smaller image or a longer context."
            )
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        return Prompt(inputs, at, grid, image, question)

    def pixel_values(self, images: list[Image.Image]) -> Tensor:
        """What the vision tower takes for `images` of one size: (n·patches, C), in order."""
        values = self.processor.image_processor(images=images, return_tensors="pt")["pixel_values"]
        return values.to(self.model.device, self.model.dtype)
