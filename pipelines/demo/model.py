"""The demo model's parts: a word-level tokenizer, a chat template with a thinking span, a small Qwen3-VL configuration.

What is saved is an ordinary Hugging Face checkpoint: `AutoModelForImageTextToText` and `AutoProcessor` load it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.demo.writer import vocabulary
from trajkit.demo.picture import IMAGE_PX
from trajkit.vlm.adapter import adapter_for
from trajkit.vlm.processor import transformers_class

PATCH_PX = 16


MERGE = 2
"""Patches of a side of an image token, which is a cell."""
SIDE = IMAGE_PX // (PATCH_PX * MERGE)
"""Image tokens of a row of them."""
LONGEST = 800
"""Tokens of a run, at most."""
SPECIAL: tuple[str, ...] = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<unk>",
    "<think>",
    "</think>",
    "user",
    "assistant",
)

CHAT_TEMPLATE = """{%- for message in messages -%}
<|im_start|>{{ message.role }}
{%- if message.content is string %} {{ message.content }}{% else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' or 'image' in part %}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'text' %} {{ part.text }}{% endif -%}
{%- endfor -%}{%- endif -%}
<|im_end|>{%- endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant<think>{% endif -%}"""


GLM_NAMES = {
    "<|vision_start|>": "<|begin_of_image|>",
    "<|vision_end|>": "<|end_of_image|>",
    "<|image_pad|>": "<|image|>",
    "<|video_pad|>": "<|video|>",
}
"""What the tokens around an image are called where they are not called as in Qwen."""


def build_tokenizer(architecture: str = "qwen3_vl") -> Any:
    """A `PreTrainedTokenizerFast` over the demo's words; punctuation is split off and joined again when decoding."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = GLM_NAMES if architecture == "glm4v" else {}
    special = [names.get(token, token) for token in SPECIAL]
    template = CHAT_TEMPLATE
    for old, new in names.items():
        template = template.replace(old, new)
    words = [*special, *vocabulary()]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.Sequence([decoders.WordPiece(prefix="##", cleanup=True), decoders.Replace(" ;", ";")])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in ("<think>", "</think>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        extra_special_tokens=[t for t in special if t.startswith("<|") and t not in ("<|endoftext|>", "<|im_end|>")],
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
        chat_template=template,
    )


def build_config(tokenizer: Any, *, width: int = 128, layers: int = 4, heads: int = 6, vision_width: int = 96) -> Any:
    """`Qwen3VLConfig` of about 1.6 M weights: text `layers` × `heads` with 2 key heads, vision depth 4."""
    from transformers import Qwen3VLConfig

    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [6, 5, 5], "mrope_interleaved": True}
    text = _text(tokenizer, width, 3 * width, layers, heads, rope) | {"head_dim": 32}
    vision = _vision(4, vision_width, width) | {
        "hidden_act": "gelu_pytorch_tanh",
        "num_position_embeddings": (IMAGE_PX // PATCH_PX) ** 2,
        "deepstack_visual_indexes": [1],
    }
    return Qwen3VLConfig(text_config=text, vision_config=vision, **_tokens(tokenizer), tie_word_embeddings=True)


def build_qwen2_5_vl_config(tokenizer: Any) -> Any:
    """`Qwen2_5_VLConfig` of about 1.3 M weights; its vision tower begins with windows of 4 × 4 patches."""
    from transformers import Qwen2_5_VLConfig

    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [6, 5, 5]}
    vision = _vision(3, 96, 128) | {"window_size": 4 * PATCH_PX, "fullatt_block_indexes": [1, 2]}
    return Qwen2_5_VLConfig(
        text_config=_text(tokenizer, 128, 384, 4, 4, rope),
        vision_config=vision,
        **_tokens(tokenizer),
        tie_word_embeddings=True,
    )


def build_glm4v_config(tokenizer: Any) -> Any:
    """`Glm4vConfig` of about 1.2 M weights; rotary embedding on half of each head, as in GLM-4.1V.

    The rotary base is 100: of the eight frequencies the last three tell columns, and with 10,000 a step of one column
    would turn them by less than a hundredth of a radian.
    """
    from transformers import Glm4vConfig

    rope = {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [2, 3, 3], "partial_rotary_factor": 0.5}
    text = _text(tokenizer, 128, 384, 4, 4, rope)
    return Glm4vConfig(
        text_config=text,
        vision_config=_vision(3, 96, 128) | {"image_size": IMAGE_PX},
        **_tokens(tokenizer),
        tie_word_embeddings=True,
    )


ARCHITECTURES: dict[str, Callable[..., Any]] = {
    "qwen3_vl": build_config,
    "qwen2_5_vl": build_qwen2_5_vl_config,
    "glm4v": build_glm4v_config,
}
"""Configuration of the demo model of each architecture."""


def _text(tokenizer: Any, width: int, inner: int, layers: int, heads: int, rope: dict[str, Any]) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "rope_parameters": rope,
        "bos_token_id": None,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _vision(depth: int, width: int, out: int) -> dict[str, Any]:
    return {
        "depth": depth,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_heads": 4,
        "in_channels": 3,
        "patch_size": PATCH_PX,
        "spatial_merge_size": MERGE,
        "temporal_patch_size": 1,
        "out_hidden_size": out,
    }


def _tokens(tokenizer: Any) -> dict[str, int]:
    """Ids of the tokens of an image, under the names that the configurations of Qwen and of GLM have for them."""
    vocabulary = tokenizer.get_vocab()
    token = {qwen: vocabulary.get(qwen, vocabulary.get(glm)) for qwen, glm in GLM_NAMES.items()}
    start, end, image, video = token.values()
    around = "image" if "<|image|>" in vocabulary else "vision"
    return {
        "image_token_id": image,
        "video_token_id": video,
        f"{around}_start_token_id": start,
        f"{around}_end_token_id": end,
    }


def build_model(tokenizer: Any, architecture: str = "qwen3_vl") -> Any:
    """An untrained model of one of ARCHITECTURES."""
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_config(ARCHITECTURES[architecture](tokenizer), attn_implementation="sdpa")


def build_image_processor(config: Any) -> Any:
    """The image processor of the architecture, for pictures of IMAGE_PX."""
    parts = adapter_for(config).processor
    area = IMAGE_PX**2 * config.vision_config.temporal_patch_size
    return transformers_class(parts.image_module, parts.image_processor)(
        patch_size=PATCH_PX,
        merge_size=config.vision_config.spatial_merge_size,
        temporal_patch_size=config.vision_config.temporal_patch_size,
        size={"shortest_edge": area, "longest_edge": area},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def save_checkpoint(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write weights, tokenizer, image processor and chat template to `folder`, as the hub lays them out."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config.update(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        max_new_tokens=LONGEST,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    build_image_processor(model.config).save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8")
    parts = adapter_for(model.config).processor
    described = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    described |= {"image_processor_type": parts.image_processor.removesuffix("Pil"), "processor_class": parts.processor}
    (folder / "preprocessor_config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
