"""Studies of runs without effects: those that need none are made, the others say what they need."""

from __future__ import annotations

import pytest

from tests.detection.world import make_runs, make_trace
from tests.traces.bare import without_effects, without_uncertainty
from trajkit.studies.make import make_all
from trajkit.studies.runs import read_runs
from trajkit.tables.render import markdown

TRACES = [make_trace(run) for run in make_runs(40, seed=5)]
MADE = ["metric_distributions", "early_failure", "outcomes"]


def said(study):
    return "\n".join([*study.reading, *study.tables, *map(markdown, study.tables.values())])


@pytest.fixture(scope="module")
def bare():
    return make_all(read_runs([without_effects(trace) for trace in TRACES]), n_boot=100)


def test_what_needs_no_effects_is_made_and_the_others_say_how_to_get_them(bare):
    made, left_out = bare
    assert [study.name for study in made] == MADE
    assert set(left_out) == {"The path of grounding", "Concentration"}
    assert all("`trajkit attribute` gets them" in why for why in left_out.values())


def test_no_number_is_missing_and_no_effect_is_spoken_of(bare):
    for study in bare[0]:
        text = said(study).lower()
        assert "nan" not in text.split()
        for word in ("tortuosity", "concentration", "fixation", "path length"):
            assert word not in text, study.name


def test_sets_of_features_are_those_that_are_there(bare):
    early = next(study for study in bare[0] if study.name == "early_failure")
    assert early.reading[0].startswith("No run has effects, so none are read")
    methods = {row[0] for row in early.tables["AUC at absolute steps, by what was known then"].shown.rows}
    assert methods >= {"uncertainty", "length", "uncertainty + length + task"}
    assert any("Uncertainty, length and task together reach at most" in one for one in early.reading)


def test_without_uncertainty_too_length_and_task_are_left():
    silent = read_runs([without_uncertainty(without_effects(trace)) for trace in TRACES])
    (metrics, outcomes), _ = make_all(silent, ["metric_distributions", "outcomes"], n_boot=100)
    assert set(metrics.tables["Runs"].frame["metric"]) == {"runs", "groups", "n_steps", "n_tokens"}
    methods = next(iter(outcomes.tables.values())).frame["method"]
    assert set(methods) == {"length", "task", "length+task", "chance"}


def test_of_a_mixture_what_is_about_effects_is_of_the_runs_that_have_them():
    mixed = read_runs([without_effects(t) if at % 4 == 0 else t for at, t in enumerate(TRACES)])
    alone = read_runs([trace for at, trace in enumerate(TRACES) if at % 4])
    names = ["concentration", "outcomes"]
    (found, left_out), (expected, _) = (make_all(runs, names, n_boot=100) for runs in (mixed, alone))
    assert not left_out
    for one, other in zip(found, expected, strict=True):
        assert list(map(markdown, one.tables.values())) == list(map(markdown, other.tables.values())), one.name
        assert one.reading[0] == "90 of 120 runs have effects; what is about effects is said of those alone."
    assert "90 of 120 runs have effects" in mixed.summary()
