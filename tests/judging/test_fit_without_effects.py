"""Detectors of runs that have no effects, of those that told no uncertainty, and of a mixture."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.detection.world import make_runs, make_trace
from tests.traces.bare import without_effects, without_uncertainty
from trajkit.detection.store import load_detectors, save_detectors
from trajkit.errors import InputError
from trajkit.judging.fit import fit_detectors
from trajkit.judging.policies import SavedRuns, ends, windowed_entropy
from trajkit.runs.features import features
from trajkit.runs.table import run_table

TRACES = [make_trace(run) for run in make_runs(80, seed=2)]
COMPARED = ("length", "trajectory", "trajectory+concentration", "uncertainty+length", "trajectory+uncertainty+length")


def fit(traces):
    return fit_detectors(traces, n_boot=40, compared=COMPARED)


@pytest.fixture(scope="module")
def bare():
    return fit([without_effects(trace) for trace in TRACES])


def test_what_needs_no_effects_is_fitted_and_it_is_said(bare):
    card = bare.detectors.card
    assert card["features"] == "uncertainty+length"
    assert "No run has effects, so none are read" in bare.evaluation.note
    assert set(bare.evaluation.auc_by_step["method"]) == {"length", "uncertainty+length", "random"}
    assert bare.evaluation.tortuosity_by_task is None
    assert bare.detectors.outcome.features == "uncertainty+length"
    assert bare.detectors.monitor.can_alarm
    area = bare.evaluation.auc_by_fraction.set_index(["method", "fraction"])["auc"]["uncertainty+length", 1.0]
    assert area > 0.6


def test_they_are_those_that_the_same_sets_make_of_runs_with_effects(bare):
    same = fit_detectors(TRACES, n_boot=40, features="uncertainty+length", compared=("length",)).detectors
    assert bare.detectors.predictor.to_state() == same.predictor.to_state()
    assert bare.detectors.monitor.threshold == same.monitor.threshold


def test_saved_and_loaded_they_watch_runs_of_both_kinds(bare, tmp_path):
    save_detectors(tmp_path, bare.detectors)
    monitor = load_detectors(tmp_path).monitor
    assert monitor.to_state() == bare.detectors.monitor.to_state()
    scores = [monitor.scores(features(traces)) for traces in (TRACES, list(map(without_effects, TRACES)))]
    np.testing.assert_array_equal(*scores)
    json.dumps(bare.detectors.card)


def test_without_uncertainty_length_is_left_and_without_anything_asked_for_it_is_refused():
    silent = [without_uncertainty(without_effects(trace)) for trace in TRACES]
    found = fit(silent)
    assert found.detectors.card["features"] == "length"
    assert "No run has log-probabilities" in found.evaluation.note
    with pytest.raises(InputError, match=r"nothing of the features trajectory is known of these runs\. No run has"):
        fit_detectors(silent, features="trajectory", compared=())


def test_of_a_mixture_those_with_effects_are_fitted_and_it_is_said_once():
    kept = [trace for at, trace in enumerate(TRACES) if at % 4]
    mixed, alone = (fit([without_effects(t) if at % 4 == 0 else t for at, t in enumerate(TRACES)]), fit(kept))
    assert mixed.evaluation.note == "60 runs of 240 have no effects and are left out."
    assert mixed.detectors.predictor.to_state() == alone.detectors.predictor.to_state()
    assert mixed.detectors.monitor.threshold == alone.detectors.monitor.threshold
    assert alone.evaluation.note == ""


def test_policies_are_played_over_runs_without_effects():
    traces = [without_effects(trace) for trace in TRACES]
    frame = features(traces)
    saved = SavedRuns.of(frame, ends(traces))
    assert len(saved) == len(TRACES)
    assert np.isfinite(windowed_entropy(frame, 20)).all()


def test_of_lengths_in_words_detectors_say_so_and_which_runs_are_other_than_those_that_they_know(bare, tmp_path):
    worded = [replace(without_effects(trace), meta={**trace.meta, "counted_in": "words"}) for trace in TRACES]
    assert "counted_in" not in bare.detectors.card
    assert "promise does not hold" in bare.detectors.unlike(run_table(worded))
    found = fit(worded)
    save_detectors(tmp_path, found.detectors)
    mine = load_detectors(tmp_path)
    assert mine.card["counted_in"] == ["words"]
    assert "are in words" in found.evaluation.note
    assert mine.unlike(run_table(worded)) == ""
    assert "lengths of 240 of 240 runs" in mine.unlike(run_table([without_effects(trace) for trace in TRACES]))
    mixed = fit([*worded[::2], *map(without_effects, TRACES[1::2])])
    assert "cannot be compared" in mixed.evaluation.note


def test_of_runs_that_told_no_uncertainty_among_others_it_is_said_how_many_and_how_they_are_read():
    bare = [without_effects(trace) for trace in TRACES]
    found = fit([without_uncertainty(trace) if at % 4 == 0 else trace for at, trace in enumerate(bare)])
    assert "60 of 240 runs have no log-probability or entropy of some step" in found.evaluation.note
    assert "no log-probability" not in fit(bare).evaluation.note
