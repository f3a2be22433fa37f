"""Estimators of every kind recover what they can express, save and load exactly, and refuse what they were not made
for."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import trajkit as tk
from trajkit.attribution.estimator import Binding, StepExample
from trajkit.attribution.measure import MeasuredRun
from trajkit.attribution.network import _calibrate
from trajkit.attribution.shrinkage import firm
from trajkit.attribution.training import fit_estimator, held_out_faithfulness
from trajkit.errors import EstimatorMismatchError, InputError

BINDING = Binding("abc", "a model", None, "vision", "sum", "mean")
HEADS = 4
TRUE = np.array([4.0, 0.0, 1.0, -2.0])


def examples(effect, n=200, m=32, noise=0.0, seed=0):
    """Steps whose single-region effects are `effect(features)`, and whose mask effects are their sums."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        k = int(rng.integers(12, 18))
        attention = rng.random((k, 2 * HEADS)) ** 3
        facts = np.broadcast_to([-rng.random(), rng.random(), 5.0], (k, 3))
        features = np.concatenate([attention, facts], 1).astype(np.float32)
        masks = rng.random((m, k)) < 0.5
        single = effect(features)
        effects = masks @ single + noise * rng.normal(size=m) + rng.normal()
        made.append(StepExample(features, masks, effects, single, f"g{i // 2}"))
    return made


def linear(features):
    return features[:, :HEADS] @ TRUE


def relative(features):
    """Where a region stands among others for head 1, and what it gets through the text: no linear map of attention."""
    log = np.log(features[:, 1] + 1e-3)
    return np.tanh(2 * (log - log.mean())) + features[:, HEADS]


RUNS = [
    MeasuredRun(e.group_id, "", e.features[None], e.masks, e.effects[:, None], e.single[:, None], np.arange(3))
    for e in examples(linear, 12)
]


def fit(kind, data, **fitting):
    if kind == "linear":
        return tk.LinearEstimator.fit(data, BINDING, HEADS, **fitting)
    return tk.NetworkEstimator.fit(data, BINDING, **fitting)


@pytest.fixture(scope="module")
def network():
    return fit("network", examples(relative, 400), epochs=30)


@pytest.fixture(params=["linear", "network"])
def estimator(request, network):
    return network if request.param == "network" else tk.LinearEstimator({"weights": np.float32(TRUE)}, BINDING)


def test_the_linear_estimator_recovers_a_linear_map_in_nats():
    fitted = fit("linear", examples(linear), steps=800, rate=1e-2)
    np.testing.assert_allclose(fitted.weights, TRUE, atol=0.25)


def test_the_network_learns_what_no_linear_map_of_attention_can(network):
    fresh = examples(relative, 50, seed=9)
    r2, rank = held_out_faithfulness(network, fresh)
    plain, _ = held_out_faithfulness(fit("linear", examples(relative), steps=300, rate=1e-2), fresh)
    assert r2 > 0.8 > 0.6 > plain
    assert rank > 0.8


@pytest.mark.parametrize(("alone", "rank_weight", "learned"), [(1.0, 1.0, True), (0.1, 1.0, False), (1.0, 0.0, False)])
def test_the_order_of_masks_is_learned_in_grounded_steps(alone, rank_weight, learned):
    """Each region alone has the same effect, and masks have an order on no straight scale: nothing else tells regions
    apart."""

    def ordered(n, seed):
        made = examples(relative, n, seed=seed)
        return [replace(e, single=np.full(len(e.single), alone), effects=np.exp(e.effects)) for e in made]

    fitted = fit("network", ordered(200, 0), epochs=10, members=1, mask_weight=0.0, rank_weight=rank_weight)
    _, rank = held_out_faithfulness(fitted, ordered(40, 9))
    assert rank > 0.7 if learned else rank < 0.2


def on_one_region(features):
    """The effect of the region that head 1 attends to most, and of no other: what else a network says is its error."""
    return np.where(features[:, 1] == features[:, 1].max(), 3.0, 0.0)


def test_what_is_small_beside_the_largest_effect_of_its_step_is_none():
    fitted = fit("network", examples(on_one_region, 200, noise=0.3), epochs=10)
    whole = fit("network", examples(on_one_region, 200, noise=0.3), epochs=10, shares=(0.0,))
    share = float(fitted.arrays["share"][0])
    assert share > 0 == float(whole.arrays["share"][0])
    np.testing.assert_array_equal(fitted.arrays["w1"], whole.arrays["w1"])
    fresh = examples(on_one_region, 50, noise=0.3, seed=9)
    for example in fresh:
        expected = firm(whole.predict(example.features), share)
        np.testing.assert_allclose(fitted.predict(example.features), expected, atol=1e-6)
        np.testing.assert_array_equal(fitted.predict_interval(example.features)[0], fitted.predict(example.features))
    assert held_out_faithfulness(fitted, fresh)[1] > held_out_faithfulness(whole, fresh)[1]
    none = [fitted.predict_interval(e.features)[1][fitted.predict(e.features) == 0] for e in fresh]
    some = [whole.half_width(e.features)[fitted.predict(e.features) == 0] for e in fresh]
    assert np.mean(np.concatenate(none)) < np.mean(np.concatenate(some))  # intervals are about what is shrunk


def test_effects_that_are_shrunk_to_none_do_not_keep_the_promise_of_the_others():
    def of_few(features):
        found = relative(features)
        return np.where(found >= np.quantile(found, 0.8), 3 * found, 0.0)

    fitted = fit("network", examples(of_few, 400), epochs=15, shares=(0.35,))
    fresh = examples(of_few, 300, seed=5)
    estimates, widths = zip(*(fitted.predict_interval(e.features) for e in fresh), strict=True)
    inside = np.abs(np.concatenate([e.single for e in fresh]) - np.concatenate(estimates)) <= np.concatenate(widths)
    size = np.abs(np.concatenate(estimates))
    small = (size > 0) & (size <= np.quantile(size[size > 0], 0.25))
    assert 0.2 < (size > 0).mean() < 0.4
    for band in (size == 0, size > 0, small):
        assert 0.85 < inside[band].mean() < 0.98


@pytest.mark.parametrize("shares", [(), (0.9,), (-0.1, 0.1)])
def test_a_share_that_shrinks_too_much_is_refused_before_anything_is_fitted(shares):
    with pytest.raises(InputError, match=r"numbers in \[0, 0.5\]"):
        fit("network", examples(linear, 12), shares=shares)


def test_effects_lie_within_the_half_width_about_as_often_as_promised(network):
    fresh = examples(relative, 200, seed=5)
    estimates, widths = zip(*(network.predict_interval(e.features) for e in fresh), strict=True)
    size, width = np.abs(np.concatenate(estimates)), np.concatenate(widths)
    inside = np.abs(np.concatenate([e.single for e in fresh]) - np.concatenate(estimates)) <= width
    assert 0.85 < inside.mean() < 0.97
    for low, high in ((0, 0.5), (0.5, 0.9), (0.9, 1)):  # of small effects and of large ones alike
        band = (size >= np.quantile(size, low)) & (size <= np.quantile(size, high))
        assert 0.75 < inside[band].mean() < 0.99
    np.testing.assert_array_equal(width, np.concatenate([network.half_width(e.features) for e in fresh]))


def test_intervals_can_be_calibrated_on_few_effects_and_on_equal_estimates(network):
    few = examples(relative, 1, seed=7)
    alike = [replace(e, features=np.ones_like(e.features)) for e in examples(relative, 200, seed=7)]
    for held_out, bands in ((few, {1}), (alike, {1, 2}), (examples(relative, 300, seed=7), {6})):
        interval = _calibrate(network, held_out)
        assert len(interval["from"]) == len(interval["factor"])
        assert len(interval["from"]) in bands  # equal estimates differ in their last bit
        calibrated = tk.NetworkEstimator({**network.arrays, **interval}, network.binding)
        calibrated.check_arrays(calibrated.arrays)
        assert (calibrated.half_width(few[0].features) > 0).all()


def test_regions_can_come_in_any_order(network):
    features = examples(relative, 1, seed=3)[0].features
    order = np.random.default_rng(0).permutation(len(features))
    np.testing.assert_allclose(network.predict(features[order]), network.predict(features)[order], atol=1e-5)


@pytest.mark.parametrize(("kind", "fitting"), [("linear", {"steps": 30}), ("network", {"epochs": 2})])
def test_fitting_is_reproducible(kind, fitting):
    data = examples(linear, n=20, noise=0.1)
    a, b = (fit(kind, data, seed=4, **fitting) for _ in range(2))
    assert a.digest == b.digest
    assert a.digest != fit(kind, data, seed=5, **fitting).digest


def test_inputs_that_do_not_fit_into_memory_are_made_anew_and_change_nothing(monkeypatch):
    data = examples(linear, n=20, noise=0.1)
    kept = fit("network", data, epochs=2)
    monkeypatch.setattr("trajkit.attribution.network._EXPANDED_BYTES", 0)
    assert fit("network", data, epochs=2).digest == kept.digest


def test_arrays_of_shapes_that_do_not_fit_each_other_are_refused(network):
    for name, array in network.arrays.items():
        with pytest.raises(ValueError, match="do not fit"):
            network.check_arrays(network.arrays | {name: np.concatenate([array, array])})


@pytest.mark.parametrize("kind", ["linear", "network"])
def test_values_from_which_an_effect_could_overflow_are_refused_by_name(kind, network, tmp_path):
    estimator = network if kind == "network" else tk.LinearEstimator({"weights": np.float32(TRUE)}, BINDING)
    estimator.save(tmp_path)
    for name, array in estimator.arrays.items():
        for value in (-3e38, np.inf, np.nan, *([] if name in ("floor", "deviation") else [3e38])):
            absurd = array.copy()
            absurd[-1:] = value
            arrays = dict(estimator.arrays) | {name: absurd}
            with pytest.raises(InputError, match="was not saved"):
                replace(estimator, arrays=arrays).save(tmp_path)
            save_file(arrays, tmp_path / "estimator.safetensors")
            with pytest.raises(InputError, match="the estimator in") as told:
                tk.EffectEstimator.load(tmp_path)
            assert name in str(told.value) or "an effect could be" in str(told.value)
    if kind == "network":
        tiny = estimator.arrays | {"deviation": np.full_like(estimator.arrays["deviation"], 1e-30)}
        with pytest.raises(ValueError, match="an effect could be"):
            estimator.check_values(tiny)


def test_a_fit_that_diverges_is_an_error():
    with pytest.raises(InputError, match="diverged: its loss is no longer finite"):
        fit("network", examples(linear, 12), rate=1e30)


def test_effects_too_large_for_float32_are_no_estimator():
    huge = [replace(run, effects=run.effects * 1e36, single=run.single * 1e36) for run in RUNS]
    for kind in ("linear", "network"):
        with pytest.raises(InputError, match="diverged"):
            fit_estimator(huge, BINDING, HEADS, kind)


@pytest.mark.parametrize("kind", ["linear", "network"])
def test_steps_whose_effects_do_not_vary_are_left_out_and_none_at_all_is_an_error(kind):
    flat = [StepExample(np.ones((4, 11), np.float32), np.eye(4, dtype=bool), np.zeros(4), np.zeros(4))]
    with pytest.raises(InputError, match="does the model look at the image at all"):
        fit(kind, flat)


def test_a_network_needs_groups_to_set_aside():
    with pytest.raises(InputError, match="at least 2 groups"):
        fit("network", examples(linear, 2))


def test_predicting_takes_any_leading_axes_and_refuses_too_few_features(estimator):
    features = np.random.default_rng(0).random((5, 7, 2 * HEADS + 3)).astype(np.float32)
    together = estimator.predict(features)
    assert together.shape == (5, 7)
    np.testing.assert_allclose(together[2], estimator.predict(features[2]), rtol=1e-5)
    with pytest.raises(InputError, match="features must"):
        estimator.predict(features[..., : HEADS - 1])


def test_a_saved_estimator_loads_exactly_by_either_class(tmp_path, estimator):
    estimator.save(tmp_path / "e")
    for opened in (tk.EffectEstimator.load(tmp_path / "e"), type(estimator).load(tmp_path / "e")):
        assert type(opened) is type(estimator)
        assert opened.digest == estimator.digest
        assert (opened.binding, dict(opened.card)) == (BINDING, dict(estimator.card))
    assert sorted(f.name for f in (tmp_path / "e").iterdir()) == ["estimator.json", "estimator.safetensors"]


def test_another_kind_than_asked_for_is_refused(tmp_path, network):
    network.save(tmp_path)
    with pytest.raises(InputError, match="is network; expected linear"):
        tk.LinearEstimator.load(tmp_path)


def test_an_estimator_of_another_model_is_refused(estimator):
    with pytest.raises(EstimatorMismatchError, match=r"trained on a model \(abc\) and does not fit other \(xyz\)"):
        estimator.check("xyz", "other")


def test_a_missing_estimator_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match=r"estimator\.json is missing"):
        tk.EffectEstimator.load(tmp_path)


DAMAGES = [
    "truncated",
    "shape",
    "dtype",
    "nan",
    "missing",
    "header",
    "kind",
    "binding",
    "bound to another",
    "version",
    "other weights",
    "pickle",
    "card",
    "list",
    "bands",
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_refused(tmp_path, estimator, damage):
    estimator.save(tmp_path)
    weights, card = tmp_path / "estimator.safetensors", tmp_path / "estimator.json"
    arrays, record = load_file(weights), json.loads(card.read_text())
    name = next(iter(arrays))
    match damage:
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-3])
        case "shape":
            save_file(arrays | {name: arrays[name][None]}, weights)
        case "dtype":
            save_file(arrays | {name: arrays[name].astype(np.float64)}, weights)
        case "nan":
            save_file(arrays | {name: np.full_like(arrays[name], np.nan)}, weights)
        case "missing":
            save_file({"something": arrays[name]}, weights)
        case "other weights":
            save_file(arrays | {name: arrays[name] + 1}, weights)
        case "header":
            card.write_text("{")
        case "kind":
            card.write_text(json.dumps(record | {"kind": "os:system"}))
        case "binding":
            card.write_text(json.dumps(record | {"binding": {"fingerprint": "abc"}}))
        case "bound to another":
            card.write_text(json.dumps(record | {"binding": record["binding"] | {"fingerprint": "xyz"}}))
        case "bands" if estimator.kind == "network":
            save_file(arrays | {"from": arrays["from"][::-1].copy()}, weights)
        case "bands":
            save_file(arrays | {"from": np.zeros(2, np.float32)}, weights)
        case "card":
            card.write_text(json.dumps(record | {"card": record["card"] | {"r2": 0.99}}))
        case "list":
            card.write_text("[1, 2]")
        case "version":
            card.write_text(json.dumps(record | {"format": 99}))
        case "pickle":
            weights.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InputError, match="the estimator in"):
        tk.EffectEstimator.load(tmp_path)
    shutil.rmtree(tmp_path)


def places(record, path=()):
    """Every entry of a JSON object, as a path of keys."""
    for key, value in record.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from places(value, (*path, key))


def test_any_change_by_hand_is_refused(tmp_path, network):
    """Whatever entry of the card is changed, taken out or added, at any depth."""
    described = replace(network, card={"r2": 0.9, "of": {"runs": 3, "note": None}, "images": ["a", "b"]})
    described.save(tmp_path)
    path = tmp_path / "estimator.json"
    whole = path.read_text()
    everywhere = list(places(json.loads(whole)))
    assert len(everywhere) > 14
    for place in everywhere:
        for change in ("other", "gone", "more", "none"):
            record = json.loads(whole)
            within = record
            for key in place[:-1]:
                within = within[key]
            value = within[place[-1]]
            if change == "gone":
                del within[place[-1]]
            elif change == "more":
                within["also"] = value
            elif change == "none" and value is not None:
                within[place[-1]] = None
            else:
                within[place[-1]] = [value, 1]
            path.write_text(json.dumps(record))
            with pytest.raises(InputError, match="the estimator in"):
                tk.EffectEstimator.load(tmp_path)
    path.write_text(json.dumps(json.loads(whole), indent=7))
    assert dict(tk.EffectEstimator.load(tmp_path).card) == dict(described.card)


def test_one_bit_of_any_array_is_told(tmp_path, network):
    network.save(tmp_path)
    weights = tmp_path / "estimator.safetensors"
    for name, array in network.arrays.items():
        changed = array.copy()
        changed.view(np.uint32).reshape(-1)[-1] ^= 1
        save_file(network.arrays | {name: changed}, weights)
        with pytest.raises(InputError, match="were not saved together"):
            tk.EffectEstimator.load(tmp_path)
