"""Load a vision-language model from a folder or from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trajkit.errors import InputError
from trajkit.vlm.adapter import adapter_for
from trajkit.vlm.model import VLM
from trajkit.vlm.processor import load_processor


def load_vlm(
    source: str | Path, *, device: str | None = None, dtype: Any = "auto", revision: str | None = None,
    system: str | None = None,
) -> VLM:  # fmt: skip
    """Load a thinking vision-language model.

    source: a checkpoint folder or a hub id, such as "Qwen/Qwen3-VL-8B-Thinking". device: "cuda", "cpu" …; a GPU is
    used where there is one. dtype: as in `from_pretrained`. system: a system prompt, for models that need one to think
    (Cosmos-Reason1: its card has the text). The model runs with its fast attention kernel (sdpa).
    Raises InputError when there is no such model, UnsupportedModelError when its architecture has no adapter.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForImageTextToText

    name = str(source)
    looks_local = Path(name).exists() or name.startswith((".", "/")) or name.count("/") != 1
    if looks_local and not (Path(name) / "config.json").is_file():
        raise InputError(
            f"no model at {name!r}: expected a checkpoint folder with config.json, or a hub id such as "
            "Qwen/Qwen3-VL-8B-Thinking."
        )
    try:
        config = AutoConfig.from_pretrained(name, revision=revision)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"cannot load model {name!r}: {reason} Check the id, the network, or pass a folder."
        ) from error
    adapter = adapter_for(config)
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            name, revision=revision, dtype=dtype, attn_implementation="sdpa"
        )
        processor = load_processor(name, adapter, revision)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"cannot load model {name!r}: {reason} Is the checkpoint complete?") from error
    model.eval().requires_grad_(False)
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return VLM(model, processor, adapter, name, getattr(config, "_commit_hash", None) or revision, system)
