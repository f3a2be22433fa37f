"""Precision, calibration, paired gains and matched comparison, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from statsmodels.stats.multitest import multipletests

from tests.detection.world import make_frame, make_runs, random_walks
from trajkit.detection.early_failure import EarlyFailurePredictor
from trajkit.detection.splits import failures
from trajkit.errors import InputError
from trajkit.judging.cross_validation import HIDDEN, cross_validated, folds_of, held_out_risks
from trajkit.judging.ranking import auc_by_fraction, select_fractions, select_steps
from trajkit.judging.risks import (
    BASE_RATE,
    average_precision,
    calibration,
    calibration_slope,
    gains,
    matched_auc,
    probability_scores,
)
from trajkit.stats.resampling import group_draws


@pytest.fixture(scope="module")
def risks(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    return held_out_risks(frame, ("trajectory", "uncertainty"), n_splits=3)


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_scikit_learn_ties_and_weights_included(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, score, stratum = rng.integers(0, 2, 200).astype(float), rng.integers(0, 9, 200) / 9, rng.integers(0, 2, 200)
    draws = group_draws(rng.integers(0, 20, 200), 6, seed)
    weights = draws.weights(slice(0, 7), np.arange(200))
    expected = [average_precision_score(y, score, sample_weight=w) for w in weights]
    np.testing.assert_allclose(average_precision(y, score, np.zeros(200, int), draws), expected)
    for w, found in zip(weights, average_precision(y, score, stratum, draws), strict=True):
        within = [average_precision_score(y[s], score[s], sample_weight=w[s]) for s in (stratum == 0, stratum == 1)]
        failures_there = [(w * y)[stratum == s].sum() for s in (0, 1)]
        assert found == pytest.approx(np.average(within, weights=failures_there))


def test_the_calibration_slope_is_that_of_a_logistic_regression(
    frame: pd.DataFrame, risks: dict[str, np.ndarray]
) -> None:
    """Risks pushed apart twofold on the log-odds have half the slope; risks all too high are off by as much."""
    p = risks["uncertainty"]
    odds = np.log(p / (1 - p))
    right, wide, high = (
        calibration_slope(frame, risk, select_steps(frame, [2]), 100).iloc[0]
        for risk in (p, 1 / (1 + np.exp(-2 * odds)), np.minimum(p + 0.1, 0.99))
    )
    assert right.low < right.slope < right.high
    assert [wide.slope, wide.low, wide.high] == pytest.approx([right.slope / 2, right.low / 2, right.high / 2])
    assert high.off_low > 0
    here = (frame["step"] == 2).to_numpy()
    by_hand = LogisticRegression(C=1e9).fit(odds[here, None], failures(frame)[here])
    assert right.slope == pytest.approx(by_hand.coef_[0, 0], rel=1e-3)
    assert right.off == pytest.approx(p[here].mean() - failures(frame)[here].mean())


def test_gains_are_corrected_for_the_number_of_steps(frame: pd.DataFrame, risks: dict[str, np.ndarray]) -> None:
    selected = select_steps(frame, [1, 2, 3, 4])
    table = gains(frame, risks["uncertainty"], risks["trajectory"], selected, folds_of(frame, 3), n_boot=400)
    assert table.p_corrected.tolist() == pytest.approx(multipletests(table.p, method="holm")[1].tolist())
    for row in table.itertuples():
        assert (row.p < 0.05) == (row.low > 0 or row.high < 0)


def test_few_draws_do_not_hide_a_gain_among_many_steps(frame: pd.DataFrame) -> None:
    """With 50 draws the least p is 0.04, and 0.4 once corrected for ten steps."""
    rng = np.random.default_rng(0)
    tells, guess = failures(frame) + rng.normal(0, 0.3, len(frame)), rng.random(len(frame))
    table = gains(frame, tells, guess, select_steps(frame, [1] * 10), np.zeros(len(frame)), n_boot=50)
    assert (table.gain > 0.3).all()
    assert (table.p_corrected < 0.05).all()


def test_scores_at_a_step_are_those_of_scikit_learn(frame: pd.DataFrame, risks: dict[str, np.ndarray]) -> None:
    one = np.zeros(len(frame), int)
    table = probability_scores(frame, risks, select_steps(frame, [2]), one, n_boot=50).set_index("method")
    here = (frame["step"] == 2).to_numpy()
    y, p = failures(frame)[here], risks["uncertainty"][here]
    row = table.loc["uncertainty"]
    assert (row.n_runs, row.n_failures) == (here.sum(), y.sum())
    assert row.brier == pytest.approx(brier_score_loss(y, p))
    assert row.average_precision == pytest.approx(average_precision_score(y, p))
    assert row.brier_low < row.brier < row.brier_high
    assert table.loc[BASE_RATE].brier == pytest.approx(y.mean() * (1 - y.mean()))
    assert table.loc[BASE_RATE].average_precision == pytest.approx(y.mean())


def test_risks_of_a_run_come_from_models_that_have_not_seen_its_group(frame: pd.DataFrame) -> None:
    """One group's labels turned round change the risks of all others, and not its own."""
    mine = (frame["group_id"] == frame["group_id"].iloc[0]).to_numpy()
    turned = frame.assign(success=np.where(mine, ~frame["success"], frame["success"]))
    turned["outcome"] = np.where(turned["success"], "success", "hallucination")
    before = held_out_risks(frame, ("uncertainty",), n_splits=60)["uncertainty"]
    after = held_out_risks(turned, ("uncertainty",), n_splits=60)["uncertainty"]
    assert np.isfinite(before).all()
    assert (before[~mine] != after[~mine]).mean() > 0.9
    fold = folds_of(frame, n_splits=60)
    others = fold != fold[mine][0]
    fitted = EarlyFailurePredictor("uncertainty").fit(frame[others], failures(frame)[others])
    np.testing.assert_array_equal(fitted.risks(frame[~others]), before[~others])


def test_hidden_states_are_read_by_a_probe_that_finds_what_is_in_them(frame: pd.DataFrame) -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(len(frame), 16))
    states[:, 3] += failures(frame)
    kept = frame.assign(**{f"{HIDDEN}_{i}": states[:, i] for i in range(16)})
    found = held_out_risks(kept, (HIDDEN,), n_splits=3)[HIDDEN]
    assert roc_auc_score(failures(frame), found) > 0.6


def test_cross_validation_refuses_runs_of_unknown_outcome(frame: pd.DataFrame) -> None:
    unknown = frame.assign(success=None, outcome="unknown")
    with pytest.raises(InputError, match="runs of known outcome"):
        held_out_risks(unknown, ("length",))


def test_chance_is_chance_within_a_fold_and_looks_like_less_over_all_of_them() -> None:
    """What a fold holds out it lacks for training, so risks of different folds are turned against the outcomes."""
    pooled, within = [], []
    for seed in range(12):
        null = make_frame(make_runs(30, seed=seed, signal=0))
        risk = held_out_risks(null, ("task",))
        selected = select_steps(null, [1])
        for found, strata in ((pooled, np.zeros(len(null))), (within, folds_of(null))):
            found.append(matched_auc(null, risk, selected, strata, n_boot=2).auc.iloc[0])
    assert np.mean(pooled) < np.mean(within) - 0.01
    assert np.mean(within) == pytest.approx(0.5, abs=0.05)


def test_the_gain_is_paired(frame: pd.DataFrame, risks: dict[str, np.ndarray]) -> None:
    selected, fold = select_steps(frame, [1, 2]), folds_of(frame, 3)
    same = gains(frame, risks["uncertainty"], risks["uncertainty"], selected, fold, n_boot=50)
    assert (same["gain"] == 0).all()
    assert same[["low", "high"]].isna().all().all()  # no interval of no width
    table = gains(frame, risks["uncertainty"], risks["trajectory"], selected, fold, n_boot=200)
    np.testing.assert_allclose(table.gain, table.auc - table.auc_than)
    assert (table.low < table.gain).all()


def test_walks_that_differ_only_in_length_are_alike_once_matched_on_length() -> None:
    oracle = (0.3,)
    for longer in (4, 8):
        frame = make_frame(random_walks(400, 0, longer))
        final = frame.groupby("transcript_id")["step"].transform("max").to_numpy()
        scores = {"path length": frame["path_length"].to_numpy(float)}
        selected = select_fractions(frame, oracle)
        unmatched = auc_by_fraction(frame, scores, oracle, n_boot=100).iloc[0]
        assert unmatched.low > 0.7
        matched = matched_auc(frame, scores, selected, final, n_boot=200).iloc[0]
        if longer == 8:  # no failing run is as long as a successful one
            assert matched.pairs == 0
            assert np.isnan(matched.auc)
        else:
            assert matched.pairs > 1000
            assert matched.low < 0.5 < matched.high < matched.low + 0.2


def test_matching_by_hand() -> None:
    frame = pd.DataFrame(
        {
            "transcript_id": list("abcdef"),
            "group_id": list("abcdef"),
            "step": 1,
            "task_set": "",
            "success": [False, True, False, True, True, False],
            "outcome": "unknown",
        }
    )
    score = {"s": np.array([3.0, 1, 2, 9, 2, 9])}
    table = matched_auc(frame, score, select_steps(frame, [1]), [1, 1, 2, 2, 2, 3], n_boot=10)
    assert (table.pairs.iloc[0], table.auc.iloc[0]) == (3, pytest.approx((1 + 0 + 0.5) / 3))


def test_a_calibration_curve_counts_every_run_once_and_is_straight_for_true_probabilities() -> None:
    rng = np.random.default_rng(0)
    risk = rng.random(4000)
    frame = pd.DataFrame(
        {"group_id": np.arange(4000), "step": 1, "success": rng.random(4000) > risk, "outcome": "unknown"}
    )
    curve = calibration(frame, risk, select_steps(frame, [1]), bins=5, n_boot=100)
    assert curve.n_runs.sum() == 4000
    np.testing.assert_allclose(curve.risk, curve.failed, atol=0.05)
    assert ((curve.low <= curve.risk) & (curve.risk <= curve.high)).mean() >= 0.6
    none_failed = calibration(frame.assign(success=True), 0.02 * risk, select_steps(frame, [1]), bins=1, n_boot=100)
    row = none_failed.iloc[0]  # that nobody failed says that a risk is at most so far off, not that it is off
    assert (row.off_low, row.off_high) == pytest.approx((row.risk - row.high, row.risk))
    assert row.off_high > 0
    flat = calibration(frame, np.full(4000, 0.5), select_steps(frame, [1]), bins=5, n_boot=10)
    assert flat.n_runs.tolist() == [4000]


def test_a_deal_of_cross_validation_is_that_of_its_seed(frame: pd.DataFrame, risks: dict[str, np.ndarray]) -> None:
    found = cross_validated(frame, ("uncertainty",), n_splits=3, deals=2)
    np.testing.assert_array_equal(found.risks["uncertainty"][0], risks["uncertainty"])
    np.testing.assert_array_equal(found.folds[1], folds_of(frame, 3, seed=1))
    assert found.n_folds == 3


def test_figures_of_several_deals_are_their_means_and_scores_that_are_not_fitted_stay_as_they_are(
    frame: pd.DataFrame,
) -> None:
    found = cross_validated(frame, ("uncertainty", "trajectory"), n_splits=3, deals=3)
    at, plain = select_steps(frame, [2]), np.random.default_rng(0).random(len(frame))
    ours, other = (found.risks[name] for name in ("uncertainty", "trajectory"))
    asked = {"n_boot": 50, "n_folds": 3}
    alone = [matched_auc(frame, {"m": ours[r], "p": plain}, at, found.folds[r], 50) for r in range(3)]
    table = matched_auc(frame, {"m": ours, "p": plain}, at, found.folds, **asked)
    assert table.auc[0] == pytest.approx(np.mean([t.auc[0] for t in alone]))
    assert table.loc[1, ["auc", "low", "high"]].tolist() == alone[0].loc[1, ["auc", "low", "high"]].tolist()
    row = gains(frame, ours, other, at, found.folds, **asked).iloc[0]
    assert row.gain == pytest.approx(row.auc - row.auc_than)
    assert row.auc == pytest.approx(table.auc[0])
    scores = probability_scores(frame, {"m": ours}, at, found.folds, **asked).set_index("method").loc["m"]
    here = at[0].rows
    assert scores.brier == pytest.approx(np.mean((ours[:, here] - failures(frame)[here]) ** 2))
    assert scores.average_precision_low < scores.average_precision < scores.average_precision_high
    slope = calibration_slope(frame, ours, at, **asked).iloc[0]
    by_deal = [calibration_slope(frame, risk, at, 50).iloc[0] for risk in ours]
    assert slope.slope == pytest.approx(np.mean([row.slope for row in by_deal]))
    assert slope.high - slope.low > np.mean([row.high - row.low for row in by_deal])
