"""Judging of sentences: held out by group, beside baselines, on a made-up world where the answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.detection.sentences import make_runs, named_place
from trajkit.detection import StepPredictor, sentence_features
from trajkit.detection.step_features import CONFIDENT
from trajkit.errors import InputError
from trajkit.judging import (
    HeldOutSteps,
    first_wrong,
    held_out_steps,
    step_areas,
    step_calibration,
    step_gains,
    step_probabilities,
)
from trajkit.judging.held_out_sentences import ALL, READINGS, SURE, SURE_READINGS
from trajkit.judging.step_scores import calibration_error
from trajkit.stats.resampling import group_draws

SMALL = StepPredictor(max_iter=30, learning_rate=0.1, min_samples_leaf=20)


@pytest.fixture(scope="module")
def held() -> HeldOutSteps:
    return held_out_steps(sentence_features(make_runs(60), named_place), n_splits=3, deals=2, model=SMALL)


def test_every_chance_is_of_a_predictor_that_never_saw_the_group(held: HeldOutSteps) -> None:
    assert held.targets == ("false", "lost", "wrong")
    assert held.n_folds == 3
    assert held.left_out == 0
    for deal, fold in enumerate(held.folds):
        assert pd.Series(fold).groupby(held.frame["group_id"]).nunique().max() == 1
        for chances in held.chances.values():
            np.testing.assert_allclose(chances[deal].sum(axis=1), 1)
    assert not np.array_equal(*held.folds)


def test_labels_dealt_at_random_cannot_be_told() -> None:
    """Whoever sees the held-out rows in the fit tells them all the same."""
    frame = sentence_features(make_runs(60), named_place)
    frame["label"] = np.random.default_rng(1).permutation(frame["label"].to_numpy())
    areas = step_areas(held_out_steps(frame, ["both"], n_splits=3, deals=1, model=SMALL), n_boot=100)
    areas = areas[areas["sentences"].isin([ALL, READINGS])]  # sure ones are few
    assert areas["auc"].between(0.35, 0.65).all()
    assert ((areas["low"] < 0.5) & (areas["high"] > 0.5)).mean() > 0.8


def test_areas_stand_beside_baselines(held: HeldOutSteps) -> None:
    areas = step_areas(held, n_boot=100)
    methods = ["effects", "uncertainty", "both", "position", "length", "task", "largest effect", "log-probability"]
    assert areas["method"].drop_duplicates().tolist() == methods
    auc = areas.set_index(["target", "sentences", "method"])["auc"]
    assert auc["false", READINGS, "both"] > auc["false", READINGS, "uncertainty"] + 0.03
    assert auc["lost", ALL, "length"] > 0.9 > auc["lost", ALL, "position"] + 0.2
    assert np.isnan(auc["lost", READINGS, "both"])  # none of them names a place
    assert auc["false", READINGS, "log-probability"] > 0.7
    told = areas.set_index(["target", "sentences", "method"]).loc[("false", READINGS, "both")]
    assert told["low"] < told["auc"] < told["high"]
    assert told["n_steps"] == (held.frame["named"] == 1).sum()
    within = step_areas(held, within_task=True, n_boot=100).set_index(["target", "sentences", "method"])["auc"]
    assert np.isnan(within["wrong", ALL, "task"]) or abs(within["wrong", ALL, "task"] - 0.5) < 1e-9
    assert within["false", READINGS, "both"] > 0.8


def test_a_sentence_is_confident_where_a_token_of_it_has_a_probability_of_nine_in_ten(held: HeldOutSteps) -> None:
    named = held.frame["named"].to_numpy() == 1
    sure = np.arange(len(named)) % 3 == 0
    frame = held.frame.assign(logprob=np.where(sure, np.log(0.9), np.log(0.89)))
    rows = {selection.within[1]: selection.rows for selection in replace(held, frame=frame).selections()}
    assert rows[ALL].tolist() == list(range(len(named)))
    assert rows[SURE].tolist() == np.flatnonzero(sure).tolist()
    assert rows[READINGS].tolist() == np.flatnonzero(named).tolist()
    assert rows[SURE_READINGS].tolist() == np.flatnonzero(named & sure).tolist()
    bare = replace(held, frame=frame.drop(columns="named"))
    assert [selection.within[1] for selection in bare.selections()] == [ALL, SURE]
    doubting = replace(held, frame=frame.assign(logprob=np.log(0.89)))
    assert [selection.within[1] for selection in doubting.selections()] == [ALL, READINGS]
    unknown = replace(held, frame=frame.assign(logprob=frame["logprob"].where(~sure)))
    assert [selection.within[1] for selection in unknown.selections()] == [ALL, READINGS]


def test_the_gain_of_effects_is_paired_and_found_where_it_is(held: HeldOutSteps) -> None:
    gains = step_gains(held, n_boot=100).set_index(["target", "sentences"])
    found = gains.loc[("false", READINGS)]
    assert found["gain"] == pytest.approx(found["auc"] - found["auc_than"])
    assert 0 < found["low"] < found["gain"] < found["high"]
    assert found["p_corrected"] < 0.05
    alone = step_gains(held, selected=[one for one in held.selections() if one.within[1] == READINGS], n_boot=100)
    np.testing.assert_array_equal(alone["gain"], gains["gain"].loc[:, READINGS])
    within = step_gains(held, within_task=True, n_boot=100).set_index(["target", "sentences"])
    areas = step_areas(held, within_task=True, n_boot=100).set_index(["target", "sentences", "method"])["auc"]
    assert within.loc[("false", READINGS), "auc"] == pytest.approx(areas["false", READINGS, "both"])
    same = step_gains(held, "both", "both", n_boot=100)
    assert (same["gain"].dropna() == 0).all()
    assert not same["gain"].isna().all()


def test_chances_are_judged_as_probabilities(held: HeldOutSteps) -> None:
    table = step_probabilities(held, n_boot=100).set_index(["target", "method"])
    y = held.is_it("false")
    assert table.loc[("false", "base rate"), "brier"] == pytest.approx(y.mean() * (1 - y.mean()))
    both = table.loc[("false", "both")]
    assert both["brier"] == pytest.approx(((held.score("both", "false") - y) ** 2).mean())
    assert both["brier"] < table.loc[("false", "base rate"), "brier"] - 0.02
    assert both["ece_low"] <= both["ece"] <= both["ece_high"] < 0.1
    sure = held.frame["logprob"].to_numpy() >= np.log(CONFIDENT)
    everything, confident, *_ = held.selections()
    of_both = step_probabilities(held, [everything, confident], n_boot=100)
    pd.testing.assert_frame_equal(of_both[of_both["sentences"] == ALL].set_index(["target", "method"]), table)
    among_sure = of_both[of_both["sentences"] == SURE].set_index(["target", "method"]).loc["false", "both"]
    chance = held.score("both", "false")[:, sure]
    assert among_sure["n_steps"] == sure.sum()
    assert among_sure["brier"] == pytest.approx(((chance - y[sure]) ** 2).mean())
    draws = group_draws(held.frame["group_id"][sure], 1, 0)
    each = [calibration_error(y[sure].astype(float), deal, draws)[0][0] for deal in chance]
    assert among_sure["ece"] == pytest.approx(np.mean(each))
    curve = step_calibration(held, bins=4, n_boot=100).set_index("target").loc["wrong"]
    assert curve["n_steps"].sum() == len(held.frame)
    assert curve["failed"].is_monotonic_increasing


def test_the_calibration_error_is_how_far_bins_are_off() -> None:
    y = np.array([0.0, 0, 0, 1, 1, 1, 1, 0])
    risk = np.array([0.1, 0.1, 0.1, 0.1, 0.6, 0.6, 0.6, 0.6])
    error, noise = calibration_error(y, risk, group_draws(np.arange(8), 50, 0), bins=2)
    assert error[0] == pytest.approx((4 * 0.15 + 4 * 0.15) / 8)
    assert error[1:].mean() == pytest.approx(error[0])
    assert len(noise) == 50
    rng = np.random.default_rng(0)
    risk = rng.random(4000)
    right, off = ((rng.random(4000) < chance).astype(float) for chance in (risk, risk**2))
    draws = group_draws(np.arange(4000), 200, 0)
    for y, calibrated in ((right, True), (off, False)):
        error, noise = calibration_error(y, risk, draws)
        assert (error[0] < np.quantile(noise, 0.99)) == calibrated
    assert error[0] == pytest.approx((risk - risk**2).mean(), abs=0.02)


def by_hand(scores: list[list[float]], labels: list[list[str | None]]) -> HeldOutSteps:
    """Runs of one group each, with these scores as the chance of `false`."""
    rows = [(f"run {i}", step, label) for i, run in enumerate(labels) for step, label in enumerate(run, 1)]
    frame = pd.DataFrame(rows, columns=["transcript_id", "step", "label"])
    frame["group_id"] = frame["transcript_id"]
    kept = frame["label"].notna().to_numpy()
    chance = np.concatenate(scores)[kept]
    chances = {"ours": np.stack([1 - chance, chance], axis=1)[None]}
    frame = frame[kept].reset_index(drop=True).assign(largest=0.0, logprob=-1.0)
    return HeldOutSteps(frame, ("", "false"), chances, np.zeros((1, len(frame)), int), int((~kept).sum()))


def test_the_first_wrong_sentence_is_sought_among_those_of_its_run() -> None:
    held = by_hand(
        [[0.1, 0.9, 0.95, 0.2], [0.5, 0.5, 0.5, 0.5], [0.9, 0.1], [0.1, 0.2, 0.9], [0.9, 0.8, 0.7]],
        [["", "false", "false", ""], ["", "", "", "false"], ["", ""], [None, "", "false"], ["", "false", None]],
    )
    table = first_wrong(held, top=(1, 2), n_boot=20).set_index(["method", "top"])
    assert table["n_runs"].unique().tolist() == [3]  # one has no wrong one, and one has an unknown before it
    # the second highest of four; one of four that are tied; the second of the two that are judged
    assert table.loc[("ours", 1), "found"] == pytest.approx((0 + 1 / 4 + 0) / 3)
    assert table.loc[("ours", 2), "found"] == pytest.approx((1 + 2 / 4 + 1) / 3)
    assert table.loc[("chance", 1), "found"] == pytest.approx((1 / 4 + 1 / 4 + 1 / 2) / 3)
    assert table.loc[("largest effect", 1), "found"] == pytest.approx(table.loc[("chance", 1), "found"])


def test_it_is_found_more_often_than_by_chance(held: HeldOutSteps) -> None:
    table = first_wrong(held, n_boot=100).set_index(["method", "top"])
    assert table.loc[("both", 1), "low"] > table.loc[("chance", 1), "high"]
    assert table.loc[("both", 3), "found"] > table.loc[("both", 1), "found"]
    assert table.loc[("both", 1), "found"] > table.loc[("uncertainty", 1), "found"]


def test_all_kinds_are_judged_on_the_sentences_that_each_can_read() -> None:
    frame = sentence_features(make_runs(30))
    frame.loc[:9, "largest"] = np.nan
    frame.loc[20:24, "label"] = None
    held = held_out_steps(frame, ["effects", "uncertainty"], n_splits=2, deals=1, model=SMALL)
    assert held.left_out == 15
    assert len(held.frame) == len(frame) - 15
    alone = held_out_steps(frame, ["uncertainty"], n_splits=2, deals=1, model=SMALL)
    assert alone.left_out == 5
    assert "largest effect" not in alone.methods


def test_one_kind_of_wrong_sentence_is_one_target() -> None:
    frame = sentence_features(make_runs(30), named_place)
    frame["label"] = frame["label"].replace("lost", "false")
    held = held_out_steps(frame, ["uncertainty"], n_splits=2, deals=1, model=SMALL)
    assert held.targets == ("false",)
    assert first_wrong(held, n_boot=20)["found"].notna().all()


def test_too_little_to_judge_is_said() -> None:
    frame = sentence_features(make_runs(10))
    with pytest.raises(InputError, match=r"judging sentences needs their features and labels.*missing: label"):
        held_out_steps(frame.drop(columns="label"))
    with pytest.raises(InputError, match="at least two classes"):
        held_out_steps(frame.assign(label=""))
    with pytest.raises(InputError, match="at least two classes"):
        held_out_steps(frame.assign(label=None))
