"""A generation of the demo model."""

from __future__ import annotations

import pytest
import torch

QUESTION = "how many green in row 2 to row 4?"


@pytest.fixture(scope="session")
def prompt(demo_vlm, scene_image):
    return demo_vlm.prepare(scene_image, QUESTION)


@pytest.fixture(scope="session")
def generated(demo_vlm, prompt):
    """Greedy tokens of one run, (n,)."""
    with torch.inference_mode():
        out = demo_vlm.model.generate(**prompt.inputs, do_sample=False, max_new_tokens=120)
    return out[0, prompt.length :]


@pytest.fixture(scope="session")
def eager_attention():
    """(L, H, S, S) attention of the eager kernel, for a model and inputs."""

    def attention(vlm, inputs):
        vlm.model.set_attn_implementation("eager")
        try:
            with torch.inference_mode():
                return torch.cat(vlm.model(**inputs, output_attentions=True).attentions).unflatten(0, (-1, 1))[:, 0]
        finally:
            vlm.model.set_attn_implementation("sdpa")

    return attention
