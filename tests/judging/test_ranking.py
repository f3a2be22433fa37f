from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from tests.detection.world import make_frame, random_walks
from trajkit.errors import InputError
from trajkit.judging import auc_by_fraction, auc_by_step, outcome_auc
from trajkit.judging.alarms import false_alarms, false_alarms_by_length, power, tokens_saved
from trajkit.judging.ranking import abstention, plain_scores, select_fractions, select_steps


def test_path_length_tells_walks_of_other_length_at_a_fraction_and_not_at_a_fixed_step() -> None:
    walks = make_frame(random_walks(150, 4))
    scores = {"path length": walks["path_length"].to_numpy()}
    oracle = auc_by_fraction(walks, scores, fractions=[0.5], n_boot=50)
    fixed = auc_by_step(walks, scores, steps=[5], n_boot=50)
    assert oracle["oracle"].all()
    assert oracle["auc"].iloc[0] > 0.85
    assert abs(fixed["auc"].iloc[0] - 0.5) < 0.1


def test_the_number_at_risk_is_of_runs_still_thinking(frame: pd.DataFrame) -> None:
    table = auc_by_step(frame, plain_scores(frame), min_runs=20, n_boot=20).set_index(["method", "step"])
    counts = frame.groupby("step")["transcript_id"].nunique()
    for step in counts[counts >= 20].index:
        assert table.loc[("random", step), "n_runs"] == counts[step]
        failed = frame[(frame["step"] == step) & (frame["outcome"] != "success")]
        assert table.loc[("random", step), "n_failures"] == len(failed)
    assert table.loc[("tortuosity alone", 1), "n_scored"] == 0
    assert np.isnan(table.loc[("tortuosity alone", 1), "auc"])
    assert table.loc["random", "auc"].between(table.loc["random", "low"], table.loc["random", "high"]).all()


def test_runs_of_unknown_outcome_are_left_out_of_the_auc(frame: pd.DataFrame) -> None:
    noise = frame.assign(outcome="unknown", success=None, transcript_id=frame["transcript_id"] + "x")
    both = pd.concat([frame, noise], ignore_index=True)
    one = auc_by_step(frame, {"tokens": frame["n_tokens"]}, steps=[2], n_boot=20)
    two = auc_by_step(both, {"tokens": both["n_tokens"]}, steps=[2], n_boot=20)
    pd.testing.assert_frame_equal(one, two)


def test_a_fraction_reads_the_step_that_had_been_reached(frame: pd.DataFrame) -> None:
    """⌈f·T⌉, at least 1: every run is read exactly once at every fraction, whatever its length."""
    table = auc_by_fraction(frame, {"step": frame["step"]}, fractions=[0.01, 0.3, 1.0], n_boot=5)
    assert (table["n_runs"] == frame["transcript_id"].nunique()).all()
    of_tasks = select_fractions(frame, [0.3], within="task_set")
    assert sum(len(selection.rows) for selection in of_tasks) == frame["transcript_id"].nunique()
    assert [selection.columns for selection in of_tasks] == [
        {"task_set": task, "fraction": 0.3, "oracle": True} for task in ("document", "math")
    ]
    assert select_steps(frame, [2])[0].columns == {"step": 2}


def test_a_raw_attention_baseline_stands_beside_the_others_where_there_is_one(frame: pd.DataFrame) -> None:
    assert "raw attention" not in plain_scores(frame)
    assert "raw attention" in plain_scores(frame.assign(attention_concentration=0.5))
    np.testing.assert_array_equal(plain_scores(frame, 3)["random"], plain_scores(frame, 3)["random"])


def test_scores_of_another_length_are_an_input_error(frame: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="one per row"):
        auc_by_step(frame, {"ours": np.zeros(3)})


def test_the_macro_auc_is_the_mean_over_outcomes() -> None:
    rng = np.random.default_rng(0)
    classes = ["hallucination", "reasoning_failure", "success"]
    outcomes = rng.choice([*classes, "unknown"], 200)
    proba = rng.dirichlet(np.ones(3), 200)
    table = outcome_auc(outcomes, {"m": proba}, classes, np.arange(200), n_boot=20).set_index("outcome")
    known = outcomes != "unknown"
    expected = [roc_auc_score(outcomes[known] == c, proba[known, i]) for i, c in enumerate(classes)]
    np.testing.assert_allclose(table.loc[classes, "auc"], expected)
    assert table.loc["macro", "auc"] == pytest.approx(np.mean(expected))


def test_outcomes_of_several_deals_are_means_and_one_deal_has_the_wider_interval() -> None:
    rng = np.random.default_rng(0)
    classes = ["hallucination", "success"]
    outcomes, groups, folds = rng.choice(classes, 200), np.arange(200) // 2, rng.integers(0, 5, (3, 200))
    proba = rng.dirichlet(np.ones(2), (3, 200)) + 0.3 * (outcomes[:, None] == classes)

    def macro(p, strata, n_folds=None):
        table = outcome_auc(outcomes, {"m": p}, classes, groups, 200, strata=strata, n_folds=n_folds)
        return table.set_index("outcome").loc["macro"]

    alone = [macro(p, f) for p, f in zip(proba, folds, strict=True)]
    assert macro(proba, folds, 5).auc == pytest.approx(np.mean([row.auc for row in alone]))
    one = macro(proba[0], folds[0], 5)
    assert one.high - one.low == pytest.approx(1.5 * (alone[0].high - alone[0].low))


def test_abstention_counts_answers_and_errors_among_them() -> None:
    table = abstention(["success", "success", "hallucination", "unknown"], ["success", "abstain", "success", "success"])
    row = table.set_index("outcome").loc["all"]
    assert (row["n_runs"], row["answered"], row["error"]) == (3, pytest.approx(2 / 3), 0.5)


@pytest.fixture
def watched() -> pd.DataFrame:
    """8 successful runs in 4 groups, 4 failing ones; alarms and savings chosen by hand."""
    return pd.DataFrame(
        {
            "group_id": ["a", "a", "a", "b", "c", "c", "d", "d", "a", "b", "c", "d"],
            "outcome": ["success"] * 8 + ["hallucination"] * 2 + ["reasoning_failure"] * 2,
            "failure": [0.0] * 8 + [1.0] * 4,
            "n_steps": [2, 3, 4, 5, 6, 7, 8, 9, 5, 5, 5, 5],
            "alarmed": [True, True, True, False, False, False, False, False, True, True, False, True],
            "alarm_step": [1, 1, 1, 0, 0, 0, 0, 0, 2, 1, 0, 4],
            "saved": [0.5, 0.5, 0.5, 0, 0, 0, 0, 0, 0.6, 0.8, 0.0, 0.2],
        }
    )


def test_false_alarms_are_those_of_a_new_group_and_of_all_runs(watched: pd.DataFrame) -> None:
    table = false_alarms(watched, alpha=0.1, n_boot=50).set_index("unit")
    shares = 3 / 4 + 1 / 2 + 2 / 3 + 2 / 3  # of each group's runs that succeed
    assert table.loc["new group", "rate"] == pytest.approx(3 / 4 / shares)
    assert table.loc["all runs", "rate"] == 3 / 8
    assert table.loc["all runs", "n"] == 8
    assert (table["alpha"] == 0.1).all()


def test_false_alarms_by_length_cover_every_successful_run(watched: pd.DataFrame) -> None:
    table = false_alarms_by_length(watched, n_bins=2, n_boot=20)
    assert list(table["n"]) == [4, 4]
    assert list(table["from_step"]) == [2, 6]
    assert list(table["rate"]) == [0.75, 0.0]
    assert false_alarms_by_length(watched[watched["failure"] == 1]).empty


def test_power_and_tokens_saved_by_hand(watched: pd.DataFrame) -> None:
    table = power(watched, n_boot=20).set_index("outcome")
    assert list(table["rate"]) == [0.75, 1.0, 0.5]
    assert table.loc["all", "median_alarm_step"] == 2.0
    saved = tokens_saved(watched, n_boot=20).set_index("runs")
    assert saved.loc["alarmed failing", "median"] == 0.6
    assert saved.loc["all failing", "median"] == 0.2
    assert saved.loc["alarmed successful", "n"] == 3


def test_a_monitor_that_never_alarmed_has_tables_all_the_same(watched: pd.DataFrame) -> None:
    silent = watched.assign(alarmed=False, alarm_step=0, saved=0.0)
    assert (false_alarms(silent, 0.1, n_boot=10)["rate"] == 0).all()
    assert (power(silent, n_boot=10)["rate"] == 0).all()
    assert tokens_saved(silent, n_boot=10).set_index("runs").loc["alarmed failing", "n"] == 0


def test_the_interval_of_a_rate_is_honest_where_no_run_or_every_run_was_alarmed(watched: pd.DataFrame) -> None:
    silent, loud = (watched.assign(alarmed=always) for always in (False, True))
    for value, table in ((0, silent), (1, loud)):
        rows = false_alarms(table, 0.1, n_boot=500).set_index("unit")
        new, pooled = rows.loc["new group"], rows.loc["all runs"]
        assert (new["low"], new["high"]) == pytest.approx(proportion_confint(3 * value, 3, 0.05, "beta"))  # of 4 groups
        exact = proportion_confint(4 * value, 4, 0.05, "beta")  # however many runs
        assert (pooled["low"], pooled["high"]) == pytest.approx(exact, abs=1e-3)
    one = false_alarms(watched[watched["group_id"] == "b"], 0.1, n_boot=500).iloc[0]
    assert (one["n"], one["rate"], one["low"]) == (1, 0, 0)
    assert one["high"] > 0.75
    assert power(loud, n_boot=500)["low"].max() < 1
    assert false_alarms_by_length(silent, n_boot=500)["high"].min() > 0


def test_a_median_of_few_groups_has_no_interval(watched: pd.DataFrame) -> None:
    row = tokens_saved(watched, n_boot=50).set_index("runs").loc["all failing"]
    assert np.isnan([row["low"], row["high"]]).all()
    more = watched.assign(group_id=[f"g{i}" for i in range(len(watched))])
    many = pd.concat([more, more.assign(group_id=more["group_id"] + "x")])
    row = tokens_saved(many, n_boot=50).set_index("runs").loc["all failing"]
    assert row["low"] <= row["median"] <= row["high"]
