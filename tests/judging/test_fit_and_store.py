from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.detection.world import make_frame, make_runs
from trajkit.detection import Monitor, load_detectors, save_detectors, split_by_group, store
from trajkit.errors import EstimatorMismatchError, InputError
from trajkit.judging import FitResult, fit_detectors
from trajkit.judging.alarms import ALARMED_FAILING, ALARMED_SUCCESSFUL, ALL_FAILING, ALL_RUNS, NEW_GROUP, replay
from trajkit.judging.ranking import ALL
from trajkit.runs.keys import KEY_BYTES
from trajkit.runs.table import last_steps
from trajkit.traces.trace import OUTCOMES
from trajkit.trajectory.features import FEATURE_NAMES


@pytest.fixture(scope="module")
def world() -> pd.DataFrame:
    return make_frame(make_runs(160, seed=3))


@pytest.fixture(scope="module")
def fitted(world: pd.DataFrame) -> FitResult:
    return fit_detectors(world, model="demo", compared=("length", "task", "uncertainty"), n_boot=50)


@pytest.fixture
def folder(fitted: FitResult, tmp_path: Path) -> Path:
    save_detectors(tmp_path, fitted.detectors)
    return tmp_path


def test_fitting_evaluates_on_scenes_that_neither_fit_nor_calibration_saw(
    fitted: FitResult, world: pd.DataFrame
) -> None:
    found = fitted.evaluation
    assert found.split is not None
    assert set(found.runs["group_id"]) == set(fitted.detectors.card["test_groups"])
    assert found.split["groups"].tolist() == [80, 40, 40]
    split = split_by_group(world, seed=0)
    by_hand = Monitor.calibrate(fitted.detectors.predictor, split.rows(world, "calibration"), alpha=0.1)
    assert fitted.detectors.monitor.threshold == by_hand.threshold
    assert fitted.detectors.monitor.n == by_hand.n <= 40


def test_every_table_has_its_baselines_beside_it(fitted: FitResult) -> None:
    ours = "trajectory+concentration+uncertainty+length"
    wanted = {ours, "length", "task", "uncertainty", "random", "tortuosity alone"}
    assert set(fitted.evaluation.auc_by_step["method"]) == wanted
    assert fitted.evaluation.auc_by_fraction["oracle"].all()
    assert fitted.evaluation.outcome_auc is not None
    assert set(fitted.evaluation.outcome_auc["method"]) == wanted - {"tortuosity alone"}
    auc = fitted.evaluation.auc_by_step.set_index(["method", "step"])["auc"]
    assert auc[(ours, 4)] > 0.75
    assert abs(auc[("random", 1)] - 0.5) < 0.2


RANKED = "n_runs n_failures n_scored auc low high"
COLUMNS = {
    "split": "part groups runs",  # and the outcomes
    "auc_by_step": f"method step {RANKED}",
    "auc_by_fraction": f"method fraction oracle {RANKED}",
    "tortuosity_by_task": "method task_set fraction oracle n_runs n_failures n_scored pairs auc low high",
    "outcome_auc": "method outcome n_runs auc low high",
    "abstention": "outcome n_runs answered error",
    "runs": "transcript_id group_id task_set outcome failure n_steps n_tokens max_risk alarmed alarm_step saved",
    "false_alarms": "unit n k rate low high alpha",
    "false_alarms_by_length": "from_step to_step n k rate low high",
    "power": "outcome n k rate low high median_alarm_step",
    "tokens_saved": "runs n median low high mean",
}


def test_every_table_of_an_evaluation_has_the_columns_that_pages_read(fitted: FitResult) -> None:
    told = vars(fitted.evaluation).items()
    tables = {name: list(table) for name, table in told if isinstance(table, pd.DataFrame)}
    tables["split"] = [name for name in tables["split"] if name not in OUTCOMES]
    assert tables == {name: columns.split() for name, columns in COLUMNS.items()}
    assert fitted.evaluation.false_alarms["unit"].tolist() == [NEW_GROUP, ALL_RUNS]
    assert fitted.evaluation.tokens_saved["runs"].tolist() == [ALL_FAILING, ALARMED_FAILING, ALARMED_SUCCESSFUL]
    assert fitted.evaluation.power["outcome"].iloc[0] == ALL
    assert fitted.evaluation.abstention is not None
    assert fitted.evaluation.abstention["outcome"].iloc[0] == ALL


def test_tortuosity_of_a_family_is_compared_among_runs_of_one_question_form(world: pd.DataFrame) -> None:
    """A form that fails more and winds more would else look like a tortuosity that tells failure."""
    forms = world.assign(form=world["group_id"].str[-2].where(world["task_set"] == "math", ""))
    result = fit_detectors(forms, model="demo", features="length", compared=(), n_boot=5)
    found = result.evaluation.tortuosity_by_task
    assert found is not None
    test = forms[forms["group_id"].isin(result.detectors.card["test_groups"])]
    final = test.groupby("transcript_id")["step"].transform("max")
    read = test[(test["step"] == np.maximum(1, np.ceil(0.3 * final - 1e-9))) & test["tortuosity"].notna()]
    for row in found.itertuples():
        wins, pairs = 0.0, 0
        for _, runs in read[read["task_set"] == row.task_set].groupby("form"):
            failed, good = (runs.loc[runs["success"] == known, "tortuosity"].to_numpy() for known in (False, True))
            wins += float((failed[:, None] > good).sum() + (failed[:, None] == good).sum() / 2)
            pairs += len(failed) * len(good)
        assert row.pairs == pairs
        assert row.auc == pytest.approx(wins / pairs)


def test_runs_of_unknown_outcome_change_nothing(fitted: FitResult, world: pd.DataFrame) -> None:
    noise = world.assign(outcome="unknown", success=None, transcript_id=world["transcript_id"] + "x")
    both = pd.concat([world, noise], ignore_index=True)
    again = fit_detectors(both, model="demo", compared=("length",), n_boot=5)
    np.testing.assert_array_equal(again.detectors.predictor.coef_, fitted.detectors.predictor.coef_)


def test_without_two_known_outcomes_there_is_no_classifier_and_the_card_says_why(world: pd.DataFrame) -> None:
    vague = world.assign(outcome=world["outcome"].where(world["outcome"] == "success", "unknown"))
    result = fit_detectors(vague, model="demo", compared=("length",), n_boot=5)
    assert result.detectors.outcome is None
    assert "two classes" in result.detectors.card["outcome"]
    assert result.evaluation.outcome_auc is None
    assert result.evaluation.abstention is None


def test_too_few_runs_to_split_is_an_input_error(world: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="part of the split"):
        fit_detectors(world[world["group_id"] == "scene-000"], model="demo")


def test_detectors_survive_the_folder(fitted: FitResult, folder: Path, world: pd.DataFrame) -> None:
    again = load_detectors(folder)
    np.testing.assert_array_equal(again.predictor.predict_proba(world), fitted.detectors.predictor.predict_proba(world))
    assert again.outcome is not None
    assert fitted.detectors.outcome is not None
    last = last_steps(world)
    assert (again.outcome.predict(last) == fitted.detectors.outcome.predict(last)).all()
    assert again.monitor.to_state() == fitted.detectors.monitor.to_state()
    assert again.monitor.predictor is again.predictor
    assert again.card == fitted.detectors.card
    assert again.keys == fitted.detectors.keys
    assert again.keys
    assert {len(key) for key in again.keys} == {KEY_BYTES}
    assert [path.name for path in folder.iterdir()] == ["detectors.json"]


def test_a_monitor_that_cannot_alarm_survives_too(world: pd.DataFrame, tmp_path: Path) -> None:
    result = fit_detectors(world, alpha=0.001, model="demo", compared=("length",), n_boot=5)
    save_detectors(tmp_path, result.detectors)
    assert not load_detectors(tmp_path).monitor.can_alarm


def test_detectors_of_another_model_are_refused(folder: Path) -> None:
    detectors = load_detectors(folder)
    detectors.check("demo")
    with pytest.raises(EstimatorMismatchError, match=r"'demo'.*'Qwen/Qwen3-VL-8B-Thinking'"):
        detectors.check("Qwen/Qwen3-VL-8B-Thinking")


def _edit(folder: Path, *keys: str, value: object, hashed: bool = True) -> None:
    """Change a part of the file. hashed: by one who makes the hash fit again."""
    path = folder / store.FILE
    record = json.loads(path.read_text())
    place = record
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    if hashed:
        record["hash"] = store._hash({key: part for key, part in record.items() if key != "hash"})
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("card", "test_groups"), []),
        (("keys",), ""),
        (("predictor", "intercept"), [0.5]),
        (("outcome", "error"), 0.01),
        (("monitor", "threshold"), 0.9),
        (("more",), 1),
        (("hash",), ""),
    ],
)
def test_detectors_changed_by_hand_are_refused_whatever_part_it_is(
    folder: Path, keys: tuple[str, ...], value: object
) -> None:
    load_detectors(folder)
    _edit(folder, *keys, value=value, hashed=False)
    with pytest.raises(InputError, match=r"not what was written.*trajkit fit"):
        load_detectors(folder)


def test_detectors_of_an_older_version_are_to_be_fitted_again(folder: Path) -> None:
    _edit(folder, "version", value=2, hashed=False)
    with pytest.raises(InputError, match=r"version 2; this trajkit reads version 5. Fit the detectors again"):
        load_detectors(folder)


def test_detectors_of_version_3_are_read_and_do_not_say_which_images_they_were_made_from(folder: Path) -> None:
    record = json.loads((folder / store.FILE).read_text())
    del record["keys"]
    (folder / store.FILE).write_text(json.dumps(record))
    _edit(folder, "version", value=3)
    detectors = load_detectors(folder)
    assert detectors.keys is None
    assert not detectors.known([("g", frozenset({b"12345678"}))]).all


def test_detectors_of_version_4_are_read_and_say_nothing_of_what_they_do_not_know(folder: Path) -> None:
    whole = load_detectors(folder)
    record = json.loads((folder / store.FILE).read_text())
    del record["enough"]
    for part in ("watches", "higher", "calibration"):
        del record["monitor"][part]
    (folder / store.FILE).write_text(json.dumps(record))
    _edit(folder, "version", value=4)
    older = load_detectors(folder)
    assert (older.enough, older.monitor.calibration) == (None, None)
    assert (older.monitor.threshold, older.keys) == (whole.monitor.threshold, whole.keys)
    assert replay(older.monitor, make_frame(make_runs(20))).drift is None


def test_the_monitor_of_success_is_fitted_on_the_same_runs_and_survives_the_folder(
    fitted: FitResult, folder: Path
) -> None:
    enough, again = fitted.detectors.enough, load_detectors(folder).enough
    assert enough is not None
    assert again is not None
    assert enough.watches == "success"
    assert again.to_state() == enough.to_state()
    assert again.calibration is not None
    assert fitted.detectors.monitor.calibration is not None
    risks = fitted.detectors.monitor.calibration
    assert (again.calibration.steps, len(again.calibration.maxima)) == (risks.steps, len(risks.maxima))
    assert again.n + fitted.detectors.monitor.n == len(risks.maxima)  # one run a group, and each came out known


def _first(folder: Path, *keys: str, value: float) -> list[object]:
    """The list at that place with its first number replaced."""
    part = json.loads((folder / store.FILE).read_text())
    for key in keys:
        part = part[key]
    return [[value, *part[0][1:]], *part[1:]] if isinstance(part[0], list) else [value, *part[1:]]


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("monitor", "alpha"), 5),
        (("monitor", "alpha"), 0.0),
        (("monitor", "n"), -5),
        (("monitor", "delta"), 2.0),
        (("monitor", "threshold"), 7.0),
        (("monitor", "threshold"), None),
        (("monitor", "score_min"), -1),
        (("monitor", "watches"), "all"),
        (("monitor", "higher"), "up"),
        (("monitor", "calibration"), []),
        (("monitor", "calibration", "steps"), -1),
        (("monitor", "calibration", "regions"), [9, 3]),
        (("monitor", "calibration", "maxima"), [None]),
        (("enough", "threshold"), 7.0),
        (("predictor", "params", "C"), -1.0),
        (("predictor", "params", "min_runs"), 0),
        (("predictor", "classes"), [1, 0]),
        (("outcome", "classes"), ["a", "a", "b"]),
        (("outcome", "coverage"), 3),
        (("outcome", "threshold"), -0.5),
        (("outcome", "error"), 2),
        (("predictor", "map", "step_sd"), 0),
        (("predictor", "map", "step_mean"), 1e308),
        (("card", "fit_groups"), "all"),
        (("keys",), "????"),
        (("keys",), "Zg=="),
        (("keys",), ["Zg=="]),
    ],
)
def test_a_value_out_of_its_range_is_refused_by_name(folder: Path, keys: tuple[str, ...], value: object) -> None:
    _edit(folder, *keys, value=value)
    with pytest.raises(InputError, match=f"'{keys[-1]}'"):
        load_detectors(folder)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("predictor", "coef"), 1e308),
        (("predictor", "intercept"), -1e7),
        (("outcome", "coef"), 1e200),
        (("predictor", "centre"), 1e300),
        (("predictor", "map", "sd"), -1.0),
        (("predictor", "map", "sd"), 0.0),
        (("predictor", "map", "mean"), 1e100),
        (("predictor", "map", "missing"), 1.5),
        (("predictor", "map", "first_steps"), 0),
        (("predictor", "map", "first_steps"), 3),
        (("predictor", "map", "first_steps"), 1e300),
        (("predictor", "map", "flagged"), 2),
    ],
)
def test_a_number_of_a_list_out_of_its_range_is_refused_by_name(
    folder: Path, keys: tuple[str, ...], value: float
) -> None:
    _edit(folder, *keys, value=_first(folder, *keys, value=value))
    with pytest.raises(InputError, match=f"'{keys[-1]}'"):
        load_detectors(folder)


def test_risks_stay_between_0_and_1_for_any_input_and_the_steepest_coefficients(
    folder: Path, world: pd.DataFrame
) -> None:
    width = len(json.loads((folder / store.FILE).read_text())["predictor"]["coef"][0])
    _edit(folder, "predictor", "coef", value=[[1e6 * (-1) ** i for i in range(width)]])
    predictor = load_detectors(folder).predictor
    rng = np.random.default_rng(0)
    wild = world.iloc[:300].copy()
    for name in FEATURE_NAMES[1:]:
        wild[name] = rng.choice([0.0, -1e308, 1e308, np.inf, -np.inf, np.nan, 5e-324, 1.0], len(wild))
    wild["step"] = rng.choice([1.0, 2.0, 1e6, 1e300], len(wild))
    for risks in (predictor.risks(wild), [predictor.risk(row) for row in wild.iloc[:30].to_dict("records")]):
        assert ((np.asarray(risks) >= 0) & (np.asarray(risks) <= 1)).all()


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("version",), 99, "version 99"),
        (("format",), "other", "does not hold trajkit detectors"),
        (("predictor", "coef"), [[1.0]], r"'coef' as finite numbers of shape"),
        (("predictor", "map", "mean"), [[1.0]], r"'mean' as finite numbers of shape"),
        (("predictor", "map", "sd"), None, "'sd'"),
        (("monitor", "alpha"), "high", "'alpha'"),
        (("outcome", "threshold"), "high", "'threshold'"),
        (("predictor",), None, "'predictor'"),
        (("predictor", "params"), {"depth": 3}, "depth"),
    ],
)
def test_a_damaged_file_is_an_input_error_that_names_the_part(
    folder: Path, keys: tuple[str, ...], value: object, message: str
) -> None:
    _edit(folder, *keys, value=value)
    with pytest.raises(InputError, match=message):
        load_detectors(folder)


def test_other_feature_names_are_a_mismatch(folder: Path) -> None:
    _edit(folder, "predictor", "map", "columns", value=["sinuosity"])
    with pytest.raises(EstimatorMismatchError, match="sinuosity"):
        load_detectors(folder)


def test_a_missing_a_cut_off_and_a_binary_file_are_input_errors(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trajkit fit"):
        load_detectors(tmp_path / "nowhere")
    path = folder / store.FILE
    text = path.read_text()
    for content in [text[:100].encode(), b"", b"\x80\x04\x95", b'{"format": NaN}', b"[]"]:
        path.write_bytes(content)
        with pytest.raises(InputError):
            load_detectors(folder)


def test_a_full_disk_leaves_the_old_file_and_no_litter(
    fitted: FitResult, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / store.FILE).read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trajkit.files.os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        save_detectors(folder, fitted.detectors)
    assert (folder / store.FILE).read_bytes() == before
    assert [path.name for path in folder.iterdir()] == [store.FILE]


def test_a_folder_that_is_a_file_is_an_input_error(fitted: FitResult, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="could not be written"):
        save_detectors(tmp_path / "taken", fitted.detectors)
