"""Tables hold numbers; text is made of them at the edge, and nothing is lost on the way to a file."""

from __future__ import annotations

import csv as reader
import io
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajkit.tables import Across, Estimate, Part, Table, joined, words
from trajkit.tables.render import csv, markdown

NAN = math.nan


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Estimate(0.61234, 0.55, 0.671), "0.61 (0.55–0.67)"),
        (Estimate(0.6), "0.60"),
        (Estimate(NAN), "–"),
        (Estimate(NAN, 0.1, 0.2), "–"),
        (Estimate(math.inf), "∞"),
        (Estimate(-0.02, -0.1, 0.05), "−0.02 (−0.10 to 0.05)"),
        (Estimate(-0.001, -0.002, -0.0), "0.00 (0.00 to 0.00)"),
    ],
)
def test_an_estimate_is_said_with_its_interval(found, said):
    assert words.estimate(found) == said


def test_one_digit_more_is_said_where_rounding_would_hide_which_side_of_the_null_an_interval_is_on():
    assert words.auc(Estimate(0.56, 0.503, 0.62)) == "0.560 (0.503–0.620)"
    assert words.auc(Estimate(0.56, 0.50, 0.62)) == "0.56 (0.50–0.62)"
    assert words.auc(Estimate(1.0)) == "–"  # of four runs, say: a bare AUC is not to be read
    assert words.difference(Estimate(0.1, 0.004, 0.2)) == "+0.100 (+0.004 to +0.200)"
    assert words.slope(Estimate(0.8, 0.61, 0.998)) == "0.800 (0.610–0.998)"
    assert words.difference(Estimate(0.1, 0.0004, 0.2)) == "+0.1000 (+0.0004 to +0.2000)"


@given(st.floats(1e-5, 0.4), st.sampled_from([1, -1]), st.sampled_from([words.auc, words.difference, words.fine]))
def test_no_interval_looks_as_if_it_held_a_null_that_it_does_not_hold(away, side, form):
    null = 0.5 if form is words.auc else 0.0
    near, far = null + side * away, null + side * 0.45
    ends = form(Estimate(far, *sorted((near, far)))).replace("−", "-").split("(")[1].strip(")")
    low, high = map(float, ends.split(" to " if " to " in ends else "–"))
    assert (low > null) if side > 0 else (high < null)


@given(st.floats(0, 1))
def test_a_p_value_reads_as_below_the_level_where_it_is(p):
    said = words.p_value(p)
    assert ("<" in said or float(said) < 0.05) == (p < 0.05) or abs(p - 0.05) < 1e-7


@pytest.mark.parametrize(
    ("form", "value", "said"),
    [
        (words.p_value, 0.0004, "< 0.001"),
        (words.p_value, 0.0312, "0.031"),
        (words.p_value, NAN, "–"),
        (words.share, 0.49, "49 %"),
        (words.share, 0.041, "4.1 %"),
        (words.share, 0.0, "0.0 %"),
        (words.share, -0.2, "−20 %"),
        (words.share, -0.053, "−5.3 %"),
        (words.promise, 0.025, "2.5 %"),
        (words.metric, 1234.5, "1,234"),
        (words.metric, 0.012345, "0.0123"),
        (words.metric, 999.7, "1,000"),
        (words.metric, -1234.5, "−1,234"),
        (words.metric, 999.4, "999"),
        (words.p_value, 0.0497, "0.0497"),
        (words.p_value, 0.05, "0.050"),
        (words.p_value, 1.0, "1.000"),
        (words.score, -0.001, "0.00"),
        (words.signed, 0.5, "+0.50"),
        (words.figure, 0.87654, "0.877"),
        (words.figure, 1.0, "1.000"),
        (words.figure, Estimate(9.512, 8, 11), "9.51 (8.00–11.00)"),
        (words.figure, Estimate(0.021, -0.1, 0.2), "0.021 (−0.100 to 0.200)"),
        (words.figure, NAN, "–"),
        (words.fine_difference, Estimate(0.0214, 0.001, 0.04), "+0.021 (+0.001 to +0.040)"),
        (words.fine_difference, Estimate(0.02, 0.0002, 0.04), "+0.0200 (+0.0002 to +0.0400)"),
    ],
)
def test_each_kind_of_number_has_one_way_to_be_said(form, value, said):
    assert form(value) == said


def test_a_score_and_its_threshold_are_told_apart():
    assert words.apart(0.7, 0.6) == ("0.70", "0.60")
    assert words.apart(0.6142, 0.6119) == ("0.614", "0.612")
    assert words.apart(-2.00004, -2.0) == ("−2.00004", "−2.00000")
    assert words.apart(0.5, 0.5) == ("0.50", "0.50")


def test_counts_agree_with_their_noun():
    assert [words.count(n, "run") for n in (0, 1, 12000)] == ["0 runs", "1 run", "12,000 runs"]
    assert words.count(2, "family", "families") == "2 families"
    assert words.shares(Estimate(0.084, 0.063, 0.112)) == "8.4 % (6.3–11.2 %)"
    assert words.shares(Estimate(0.104, 0.063, 0.152)) == "10 % (6–15 %)"
    assert words.shares(Estimate(0.104, 0.063, 0.152), null=0.1) == "10.4 % (6.3–15.2 %)"


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_what_an_interval_says_of_a_null_is_what_it_holds(value, low, high):
    low, high = sorted((low, high))
    said = Estimate(value, low, high).beside(0.5)
    assert said == ("above" if low > 0.5 else "below" if high < 0.5 else "not told from")
    mirrored = -Estimate(value, low, high)
    assert {"above": "below", "below": "above"}.get(said, said) == mirrored.beside(-0.5)


FRAME = pd.DataFrame(
    {
        "metric": ["path_length", "=1+1|x"],
        "auc": [Estimate(0.61234567891, 0.5512345, 0.67), Estimate(NAN)],
        "p": [0.00012345678, NAN],
        "runs": [1200, 3],
        "kept": [True, False],
    }
)


def test_a_file_has_machine_names_and_all_digits():
    rows = list(reader.DictReader(io.StringIO(csv(Table(FRAME, {"metric": "Metric"})))))
    assert list(rows[0]) == ["metric", "auc", "auc_low", "auc_high", "p", "runs", "kept"]
    assert (float(rows[0]["auc"]), float(rows[0]["auc_low"]), float(rows[0]["p"])) == (
        0.61234567891,
        0.5512345,
        0.00012345678,
    )
    assert rows[1]["auc"] == rows[1]["auc_high"] == rows[1]["p"] == ""
    assert rows[1]["metric"] == "'=1+1|x"


def test_people_read_headings_and_formats_and_only_the_columns_that_are_meant_for_them():
    table = Table(FRAME, {"metric": "metric", "auc": "AUC (95 %)", "p": "p", "runs": "runs"}, {"p": words.p_value})
    assert table.shown == (
        ["metric", "AUC (95 %)", "p", "runs"],
        [["path_length", "0.61 (0.55–0.67)", "< 0.001", "1,200"], ["=1+1|x", "–", "–", "3"]],
        [False, True, True, True],
    )
    assert "| =1+1\\|x | – | – | 3 |" in markdown(table)


def test_cells_that_are_no_numbers_are_written_by_their_kind():
    frame = pd.DataFrame({"a": [None, pd.NA, "x\x1b[2Jy", True, np.int64(1234), np.float32(0.5)]}, dtype=object)
    assert [row[0] for row in Table(frame).shown.rows] == ["–", "–", "xy", "yes", "1,234", "0.5"]


def test_a_row_without_an_estimate_has_a_dash_whatever_the_form_of_its_column():
    frame = pd.DataFrame([{"a": Estimate(0.5, 0.25, 0.75), "b": 1}, {"b": 2}])
    assert Table(frame, formats={"a": words.auc}).shown.rows == [["0.50 (0.25–0.75)", "1"], ["–", "2"]]


def test_a_cell_of_fewer_than_could_be_says_of_how_many_it_is():
    frame = pd.DataFrame(
        {
            "method": ["a", "a", "b", "b"],
            "step": [1, 2, 1, 2],
            "auc": [Estimate(0.5), Estimate(0.6), Estimate(NAN), Estimate(0.7)],
            "n": [1200, 5, 0, 1199],
            "of": 1200,
        }
    )
    table = Table(frame, formats={"auc": words.estimate}, across=Across("step", "auc", counts=("n", "of")))
    assert table.shown.headings == ["method", "1", "2"]
    assert table.shown.rows == [["a", "0.50", "0.60 of 5"], ["b", "–", "0.70 of 1,199"]]
    assert table.plain()["n"].tolist() == [1200, 5, 0, 1199]


def test_places_stand_side_by_side_for_people_and_below_each_other_in_a_file():
    frame = pd.DataFrame(
        {
            "method": ["length", "length", "path"],
            "step": [1, 4, 4],
            "auc": [0.5, 0.61234, 0.7],
            "low": [0.4, 0.55, NAN],
            "high": [0.6, 0.67, NAN],
            "n_runs": [30, 20, 20],
        }
    )
    across = Across("step", "auc", "step {}".format, ("runs", lambda rows: words.metric(rows["n_runs"].max())))
    table = Table(joined(frame, "auc"), {"method": "method"}, {"auc": words.auc}, across=across)
    assert table.shown == (
        ["method", "step 1", "step 4"],
        [["length", "0.50 (0.40–0.60)", "0.61 (0.55–0.67)"], ["path", "–", "–"], ["runs", "30", "20"]],
        [False, True, True],
    )
    assert list(table.plain()) == ["method", "step", "auc", "auc_low", "auc_high", "n_runs"]
    assert table.plain()["auc"].tolist() == [0.5, 0.61234, 0.7]


def test_a_part_is_said_with_its_share_and_a_file_has_both_counts():
    table = Table(
        pd.DataFrame({"outcome": ["reasoning_failure", "success"], "n": [Part(84, 470), Part(0, 0)]}),
        names={"outcome": lambda name: name.replace("_", " ")},
    )
    assert table.shown.rows == [["reasoning failure", "84 (18 %)"], ["success", "0"]]
    assert table.shown.numeric == [False, True]
    assert csv(table) == "outcome,n,n_of\nreasoning_failure,84,470\nsuccess,0,0\n"


@pytest.mark.parametrize(
    ("said", "words_of_it"),
    [
        (words.judged(Estimate(1.0)), "1.00, no interval"),
        (words.judged(Estimate(NAN)), "–"),
        (words.judged(Estimate(1.0, 0.4, 1.0)), "1.00 (0.40–1.00)"),
        (words.fine(0.2184), "0.218"),
        (words.fine(Estimate(0.218, 0.2071, 0.229)), "0.218 (0.207–0.229)"),
        (words.fine_difference(Estimate(-0.0004, -0.03, 0.03)), "+0.000 (−0.030 to +0.030)"),
        (words.failing(3120, 1003), "3,120 (1,003)"),
        (words.failing(6, 6), "6 (all)"),
        (words.failing(6, 0), "6 (none)"),
        (words.sentence("this tells"), "This tells"),
    ],
)
def test_what_studies_say_of_numbers(said, words_of_it):
    assert said == words_of_it
