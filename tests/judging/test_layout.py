"""How an evaluation is laid out: no AUC without its interval and counts, machine names and all digits in a file."""

from __future__ import annotations

import math

import pandas as pd

from trajkit.judging.layout import (
    answered,
    areas_across,
    areas_by_outcome,
    caught,
    false_alarm_rates,
    macro_areas,
    saved,
)
from trajkit.judging.promise import PromiseCheck
from trajkit.judging.ranking import MACRO
from trajkit.tables.render import markdown

NAN = math.nan
AREAS = pd.DataFrame(
    {
        "method": ["length", "tortuosity alone", "length+task", "length", "tortuosity alone", "length+task"],
        "step": [1, 1, 1, 2, 2, 2],
        "n_runs": [4000, 4000, 4000, 8, 8, 8],
        "n_failures": [1200, 1200, 1200, 4, 4, 4],
        "n_scored": [4000, 3100, 4000, 8, 0, 8],
        "auc": [0.7, 0.61234, 0.75, 1.0, NAN, 0.5],
        "low": [0.6, 0.45, 0.7, NAN, NAN, NAN],
        "high": [0.8, 0.75, 0.8, NAN, NAN, NAN],
    }
)


def test_no_auc_is_written_without_its_interval_and_the_counts_behind_it():
    headings, rows, numeric = areas_across(AREAS, "step", 6).shown
    assert headings == ["method", "step 1", "step 2"]
    assert rows == [
        ["length", "0.70 (0.60–0.80)", "–"],  # 1.00 of eight runs says nothing
        ["tortuosity alone", "0.61 (0.45–0.75) of 3,100", "–"],
        ["length + task", "0.75 (0.70–0.80)", "–"],
        ["runs (failing)", "4,000 (1,200)", "8 (4)"],
    ]
    assert numeric == [False, True, True]
    note = areas_across(AREAS, "step", 6).note
    assert "too few groups of runs for an interval" in note
    assert "“of” says how many runs" in note
    assert areas_across(AREAS[AREAS["method"] == "length"][:1], "step", 6).note == ""


def test_a_bare_auc_that_people_do_not_read_is_in_the_file_all_the_same():
    assert areas_across(AREAS, "step", 6).plain()["auc"].tolist()[:4] == [0.7, 0.61234, 0.75, 1.0]


def test_places_are_densest_where_they_are_early_and_a_file_has_all_digits_of_each():
    areas = pd.concat([AREAS[:3].assign(step=step) for step in range(1, 10)])
    table = areas_across(areas, "step", 3)
    assert table.shown.headings[1:] == ["step 1", "step 3", "step 9"]
    assert table.plain()["auc"].tolist().count(0.61234) == 3
    fractions = [0.1, 0.2, 0.3, 0.5, 0.75, 1.0]
    areas = pd.concat([AREAS[:3].assign(fraction=fraction) for fraction in fractions])
    assert areas_across(areas, "fraction", 3).shown.headings[1:] == ["fraction 0.1", "fraction 0.3", "fraction 1"]
    assert len(areas_across(areas, "fraction", 6).shown.headings) == 7
    assert set(table.plain()["method"]) == set(AREAS["method"])


def test_the_mean_over_outcomes_stands_beside_the_runs_that_it_is_of():
    areas = pd.DataFrame(
        {
            "method": ["length+task"] * 3,
            "outcome": ["success", "reasoning_failure", MACRO],
            "n_runs": [30, 8, 38],
            "auc": [0.7, 0.8, 0.75],
            "low": [0.6, 0.7, 0.65],
            "high": [0.8, 0.9, 0.85],
        }
    )
    table, runs = macro_areas(areas)
    assert table.shown.rows == [["length + task", "38", "0.75 (0.65–0.85)"]]
    assert runs == "30 success, 8 reasoning failure"


def test_outcomes_stand_side_by_side_and_what_was_answered_in_a_table_of_its_own():
    areas = pd.DataFrame(
        {
            "method": ["length+task"] * 2,
            "outcome": [MACRO, "reasoning_failure"],
            "n_runs": [1038, 8],
            "auc": [0.75, 1.0],
            "low": [0.65, NAN],
            "high": [0.85, NAN],
        }
    )
    headings, rows, _ = areas_by_outcome(areas).shown
    assert headings == ["method", MACRO, "reasoning failure"]
    assert rows == [["length + task", "0.75 (0.65–0.85)", "–"], ["runs", "1,038", "8"]]
    said = pd.DataFrame({"outcome": ["reasoning_failure"], "n_runs": [8], "answered": [0.5], "error": [NAN]})
    assert answered(said).shown.rows == [["reasoning failure", "8", "50 %", "–"]]


def test_false_alarms_stand_beside_what_was_promised():
    rates = pd.DataFrame(
        {
            "unit": ["new group", "all runs"],
            "n": [40, 160],
            "k": [3, 9],
            "rate": [0.083, 0.056],
            "low": [0.02, 0.03],
            "high": [0.2, 0.1],
            "alpha": [0.1, 0.1],
        }
    )
    check = PromiseCheck("not told", 0.083, 0.02, 0.2, 0.1, 0.5, 40, 60)
    assert false_alarm_rates(rates, check).shown.rows == [
        ["a new run of a new group", "40", "8.3 % (2.0–20.0 %)", "10 %"],
        ["all successful runs, pooled", "160", "5.6 % (3.0–10.0 %)", "not promised"],
    ]


def test_what_alarms_catch_and_save_is_said_with_intervals_and_dashes_where_there_is_nothing():
    power = pd.DataFrame(
        {
            "outcome": ["all", "reasoning_failure"],
            "n": [50, 1],
            "k": [20, 0],
            "rate": [0.4, 0.0],
            "low": [0.3, NAN],
            "high": [0.5, NAN],
            "median_alarm_step": [7.5, NAN],
        }
    )
    assert caught(power).shown.rows == [
        ["all", "50", "20", "40 % (30–50 %)", "7.5"],
        ["reasoning failure", "1", "0", "0.0 %", "–"],
    ]
    tokens = pd.DataFrame(
        {"runs": ["alarmed failing"], "n": [20], "median": [0.5], "low": [0.4], "high": [0.6], "mean": [0.512]}
    )
    assert "| alarmed failing | 20 | 50 % (40–60 %) | 51 % |" in markdown(saved(tokens))
