"""Trees read from plain numbers say what scikit-learn's own say, row by row."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from trajkit.detection.trees import Trees
from trajkit.errors import InputError


def fitted(n_classes: int, seed: int = 0, **params: Any) -> tuple[HistGradientBoostingClassifier, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3000, 4))
    y = (x[:, 0] * x[:, 1] > 0.3).astype(int) + (n_classes > 2) * (np.nan_to_num(x[:, 2]) > 1)
    x[rng.random(x.shape) < 0.2] = np.nan
    model = HistGradientBoostingClassifier(max_iter=20, early_stopping=False, random_state=0, **params)
    return model.fit(x, y), x


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("params", [{}, {"max_leaf_nodes": 2}, {"min_samples_leaf": 2000}])
def test_they_have_the_log_odds_of_the_model_that_they_were_read_from(n_classes: int, params: dict) -> None:
    model, x = fitted(n_classes, **params)
    found = Trees.of(model).log_odds(x)
    expected = model.decision_function(x)
    np.testing.assert_allclose(found, expected.reshape(len(x), -1), atol=1e-12)


def test_a_row_alone_is_the_row_among_others_to_the_last_bit_also_after_json() -> None:
    model, x = fitted(3)
    trees = Trees.of(model)
    again = Trees.from_state(json.loads(json.dumps(trees.to_state(), allow_nan=False)), 4, 3)
    together = trees.log_odds(x)
    np.testing.assert_array_equal(again.log_odds(x), together)
    for i in range(0, 3000, 300):
        np.testing.assert_array_equal(trees.log_odds(x[i : i + 1])[0], together[i])
    assert trees.log_odds(x[:0]).shape == (0, 3)


def break_(state: dict[str, Any], name: str, value: Any, at: int | None = None) -> dict[str, Any]:
    changed = json.loads(json.dumps(state))
    if at is None:
        changed[name] = value
    else:
        changed[name][at] = value
    return changed


@pytest.mark.parametrize(
    ("name", "value", "at", "message"),
    [
        ("left", 0, 1, "ways end after 'depth'"),  # round in circles
        ("depth", 1, None, "ways end after 'depth'"),
        ("depth", 1e9, None, "'depth' between 0 and 64"),
        ("right", 10**6, 0, "'right' between 0 and"),
        ("feature", 4, 0, "'feature' between 0 and 3"),
        ("feature", 0.5, 0, "whole numbers in 'feature'"),
        ("value", 1e9, 3, "'value' between"),
        ("threshold", None, 0, "finite numbers of shape"),
        ("threshold", [], None, "finite numbers of shape"),
        ("roots", [[0, 1]], None, r"'roots' as finite numbers of shape \(None, 3\)"),
        ("start", "0", None, "'start' as list"),
    ],
)
def test_a_damaged_state_is_refused(name: str, value: Any, at: int | None, message: str) -> None:
    state = Trees.of(fitted(3, max_leaf_nodes=6)[0]).to_state()
    with pytest.raises(InputError, match=message):
        Trees.from_state(break_(state, name, value, at), 4, 3)
