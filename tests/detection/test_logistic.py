"""Logistic regression on a design in parts: scikit-learn's numbers, without the design."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from trajkit.detection.design import FEATURE_SETS, FeatureMap, Rows, columns_of, parse_features
from trajkit.detection.logistic import fit_logistic

ALL = "+".join(FEATURE_SETS)


def some_rows(features: str, n: int = 3000, n_tasks: int = 5) -> tuple[FeatureMap, Rows, np.ndarray]:
    """Rows of made-up features, some missing, and whether they failed, which the first feature tells within a task."""
    rng = np.random.default_rng(0)
    sets = parse_features(features, "a test")
    values = rng.normal(size=(n, len(columns_of(sets))))
    values[rng.random(values.shape) < 0.1] = np.nan
    task = rng.integers(0, n_tasks, n)
    names = tuple(f"task {t}" for t in task) if "task" in sets else ()
    odds = 0.5 * (task - 2) + (np.nan_to_num(values[:, 0]) * (-1.0) ** task if values.shape[1] else 0)
    rows = Rows(values, rng.integers(1, 9, n).astype(float), names)
    return FeatureMap.learn(sets, rows, 30), rows, (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(float)


@pytest.mark.parametrize("features", ["trajectory", "task", "length+task", "trajectory+task", ALL])
def test_parts_are_the_design(features: str) -> None:
    known, rows, _ = some_rows(features)
    whole, built = known.matrix(rows), np.zeros((len(rows.steps), known.width))
    for part in known.parts(rows):
        for own, place in part.places:
            built[np.ix_(part.rows, place)] += part.columns[:, own]
    np.testing.assert_array_equal(built, whole)


@pytest.mark.parametrize("features", ["trajectory+concentration+uncertainty+length", "length+task", ALL])
def test_coefficients_are_those_of_scikit_learn(features: str) -> None:
    known, rows, y = some_rows(features)
    weight = np.random.default_rng(1).random(len(y))
    design = known.matrix(rows)
    model = LogisticRegression(C=0.01, solver="newton-cholesky").fit(design, y, weight)
    found = fit_logistic(list(known.parts(rows)), known.width, y, weight, 0.01)
    np.testing.assert_allclose(found.coef, model.coef_[0], atol=1e-9)
    assert found.intercept == pytest.approx(model.intercept_[0], abs=1e-9)
    np.testing.assert_allclose(found.centre, np.average(design, axis=0, weights=weight), atol=1e-12)


def test_a_step_that_would_go_too_far_is_halved() -> None:
    """Hardly held back, and wholly told apart by one column: whole Newton steps alone would overshoot."""
    known, rows, _ = some_rows("trajectory", 400)
    y = (np.nan_to_num(rows.values[:, 3]) > 1.5).astype(float)
    design = known.matrix(rows)
    model = LogisticRegression(C=1e4, solver="newton-cholesky", max_iter=2000).fit(design, y)
    found = fit_logistic(list(known.parts(rows)), known.width, y, np.ones(400), 1e4)
    np.testing.assert_allclose(found.coef, model.coef_[0], rtol=1e-6)


def test_the_design_of_many_tasks_is_never_laid_out() -> None:
    known, rows, y = some_rows(ALL, 20_000, n_tasks=20)
    tracemalloc.start()
    fit_logistic(list(known.parts(rows)), known.width, y, np.ones(len(y)), 0.01)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * len(y) * known.width / 4
