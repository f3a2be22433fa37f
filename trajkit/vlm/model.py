"""VLM: a loaded model with its processor, its prompts and the tokens of its thinking span."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from trajkit.errors import InputError
from trajkit.vlm.adapter import Adapter
from trajkit.vlm.canvas import MAX_ASPECT, Canvas, Images, check_order, opened_all
from trajkit.vlm.fingerprint import Source, fingerprint
from trajkit.vlm.lock import ModelLock, lock_of
from trajkit.vlm.messages import Chat, Messages


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prepared question about one image or several, or a chat that ends in one.

    inputs: tensors of batch size 1 for the model. image_tokens: (N,) positions of the images' tokens in the prompt, in
    order. grids: (rows, cols) of the tokens of each image. canvas: the images as the user gave them, RGB. question:
    what the last turn asks. chat: all turns, as JSON can hold them (`Chat.to_record`); None where there is one question
    and no more.
    """

    inputs: dict[str, Tensor]
    image_tokens: Tensor
    grids: tuple[tuple[int, int], ...]
    canvas: Canvas
    question: str
    chat: list[dict[str, Any]] | None = None

    @property
    def first_row(self) -> int:
        """Position after the last image token, where text that can rest on all images begins."""
        return int(self.image_tokens[-1]) + 1

    @property
    def length(self) -> int:
        return self.inputs["input_ids"].shape[1]

    @property
    def asked(self) -> str:
        """All the text that was asked, by which runs on the same images are told apart."""
        return self.question if self.chat is None else json.dumps(self.chat)

    def followed_by(self, tokens: Tensor) -> dict[str, Tensor]:
        """Inputs of one pass over the prompt and generated `tokens`, (n,): (1, S), without padding."""
        inputs = dict(self.inputs)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], tokens[None]], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        text = inputs["mm_token_type_ids"].new_zeros(1, len(tokens))
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], text], 1)
        return inputs


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Output of a vision tower: features of each image's tokens, and those for deeper layers where there are any."""

    pooler_output: tuple[Tensor, ...]
    deepstack_features: list[tuple[Tensor, ...]] | None

    def repeat(self, n: int) -> EncodedImages:
        """The same for `n` copies of the images."""
        deep = self.deepstack_features
        return EncodedImages(self.pooler_output * n, None if deep is None else [features * n for features in deep])


@dataclass(frozen=True, eq=False)
class VLM:
    """A vision-language model. Made by `load_vlm`.

    name: the folder or hub id it was loaded from. revision: the hub's commit, or None for a folder. system: a system
    prompt, for models that need one to think. source: the files of its weights, where it was loaded from some.
    """

    model: Any = field(repr=False)
    processor: Any = field(repr=False)
    adapter: Adapter
    name: str
    revision: str | None = None
    system: str | None = None
    source: Source | None = field(default=None, repr=False)

    @cached_property
    def lock(self) -> ModelLock:
        """Held by the thread that taps the model's attention; a tap in another thread, of this VLM or of another one of
        the same model, waits."""
        return lock_of(self.model)

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
    def think_end(self) -> int | None:
        """The token that closes the thinking span; None when the tag is several tokens of ordinary text."""
        return self._token("</think>")

    @cached_property
    def think_start(self) -> int | None:
        """The token that opens the thinking span; None when the tag is several tokens of ordinary text."""
        return self._token("<think>")

    def _token(self, text: str) -> int | None:
        token = self.tokenizer.convert_tokens_to_ids(text)
        return None if token == self.tokenizer.unk_token_id else token

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a generation."""
        ids = self.model.generation_config.eos_token_id
        return frozenset([ids] if isinstance(ids, int) else ids or [])

    @cached_property
    def fingerprint(self) -> str:
        """What tells this model from others, `fingerprint.fingerprint`: copies of a checkpoint share it."""
        return fingerprint(self)

    def prepare(self, images: Images, question: str) -> Prompt:
        """Prompt of one or several images and a question, through the model's own chat template, ready to think.

        Raises InputError when the question is empty, not plain text or holds a placeholder of an image or video, an
        image is too narrow or no image (video is not supported), or image tokens do not come through whole.
        """
        return self._prompt(Chat.about(images, question))

    def prepare_chat(self, messages: Messages, images: Images | None = None) -> Prompt:
        """As `prepare`, of a chat that ends with the user's turn: `[{"role": "user", "content": [{"type": "image",
        "image": picture}, {"type": "text", "text": "..."}]}, {"role": "assistant", "content": "..."}, ...]`.

        images: those of parts that say `{"type": "image"}` and hold none, in order. A system prompt of its own takes
        the place of the model's. Raises InputError as `prepare` and `Chat.of`.
        """
        return self._prompt(Chat.of(messages, images))

    def prompt(
        self, images: Images | None, question: str | Messages | None, messages: Messages | None = None
    ) -> Prompt:
        """By `prepare` from images and a question, or by `prepare_chat` from messages in place of a question.

        Raises InputError as they do, and where there is neither, or both.
        """
        if question is None and messages is None:
            raise InputError("there is no question; ask one beside the image, or give messages.")
        if question is not None and messages is not None:
            raise InputError("ask with images and a question, or with messages in place of a question; not both.")
        asked = question if messages is None else messages
        check_order(images, question)
        if not isinstance(asked, str | list | tuple):
            raise InputError(f"the question must be text, or a chat as a list of turns; got {type(asked).__name__}.")
        if not isinstance(asked, str):
            return self.prepare_chat(asked or (), images)
        if images is None:
            raise InputError("there is no image to ask about; give one, or several in a list.")
        return self.prepare(images, asked)

    def _prompt(self, chat: Chat) -> Prompt:
        for token, article in ("image_token_id", "an image"), ("video_token_id", "a video"):
            special = self.tokenizer.convert_ids_to_tokens(getattr(self.model.config, token))
            if any(special in text for text in chat.texts):
                where = "the question" if chat.is_question else "the chat"
                raise InputError(f"{where} holds {special}, which stands for {article} in a prompt; leave it out.")
        inputs = self._tokens(chat.for_template(self.system))
        inputs = {k: v.to(self.model.device) for k, v in inputs.items() if isinstance(v, Tensor)}
        grids = self._token_grids(inputs["image_grid_thw"])
        at = torch.nonzero(inputs["input_ids"][0] == self.model.config.image_token_id)[:, 0]
        if len(at) != sum(rows * cols for rows, cols in grids):
            raise InputError(
                f"the prompt holds {len(at)} image tokens where the images need "
                f"{' + '.join(f'{rows} × {cols}' for rows, cols in grids)}; it was truncated: use smaller images or a "
                "longer context."
            )
        limit = self.text_config.max_position_embeddings
        if inputs["input_ids"].shape[1] >= limit:
            raise InputError(
                f"the prompt has {inputs['input_ids'].shape[1]} tokens and the model's context ends at {limit}; "
                "use a smaller image or a shorter question."
            )
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        return Prompt(
            inputs, at, grids, Canvas(chat.images), chat.question, None if chat.is_question else chat.to_record()
        )

    def _tokens(self, messages: list[dict[str, Any]]) -> Mapping[str, Any]:
        """`messages` through the checkpoint's chat template, tokenizer and image processor."""
        if not self.processor.chat_template:
            raise InputError(
                f"{self.name} has no chat template, which says how a prompt is written for it. Put the "
                "chat_template.jinja of the model that it was made from into its folder."
            )
        try:
            return self.processor.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
            )
        except MemoryError:
            raise
        except Exception as error:  # a template is a program of the checkpoint's, and can fail in any way
            raise InputError(
                f"the chat template and processor of {self.name} make no prompt of this image and question: "
                f"{type(error).__name__}: {error}. Compare its files with those of the model that it was made from."
            ) from error

    @torch.inference_mode()
    def image_features(self, images: Images) -> list[tuple[Tensor, tuple[int, int]]]:
        """For each image: (rows·cols, D) features of its tokens from the model's own vision tower, and (rows, cols).

        Raises InputError when an image is too narrow.
        """
        given = list(opened_all(images, MAX_ASPECT))
        seen = self.processor.image_processor(images=given, return_tensors="pt").to(self.model.device)
        pixels, grid = seen["pixel_values"].to(self.model.dtype), seen["image_grid_thw"]
        features = self.model.model.get_image_features(pixels, grid).pooler_output
        return list(zip(features, self._token_grids(grid), strict=True))

    def _token_grids(self, grid: Tensor) -> tuple[tuple[int, int], ...]:
        """(rows, cols) of image tokens for each row of an `image_grid_thw`, which counts patches."""
        merge = self.model.config.vision_config.spatial_merge_size
        return tuple((int(h) // merge, int(w) // merge) for _, h, w in grid.tolist())

    @torch.inference_mode()
    def encode_images(self, prompt: Prompt) -> dict[str, EncodedImages]:
        """What the vision tower makes of the images, as the model takes it in `mm_encoder_outputs`."""
        out = self.model.model.get_image_features(
            prompt.inputs["pixel_values"], prompt.inputs["image_grid_thw"], return_dict=True
        )
        return {"image": EncodedImages(tuple(out.pooler_output), getattr(out, "deepstack_features", None))}

    def position_ids(self, inputs: dict[str, Tensor]) -> Tensor:
        """(3, B, S) M-RoPE positions of unpadded inputs, as the model computes them itself."""
        return self.model.model.get_rope_index(
            input_ids=inputs["input_ids"],
            mm_token_type_ids=inputs["mm_token_type_ids"],
            image_grid_thw=inputs["image_grid_thw"],
        )[0]

    def pixel_values(self, images: list[Image.Image]) -> Tensor:
        """What the vision tower takes for `images`: (all patches, C), in order."""
        values = self.processor.image_processor(images=images, return_tensors="pt")["pixel_values"]
        return values.to(self.model.device, self.model.dtype)
