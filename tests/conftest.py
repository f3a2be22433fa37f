"""Shared fixtures: the shipped demo model, and scenes of test digits to ask it about."""

from __future__ import annotations

import gc
import os
import shutil
from functools import cache

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker a core

from pathlib import Path

import numpy as np
import pytest

from trajkit.demo import paths

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def pytest_collection_finish():
    """What was imported stays: collections of garbage, which statsmodels asks for at every correction, pass it by."""
    gc.freeze()


@pytest.fixture(scope="session")
def demo_vlm():
    """The shipped demo model."""
    import trajkit as tk

    return tk.load_vlm(paths.MODEL)


@pytest.fixture(scope="session")
def demo_estimator():
    """The shipped estimator."""
    import trajkit as tk

    return tk.EffectEstimator.load(paths.ESTIMATOR)


@pytest.fixture(scope="session")
def scene_image():
    """A clean scene of test digits as a picture."""
    from tests.scenes import clean_scene

    return clean_scene(np.random.default_rng(11))[1]


@pytest.fixture(scope="session")
def random_vlm(tmp_path_factory):
    """Make a random-weight model of an architecture, as loaded from its folder; image tokens merge 2 × 2 patches."""

    import torch
    from transformers import AutoModelForImageTextToText

    from pipelines.demo.model import ARCHITECTURES, build_tokenizer, save_checkpoint
    from trajkit.vlm.load import load_vlm

    @cache
    def make(architecture: str = "qwen3_vl", heads: int = 4, kv_heads: int = 2, dtype: str = "float32"):
        tokenizer = build_tokenizer(architecture)
        config = ARCHITECTURES[architecture](tokenizer)
        config.text_config.num_attention_heads, config.text_config.num_key_value_heads = heads, kv_heads
        config.vision_config.spatial_merge_size, config.vision_config.temporal_patch_size = 2, 2
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(config)
        for parameter in model.parameters():  # make attention uneven, so that a wrong row or head would show
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
        folder = tmp_path_factory.mktemp(f"{architecture}-{heads}-{kv_heads}")
        save_checkpoint(model, tokenizer, folder)
        return load_vlm(folder, device="cpu", dtype=getattr(torch, dtype))

    return make


@pytest.fixture(scope="session")
def flawed_model(tmp_path_factory):
    """The demo model with damaged weights, in a folder: its logits are NaN where the question holds the number 18."""
    import torch

    import trajkit as tk

    vlm = tk.load_vlm(paths.MODEL)
    model, folder = vlm.model, tmp_path_factory.mktemp("flawed")
    model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    model.get_input_embeddings().weight.data[vlm.tokenizer.convert_tokens_to_ids("18")] = float("nan")
    shutil.copytree(paths.MODEL, folder, dirs_exist_ok=True)
    for weights in folder.glob("*.safetensors*"):
        weights.unlink()
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    if not Path(CHROMIUM).exists():
        pytest.fail(f"no browser at {CHROMIUM}: install the Debian package `chromium` (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()
