"""Load a vision-language model from a folder or from the hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trajkit.demo.paths import shipped
from trajkit.errors import InputError, TrajkitError
from trajkit.vlm.adapter import adapter_for
from trajkit.vlm.check import check_usable
from trajkit.vlm.fingerprint import Source, checksum, holds, weight_files
from trajkit.vlm.model import VLM
from trajkit.vlm.processor import load_processor

COMPLETE = "Is the checkpoint complete, with its weights as safetensors?"


def load_vlm(
    source: str | Path,
    *,
    device: str | None = None,
    dtype: Any = "auto",
    revision: str | None = None,
    system: str | None = None,
    attention: str = "sdpa",
) -> VLM:
    """Load a thinking vision-language model.

    source: a checkpoint folder or a hub id, such as "Qwen/Qwen3-VL-8B-Thinking". device: "cuda", "cpu" …; a GPU is
    used where there is one. dtype: as in `from_pretrained`. system: a system prompt, for models that need one to think
    (Cosmos-Reason1: its card has the text). attention: the kernel, "sdpa" or, where flash-attn is installed and the
    model is on a GPU in half precision, "flash_attention_2".
    No code that comes with a checkpoint is run, and no pickled weights are read. Raises InputError when there is no
    such model or one of its files makes no sense, UnsupportedModelError when its architecture has no adapter.

    See also: `stream`, `watch`, `EffectEstimator`.

    >>> vlm = tk.load_vlm("data/demo/model")  # or "Qwen/Qwen3-VL-8B-Thinking"
    >>> prompt = vlm.prepare(image, question)
    >>> len(prompt.image_tokens)  # of the image, in the prompt
    36
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    name = _named(source)
    check_source(name, "Qwen/Qwen3-VL-8B-Thinking", revision)
    with checkpoint(name, "Check the id, the network, or pass a folder."):
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
        config._attn_implementation = attention  # or one that the checkpoint names would be fetched and run
    adapter = adapter_for(config)
    with checkpoint(name, COMPLETE), no_loading_bar():
        model = AutoModelForImageTextToText.from_pretrained(
            name,
            config=config,
            revision=revision,
            dtype=dtype,
            attn_implementation=attention,
            trust_remote_code=False,
            use_safetensors=True,
        )
        processor = load_processor(name, adapter, revision)
    model.eval().requires_grad_(False)
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    commit = getattr(config, "_commit_hash", None) or revision
    with checkpoint(name, COMPLETE):
        files = weight_files(name, commit)
        origin = Source(files, checksum(model)) if files else None
        vlm = VLM(model, processor, adapter, name, commit, system, source=origin)
        check_usable(vlm)
    return vlm


def _named(source: Any) -> str:
    """The folder or hub id. Raises InputError for a model that is loaded already."""
    if isinstance(source, str | Path):
        return str(source)
    what = f"load_vlm takes a folder or a hub id; got {type(source).__name__}"
    if isinstance(source, VLM):
        raise InputError(f"{what}, which is loaded already: use it as it is.")
    if hasattr(source, "generate"):
        raise InputError(
            f"{what}. A model that you have loaded is watched as it is: "
            "tk.watch(model, processor, image, question, estimator=...)."
        )
    raise InputError(f"{what}.")


def vlm_of(model: Any, processor: Any, system: str | None = None) -> VLM:
    """The VLM of a model and processor that somebody else has loaded, which are left as they are.

    Its weights are told by the files of the checkpoint that its configuration names, where they hold its numbers as far
    as is looked (`fingerprint.holds`), and else, as after training, by its bytes in memory. Raises
    UnsupportedModelError as `adapter_for`, InputError where the processor is but a tokenizer.
    """
    if isinstance(model, VLM):
        raise InputError(
            "watch takes a model and a processor of transformers; got a VLM. Watch its own: "
            "tk.watch(vlm.model, vlm.processor, image, question, ...); or tk.stream(vlm, image, question, ...)."
        )
    if not hasattr(model, "generate"):
        raise InputError(f"watch takes the model first, then its processor; got {type(model).__name__} for the model.")
    adapter = adapter_for(model.config)
    if not (hasattr(processor, "tokenizer") and hasattr(processor, "image_processor")):
        raise InputError(
            f"processor must be the model's processor, for images and text; got {type(processor).__name__}. Take "
            "AutoProcessor.from_pretrained, or load_vlm(…).processor."
        )
    name, commit = str(model.config._name_or_path), getattr(model.config, "_commit_hash", None)
    files = weight_files(name, commit) if name else ()
    origin = Source(files, checksum(model)) if files and holds(files, model) else None
    return VLM(model, processor, adapter, name or type(model).__name__, commit, system, source=origin)


@contextmanager
def checkpoint(name: str, todo: str) -> Iterator[None]:
    """Inside the block, what transformers raises on a checkpoint becomes InputError: its first line, then `todo`."""
    try:
        yield
    except (TrajkitError, MemoryError):
        raise
    except Exception as error:  # transformers reads most files unchecked: a list for a mapping fails in any way
        reason = next(iter(str(error).splitlines()), "")
        if "trust_remote_code" in str(error):
            reason, todo = (
                "it needs Python code of its own, and trajkit runs none that comes with a model.",
                ("Pass a checkpoint of an architecture that transformers has."),
            )
        elif not isinstance(error, OSError | ValueError):
            reason = f"{type(error).__name__}: {reason}"
        stop = "" if reason.endswith((".", "?", "!")) else "."
        raise InputError(f"cannot load model {name!r}: {reason}{stop} {todo}") from error


def check_source(name: str, example: str, revision: str | None = None) -> None:
    """Raise InputError where `name` is neither a checkpoint folder nor a hub id that can be had; `example` is one."""
    looks_local = Path(name).exists() or name.startswith((".", "/")) or name.count("/") != 1
    if looks_local and not (Path(name) / "config.json").is_file():
        here = shipped(name)
        raise InputError(
            f"no model at {name!r}: expected a checkpoint folder with config.json, or a hub id such as {example}."
            + (f" The demo's is in {here}." if here and (here / "config.json").is_file() else "")
        )
    if not looks_local:
        _check_hub(name, revision)


def _check_hub(name: str, revision: str | None) -> None:
    """Raises InputError where a model is not in the cache and the hub cannot be reached.

    transformers would try six times, with a warning each, before it said so. What the hub answers is left to it.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, is_offline_mode, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    try:
        if try_to_load_from_cache(name, "config.json", revision=revision) is None:
            get_hf_file_metadata(hf_hub_url(name, "config.json", revision=revision))
    except (HfHubHTTPError, ValueError):
        return
    except Exception as error:  # no connection: the kind depends on the HTTP library that the hub's client is built on
        reason = "HF_HUB_OFFLINE is set" if is_offline_mode() else f"the hub cannot be reached: {error}"
        raise InputError(
            f"cannot load model {name!r}: it is not on this machine, and {reason}. Check the id and the network, or "
            "pass a checkpoint folder."
        ) from error


@contextmanager
def no_loading_bar() -> Iterator[None]:
    """Without transformers' "Loading weights" bar; the bars of a download stay."""
    from transformers.utils import logging

    before = logging.set_tqdm_hook(lambda bar, args, kwargs: bar(*args, **kwargs | {"disable": True}))
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)
