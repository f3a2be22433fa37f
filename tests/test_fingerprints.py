"""Two fingerprints that differ are of two models, or were made in two ways: messages say which it may be."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.traces.factory import make_trace
from trajkit.attribution.estimator import Binding
from trajkit.attribution.linear import LinearEstimator
from trajkit.attribution.measure import MeasuredStore
from trajkit.demo import paths
from trajkit.detection.sources import sourced
from trajkit.detection.store import load_detectors
from trajkit.errors import EstimatorMismatchError, InputError
from trajkit.fingerprints import ModelId, difference, stamped
from trajkit.runs.kernel import Wanted
from trajkit.runs.table import run_table
from trajkit.traces.store import read_traces
from trajkit.traces.writer import TraceWriter

FIRST, LATER = stamped("0123456789abcdef", 1), stamped("0123456789abcdef", 2)


def test_fingerprints_of_the_first_way_bear_no_number_and_those_shipped_are_of_the_way_in_use(demo_vlm):
    assert FIRST == "0123456789abcdef"
    assert LATER == "w2-0123456789abcdef"
    shipped = json.loads((paths.ESTIMATOR / "estimator.json").read_text())["binding"]["fingerprint"]
    assert {shipped, load_detectors(paths.DETECTORS).card["fingerprint"]} == {demo_vlm.fingerprint}
    assert read_traces(paths.TRACES)[0].meta["fingerprint"] == demo_vlm.fingerprint


def test_what_is_said_depends_on_the_ways_and_the_names():
    assert "with an older trajkit" in difference(FIRST, LATER, False)
    assert "with a newer trajkit" in difference(LATER, FIRST, True)
    assert "weights or settings were changed since, or an older trajkit" in difference(FIRST, "f" * 16, True)
    assert difference(FIRST, "f" * 16, False) == ""


ONE_MODEL = [
    (("a", "f1"), ("b", "f1"), True),  # a copy under another name
    (("a", "f1"), ("a", "f2"), False),  # the same name, trained further
    (("a", "f1"), ("a", ""), True),
    (("a", "f1"), ("b", ""), False),
    (("a", ""), ("a", ""), True),
    (("", ""), ("a", "f1"), False),
]


@pytest.mark.parametrize(("one", "other", "same"), ONE_MODEL)
def test_fingerprints_tell_models_apart_where_both_are_known_and_names_otherwise_wherever_it_is_asked(one, other, same):
    assert ModelId(*one).is_same(ModelId(*other)) is same
    assert ModelId(*other).is_same(ModelId(*one)) is same
    monitor = replace(load_detectors(paths.DETECTORS).monitor, model=one[0], fingerprint=one[1])
    estimator = LinearEstimator(
        {"weights": np.ones(4, np.float32)}, Binding(one[1], one[0], None, "vision", "sum", "mean")
    )
    for check in (lambda: monitor.check(*other), lambda: estimator.check(other[1], other[0])):
        if same:
            check()
            continue
        with pytest.raises(EstimatorMismatchError):
            check()


@pytest.mark.parametrize(("one", "other", "same"), ONE_MODEL)
def test_runs_are_of_one_model_by_the_same_rule_when_detectors_are_made_of_them_or_held_against_them(one, other, same):
    runs = run_table(
        [
            replace(make_trace(i), model=name, meta={"fingerprint": weights} if weights else {})
            for i, (name, weights) in enumerate([one, other])
        ],
        Wanted(keys=True),
    )
    made_for = replace(load_detectors(paths.DETECTORS), card={"model": one[0], "fingerprint": one[1]})
    assert made_for.others(runs.models) == ([] if same else [ModelId(*other)])
    if not same and all(map(any, (one, other))):
        with pytest.raises(InputError, match=r"[Ss]plit them"):
            sourced(runs, "here")
        return
    found = sourced(runs, "here")  # runs that say nothing of their model may be of any
    assert (found.model, found.fingerprint) == (one[0] or other[0], one[1] or other[1])


def test_a_table_of_runs_names_its_models():
    made = [("b", "f2"), ("a", "f1"), ("a", None), ("a", "f1")]
    traces = [
        replace(make_trace(i), model=name, meta={} if weights is None else {"fingerprint": weights})
        for i, (name, weights) in enumerate(made)
    ]
    assert run_table(traces).models == [ModelId("a", ""), ModelId("a", "f1"), ModelId("b", "f2")]


def test_estimators_detectors_traces_and_measured_runs_of_another_way_are_refused_with_the_reason(tmp_path):
    why = "with an older trajkit that tells models apart in another way"
    estimator = LinearEstimator(
        {"weights": np.ones(4, np.float32)}, Binding(FIRST, "toy", None, "vision", "sum", "mean")
    )
    with pytest.raises(EstimatorMismatchError, match=f"{why}.*Train one for it"):
        estimator.check(LATER, "toy")
    detectors = load_detectors(paths.DETECTORS)
    with pytest.raises(EstimatorMismatchError, match=f"{why}.*Fit detectors"):
        detectors.check(detectors.model, LATER)
    with TraceWriter(tmp_path / "traces") as writer:
        writer.add(replace(make_trace(0), meta={"fingerprint": FIRST}))
        writer.flush()
        with pytest.raises(InputError, match=f"{why}.*a folder of their own"):
            writer.require({"fingerprint": LATER})
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "a.npz").write_bytes(b"")
    (tmp_path / "measured" / "settings.json").write_text(json.dumps({"fingerprint": FIRST}))
    with pytest.raises(InputError, match=f"{why}.*choose another folder"):
        MeasuredStore(tmp_path / "measured", {"fingerprint": LATER})
