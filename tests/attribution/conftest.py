"""A generation of the demo model, and small random models of the same architecture with other shapes."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen3VLForConditionalGeneration

from trajkit.demo.model import build_config, build_image_processor, build_tokenizer
from trajkit.vlm.model import VLM
from trajkit.vlm.qwen3_vl import ADAPTER

QUESTION = "what is the sum of row 2?"


@pytest.fixture(scope="session")
def prompt(demo_vlm, scene_image):
    return demo_vlm.prepare(scene_image, QUESTION)


@pytest.fixture(scope="session")
def generated(demo_vlm, prompt):
    """Greedy tokens of one run, (n,)."""
    with torch.inference_mode():
        out = demo_vlm.model.generate(**prompt.inputs, do_sample=False, max_new_tokens=120)
    return out[0, prompt.length :]


class _Processor:
    def __init__(self, tokenizer, image_processor):
        self.tokenizer, self.image_processor = tokenizer, image_processor


def random_vlm(heads: int, kv_heads: int, seed: int = 0) -> VLM:
    """A random-weight Qwen3-VL whose image tokens merge 2 × 2 patches."""
    tokenizer = build_tokenizer()
    config = build_config(tokenizer, width=32, layers=3, heads=heads, vision_width=32)
    config.text_config.num_key_value_heads = kv_heads
    config.vision_config.spatial_merge_size = 2
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(config)
    for parameter in model.parameters():  # make attention uneven, so that a wrong row or head would show
        parameter.data.add_(torch.randn_like(parameter) * 0.2)
    model.set_attn_implementation("sdpa")
    image_processor = build_image_processor()
    image_processor.merge_size = 2
    return VLM(model.eval().requires_grad_(False), _Processor(tokenizer, image_processor), ADAPTER, "random")
