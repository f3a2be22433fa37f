from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajkit.detection import group_folds, split_by_group
from trajkit.detection.splits import failures
from trajkit.errors import InputError


def _runs(outcomes: list[tuple[int, bool]]) -> pd.DataFrame:
    """(group, failed) pairs → a frame."""
    names = ["hallucination" if failed else "success" for _, failed in outcomes]
    return pd.DataFrame({"group_id": [f"g{group}" for group, _ in outcomes], "outcome": names})


@settings(max_examples=60, deadline=None)
@given(
    outcomes=st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=150), seed=st.integers(0, 5)
)
def test_no_group_is_ever_on_two_sides(outcomes: list[tuple[int, bool]], seed: int) -> None:
    frame = _runs(outcomes)
    try:
        split = split_by_group(frame, seed=seed)
    except InputError:
        return
    parts = [set(split.fit), set(split.calibration), set(split.test)]
    assert sum(len(part) for part in parts) == len(set.union(*parts)) == frame["group_id"].nunique()
    for name in ("fit", "test"):
        assert set(failures(split.rows(frame, name))) == {0.0, 1.0}


def test_every_part_gets_its_share_of_tasks_and_of_failures() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(200), 4)
    frame = _runs([(g, bool(g % 3 == 0 or rng.random() < 0.05)) for g in group]).assign(
        task_set=np.where(group % 2 == 0, "math", "code")
    )
    split = split_by_group(frame, (0.5, 0.25, 0.25), seed=3)
    assert [len(split.fit), len(split.calibration), len(split.test)] == [100, 50, 50]
    for part in ("fit", "calibration", "test"):
        rows = split.rows(frame, part)
        assert abs(failures(rows).mean() - failures(frame).mean()) < 0.04
        assert abs((rows["task_set"] == "math").mean() - 0.5) < 0.04


def test_a_stratum_of_eight_groups_gives_four_two_and_two() -> None:
    group = np.arange(80)
    frame = _runs([(g, bool(g % 2)) for g in group]).assign(task_set=[f"task-{g // 16}" for g in group])
    split = split_by_group(frame, seed=1)
    for part, expected in [("fit", 4), ("calibration", 2), ("test", 2)]:
        counts = split.rows(frame, part).groupby(["task_set", "outcome"]).size()
        assert counts.tolist() == [expected] * 10


def test_forms_of_one_family_are_dealt_apart() -> None:
    group = np.arange(80)
    frame = _runs([(g, bool(g % 2)) for g in group]).assign(task_set="math", form=[f"form-{g // 16}" for g in group])
    split = split_by_group(frame, seed=1)
    for part, expected in [("fit", 4), ("calibration", 2), ("test", 2)]:
        assert split.rows(frame, part).groupby(["form", "outcome"]).size().tolist() == [expected] * 10


def test_a_split_is_the_same_for_a_seed_and_another_for_another() -> None:
    frame = _runs([(g, g % 2 == 0) for g in range(40)])
    shuffled = frame.sample(frac=1, random_state=1)
    assert split_by_group(frame, seed=1) == split_by_group(shuffled, seed=1)
    assert split_by_group(frame, seed=1) != split_by_group(frame, seed=2)


@pytest.mark.parametrize(
    "outcomes", [[(0, True), (1, False)], [(g, False) for g in range(40)], [(g, True) for g in range(40)]]
)
def test_a_part_that_would_be_empty_or_of_one_class_is_an_input_error(outcomes: list[tuple[int, bool]]) -> None:
    with pytest.raises(InputError, match="part of the split has"):
        split_by_group(_runs(outcomes))


def test_fractions_must_be_three_that_sum_to_one() -> None:
    for fractions in [(0.5, 0.5), (0.5, 0.5, 0.5), (1.0, 0.0, 0.0)]:
        with pytest.raises(InputError, match="fractions"):
            split_by_group(_runs([(0, True)]), fractions)


def test_success_decides_failure_and_outcome_fills_in_where_it_is_unknown() -> None:
    frame = pd.DataFrame(
        {
            "success": [True, False, None, None, None],
            "outcome": ["success", "unknown", "hallucination", "success", "unknown"],
        }
    )
    np.testing.assert_array_equal(failures(frame), [0, 1, 1, 0, np.nan])
    np.testing.assert_array_equal(failures(frame.astype({"success": "boolean"})), [0, 1, 1, 0, np.nan])


def test_folds_hold_groups_together_and_every_class_in_training() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 3)
    y = rng.choice(["a", "b", "c"], len(groups), p=[0.6, 0.3, 0.1])
    folds = group_folds(y, groups, 5, seed=0)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(y)))
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
        assert set(y[train]) == {"a", "b", "c"}


def test_too_few_groups_of_a_class_make_fewer_folds_or_an_input_error() -> None:
    y = np.array(["a"] * 20 + ["b"] * 2)
    assert len(group_folds(y, np.arange(22), 5)) == 2
    with pytest.raises(InputError, match="two groups"):
        group_folds(y, np.append(np.arange(20), [50, 50]), 5)
    with pytest.raises(InputError, match="two classes"):
        group_folds(np.array(["a"] * 4), np.arange(4), 2)


def test_wrong_runs_of_unknown_kind_are_compared_where_no_kind_is_known():
    import pandas as pd

    from trajkit.detection.splits import compared_outcomes

    judged = pd.DataFrame({"outcome": ["success", "unknown", "unknown"], "success": [True, False, None]})
    assert compared_outcomes(judged)["outcome"].tolist() == ["success", "failure"]
    labelled = pd.DataFrame({"outcome": ["success", "unknown", "hallucination"], "success": [True, False, False]})
    assert compared_outcomes(labelled)["outcome"].tolist() == ["success", "hallucination"]
