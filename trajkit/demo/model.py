"""The demo model's parts: a word-level tokenizer, a chat template with a thinking span, a small Qwen3-VL configuration.

What is saved is an ordinary Hugging Face checkpoint: `AutoModelForImageTextToText` and `AutoProcessor` load it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trajkit.demo.reasoning import vocabulary
from trajkit.demo.scene import IMAGE_PX

PATCH_PX = 16
IMAGE_TOKENS = (IMAGE_PX // PATCH_PX) ** 2
SPECIAL: tuple[str, ...] = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>", "<unk>", "<think>", "</think>", "user", "assistant",
)  # fmt: skip

CHAT_TEMPLATE = """{%- for message in messages -%}
<|im_start|>{{ message.role }}
{%- if message.content is string %} {{ message.content }}{% else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' or 'image' in part %}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'text' %} {{ part.text }}{% endif -%}
{%- endfor -%}{%- endif -%}
<|im_end|>{%- endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant<think>{% endif -%}"""


def build_tokenizer() -> Any:
    """A `PreTrainedTokenizerFast` over the demo's words; punctuation is split off and joined again when decoding."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *vocabulary()]
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
        extra_special_tokens=[t for t in SPECIAL if t.startswith("<|") and t not in ("<|endoftext|>", "<|im_end|>")],
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
        chat_template=CHAT_TEMPLATE,
    )


def build_config(tokenizer: Any, width: int = 128, layers: int = 4, heads: int = 6, vision_width: int = 96) -> Any:
    """`Qwen3VLConfig` of about 1.3 M weights: text `layers` × `heads` with 2 key heads, vision depth 4."""
    from transformers import Qwen3VLConfig

    token = tokenizer.convert_tokens_to_ids
    return Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "max_position_embeddings": 1024,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "pad_token_id": token("<|endoftext|>"),
            "eos_token_id": token("<|im_end|>"),
        },
        vision_config={
            "depth": 4,
            "hidden_size": vision_width,
            "hidden_act": "gelu_pytorch_tanh",
            "intermediate_size": 2 * vision_width,
            "num_heads": 4,
            "in_channels": 3,
            "patch_size": PATCH_PX,
            "spatial_merge_size": 1,
            "temporal_patch_size": 1,
            "out_hidden_size": width,
            "num_position_embeddings": IMAGE_TOKENS,
            "deepstack_visual_indexes": [1],
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )


def build_image_processor() -> Any:
    """Qwen's image processor with the demo's patch size; one image token per PATCH_PX × PATCH_PX pixels."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(
        patch_size=PATCH_PX,
        merge_size=1,
        temporal_patch_size=1,
        size={"shortest_edge": IMAGE_PX * IMAGE_PX, "longest_edge": IMAGE_PX * IMAGE_PX},
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
        max_new_tokens=256,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    build_image_processor().save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    described = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    described |= {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen3VLProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
