"""What tells one model from another: a hash over its weights and all else that decides which tokens it writes."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trajkit.errors import InputError
from trajkit.files import replacing
from trajkit.fingerprints import stamped

if TYPE_CHECKING:
    from trajkit.vlm.model import VLM

SETTLED = 2.0
"""Seconds. A file that was changed later than this before it was read is not remembered: it might change again
within the clock's tick, at the same size."""
_BLIND = frozenset(
    {
        "transformers_version",
        "_from_model_config",
        "_name_or_path",
        "dtype",
        "torch_dtype",
        "architectures",
        "_attn_implementation",
        "attn_implementation",
        "return_dict",
        "return_dict_in_generate",
        "output_attentions",
        "output_hidden_states",
        "output_scores",
        "output_logits",
        "use_cache",
        "cache_implementation",
        "cache_config",
        "max_cache_len",
        "prefill_chunk_size",
        "compile_config",
        "disable_compile",
        "low_memory",
    }
)
"""Settings that change no token, or that are about how a checkpoint was written or loaded. What else is idle by
`settings.OVERRIDDEN` is not left out: fingerprints that were given count it, and are to stay."""
_PICTURE = (
    "size",
    "min_pixels",
    "max_pixels",
    "patch_size",
    "temporal_patch_size",
    "merge_size",
    "image_mean",
    "image_std",
    "rescale_factor",
    "resample",
    "do_resize",
    "do_rescale",
    "do_normalize",
    "do_convert_rgb",
)
"""What an image processor does to a picture; its two implementations differ in what else they say."""


@dataclass(frozen=True)
class Source:
    """Where a model's weights came from. files: safetensors. checksum: `checksum` of the model as it was loaded."""

    files: tuple[Path, ...]
    checksum: str


def fingerprint(vlm: VLM) -> str:
    """16 hexadecimal digits over every weight, the configuration, the chat template, the tokenizer, the image processor
    and the generation settings that change tokens, with the number of the way in which they are made
    (`fingerprints.stamped`). Copies of a checkpoint share it, wherever they lie, however they are cut into files and in
    whatever dtype they are loaded.

    Weights are read from the files of the checkpoint, once: what came out is kept in the user's cache folder. Where
    there are no files, or the model was changed since it was loaded, all its bytes in memory are read instead.
    """
    source = vlm.source
    if source is not None and source.checksum == checksum(vlm.model):
        weights = hash_files(source.files)
    else:
        weights = hash_tensors(vlm.model)
    record = json.dumps([weights, settings(vlm)], sort_keys=True, default=str)
    return stamped(hashlib.sha256(record.encode("utf-8", "surrogatepass")).hexdigest()[:16])


def settings(vlm: VLM) -> dict[str, Any]:
    """All that decides a model's tokens beside its weights, as JSON can hold it."""
    backend = getattr(vlm.tokenizer, "backend_tokenizer", None)
    words = json.loads(backend.to_str()) if backend is not None else vlm.tokenizer.get_vocab()
    picture = vlm.processor.image_processor.to_dict()
    return {
        "config": _seen(vlm.model.config.to_diff_dict()),
        "template": vlm.processor.chat_template,
        "tokenizer": {key: value for key, value in words.items() if key not in ("padding", "truncation")},
        "special": _seen(dict(vlm.tokenizer.special_tokens_map)),
        "picture": {key: _seen(picture[key]) for key in _PICTURE if picture.get(key) is not None},
        "generation": _seen(vlm.model.generation_config.to_dict()),
    }


def _seen(value: Any) -> Any:
    """Without what is not set, and without what changes no token."""
    if isinstance(value, Mapping):
        return {str(k): _seen(v) for k, v in value.items() if v is not None and k not in _BLIND}
    return [_seen(v) for v in value] if isinstance(value, list | tuple) else value


def weight_files(name: str, revision: str | None = None) -> tuple[Path, ...]:
    """The safetensors files of a checkpoint folder, or of a hub id that is in the cache; none where there are none."""
    from transformers.utils import cached_file

    def find(file: str) -> Path | None:
        found = cached_file(
            name,
            file,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )
        return None if found is None else Path(found)

    whole = find("model.safetensors")
    if whole is not None:
        return (whole,)
    index = find("model.safetensors.index.json")
    if index is None:
        return ()
    parts = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    found = [find(part) for part in parts]
    return tuple(path for path in found if path is not None)


def hash_files(files: Iterable[Path], cache: Path | None = None) -> str:
    """A hash over name, dtype, shape and bytes of every tensor in safetensors files, however they are shared out.

    cache: the folder to keep it in, by path, size and times; the user's own by default. One that is missing, damaged or
    cannot be written to does no harm. Raises InputError on a file that is no safetensors.
    """
    files = sorted(path.resolve() for path in files)
    began = time.time()
    known: list[list[Any]] = [
        [str(path), at.st_size, at.st_mtime_ns, at.st_ctime_ns] for path in files for at in (path.stat(),)
    ]
    name = hashlib.sha256(json.dumps([path for path, *_ in known]).encode()).hexdigest()[:32]
    kept = (cache or cache_folder()) / f"{name}.json"
    found = _recall(kept, known)
    if found is not None:
        return found
    digests = dict(entry for path in files for entry in _file_digests(path))
    weights = _combined(digests)
    if all(began - max(mtime, ctime) / 1e9 > SETTLED for _, _, mtime, ctime in known):
        with suppress(InputError, OSError), replacing(kept) as stream:
            stream.write(json.dumps({"files": known, "weights": weights}).encode())
    return weights


def holds(files: Iterable[Path], model: Any) -> bool:
    """Whether safetensors files hold the numbers of a model in memory.

    The first ones of each of their tensors must be those of one in the model, of any name, since names change on
    loading; a cast to the model's dtype is no difference.
    """
    from safetensors import safe_open

    ours, dtypes = set(), set()
    for _, tensor in _tensors(model):
        if tensor.ndim and tensor.is_floating_point():
            ours.add(_first(tensor))
            dtypes.add(tensor.dtype)
    for path in files:
        with safe_open(path, "pt") as stored:
            for name in stored.keys():  # noqa: SIM118
                theirs = stored.get_slice(name)
                if theirs.get_shape() and not any(_first(theirs[:1].to(dtype)) in ours for dtype in dtypes):
                    return False
    return bool(dtypes)


def _first(tensor: Tensor) -> tuple[tuple[int, ...], bytes]:
    """What is behind the first dimension, and the bytes of its first entry."""
    return tuple(tensor.shape[1:]), _bytes(tensor[:1]).cpu().numpy().tobytes()


def cache_folder() -> Path:
    """Where hashes of weights are kept, in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trajkit" / "weights"


def _recall(kept: Path, known: list[list[Any]]) -> str | None:
    try:
        record = json.loads(kept.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    weights = record.get("weights") if isinstance(record, dict) and record.get("files") == known else None
    return weights if isinstance(weights, str) and len(weights) == 64 else None


def _file_digests(path: Path) -> list[tuple[str, str]]:
    """(name, digest) of every tensor of a safetensors file, read through a map of it by as many threads as cores."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            start = 8 + struct.unpack("<Q", mapped[:8])[0]
            header = {k: v for k, v in json.loads(mapped[8:start]).items() if k != "__metadata__"}
            with memoryview(mapped) as data, ThreadPoolExecutor(os.cpu_count()) as pool:
                return list(pool.map(lambda item: _part(data, start, *item), header.items()))
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
        raise InputError(f"{path} is no whole safetensors file ({error}); copy it again.") from error


def _part(data: memoryview, start: int, name: str, entry: dict[str, Any]) -> tuple[str, str]:
    begin, end = entry["data_offsets"]
    with data[start + begin : start + end] as part:
        if len(part) != end - begin:
            raise ValueError(f"it ends before {name} does")
        return name, _digest(entry["dtype"], entry["shape"], part)


def _digest(dtype: str, shape: Iterable[int], data: Any) -> str:
    digest = hashlib.sha256(f"{dtype}{list(shape)}".encode())
    digest.update(data)
    return digest.hexdigest()


def _combined(digests: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest()


def hash_tensors(model: Any) -> str:
    """As `hash_files`, of the parameters and buffers of a model in memory: all bytes, in the dtype they have."""
    return _combined(
        {
            name: _digest(str(tensor.dtype), tensor.shape, _bytes(tensor).cpu().numpy())
            for name, tensor in _tensors(model)
        }
    )


def checksum(model: Any) -> str:
    """A sum over all bits of a model in memory, where it lies: whether it was changed since the last one."""
    digest = hashlib.sha256()
    for name, tensor in _tensors(model):
        bits = _bytes(tensor)
        wide = bits[: len(bits) // 8 * 8].view(torch.int64)
        columns = min(1021, max(1, len(wide)))  # a prime, so that no swap of rows goes unseen
        whole = wide[: len(wide) // columns * columns].view(-1, columns).sum(0)
        rest = [*wide[len(wide) // columns * columns :].tolist(), *bits[len(bits) // 8 * 8 :].tolist()]
        digest.update(f"{name}{tensor.dtype}{list(tensor.shape)}{rest}".encode())
        digest.update(whole.cpu().numpy().tobytes())
    return digest.hexdigest()


def _tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _bytes(tensor: Tensor) -> Tensor:
    """(n,) uint8, in the memory of `tensor` where that is in one piece."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)
