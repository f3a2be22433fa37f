"""StepPredictor: sentences that are false or lost are told, alone and together, online and offline."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.utils import estimator_checks as checks

import trajkit as tk
from tests.traces.bare import without_effects, without_uncertainty
from trajkit.detection import SentenceFeatures, StepPredictor, sentence_features
from trajkit.errors import EstimatorMismatchError, InputError

from .sentences import make_runs, named_place


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return sentence_features(make_runs(60), named_place)


@pytest.fixture(scope="module")
def predictor(frame: pd.DataFrame) -> StepPredictor:
    return StepPredictor("both", max_iter=40, learning_rate=0.1, min_samples_leaf=20).fit(frame, frame["label"])


def test_it_tells_wrong_sentences_of_scenes_it_never_saw(frame: pd.DataFrame, predictor: StepPredictor) -> None:
    assert tk.StepPredictor is StepPredictor
    fresh = sentence_features(make_runs(40, seed=9), named_place)
    proba, label = predictor.predict_proba(fresh), fresh["label"].to_numpy(str)
    assert predictor.classes_.tolist() == ["", "false", "lost"]
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert roc_auc_score(label == "false", proba[:, 1]) > 0.8
    assert roc_auc_score(label == "lost", proba[:, 2]) > 0.9
    np.testing.assert_allclose(predictor.risks(fresh), proba[:, 1] + proba[:, 2])
    assert set(predictor.predict(fresh)) == {"", "false", "lost"}
    assert abs(predictor.risks(fresh).mean() - (label != "").mean()) < 0.06
    alone = {
        kind: clone(predictor).set_params(features=kind).fit(frame, frame["label"]).predict_proba(fresh)[:, 1]
        for kind in ("effects", "uncertainty")
    }
    both = roc_auc_score(label == "false", proba[:, 1])
    assert all(0.6 < roc_auc_score(label == "false", score) < both - 0.03 for score in alone.values())


def test_each_kind_reads_its_own_columns_alone(frame: pd.DataFrame) -> None:
    rng = np.random.default_rng(0)
    for kind, others in (("effects", ["logprob", "entropy", "tokens"]), ("uncertainty", ["mass", "largest", "since"])):
        model = StepPredictor(kind, max_iter=20).fit(frame, frame["label"])
        changed = frame.assign(**{name: rng.normal(size=len(frame)) for name in (*others, "step")})
        changed["task_set"] = "another family"
        np.testing.assert_array_equal(model.risks(changed), model.risks(frame))
    assert not np.array_equal(StepPredictor(max_iter=20).fit(frame, frame["label"]).risks(changed), model.risks(frame))


def test_what_is_named_is_read_where_it_is_known(frame: pd.DataFrame) -> None:
    bare = sentence_features(make_runs(60))
    assert not {"named", "named_share", "named_effect", "agreement_named"} & set(bare)
    model = StepPredictor("effects").fit(bare, bare["label"])
    known = StepPredictor("effects").fit(frame, frame["label"])
    assert set(known.columns_) - set(model.columns_) == {"named", "named_share", "named_effect", "agreement_named"}
    with pytest.raises(InputError, match="columns that are missing here: named_effect"):
        known.risks(bare)


def test_online_it_is_the_batch_to_the_last_bit(frame: pd.DataFrame, predictor: StepPredictor) -> None:
    batch, found = predictor.risks(frame), []
    for trace in make_runs(60)[:20]:
        running = SentenceFeatures(named=True)
        for step, effects, named in zip(trace.steps, trace.effects, named_place(trace), strict=True):
            if step.kind == "thinking":
                assert step.logprob is not None
                assert step.entropy is not None
                now = running.update(
                    effects, logprob=step.logprob, entropy=step.entropy, tokens=step.n_tokens, named=named
                )
                found.append(predictor.risk(now))
    np.testing.assert_array_equal(found, batch[: len(found)])


def test_it_comes_back_from_json_as_it_was(frame: pd.DataFrame, predictor: StepPredictor) -> None:
    again = StepPredictor.from_state(json.loads(json.dumps(predictor.to_state(), allow_nan=False)))
    np.testing.assert_array_equal(again.predict_proba(frame), predictor.predict_proba(frame))
    assert again.get_params() == predictor.get_params()
    two = StepPredictor("uncertainty").fit(frame, frame["label"].replace("lost", "false"))
    assert two.classes_.tolist() == ["", "false"]
    np.testing.assert_array_equal(StepPredictor.from_state(two.to_state()).risks(frame), two.risks(frame))


def test_it_is_kept_in_a_folder_and_a_changed_file_is_refused(tmp_path, frame, predictor: StepPredictor) -> None:
    path = predictor.save(tmp_path / "mine")
    assert path == tmp_path / "mine" / "steps.json"
    np.testing.assert_array_equal(StepPredictor.load(tmp_path / "mine").risks(frame), predictor.risks(frame))
    path.write_text(path.read_text().replace('"depth": ', '"depth": 1'))
    with pytest.raises(InputError, match="its hash does not fit"):
        StepPredictor.load(tmp_path / "mine")
    with pytest.raises(InputError, match=r"no predictor of sentences in .*: expected steps\.json"):
        StepPredictor.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("classes", ["", "wrong"], InputError, "at least two of"),
        ("classes", ["false", ""], InputError, "at least two of"),
        ("classes", [""], InputError, "at least two of"),
        ("columns", ["logprob", "magic"], EstimatorMismatchError, "does not compute"),
        ("columns", [], EstimatorMismatchError, "does not compute"),
        ("columns", ["mass", "mass"], InputError, "each of its columns once"),
        ("columns", ["mass"], InputError, "'feature' between"),
        ("params", {"features": "all"}, InputError, "must read one of effects, uncertainty, both"),
        ("params", {"depth": 3}, InputError, "parameters that this version does not know"),
        ("params", {"features": "both"}, InputError, "'max_iter' as a number"),
        ("trees", None, InputError, "'trees' as dict"),
    ],
)
def test_a_damaged_state_is_refused(
    predictor: StepPredictor, name: str, value: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        StepPredictor.from_state(predictor.to_state() | {name: value})


def test_a_sentence_without_what_is_read_is_left_out_and_cannot_be_judged() -> None:
    runs = make_runs(60)
    bare = [without_effects(run) for run in runs[:30]]
    unsure = [without_uncertainty(run) for run in runs[30:60]]
    mixed = sentence_features([*bare, *unsure, *runs[60:]])
    lacks = {"effects": len(bare), "uncertainty": len(unsure), "both": len(bare) + len(unsure)}
    for kind, n_runs in lacks.items():
        model = StepPredictor(kind, max_iter=20, min_samples_leaf=20).fit(mixed, mixed["label"])
        cannot = np.isnan(model.risks(mixed))
        assert mixed["transcript_id"][cannot].nunique() == n_runs
        kept = mixed[~cannot]
        again = StepPredictor(kind, max_iter=20, min_samples_leaf=20).fit(kept, kept["label"])
        np.testing.assert_array_equal(again.risks(kept), model.risks(kept))
        assert set(model.predict(mixed)[cannot]) == {""}
    first = mixed.iloc[0].to_dict()
    assert np.isnan(StepPredictor("effects").fit(mixed, mixed["label"]).risk(first))
    with pytest.raises(InputError, match=r"with effects; of .* rows 0 can be read"):
        StepPredictor("effects").fit(*_part(mixed, 30))


def _part(frame: pd.DataFrame, n_runs: int) -> tuple[pd.DataFrame, pd.Series]:
    some = frame[frame["transcript_id"].isin(frame["transcript_id"].unique()[:n_runs])]
    return some, some["label"]


def test_sentences_without_a_label_are_left_out(frame: pd.DataFrame) -> None:
    label = frame["label"].copy()
    label[::3] = None
    model = StepPredictor(max_iter=20).fit(frame, label)
    kept = frame[label.notna()]
    np.testing.assert_array_equal(StepPredictor(max_iter=20).fit(kept, kept["label"]).risks(frame), model.risks(frame))


def test_no_number_breaks_it(frame: pd.DataFrame, predictor: StepPredictor) -> None:
    rng, wild = np.random.default_rng(0), frame.copy()
    for name in predictor.columns_:
        odd = rng.choice([0.0, -1e308, 1e308, 1e13, 5e-324], len(wild))
        wild[name] = np.where(rng.random(len(wild)) < 0.2, odd, wild[name])
    wild["mass"] = rng.choice([np.inf, -np.inf, np.nan], len(wild))
    proba = predictor.predict_proba(wild)
    assert np.isfinite(proba).all()
    np.testing.assert_array_equal([predictor.risk(row) for row in wild.to_dict("records")], predictor.risks(wild))


def test_wrong_input_gets_a_sentence(frame: pd.DataFrame) -> None:
    label = frame["label"]
    with pytest.raises(InputError, match="'features' parameter of StepPredictor must be one of effects, uncert"):
        StepPredictor("all").fit(frame, label)
    with pytest.raises(InputError, match=r"each '', 'false', 'lost' or None; got .* among them 'wrong'"):
        StepPredictor().fit(frame, label.replace("false", "wrong"))
    with pytest.raises(InputError, match=r"a label a row.* got 3 labels"):
        StepPredictor().fit(frame, label[:3])
    with pytest.raises(InputError, match=r"needs sentences of at least two labels.*labelled ''"):
        StepPredictor().fit(frame[label == ""], label[label == ""])
    with pytest.raises(InputError, match="two labels, '' among them"):
        StepPredictor().fit(frame[label != ""], label[label != ""])
    with pytest.raises(InputError, match="missing columns: largest"):
        StepPredictor().fit(frame.drop(columns="largest"), label)
    with pytest.raises(InputError, match="sentence_features"):
        StepPredictor().fit(np.zeros((len(frame), 3)), label)
    with pytest.raises(NotFittedError):
        StepPredictor().risks(frame)


def test_it_is_an_estimator_of_scikit_learn(frame: pd.DataFrame) -> None:
    model = StepPredictor("uncertainty", max_iter=5)
    checks.check_no_attributes_set_in_init("StepPredictor", model)
    checks.check_parameters_default_constructible("StepPredictor", model)
    checks.check_get_params_invariance("StepPredictor", model)
    checks.check_set_params("StepPredictor", model)
    checks.check_estimator_repr("StepPredictor", model)
    label = frame["label"].to_numpy(str)
    search = GridSearchCV(clone(model), {"features": ["effects", "uncertainty"]}, cv=GroupKFold(2))
    search.fit(frame, label, groups=frame["group_id"])
    assert search.best_score_ > (label == "").mean() - 0.05
    weight = np.where(label == "lost", 1e-6, 1.0)
    assert clone(model).fit(frame, label, weight).predict_proba(frame)[:, 2].max() < 0.01
