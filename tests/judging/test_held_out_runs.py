"""Nested risks of sentences, and failure told at a step, from a world where what is seen can be told."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from trajkit.detection import StepPredictor
from trajkit.judging.ceilings import shares_of_ceiling
from trajkit.judging.held_out_runs import nested_risks, told_at
from trajkit.judging.ranking import Selection, select_steps

FOLDS = 4


class Seen(StepPredictor):
    """Remembers the folds that it was fitted on, and gives them, as a number, for a risk."""

    def fit(self, X, y, sample_weight=None):
        self.seen_ = sum(2.0**fold for fold in set(X["fold"]))
        return self

    def risks(self, X):
        return np.full(len(X), self.seen_)


def test_no_sentence_is_judged_by_what_has_seen_its_fold_or_the_one_held_out() -> None:
    fold = np.tile(np.arange(FOLDS), 5)
    frame = pd.DataFrame({"fold": fold, "label": ["", "false"] * 10})
    told = []
    found = nested_risks(frame, fold, Seen(), told.append)
    assert len(told) == FOLDS * (FOLDS + 1) // 2
    for held in range(FOLDS):
        for own in range(FOLDS):
            expected = sum(2.0**f for f in range(FOLDS) if f not in (held, own))
            assert set(found[held, fold == own]) == {expected}


@pytest.fixture
def world():
    """400 runs of one step, two a group; x tells failure, and noise is missing in some."""
    rng = np.random.default_rng(0)
    failed = np.repeat(rng.integers(0, 2, 200), 2).astype(float)
    x = np.column_stack([failed + rng.normal(0, 1, 400), np.where(rng.random(400) < 0.1, np.nan, rng.random(400))])
    return failed, x, np.repeat(np.arange(200) % FOLDS, 2)


def test_what_tells_failure_is_told_and_rows_of_no_selection_are_not(world) -> None:
    failed, x, fold = world
    rows = np.arange(0, 400, 2)
    found = told_at(failed, fold, [Selection(rows, step=1)], lambda one, held: x[one.rows])
    assert np.isnan(np.delete(found, rows)).all()
    assert found[rows][failed[rows] == 1].mean() - found[rows][failed[rows] == 0].mean() > 0.5


def test_neither_outcome_nor_features_of_the_fold_held_out_are_learned_from(world) -> None:
    failed, x, fold = world
    at = [Selection(np.arange(400), step=1)]
    plain = told_at(failed, fold, at, lambda one, held: x)
    turned = told_at(np.where(fold == 2, 1 - failed, failed), fold, at, lambda one, held: x)
    np.testing.assert_array_equal(plain[fold == 2], turned[fold == 2])
    assert (plain[fold == 1] != turned[fold == 1]).any()
    other = x.copy()
    one = np.flatnonzero(fold == 2)
    other[one[1:]] *= 50
    assert told_at(failed, fold, at, lambda _, held: other)[one[0]] == plain[one[0]]


def test_a_step_where_a_class_is_missing_is_not_told(world) -> None:
    _, x, fold = world
    found = told_at(np.zeros(400), fold, [Selection(np.arange(400), step=1)], lambda one, held: x)
    assert np.isnan(found).all()


def test_shares_of_the_ceiling_are_1_of_itself_a_half_half_way_and_0_of_chance() -> None:
    """A score that is the ceiling in half of the pairs goes half of the way."""
    rng = np.random.default_rng(1)
    failed = np.tile([1, 0], 400)
    frame = pd.DataFrame(
        {
            "transcript_id": [f"{i}" for i in range(800)],
            "group_id": [f"{i // 2}" for i in range(800)],
            "step": 1,
            "outcome": np.where(failed == 1, "failure", "success"),
        }
    )
    ceiling = np.where(rng.random(800) < 0.5, failed, 0.5)
    half = np.where(np.arange(800) < 400, ceiling, 0.5)
    scores = {"itself": ceiling, "half": half, "chance": rng.random(800), "missing": np.full(800, np.nan)}
    at, strata = select_steps(frame), np.arange(800) // 400
    table = shares_of_ceiling(frame, scores, ceiling, at, strata, n_boot=100).set_index("method")
    assert table.loc["itself", "share"] == 1
    assert table.loc["half", "share"] == pytest.approx(0.5, abs=0.05)
    assert table.loc["half", "low"] < table.loc["half", "share"] < table.loc["half", "high"]
    assert table.loc["chance", "share"] == pytest.approx(0, abs=0.25)
    assert np.isnan(table.loc["missing", "share"])
    nothing = shares_of_ceiling(frame, scores, rng.random(800), at, strata, n_boot=100)
    assert nothing["share"].isna().all()
