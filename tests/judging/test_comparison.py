"""One comparison of runs: its family, its verdicts, and the numbers that every table of it shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from tests.detection.world import make_runs, make_trace
from tests.traces.bare import without_effects
from trajkit.errors import InputError
from trajkit.judging.comparison import METRICS, Difference, compare_runs, medians
from trajkit.runs.kernel import Wanted
from trajkit.runs.table import run_table
from trajkit.tables import Estimate


@pytest.fixture(scope="module")
def traces():
    return [make_trace(run) for run in make_runs(30)]


@pytest.fixture(scope="module")
def found(traces):
    return compare_runs(run_table(traces))


def difference(**changes) -> Difference:
    numbers = dict.fromkeys(("mean_a", "mean_b", "median_a", "median_b", "p_mannwhitney", "p_group_means"), 0.5)
    given = {"metric": "x", "a": "hallucination", "b": "success", "n_a": 9, "n_b": 8, "left_out": 1}
    p = {"delta": Estimate(0.4, 0.2, 0.6), "delta_tested": 0.3, "p_permutation": 0.001, "p_corrected": 0.01}
    return Difference(**(given | numbers | p | changes))


def test_p_is_corrected_by_holm_over_every_metric_and_pair_that_could_be_tested(found):
    assert len(found.pairs) == 3
    assert found.metrics == METRICS
    assert len(found.differences) == 3 * len(METRICS)
    raw, corrected = (
        np.array([getattr(one, name) for one in found.differences]) for name in ("p_permutation", "p_corrected")
    )
    np.testing.assert_allclose(corrected, multipletests(raw, method="holm")[1])
    assert f"by Holm over {len(raw)} tests: {len(METRICS)} metrics between 3 pairs of outcomes" in found.family


def test_where_nothing_can_be_tested_no_correction_is_spoken_of(found):
    bare = replace(found, differences=tuple(replace(one, p_corrected=np.nan) for one in found.differences))
    assert bare.family.startswith("Nothing could be tested of")
    assert "Holm" not in bare.family


def test_a_table_of_some_metrics_has_the_numbers_of_the_whole_family(found):
    whole, part = found.table().plain(), found.table(["hhi_level", "n_steps"]).plain()
    expected = whole[whole["metric"].isin(["hhi_level", "n_steps"])].reset_index(drop=True)
    assert part.equals(expected)
    assert "Only a part of them is shown here." in found.table(["n_steps"]).note
    assert "Only a part" not in found.table().note
    [a, b] = found.pairs[0]
    assert set(found.table(pair=(a, b)).frame["b"]) == {b}


def test_a_file_has_all_digits_under_machine_names_and_people_read_words(found):
    table, [one, *_] = found.table(), found.differences
    row = table.plain().iloc[0]
    assert (row["metric"], row["a"]) == (one.metric, one.a)
    assert (row["delta"], row["delta_low"], row["delta_high"]) == tuple(one.delta)
    assert (row["p_corrected"], row["delta_tested"]) == (one.p_corrected, one.delta_tested)
    headings, rows, _ = table.shown
    assert headings[-3:] == ["δ tested", "p", "verdict"]
    assert rows[0][:3] == ["thinking steps", "hallucination", "reasoning failure"]
    assert "reasoning_failure" not in str(found)
    assert str(found).splitlines()[0].split() == " ".join(headings).split()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "a higher"),
        ({"delta": Estimate(-0.4, -0.6, -0.2), "delta_tested": -0.3}, "b higher"),
        ({"p_corrected": 0.05}, "not told apart"),
        ({"p_corrected": 0.9, "delta_tested": -0.1}, "not told apart, signs differ"),
        ({"delta_tested": -0.1}, "differ, signs differ"),
        ({"delta": Estimate(0.004, -0.1, 0.1), "delta_tested": -0.3}, "b higher"),  # a δ that is written 0.00
        ({"p_corrected": np.nan, "delta_tested": np.nan}, "not tested"),
    ],
)
def test_the_verdict_says_who_is_higher_only_where_delta_and_what_is_tested_agree(changes, said):
    assert difference(**changes).verdict == said


def test_the_note_says_what_delta_tested_is_and_where_no_interval_or_direction_is_to_be_read(found):
    assert "p is of “δ tested”" in found.table().note
    plain = replace(found, differences=(difference(),))
    assert "Signs differ" not in plain.table().note
    assert "No interval" not in plain.table().note
    turned = replace(found, differences=(difference(delta_tested=-0.1), difference(delta=Estimate(0.4))))
    assert "Signs differ" in turned.table().note
    assert "No interval: a side has runs of under 10 groups" in turned.table().note


TEXT = {"n_steps", "n_tokens", "logprob_mean", "entropy_mean"}


def test_runs_without_effects_count_where_none_are_needed_and_change_no_other_number(traces, found):
    bare = [replace(without_effects(trace), transcript_id=f"x{i}") for i, trace in enumerate(traces[:5])]
    with_them, alone = (one.table().plain() for one in (compare_runs(run_table([*traces, *bare])), found))
    of_text = with_them["metric"].isin(TEXT)
    same = with_them[~of_text].assign(left_out=with_them["left_out"] - 5)
    assert same.drop(columns="p_corrected").equals(alone[~of_text].drop(columns="p_corrected"))
    counted = with_them[of_text & (with_them["metric"] == "n_steps")]
    before = alone[alone["metric"] == "n_steps"]
    assert (counted["n_a"] + counted["n_b"]).sum() > (before["n_a"] + before["n_b"]).sum()
    assert (counted["left_out"] == before["left_out"]).all()


def test_runs_that_all_lack_effects_are_compared_by_what_their_text_tells(traces, found):
    bare = run_table([without_effects(trace) for trace in traces])
    compared, alone = compare_runs(bare).table().plain(), found.table().plain()
    assert set(compared["metric"]) == TEXT
    numbers = ["n_a", "n_b", "delta", "p_permutation", "median_a"]
    assert compared[numbers].equals(alone[alone["metric"].isin(TEXT)][numbers].reset_index(drop=True))
    assert set(medians(bare.table).frame["metric"]) == {"runs", "groups", *TEXT}


def test_runs_of_unknown_outcome_are_counted_as_left_out_and_change_nothing_else(traces, found):
    unknown = [replace(traces[i], transcript_id=f"x{i}", success=None, outcome="unknown") for i in range(5)]
    with_them = compare_runs(run_table([*traces, *unknown])).table().plain()
    expected = found.table().plain()
    assert with_them.equals(expected.assign(left_out=expected["left_out"] + 5))


def test_fewer_than_two_outcomes_no_metric_that_varies_and_unread_metrics_are_refused(traces):
    right = [trace for trace in traces if trace.success]
    with pytest.raises(InputError, match="Fewer than two known outcomes"):
        compare_runs(run_table(right))
    with pytest.raises(InputError, match="read with metrics and prefix features"):
        compare_runs(run_table(traces, Wanted(metrics=False)))


def test_medians_are_of_all_runs_of_an_outcome_in_the_order_of_the_page(traces):
    runs = run_table(traces).table
    table = medians(runs)
    headings, rows, _ = table.shown
    assert headings[1:] == ["success", "hallucination", "reasoning failure"]
    assert [row[0] for row in rows[:3]] == ["runs", "groups", "thinking steps"]
    plain = table.plain().set_index(["metric", "outcome"])["value"]
    assert plain["path_length", "success"] == runs["path_length"][runs["outcome"] == "success"].median()
    assert plain["runs", "success"] == (runs["outcome"] == "success").sum()
