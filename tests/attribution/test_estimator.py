"""The linear estimator recovers a known map, saves and loads exactly, and refuses what it was not made for."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import trajkit as tk
from trajkit.attribution.estimator import Binding, StepExample
from trajkit.errors import EstimatorMismatchError, InputError

BINDING = Binding("abc", "a model", None, "vision", "sum", "mean")


def examples(weights, n=200, k=16, m=32, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        features = rng.random((k, len(weights))).astype(np.float32) ** 3
        masks = rng.random((m, k)) < 0.5
        effects = masks @ features @ weights + noise * rng.normal(size=m) + rng.normal()
        made.append(StepExample(features, masks, effects))
    return made


def test_fitting_recovers_a_linear_map_in_nats():
    true = np.array([4.0, 0.0, 1.0, -2.0])
    fitted = tk.EffectEstimator.fit(examples(true), BINDING, steps=1500, rate=1e-2)
    np.testing.assert_allclose(fitted.weights, true, atol=0.25)


def test_fitting_is_reproducible():
    data = examples(np.array([1.0, 2.0]), n=20, noise=0.1)
    a, b = (tk.EffectEstimator.fit(data, BINDING, steps=30, seed=4).weights for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_steps_whose_effects_do_not_vary_are_left_out_and_none_at_all_is_an_error():
    flat = [StepExample(np.ones((4, 2), np.float32), np.eye(4, dtype=bool), np.zeros(4))]
    with pytest.raises(InputError, match="does the model look at the image at all"):
        tk.EffectEstimator.fit(flat, BINDING)


def test_predicting_takes_any_leading_axes():
    estimator = tk.EffectEstimator(np.array([1.0, 2.0], np.float32), BINDING)
    features = np.random.default_rng(0).random((5, 7, 2))
    np.testing.assert_allclose(estimator.predict(features), features[..., 0] + 2 * features[..., 1], rtol=1e-6)
    with pytest.raises(InputError, match="L·H = 2"):
        estimator.predict(features[..., :1])


def test_a_saved_estimator_loads_exactly(tmp_path):
    estimator = tk.EffectEstimator(np.array([1.5, -2.0], np.float32), BINDING, {"runs": 3})
    estimator.save(tmp_path / "e")
    again = tk.EffectEstimator.load(tmp_path / "e")
    np.testing.assert_array_equal(again.weights, estimator.weights)
    assert (again.binding, again.card) == (BINDING, {"runs": 3})
    assert sorted(f.name for f in (tmp_path / "e").iterdir()) == ["estimator.json", "estimator.safetensors"]


def test_an_estimator_of_another_model_is_refused():
    estimator = tk.EffectEstimator(np.ones(2, np.float32), BINDING)
    with pytest.raises(EstimatorMismatchError, match=r"trained on a model \(abc\) and does not fit other \(xyz\)"):
        estimator.check("xyz", "other")


def test_a_missing_estimator_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match=r"estimator\.json is missing"):
        tk.EffectEstimator.load(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "shape", "dtype", "nan", "header", "version", "other weights"])
def test_damaged_files_are_refused(tmp_path, damage):
    tk.EffectEstimator(np.ones(4, np.float32), BINDING).save(tmp_path)
    weights, card = tmp_path / "estimator.safetensors", tmp_path / "estimator.json"
    match damage:
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-3])
        case "shape":
            save_file({"weights": np.ones((2, 2), np.float32)}, weights)
        case "dtype":
            save_file({"weights": np.ones(4)}, weights)
        case "nan":
            save_file({"weights": np.full(4, np.nan, np.float32)}, weights)
        case "other weights":
            save_file({"weights": np.full(4, 2, np.float32)}, weights)
        case "header":
            card.write_text("{")
        case "version":
            card.write_text(json.dumps(json.loads(card.read_text()) | {"format": 99}))
    with pytest.raises(InputError, match="the estimator in"):
        tk.EffectEstimator.load(tmp_path)
