"""A model loads from a folder as an ordinary checkpoint, and what cannot be loaded says why."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image

import trajkit as tk
from pipelines.demo.packing import patches
from pipelines.demo.rows import RowMaker
from trajkit.demo import paths
from trajkit.errors import InputError, UnsupportedModelError


def test_the_demo_model_is_an_ordinary_checkpoint():
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(paths.MODEL)
    assert model.config.model_type == "qwen3_vl"
    assert sum(f.stat().st_size for f in paths.MODEL.iterdir()) < 25e6


def test_loading_shows_no_bar_and_leaves_the_setting_of_transformers_as_it_was(capfd):
    from transformers.utils import logging

    def mine(bar, args, kwargs):
        return bar(*args, **kwargs)

    before, active = logging.set_tqdm_hook(mine), logging.is_progress_bar_enabled()
    logging.enable_progress_bar()
    try:
        capfd.readouterr()
        tk.load_vlm(paths.MODEL)
        assert "Loading weights" not in capfd.readouterr().err
        assert logging.is_progress_bar_enabled()
        assert logging.set_tqdm_hook(before) is mine
    finally:
        logging.set_tqdm_hook(before)
        if not active:
            logging.disable_progress_bar()


@pytest.mark.parametrize(("error", "passes"), [(HfHubHTTPError, True), (TimeoutError, False)])
def test_what_the_hub_answers_is_left_to_transformers_and_no_answer_is_an_error(monkeypatch, error, passes):
    from trajkit.vlm.load import _check_hub

    def ask(url):
        raise error("x") if error is TimeoutError else error("x", response=Response())

    class Response:
        headers: ClassVar[dict[str, str]] = {}
        request = None

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", ask)
    if passes:
        _check_hub("nobody/no-such-model", None)
        return
    with pytest.raises(InputError, match="cannot load model 'nobody/no-such-model': it is not on this machine"):
        _check_hub("nobody/no-such-model", None)


def test_a_prompt_marks_one_token_for_every_patch(demo_vlm, scene_image):
    prompt = demo_vlm.prepare(scene_image, "sort row 2 down.")
    assert prompt.grids == ((6, 6),)
    assert len(prompt.image_tokens) == 36
    ids = prompt.inputs["input_ids"][0]
    assert (ids[prompt.image_tokens] == demo_vlm.model.config.image_token_id).all()
    assert demo_vlm.tokenizer.unk_token_id not in ids


def test_training_sees_what_the_processor_makes(demo_vlm, scene_image):
    """The trainer lays out pixels, tokens and positions by itself; they must be those of the shipped processor."""
    prompt = demo_vlm.prepare(scene_image, "sort row 2 up.")
    maker = RowMaker(demo_vlm.tokenizer, demo_vlm.model.config)
    np.testing.assert_array_equal(patches(np.asarray(scene_image)[None]), prompt.inputs["pixel_values"])
    assert maker.prefix + maker.words("sort row 2 up.") + maker.to_think == prompt.inputs["input_ids"][0].tolist()
    positions = demo_vlm.model.model.get_rope_index(
        prompt.inputs["input_ids"], prompt.inputs["mm_token_type_ids"], prompt.inputs["image_grid_thw"]
    )[0]
    assert torch.equal(positions[:, 0, : len(maker.prefix)], maker.prefix_positions)
    assert int(positions[0, 0, len(maker.prefix)]) == maker.first_position


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected a checkpoint folder with config\.json"):
        tk.load_vlm(tmp_path)


def test_an_unsupported_architecture_is_refused_with_the_supported_ones(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UnsupportedModelError, match=r"'bert'.*qwen3_vl"):
        tk.load_vlm(tmp_path)


def test_a_checkpoint_without_weights_is_refused(tmp_path):
    (tmp_path / "config.json").write_bytes((paths.MODEL / "config.json").read_bytes())
    with pytest.raises(InputError, match="cannot load model"):
        tk.load_vlm(tmp_path)


def test_no_image_and_image_marks_in_a_question_are_refused(demo_vlm, scene_image):
    with pytest.raises(InputError, match="no image to ask about"):
        demo_vlm.prepare([], "sort row 1 down.")
    with pytest.raises(InputError, match=r"holds <\|image_pad\|>"):
        demo_vlm.prepare(scene_image, "what is <|image_pad|>?")


def test_an_empty_question_is_refused(demo_vlm):
    with pytest.raises(InputError, match="question is empty"):
        demo_vlm.prepare(Image.new("RGB", (128, 128)), "  ")


def test_a_truncated_checkpoint_is_refused(tmp_path):
    for file in paths.MODEL.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(InputError, match="Is the checkpoint complete"):
        tk.load_vlm(tmp_path)


@pytest.fixture
def copy(tmp_path) -> Path:
    """A checkpoint of one's own to spoil."""
    return Path(shutil.copytree(paths.MODEL, tmp_path / "model"))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_no_code_of_a_checkpoint_is_run_even_where_someone_answers_yes(copy, file):
    ran = copy / "ran"
    (copy / "evil.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    if file == "config.json":
        edit(copy / file, model_type="unheard", auto_map={"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"})
    else:
        edit(
            copy / file,
            auto_map={"AutoTokenizer": ["evil.Evil"] * 2, "AutoImageProcessor": "evil.Evil"},
            tokenizer_class="Unheard",
            image_processor_type="Unheard",
            processor_class="Unheard",
        )
    loads = "import sys, trajkit; trajkit.load_vlm(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", loads, str(copy)], input="y\ny\ny\n", text=True, capture_output=True)
    assert not ran.exists()
    assert "[y/N]" not in done.stdout
    if file == "config.json":
        assert "InputError: cannot load model" in done.stderr
        assert "it needs Python code of its own, and trajkit runs none" in done.stderr


def test_a_kernel_that_a_checkpoint_names_is_not_fetched(copy):
    edit(copy / "config.json", _attn_implementation="someone/kernel", attn_implementation="someone/kernel")
    assert tk.load_vlm(copy).model.config._attn_implementation == "sdpa"


def test_pickled_weights_are_not_read(copy):
    from safetensors.torch import load_file

    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no file named model\.safetensors.*with its weights as safetensors"):
        tk.load_vlm(copy)


DEEP = "[" * 20_000 + "]" * 20_000
FILES = ("config.json", "tokenizer_config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("content", ["[1, 2]", "null", "3", DEEP], ids=["list", "null", "number", "deep"])
def test_a_file_of_another_form_is_refused(copy, file, content):
    (copy / file).write_text(content)
    if (file, content) == ("preprocessor_config.json", "null"):
        return  # read as a file that is not there
    with pytest.raises(InputError, match="cannot load model"):
        tk.load_vlm(copy)


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"image_token_id": "x"}),
        ("config.json", {"image_token_id": 10**9}),
        ("config.json", {"image_token_id": -1}),
        ("config.json", {"text_config": []}),
        ("config.json", {"model_type": ["qwen3_vl"]}),
        ("config.json", {"dtype": [1]}),
        ("config.json", {"quantization_config": 5}),
        ("config.json", {"id2label": [1]}),
        ("preprocessor_config.json", {"size": 3}),
        ("preprocessor_config.json", {"patch_size": 0}),
        ("preprocessor_config.json", {"patch_size": 7}),
        ("preprocessor_config.json", {"rescale_factor": "x"}),
        ("preprocessor_config.json", {"resample": 99}),
        ("tokenizer_config.json", {"eos_token": 5}),
        ("tokenizer_config.json", {"model_max_length": "a"}),
        ("tokenizer_config.json", {"tokenizer_class": [1]}),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(copy, file, changes):
    edit(copy / file, **changes)
    with pytest.raises(InputError):
        tk.load_vlm(copy)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eos_token_id", "a"),
        ("eos_token_id", [[2]]),
        ("eos_token_id", 2.5),
        ("pad_token_id", 2.5),
        ("temperature", "hot"),
        ("temperature", -1),
        ("temperature", float("nan")),
        ("top_k", "x"),
        ("top_p", 7),
        ("do_sample", "maybe"),
        ("max_new_tokens", 2.5),
        ("max_new_tokens", 0),
        ("max_new_tokens", 10**30),
        ("repetition_penalty", -1),
        ("suppress_tokens", "x"),
        ("bad_words_ids", [1]),
        ("stop_strings", 5),
    ],
)
def test_a_generation_setting_that_makes_no_sense_is_named(copy, name, value):
    edit(copy / "generation_config.json", **{name: value})
    with pytest.raises(InputError, match=name):
        tk.load_vlm(copy)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("forced_eos_token_id", 10**6),
        ("forced_eos_token_id", [2, 10**6]),
        ("pad_token_id", 10**6),
        ("pad_token_id", -1),
        ("bad_words_ids", [[2], [3, 10**6]]),
        ("sequence_bias", [[[1, 10**6], 1.0]]),
        ("sequence_bias", [[[1]]]),
        ("sequence_bias", {"(1,)": 1.0}),
        ("sequence_bias", [[[1], "a"]]),
        ("sequence_bias", [[[], 1.0]]),
        ("sequence_bias", [[[1], 1e999]]),
        ("exponential_decay_length_penalty", [1]),
        ("exponential_decay_length_penalty", {}),
        ("exponential_decay_length_penalty", [5, 1e300]),
        ("exponential_decay_length_penalty", ["a", "b"]),
        ("stop_strings", [""]),
        ("top_h", 2),
        ("top_h", "x"),
        ("watermarking_config", {"bias": "x"}),
        ("watermarking_config", {"hashing_key": "x"}),
        ("watermarking_config", {"hashing_key": 10**30}),
    ],
)
def test_a_setting_that_would_only_fail_while_generating_is_named_when_the_model_is_loaded(copy, name, value):
    edit(copy / "generation_config.json", **{name: value})
    with pytest.raises(InputError, match=rf"{name} in the checkpoint's generation_config\.json must be"):
        tk.load_vlm(copy)


def test_a_model_without_a_chat_template_is_told_so_when_it_is_loaded(copy):
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match=r"has no chat template.*Put the chat_template\.jinja"):
        tk.load_vlm(copy)


@pytest.mark.parametrize(
    "template",
    [
        "{% if",
        "{{ raise_exception('no') }}",
        "hello",
        "{{ foo.bar.baz }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ 1 / 0 }}",
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    ],
)
def test_a_chat_template_that_fails_is_refused(copy, template):
    (copy / "chat_template.jinja").write_text(template)
    with pytest.raises(InputError, match="make no prompt"):
        tk.load_vlm(copy)


def test_an_image_that_is_far_too_narrow_is_refused(demo_vlm):
    with pytest.raises(InputError, match="16 × 4000; its sides must differ by less than 200 times"):
        demo_vlm.prepare(Image.new("RGB", (16, 4000)), "sort row 1 down.")
