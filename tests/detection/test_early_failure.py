from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict
from sklearn.utils import estimator_checks as checks

from trajkit.detection import EarlyFailurePredictor, OutcomeClassifier
from trajkit.detection.design import DEFAULT_FEATURES, FeatureMap, Rows
from trajkit.errors import EstimatorMismatchError, InputError
from trajkit.judging import auc_by_step
from trajkit.trajectory.features import FEATURE_NAMES

from .world import make_frame, make_runs, random_walks


def test_it_tells_failing_runs_of_scenes_it_never_saw(predictor: EarlyFailurePredictor) -> None:
    fresh = make_frame(make_runs(seed=7))
    table = auc_by_step(fresh, {"ours": predictor.risks(fresh)}, steps=[1, 4], n_boot=50)
    assert table["auc"].min() > 0.65
    assert table["auc"].iloc[1] > 0.8


def test_walks_that_differ_only_in_length_are_told_apart_at_no_fixed_step() -> None:
    train = make_frame(random_walks(200, 1))
    models = {
        features: EarlyFailurePredictor(features).fit(train, train["outcome"] != "success")
        for features in ("trajectory", DEFAULT_FEATURES)
    }
    tables = []
    for seed in range(2, 22):
        world = make_frame(random_walks(150, seed))
        risks = {features: model.risks(world) for features, model in models.items()}
        tables.append(auc_by_step(world, risks, range(1, 13), n_boot=100))
    table = pd.concat(tables)
    found = table.assign(covered=~((table["low"] > 0.5) | (table["high"] < 0.5))).groupby(["method", "step"])
    assert found["covered"].mean().min() >= 0.8, found["covered"].mean()
    assert found["covered"].mean().groupby("method").mean().min() > 0.85  # a world's steps miss together: extremes stay
    assert (found["auc"].mean() - 0.5).abs().max() < 0.04


def test_the_online_score_is_the_batch_score_to_the_last_bit(frame: pd.DataFrame, failed: np.ndarray) -> None:
    for features in (DEFAULT_FEATURES, "trajectory+task", "length"):
        model = EarlyFailurePredictor(features).fit(frame, failed)
        batch = model.predict_proba(frame)[:, 1]
        tasks = frame["task_set"]
        online = [model.risk(row, task) for row, task in zip(frame.to_dict("records"), tasks, strict=True)]
        np.testing.assert_array_equal(online, batch)


def test_the_task_is_family_and_form_together_online_as_in_batch() -> None:
    """Failure goes with the form within each family, the other way round in the other family."""
    world = [replace(run, form=f"form {i % 2}") for i, run in enumerate(make_runs(80, signal=0))]
    frame = make_frame(world)
    failed = ((frame["task_set"] == "math") == (frame["form"] == "form 1")).to_numpy(int)
    model = EarlyFailurePredictor("task", C=1.0).fit(frame, failed)
    batch = model.predict_proba(frame)[:, 1]
    assert ((batch > 0.5) == failed).all()
    names = zip(frame.to_dict("records"), frame["task_set"], frame["form"], strict=True)
    np.testing.assert_array_equal([model.risk(row, family, form) for row, family, form in names], batch)


@pytest.mark.parametrize("sets", ["length", "trajectory+concentration+uncertainty+length", "concentration+task"])
def test_a_row_by_itself_is_the_row_of_the_batch_to_the_last_bit_whatever_is_in_it(
    frame: pd.DataFrame, failed: np.ndarray, sets: str
) -> None:
    model = EarlyFailurePredictor(sets).fit(frame, failed)
    rng = np.random.default_rng(0)
    wild = frame.astype({"n_tokens": float})
    for name in FEATURE_NAMES[1:]:
        odd = rng.choice([0.0, -1e308, 1e308, np.inf, -np.inf, np.nan, 5e-324, 1e13], len(wild))
        wild[name] = np.where(rng.random(len(wild)) < 0.15, odd, wild[name])
    for rows in (frame, wild):
        alone = [model.predict_step(row, row["task_set"], row["form"]) for row in rows.to_dict("records")]
        np.testing.assert_array_equal(alone, model.predict_proba(rows))
    without = EarlyFailurePredictor("task").fit(frame.drop(columns="form"), failed)
    assert without.map_.tasks == ("document", "math")
    np.testing.assert_array_equal(without.risks(frame.drop(columns="form")), without.risks(frame.assign(form="")))


def test_a_saved_detector_that_knows_families_alone_is_refused(frame: pd.DataFrame, failed: np.ndarray) -> None:
    state = EarlyFailurePredictor("length+task").fit(frame, failed).to_state()
    state["map"]["tasks"] = state["map"].pop("task_labels")
    with pytest.raises(InputError, match="Fit the detectors again"):
        EarlyFailurePredictor.from_state(state)


def test_no_nan_leaves_it_whatever_features_come_in(predictor: EarlyFailurePredictor, frame: pd.DataFrame) -> None:
    rng = np.random.default_rng(0)
    broken = frame.copy()
    for column in set(broken.select_dtypes("number").columns) - {"step"}:
        bad = rng.choice([np.nan, np.inf, -np.inf, 1.7e308, 0.0], len(broken))
        broken[column] = np.where(rng.random(len(broken)) < 0.5, bad, broken[column])
    taught = EarlyFailurePredictor(min_runs=5).fit(broken, frame["outcome"] != "success")
    json.dumps(taught.to_state(), allow_nan=False)
    for model in (predictor, taught):
        for rows in (broken, broken.assign(step=10_000)):
            proba = model.predict_proba(rows)
            assert proba.shape == (len(rows), 2)
            assert np.isfinite(proba).all()
            np.testing.assert_allclose(proba.sum(axis=1), 1)


def test_a_feature_that_grows_with_the_step_says_nothing_by_growing(frame: pd.DataFrame) -> None:
    """Per-step standardisation: the mean step-wise risk of the model without `length` stays put as runs go on."""
    grown = frame.assign(path_length=frame["path_length"] + 10 * frame["step"])
    risks = EarlyFailurePredictor("trajectory").fit(grown, frame["outcome"] != "success").risks(grown)
    assert abs(np.corrcoef(risks, frame["step"])[0, 1]) < 0.2


def test_steps_beyond_the_horizon_share_the_scale_of_the_last_bin(frame: pd.DataFrame, failed: np.ndarray) -> None:
    model = EarlyFailurePredictor(min_runs=30).fit(frame, failed)
    at_risk = frame.groupby("step").size()
    assert model.map_.first_steps[-1] <= at_risk[at_risk >= 30].index.max()
    assert model.map_.first_steps[0] == 1
    late = frame.iloc[[-1]]
    horizon = model.map_.first_steps[-1]
    np.testing.assert_array_equal(
        model.predict_proba(late.assign(step=horizon + 50)), model.predict_proba(late.assign(step=horizon))
    )


def test_with_length_the_mean_risk_at_each_step_is_the_share_of_its_runs_that_fail() -> None:
    frame = make_frame(random_walks(600, 5))
    failed = (frame["outcome"] != "success").to_numpy(int)
    risk = EarlyFailurePredictor("uncertainty+length").fit(frame, failed).risks(frame)
    by_step = pd.DataFrame({"risk": risk, "failed": failed}).groupby(frame["step"].to_numpy()).mean()
    assert by_step["failed"][1] < 0.6
    assert by_step["failed"][15] > 0.8
    assert (by_step["risk"] - by_step["failed"])[:15].abs().max() < 0.02


@pytest.mark.parametrize("features", ["trajectory+concentration+uncertainty", "task", "trajectory+task"])
def test_without_length_the_mean_risk_says_nothing_of_the_step(features: str) -> None:
    frame = make_frame(random_walks(600, 5))
    failed = (frame["outcome"] != "success").to_numpy(int)
    risk = pd.Series(EarlyFailurePredictor(features).fit(frame, failed).risks(frame))
    of_runs_alike = risk[frame["step"] <= 8].groupby(frame["step"]).mean()  # all runs are there
    assert of_runs_alike.max() - of_runs_alike.min() < 0.02
    late = risk.groupby(frame["step"]).mean()
    assert late.max() - late.min() < 0.1


def test_what_a_feature_says_may_turn_round_with_the_step_and_with_the_task() -> None:
    rng = np.random.default_rng(0)
    frame = make_frame([replace(walk, task_set=rng.choice(["math", "code"])) for walk in random_walks(800, 6)])
    frame = frame[frame["step"] <= 8].reset_index(drop=True)
    sign = np.where(frame["step"].isin([1, 2, 7, 8]), 1, -1) * np.where(frame["task_set"] == "math", 1, -1)
    failed = (rng.random(len(frame)) < 1 / (1 + np.exp(-3 * sign * (frame["entropy_mean"] - 0.5) * 4))).astype(int)
    model = EarlyFailurePredictor("uncertainty+length+task", C=1.0).fit(frame, failed)
    for (step, task), here in frame.groupby(["step", "task_set"]):
        if step in (1, 4, 8):
            risk = model.risks(here)
            assert roc_auc_score(failed[here.index], risk) > 0.55, (step, task)


def test_the_scale_of_a_feature_at_a_step_is_that_of_the_rows_there_in_any_order() -> None:
    steps = np.array([2, 1, 2, 1, 3, 3], float)
    values = np.array([[4, np.nan], [1, 5], [np.nan, np.nan], [3, 6], [2, 2], [2, 4]], float)
    sets = ("uncertainty",)
    rows = Rows(np.concatenate([values, values], axis=1), steps, ())
    known = FeatureMap.learn(sets, rows, 2)
    assert known.first_steps.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(known.mean[:, :2], [[2, 5.5], [4, 0], [2, 3]])
    np.testing.assert_array_equal(known.sd[:, :2], [[1, 0.5], [1, 1], [1, 1]])
    np.testing.assert_array_equal(known.missing[:, :2], [[0, 0], [0.5, 1], [0, 0]])
    assert known.flagged.tolist() == [True, False, True, False]


def test_the_design_by_hand_and_the_feature_of_each_column() -> None:
    frame = make_frame(make_runs(40))
    sets = ("uncertainty", "length", "task")
    known = FeatureMap.learn(sets, Rows.of_frame(frame, sets), 30)
    columns = ["logprob_mean", "entropy_mean", "logprob_low", "entropy_high", "n_tokens"]
    row = frame[frame["step"] == 2].iloc[[0]]
    values = row[columns].to_numpy(float)[0].copy()
    values[-1] = np.log1p(values[-1])
    z = (values - known.mean[1]) / known.sd[1]
    s = (np.log(2) - known.step_mean) / known.step_sd
    curve, level, hot = [1, s, s**2], np.arange(len(known.first_steps)) == 1, [row["task_set"].iloc[0] == "document"]
    hot.append(not hot[0])
    expected = np.concatenate(
        [
            np.outer(z, curve).ravel(),
            [10 * s, 10 * s**2],
            10 * level,
            np.outer(hot, curve).ravel(),
            np.outer(hot, np.outer(z, curve)).ravel(),
        ]
    )
    np.testing.assert_allclose(known.matrix(Rows.of_frame(row, sets))[0], expected)
    own = [name for name in columns for _ in range(3)]
    assert known.owners() == own + ["step"] * (2 + len(level)) + ["task"] * 6 + own + own


def test_sample_weights_of_zero_are_as_good_as_absent(frame: pd.DataFrame, failed: np.ndarray) -> None:
    keep = frame["task_set"] == "math"
    flipped = np.where(keep, failed, 1 - failed)
    weighted = EarlyFailurePredictor("uncertainty").fit(frame, flipped, sample_weight=keep.to_numpy(float))
    clean = EarlyFailurePredictor("uncertainty").fit(frame, failed, sample_weight=keep.to_numpy(float))
    np.testing.assert_allclose(weighted.coef_, clean.coef_, atol=1e-6)


def test_it_behaves_as_a_scikit_learn_estimator(frame: pd.DataFrame, failed: np.ndarray) -> None:
    model = EarlyFailurePredictor("length", C=3.0)
    assert clone(model).get_params() == {"features": "length", "C": 3.0, "min_runs": 30}
    with pytest.raises(NotFittedError):
        model.predict_proba(frame)
    search = GridSearchCV(
        EarlyFailurePredictor(),
        {"C": [0.01, 1.0], "features": ["length", "uncertainty"]},
        cv=GroupKFold(3),
        scoring="roc_auc",
    )
    search.fit(frame, failed, groups=frame["group_id"])
    assert search.best_params_["features"] == "uncertainty"
    held_out = cross_val_predict(
        EarlyFailurePredictor(), frame, failed, groups=frame["group_id"], cv=GroupKFold(3), method="predict_proba"
    )
    assert roc_auc_score(failed, held_out[:, 1]) > 0.6


@pytest.mark.parametrize("kind", [EarlyFailurePredictor, OutcomeClassifier])
def test_it_passes_the_checks_of_scikit_learn_that_are_not_about_nameless_columns(kind: type) -> None:
    """The others fit on bare arrays; prefix features have names, and another number of columns is an error here."""
    model = kind()
    for check in (
        checks.check_estimator_cloneable,
        checks.check_estimator_repr,
        checks.check_no_attributes_set_in_init,
        checks.check_parameters_default_constructible,
        checks.check_get_params_invariance,
        checks.check_set_params,
        checks.check_mixin_order,
        checks.check_valid_tag_types,
    ):
        check(kind.__name__, model)


def test_its_state_survives_json(predictor: EarlyFailurePredictor, frame: pd.DataFrame) -> None:
    again = EarlyFailurePredictor.from_state(json.loads(json.dumps(predictor.to_state(), allow_nan=False)))
    np.testing.assert_array_equal(again.predict_proba(frame), predictor.predict_proba(frame))
    assert again.get_params() == predictor.get_params()


def test_a_state_of_other_features_or_shapes_is_refused(predictor: EarlyFailurePredictor) -> None:
    state = predictor.to_state()
    other = json.loads(json.dumps(state))
    other["map"]["columns"][0] = "sinuosity"
    with pytest.raises(EstimatorMismatchError, match="sinuosity"):
        EarlyFailurePredictor.from_state(other)
    for key, value in [("coef", [[1.0, 2.0]]), ("intercept", []), ("coef", "no"), ("classes", [1])]:
        with pytest.raises(InputError):
            EarlyFailurePredictor.from_state(state | {key: value})
    with pytest.raises(InputError, match="map"):
        EarlyFailurePredictor.from_state({key: value for key, value in state.items() if key != "map"})


def test_the_error_of_a_bad_input_says_what_was_expected(frame: pd.DataFrame, failed: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"'features' parameter of EarlyFailurePredictor .* Got 'vibes' instead"):
        EarlyFailurePredictor("vibes").fit(frame, failed)
    with pytest.raises(InputError, match="missing columns: tortuosity"):
        EarlyFailurePredictor().fit(frame.drop(columns="tortuosity"), failed)
    with pytest.raises(InputError, match="two classes"):
        EarlyFailurePredictor().fit(frame, np.zeros(len(frame)))
    with pytest.raises(InputError, match=r"0 \(success\) and 1 \(failure\).*unknown"):
        EarlyFailurePredictor().fit(frame, frame["outcome"].replace("success", "unknown"))
    with pytest.raises(InputError, match="one label per row"):
        EarlyFailurePredictor().fit(frame, failed[:-1])


def test_runs_of_one_step_only_are_enough_to_fit_and_to_score(frame: pd.DataFrame) -> None:
    first = frame[frame["step"] == 1]
    model = EarlyFailurePredictor().fit(first, first["outcome"] != "success")
    assert np.isfinite(model.predict_proba(frame)).all()
    assert model.predict_proba(first.iloc[:0]).shape == (0, 2)


def test_a_task_it_was_not_fitted_on_has_a_risk_all_the_same(frame: pd.DataFrame, failed: np.ndarray) -> None:
    model = EarlyFailurePredictor(DEFAULT_FEATURES + "+task").fit(frame, failed)
    assert np.isfinite(model.risks(frame.assign(task_set="poetry"))).all()
