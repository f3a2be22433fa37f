"""A fingerprint tells models apart by all that decides their tokens, and by nothing else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import trajkit as tk
from trajkit.demo import paths
from trajkit.errors import InputError
from trajkit.vlm import fingerprint as module
from trajkit.vlm.fingerprint import checksum, hash_files, weight_files


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "SETTLED", -1.0)
    return tmp_path / "cache" / "trajkit" / "weights"


@pytest.fixture
def copy(tmp_path) -> Path:
    return Path(shutil.copytree(paths.MODEL, tmp_path / "model"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_copies_of_a_checkpoint_share_a_fingerprint_and_changed_weights_do_not(demo_vlm):
    again = tk.load_vlm(paths.MODEL)
    assert again.fingerprint == demo_vlm.fingerprint
    changed = tk.load_vlm(paths.MODEL)
    changed.model.lm_head.weight.data.mul_(1.01)
    assert changed.fingerprint != demo_vlm.fingerprint


def test_it_is_the_same_elsewhere_in_other_files_in_another_dtype_and_after_use(demo_vlm, scene_image, copy):
    weights = load_file(copy / "model.safetensors")
    names = sorted(weights)
    (copy / "model.safetensors").unlink()
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: weights[name] for name in part}, copy / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    edit(copy / "generation_config.json", transformers_version="9", use_cache=False)
    edit(copy / "config.json", transformers_version="9")
    half = tk.load_vlm(copy, dtype=torch.bfloat16)
    half.tokenizer(["a", "b"], padding=True, truncation=True, max_length=4)
    assert half.fingerprint == demo_vlm.fingerprint


@pytest.mark.parametrize("which", range(0, 60, 7))
def test_one_changed_weight_anywhere_is_noticed_in_files_and_in_memory(demo_vlm, copy, which):
    weights = load_file(copy / "model.safetensors")
    name = sorted(weights)[which % len(weights)]
    weights[name].view(-1)[(7919 * which) % weights[name].numel()] += 1e-3
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    changed = tk.load_vlm(copy)
    assert changed.fingerprint != demo_vlm.fingerprint
    before = checksum(changed.model)
    parameter = list(changed.model.parameters())[which % 40]
    parameter.data.view(-1)[(7919 * which) % parameter.numel()] += 1e-3
    assert checksum(changed.model) != before


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("generation_config.json", {"eos_token_id": [2, 3]}),
        ("generation_config.json", {"temperature": 0.9}),
        ("generation_config.json", {"top_k": 5}),
        ("generation_config.json", {"suppress_tokens": [9]}),
        ("generation_config.json", {"repetition_penalty": 1.1}),
        ("generation_config.json", {"do_sample": False}),
        ("preprocessor_config.json", {"image_mean": [0.5, 0.5, 0.4]}),
        ("preprocessor_config.json", {"resample": 2}),
    ],
)
def test_a_setting_that_changes_tokens_is_noticed(demo_vlm, copy, file, changes):
    edit(copy / file, **changes)
    assert tk.load_vlm(copy).fingerprint != demo_vlm.fingerprint


def test_another_chat_template_tokenizer_or_configuration_is_noticed(demo_vlm, copy):
    template, tokens, config = copy / "chat_template.jinja", copy / "tokenizer.json", copy / "config.json"
    found = {demo_vlm.fingerprint}
    kept = template.read_text()
    template.write_text(kept + " ")
    found.add(tk.load_vlm(copy).fingerprint)
    template.write_text(kept)
    kept = tokens.read_text()
    words = json.loads(kept)
    vocabulary = words["model"]["vocab"]
    a, b = list(vocabulary)[-2:]
    vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]
    tokens.write_text(json.dumps(words))
    found.add(tk.load_vlm(copy).fingerprint)
    tokens.write_text(kept)
    record = json.loads(config.read_text())
    record["text_config"]["rms_norm_eps"] = 1e-5
    config.write_text(json.dumps(record))
    found.add(tk.load_vlm(copy).fingerprint)
    assert len(found) == 4


def test_files_are_read_once_and_again_when_they_change(copy, own_cache, monkeypatch):
    files = weight_files(str(copy))
    first = hash_files(files)
    reads: list[Path] = []
    read = module._file_digests
    monkeypatch.setattr(module, "_file_digests", lambda path: (reads.append(path), read(path))[1])
    assert hash_files(files) == first
    assert reads == []
    kept = next(own_cache.iterdir())
    for damaged in ("[]", "{", '{"weights": "x"}', "[" * 9999):
        kept.write_text(damaged)
        assert hash_files(files) == first
    assert len(reads) == 4
    before = files[0].stat()
    data = bytearray(files[0].read_bytes())
    data[-3] ^= 1
    files[0].write_bytes(data)
    os.utime(files[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert hash_files(files) != first


def test_a_file_that_was_written_just_now_is_not_remembered(copy, own_cache, monkeypatch):
    monkeypatch.setattr(module, "SETTLED", 60.0)
    hash_files(weight_files(str(copy)))
    assert not own_cache.exists() or not any(own_cache.iterdir())


def test_a_cache_that_cannot_be_written_does_no_harm(copy, tmp_path):
    (tmp_path / "file").write_text("")
    assert hash_files(weight_files(str(copy)), tmp_path / "file" / "below") == hash_files(weight_files(str(copy)))


@pytest.mark.parametrize("keep", [0, 4, 100, 5000])
def test_a_truncated_file_is_named(copy, keep):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"model\.safetensors is no whole safetensors file"):
        hash_files([path])
