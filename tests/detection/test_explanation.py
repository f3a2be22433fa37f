"""An explanation names what moved a run, by amounts that add up to its log-odds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.detection.world import make_frame, make_runs
from trajkit.detection.explanation import contributions, explain, words
from trajkit.detection.outcome import OutcomeClassifier
from trajkit.runs.table import last_steps


@pytest.fixture(scope="module")
def ends() -> pd.DataFrame:
    return last_steps(make_frame(make_runs(80)))


@pytest.mark.parametrize("features", ["trajectory+concentration+uncertainty+length+task", "uncertainty"])
def test_contributions_and_the_average_run_add_up_to_the_log_odds(ends: pd.DataFrame, features: str) -> None:
    classifier = OutcomeClassifier(features).fit(ends, ends["outcome"])
    parts = contributions(classifier, ends)
    log_odds = np.log(classifier.predict_proba(ends))
    log_odds -= log_odds.mean(1, keepdims=True)
    rows = [classifier.intercept_, classifier.coef_ @ classifier.centre_]
    average = sum(part - part.mean() for part in rows)
    np.testing.assert_allclose(sum(parts.values()) + average, log_odds, atol=1e-8)
    for part in parts.values():  # a run a row here, so all weigh the same
        np.testing.assert_allclose(part.mean(0), 0, atol=1e-8)


def test_two_classes_add_up_as_well(ends: pd.DataFrame) -> None:
    two = ends[ends["outcome"] != "hallucination"]
    classifier = OutcomeClassifier("uncertainty+length").fit(two, two["outcome"])
    logit = sum(contributions(classifier, two).values())
    proba = classifier.predict_proba(two)
    average = classifier.intercept_[0] + classifier.coef_[0] @ classifier.centre_
    np.testing.assert_allclose(logit[:, 1] - logit[:, 0] + average, np.log(proba[:, 1] / proba[:, 0]), atol=1e-8)


def test_reasons_speak_for_the_class_given_strongest_first(ends: pd.DataFrame) -> None:
    classifier = OutcomeClassifier().fit(ends, ends["outcome"])
    for reasons in explain(classifier, ends):
        moved = [reason.moved for reason in reasons]
        assert moved == sorted(moved, reverse=True)
        assert all(m > 0 for m in moved)
        assert len(reasons) <= 3


def test_a_feature_that_alone_tells_the_outcome_is_the_reason(ends: pd.DataFrame) -> None:
    told = ends.assign(entropy_mean=np.where(ends["outcome"] == "success", 0.1, 0.9))
    classifier = OutcomeClassifier("trajectory+uncertainty").fit(told, told["outcome"])
    first = [reasons[0] for reasons in explain(classifier, told[told["outcome"] == "success"])]
    assert np.mean([reason.feature == "entropy_mean" for reason in first]) > 0.8
    assert any(reason.words.startswith("mean entropy of tokens 0.1, below the usual") for reason in first)


def test_what_is_said_can_be_read() -> None:
    assert words("switch_rate", 1 / 6, 0.55, 7) == "top region kept at 5 of 6 moves (usual: 45 %)"
    assert words("switch_rate", 0.0, 0.55, 2) == "top region kept at 1 of 1 move (usual: 45 %)"
    assert words("step", 1, 3.0, 1) == "the run has 1 step"
    assert words("logprob_mean", -0.0865, -0.167, 4) == (
        "mean log-probability of tokens −0.0865, above the usual −0.167"
    )
    assert words("entropy_mean", 0.8, 0.4, 3) == "mean entropy of tokens 0.8, above the usual 0.4"
    assert words("n_tokens", 1234, 987, 9) == "tokens so far 1,234, above the usual 987"
    assert words("logprob_mean", -0.2, -0.1, 9) == "mean log-probability of tokens −0.2, below the usual −0.1"
    assert words("entropy_mean", 0.40001, 0.4, 3) == "mean entropy of tokens 0.4, as usual"
    assert words("tortuosity", np.inf, 2, 3) == "tortuosity ∞, above the usual 2"
    assert words("straightness", np.nan, 2, 1) == "straightness is not defined in this run"
    assert words("step", np.nan, np.nan, 9) == "the run has 9 steps"
    named = "it is a question of the family 'science' and the form 'largest'"
    assert words("task", np.nan, np.nan, 9, "science", "largest") == named
    assert words("task", np.nan, np.nan, 9, "science") == "it is a question of the family 'science'"
    assert words("task", np.nan, np.nan, 9) == "its questions are of no named family"
