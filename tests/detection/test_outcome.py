from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from trajkit.detection import OutcomeClassifier
from trajkit.errors import InputError
from trajkit.judging import outcome_auc
from trajkit.runs.table import last_steps

from .world import make_frame, make_runs


@pytest.fixture(scope="module")
def runs_frame() -> pd.DataFrame:
    return last_steps(make_frame(make_runs(80, signal=0.5)))


@pytest.fixture(scope="module")
def classifier(runs_frame: pd.DataFrame) -> OutcomeClassifier:
    return OutcomeClassifier().fit(runs_frame, runs_frame["outcome"])


def test_a_run_is_read_at_its_last_thinking_step(frame: pd.DataFrame) -> None:
    last = last_steps(frame.sample(frac=1, random_state=0))
    assert last["transcript_id"].is_unique
    expected = frame.groupby("transcript_id")["step"].max()
    assert (last.set_index("transcript_id")["step"].sort_index() == expected).all()


def test_it_tells_three_outcomes_apart_on_scenes_it_never_saw(classifier: OutcomeClassifier) -> None:
    fresh = last_steps(make_frame(make_runs(seed=9, signal=0.5)))
    proba = classifier.predict_proba(fresh)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    table = outcome_auc(fresh["outcome"], {"ours": proba}, classifier.classes_, fresh["group_id"], n_boot=50)
    assert list(classifier.classes_) == ["hallucination", "reasoning_failure", "success"]
    assert table.set_index("outcome").loc["macro", "auc"] > 0.75


def test_the_sign_of_concentration_is_learned(runs_frame: pd.DataFrame) -> None:
    """Swap the two failures and the classifier swaps its mind."""
    swap = {"hallucination": "reasoning_failure", "reasoning_failure": "hallucination", "success": "success"}
    one = OutcomeClassifier("concentration").fit(runs_frame, runs_frame["outcome"])
    two = OutcomeClassifier("concentration").fit(runs_frame, runs_frame["outcome"].map(swap))
    np.testing.assert_allclose(one.predict_proba(runs_frame)[:, 0], two.predict_proba(runs_frame)[:, 1], atol=1e-3)


def test_it_abstains_below_the_threshold_that_keeps_the_target_error(
    classifier: OutcomeClassifier, runs_frame: pd.DataFrame
) -> None:
    classifier = clone(classifier).set_params(target_error=0.05).fit(runs_frame, runs_frame["outcome"])
    assert classifier.error_ <= 0.05
    assert 0 < classifier.coverage_ < 1
    said = classifier.predict(runs_frame)
    unsure = classifier.predict_proba(runs_frame).max(axis=1) < classifier.threshold_
    assert unsure.any()
    assert ((said == "abstain") == unsure).all()
    loose = clone(classifier).set_params(target_error=0.99).fit(runs_frame, runs_frame["outcome"])
    assert loose.coverage_ == 1.0


def test_it_always_abstains_where_no_threshold_keeps_the_target_error(runs_frame: pd.DataFrame) -> None:
    shuffled = runs_frame["outcome"].sample(frac=1, random_state=0).to_numpy()
    model = OutcomeClassifier(target_error=0.001).fit(runs_frame, shuffled)
    assert set(model.predict(runs_frame)) == {"abstain"}
    again = OutcomeClassifier.from_state(json.loads(json.dumps(model.to_state(), allow_nan=False)))
    assert set(again.predict(runs_frame)) == {"abstain"}


def test_its_confidence_is_judged_on_runs_it_was_not_fitted_on(runs_frame: pd.DataFrame) -> None:
    """Labels of pure noise, a model free to learn them by heart: only runs held out show that it knows nothing."""
    few = runs_frame.head(120)
    noise = few["outcome"].sample(frac=1, random_state=0).to_numpy()
    model = OutcomeClassifier("trajectory", C=10.0, n_splits=2).fit(few, noise)
    assert model.coverage_ < 0.1


def test_runs_of_unknown_outcome_are_dropped(classifier: OutcomeClassifier, runs_frame: pd.DataFrame) -> None:
    noise = runs_frame.assign(logprob_mean=-50.0, outcome="unknown", transcript_id=runs_frame["transcript_id"] + "x")
    both = pd.concat([runs_frame, noise], ignore_index=True)
    model = OutcomeClassifier().fit(both, both["outcome"])
    np.testing.assert_array_equal(model.coef_, classifier.coef_)


def test_its_state_survives_json(classifier: OutcomeClassifier, runs_frame: pd.DataFrame) -> None:
    again = OutcomeClassifier.from_state(json.loads(json.dumps(classifier.to_state(), allow_nan=False)))
    np.testing.assert_array_equal(again.predict_proba(runs_frame), classifier.predict_proba(runs_frame))
    assert (again.predict(runs_frame) == classifier.predict(runs_frame)).all()


def test_two_outcomes_are_enough_and_one_is_an_input_error(runs_frame: pd.DataFrame) -> None:
    two = runs_frame[runs_frame["outcome"] != "hallucination"]
    model = OutcomeClassifier().fit(two, two["outcome"])
    assert model.predict_proba(two).shape == (len(two), 2)
    one = runs_frame[runs_frame["outcome"] == "success"]
    with pytest.raises(InputError, match="two classes"):
        OutcomeClassifier().fit(one, one["outcome"])


def test_a_class_with_runs_of_a_single_scene_is_an_input_error(runs_frame: pd.DataFrame) -> None:
    few = runs_frame[
        (runs_frame["outcome"] == "success")
        | (runs_frame.index == runs_frame.index[(runs_frame["outcome"] == "hallucination").to_numpy().argmax()])
    ]
    with pytest.raises(InputError, match="two groups"):
        OutcomeClassifier().fit(few, few["outcome"])
