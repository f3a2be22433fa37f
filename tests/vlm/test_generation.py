"""Runs are generated as the checkpoint says where that can be attributed, refused by name where not, drawn apart."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

import trajkit as tk
from pipelines.demo.model import ARCHITECTURES
from tests.attribution.conftest import QUESTION
from trajkit.attribution.collect import collect, generate_runs
from trajkit.attribution.estimator import Binding
from trajkit.attribution.item import Item
from trajkit.attribution.linear import LinearEstimator
from trajkit.attribution.replay import replay
from trajkit.errors import InputError
from trajkit.vlm.check import check_usable
from trajkit.vlm.generation import Sampling, generate
from trajkit.vlm.logits import TextLogits
from trajkit.vlm.sentences import split_steps
from trajkit.vlm.settings import check_settings

SERVED = {
    "top_k": 3,
    "top_p": 0.5,
    "min_p": 0.2,
    "top_h": 0.4,
    "typical_p": 0.6,
    "epsilon_cutoff": 0.01,
    "eta_cutoff": 0.01,
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 2,
    "encoder_repetition_penalty": 1.2,
    "encoder_no_repeat_ngram_size": 3,
    "bad_words_ids": [[20], [21, 22]],
    "suppress_tokens": [20, 21],
    "begin_suppress_tokens": [22],
    "sequence_bias": [[[23], 5.0]],
    "exponential_decay_length_penalty": (5, 1.1),
    "min_new_tokens": 8,
    "min_length": 70,
    "forced_bos_token_id": 20,
    "forced_eos_token_id": 2,
    "renormalize_logits": True,
    "watermarking_config": {"bias": 2.5, "seeding_scheme": "lefthash"},
    "eos_token_id": [2, 30, 31],
}
OVERRIDDEN = {
    "use_cache": False,
    "cache_implementation": ["static", "offloaded", "offloaded_static", "sliding_window", "hybrid", "dynamic"],
    "prefill_chunk_size": 7,
    "max_length": 40,
    "max_cache_len": 64,
    "return_dict_in_generate": True,
    "output_scores": True,
    "output_attentions": True,
    "output_hidden_states": True,
    "output_logits": True,
    "disable_compile": False,
    "remove_invalid_values": True,
    "length_penalty": 2.0,
    "early_stopping": True,
    "num_assistant_tokens": 5,
}
REFUSED = {
    "num_beams": 4,
    "num_beam_groups": 2,
    "num_return_sequences": 2,
    "diversity_penalty": 0.5,
    "constraints": ["x"],
    "force_words_ids": [[5]],
    "penalty_alpha": 0.6,
    "dola_layers": "high",
    "guidance_scale": 1.5,
    "token_healing": True,
    "prompt_lookup_num_tokens": 3,
    "is_assistant": True,
    "assistant_early_exit": 1,
    "assistant_ensemble_weight": 0.5,
    "speculation_type": "dflash",
    "use_mtp": True,
    "max_time": 1.0,
    "cache_implementation": ["quantized", "paged", "of_next_year"],
    "custom_generate": "someone/recipe",
    "a_setting_of_next_year": 3,
}


def each(settings):
    return [(name, one) for name, v in settings.items() for one in (v if name == "cache_implementation" else [v])]


@contextmanager
def with_settings(vlm, **values):
    """The checkpoint's generation settings with these instead."""
    config = vlm.model.generation_config
    before = dict(vars(config))
    vars(config).update(values)
    try:
        yield
    finally:
        vars(config).clear()
        vars(config).update(before)


def estimator_for(vlm):
    weights = np.full(vlm.n_features, 1 / vlm.n_features, np.float32)
    return LinearEstimator({"weights": weights}, Binding(vlm.fingerprint, vlm.name, None, "vision", "sum", "mean"))


def streamed(vlm, image, **how):
    """Tokens of a run, after checking that its effects are those of a replay."""
    estimator = estimator_for(vlm)
    running = tk.stream(vlm, image, QUESTION, estimator=estimator, **{"seed": 3, "max_new_tokens": 16} | how)
    live = list(running)
    assert live
    spans, texts, _ = split_steps(running.tokens, vlm)
    assert [step.text for step in live] == texts
    seen = replay(vlm, running.prompt, torch.tensor(running.tokens), spans, running.regions, "sum")
    effects = estimator.predict(seen.features)
    np.testing.assert_allclose([step.effects for step in live], effects, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose([step.logprob for step in live], seen.logprob, atol=1e-4)
    return running.tokens


def plain(vlm, image, temperature=None, n=16, seed=3):
    """What transformers generates by itself, seeded by its global state."""
    prompt = vlm.prepare(image, QUESTION)
    chosen = {} if temperature is None else {"do_sample": True, "temperature": temperature}
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        out = vlm.model.generate(**prompt.inputs, **chosen, max_new_tokens=n, logits_processor=[TextLogits(vlm)])
    return out[0, prompt.length :].tolist()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_settings_that_are_served_give_the_tokens_of_transformers_and_the_effects_of_a_replay(
    random_vlm, scene_image, architecture
):
    vlm = random_vlm(architecture)
    differ, usual = 0, streamed(vlm, scene_image)
    for name, value in SERVED.items():
        with with_settings(vlm, **{name: value}):
            tokens = streamed(vlm, scene_image)
            assert tokens == plain(vlm, scene_image), name
        differ += tokens != usual
    assert differ >= 8  # most of them matter here


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_settings_of_the_cache_and_of_outputs_change_neither_tokens_nor_effects(random_vlm, scene_image, architecture):
    vlm = random_vlm(architecture)
    usual = streamed(vlm, scene_image)
    for name, value in each(OVERRIDDEN):
        with with_settings(vlm, **{name: value}):
            assert streamed(vlm, scene_image) == usual, name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("name", "value"), each(REFUSED))
def test_settings_that_cannot_be_attributed_are_refused_by_name(random_vlm, scene_image, architecture, name, value):
    vlm = random_vlm(architecture)
    estimator = estimator_for(vlm)
    with with_settings(vlm, **{name: value}):
        with pytest.raises(InputError, match=rf"settings hold {name} = "):
            tk.stream(vlm, scene_image, QUESTION, estimator=estimator)
        with pytest.raises(InputError, match=rf"settings hold {name} = "):
            list(collect(vlm, [Item("a", scene_image, QUESTION, "a")], estimator=estimator))


def test_every_setting_that_transformers_knows_is_in_one_of_the_lists():
    from transformers import GenerationConfig

    from trajkit.vlm.settings import OVERRIDDEN, REFUSED, SERVED

    known = {*SERVED, *OVERRIDDEN, *REFUSED}
    public = {name for name in vars(GenerationConfig()) if not name.startswith("_")}
    assert public - known == {"transformers_version"}
    assert len(known) == len(SERVED) + len(OVERRIDDEN) + len(REFUSED)
    check_settings(GenerationConfig(), 1)


def test_a_run_ends_at_a_stop_string_alone_or_in_a_batch(random_vlm, scene_image):
    vlm = random_vlm()
    usual = streamed(vlm, scene_image)
    word = vlm.tokenizer.decode(usual[9:11])
    items = [Item(str(i), scene_image, question, "g") for i, question in enumerate((QUESTION, "sort row 1 down."))]
    with with_settings(vlm, stop_strings=[word]):
        tokens = streamed(vlm, scene_image)
        alone = [next(iter(generate_runs(vlm, [item], 1, Sampling(0, 16))))[2][0] for item in items]
        together = [runs[0] for _, _, runs in generate_runs(vlm, items, 1, Sampling(0, 16))]
    assert tokens == usual[: len(tokens)]
    assert word in vlm.tokenizer.decode(tokens)
    assert word not in vlm.tokenizer.decode(tokens[:-1])
    assert together == alone


@pytest.mark.parametrize("temperature", [None, 0.3, 1.0, 1.7])
@pytest.mark.parametrize(
    "settings", [{}, {"top_k": None}, {"top_k": 5, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.9, "eta_cutoff": 1e-3}]
)
def test_a_seed_gives_the_tokens_that_it_gives_transformers(random_vlm, scene_image, temperature, settings):
    vlm = random_vlm()
    prompt = vlm.prepare(scene_image, QUESTION)
    with with_settings(vlm, **settings):
        for seed in (0, 7):
            ours = generate(vlm, prompt.inputs, Sampling(temperature, 16, seed))
            assert ours == [plain(vlm, scene_image, temperature, seed=seed)]


def test_a_seeded_run_is_the_same_whatever_else_is_drawn_and_leaves_the_global_state_alone(
    demo_vlm, demo_estimator, scene_image
):
    def run(meanwhile):
        torch.manual_seed(meanwhile)
        expected = torch.get_rng_state()
        running = tk.stream(demo_vlm, scene_image, QUESTION, estimator=demo_estimator, seed=3, max_new_tokens=60)
        for _ in running:
            assert torch.equal(torch.get_rng_state(), expected)
            torch.rand(meanwhile)
            expected = torch.get_rng_state()
        assert torch.equal(torch.get_rng_state(), expected)
        items = [Item("a", scene_image, QUESTION, "a")]
        _, _, runs = next(generate_runs(demo_vlm, items, 2, Sampling(max_new_tokens=60, seed=1)))
        assert torch.equal(torch.get_rng_state(), expected)
        return running.tokens, runs

    assert run(5) == run(6)


def test_without_a_seed_every_run_is_another_whatever_the_global_seed(random_vlm, scene_image):
    vlm = random_vlm()
    prompt = vlm.prepare(scene_image, QUESTION)
    runs = []
    for _ in range(3):
        torch.manual_seed(0)
        runs += generate(vlm, prompt.inputs, Sampling(1.0, 16))
    assert runs[0] != runs[1] != runs[2] != runs[0]


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-7, 5e-324])
def test_a_temperature_close_to_zero_is_greedy(random_vlm, scene_image, temperature):
    vlm = random_vlm()
    assert streamed(vlm, scene_image, temperature=temperature) == streamed(vlm, scene_image, temperature=0)
    with with_settings(vlm, temperature=temperature):
        assert streamed(vlm, scene_image) == streamed(vlm, scene_image, temperature=0)
    with pytest.raises(InputError, match="3 samples would be copies of one"):
        Sampling(temperature).check(vlm, 3)


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf"), 1e300])
def test_a_temperature_that_is_none_is_refused(random_vlm, temperature):
    with pytest.raises(InputError, match="temperature must be a number from 0 to"):
        Sampling(temperature)
    vlm = random_vlm()
    with (
        with_settings(vlm, temperature=temperature),
        pytest.raises(InputError, match=r"the temperature in the checkpoint's generation_config\.json must be"),
    ):
        Sampling().arguments(vlm)


def test_another_seed_gives_other_runs_of_a_batch_and_every_item_has_draws_of_its_own(demo_vlm, scene_image):
    def run(seed, ids="ab"):
        items = [Item(one, scene_image, QUESTION, one) for one in ids]
        return [row for _, _, rows in generate_runs(demo_vlm, items, 4, Sampling(1.5, 40, seed)) for row in rows]

    seeds = (0, 1, 2**24, 2**31 - 1, 2**32 - 1)
    drawn = [run(seed) for seed in seeds]
    assert all(a != b for i, a in enumerate(drawn) for b in drawn[:i])
    assert all(run(seed) == before for seed, before in zip(seeds, drawn, strict=True))
    assert run(0, "cd") != drawn[0]


def test_what_is_asked_for_takes_the_place_of_the_checkpoints_setting(random_vlm, scene_image):
    vlm = random_vlm()
    prompt = vlm.prepare(scene_image, QUESTION)

    def ours(**asked):
        return generate(vlm, prompt.inputs, Sampling(1.3, 16, 3, **asked))[0]

    usual = ours()
    word = vlm.tokenizer.decode(usual[9:11])
    for asked in ({"top_p": 0.4}, {"top_k": 2}, {"top_k": 0, "top_p": 0.9}, {"stop_strings": [word]}):
        with with_settings(vlm, **asked):
            expected = ours()
        with with_settings(vlm, top_p=0.01, top_k=1, stop_strings="."):
            assert ours(**{"top_p": 1.0, "top_k": 0, "stop_strings": ()} | asked) == expected, asked
        assert asked.keys() == {"top_k", "top_p"} or expected != usual, asked


def test_how_a_run_is_drawn_is_said_and_named_only_where_it_is_asked_for():
    assert Sampling(0.5, 10, 3).drawn == "3 0.5 10"
    names = {Sampling(0.5, 10, 3, *more).drawn for more in [(0.9,), (None, 5), (None, None, "a"), (0.9, 5, ["a"])]}
    assert len(names) == 4
    assert Sampling(stop_strings="a") == Sampling(stop_strings=("a",))
    assert Sampling(stop_strings="a").to_dict()["stop_strings"] == ["a"]


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("top_p", 1.1, "top_p must be a number from 0 to 1; got 1.1"),
        ("top_p", float("nan"), "top_p must be a number from 0 to 1"),
        ("top_k", -1, "top_k must be a whole number from 0"),
        ("top_k", 2.5, "top_k must be a whole number from 0"),
        ("stop_strings", "", "stop_strings must be a text or a list of texts that are not empty"),
        ("stop_strings", ["a", 3], "stop_strings must be a text or a list of texts that are not empty"),
    ],
)
def test_a_setting_that_cannot_be_asked_for_is_refused(name, value, named):
    with pytest.raises(InputError, match=named):
        Sampling(**{name: value})


@pytest.mark.parametrize("seed", [-1, 2**32, 10**30])
def test_a_seed_of_which_the_generator_would_read_a_part_is_refused(seed):
    with pytest.raises(InputError, match="from 0 to 4294967295"):
        Sampling(seed=seed)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top_p", -0.5),
        ("top_p", "0.9"),
        ("repetition_penalty", -1.0),
        ("stop_strings", [""]),
        ("forced_eos_token_id", 10**6),
        ("forced_bos_token_id", 10**6),
        ("sequence_bias", [[[10**6], 1.0]]),
        ("sequence_bias", [[[1]]]),
        ("bad_words_ids", [[10**6]]),
        ("exponential_decay_length_penalty", [1]),
        ("exponential_decay_length_penalty", [5, 10**400]),
        ("watermarking_config", {"bias": "x"}),
        ("temperature", 1e7),
        ("max_new_tokens", 0),
        ("renormalize_logits", "no"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_when_it_is_read_too(random_vlm, scene_image, name, value):
    """By the table that a checkpoint is checked with when it is loaded: settings can be changed after that."""
    vlm, named = random_vlm(), rf"the {name} in the checkpoint's generation_config\.json must be"
    with with_settings(vlm, **{name: value}):
        with pytest.raises(InputError, match=named):
            list(generate_runs(vlm, [Item("a", scene_image, QUESTION, "a")], 1, Sampling(0, 8)))
        with pytest.raises(InputError, match=named):
            list(tk.stream(vlm, scene_image, QUESTION, estimator=estimator_for(vlm), max_new_tokens=8))
        with pytest.raises(InputError, match=named):
            check_usable(vlm)


def test_a_value_that_a_checkpoint_may_not_have_cannot_be_asked_for():
    with pytest.raises(InputError, match=r"^temperature must be a number from 0 to 1e\+06; got 10000000\.0"):
        Sampling(1e7)
    with pytest.raises(InputError, match=r"^max_new_tokens must be a whole number from 1 to 2147483647; got 0"):
        Sampling(max_new_tokens=0)
    assert Sampling(np.float32(0.5), np.int64(3)).max_new_tokens == 3


@pytest.mark.parametrize(
    ("value", "told"), [({"seeding_scheme": "none such"}, "seeding_scheme"), ({"context_width": "x"}, "")]
)
def test_a_setting_that_only_transformers_can_tell_is_the_checkpoints_fault(random_vlm, scene_image, value, told):
    vlm = random_vlm()
    with with_settings(vlm, watermarking_config=value):
        with pytest.raises(InputError, match=f"cannot generate with its settings: .*{told}"):
            list(generate_runs(vlm, [Item("a", scene_image, QUESTION, "a")], 1, Sampling(0, 8)))
        with pytest.raises(InputError, match=f"cannot generate with its settings: .*{told}"):
            list(tk.stream(vlm, scene_image, QUESTION, estimator=estimator_for(vlm), max_new_tokens=8))
        failed: dict[int, InputError] = {}
        assert generate(vlm, vlm.prepare(scene_image, QUESTION).inputs, Sampling(0, 8), 2, failed=failed) == [[], []]
        assert sorted(failed) == [0, 1]


def test_settings_that_rule_out_every_token_are_said_to(random_vlm, scene_image):
    vlm = random_vlm()
    every = list(range(vlm.text_config.vocab_size))
    with with_settings(vlm, suppress_tokens=every), pytest.raises(InputError, match=r"infinite|rule out"):
        list(tk.stream(vlm, scene_image, QUESTION, estimator=estimator_for(vlm), seed=0))
