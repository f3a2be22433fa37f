"""The form of a question: its kind, or a task that several groups share, or nothing."""

from __future__ import annotations

import pandas as pd
import pytest

from trajkit.runs.features import features
from trajkit.traces.forms import forms, task_label, task_labels

from .factory import make_trace


@pytest.mark.parametrize(("kinds", "tasks", "groups", "expected"), [
    (["sum", "sum"], ["a", "b"], ["1", "2"], ["sum", "sum"]),
    ([None, None, None], ["a", "a", "b"], ["1", "2", "3"], ["a", "a", ""]),
    ([None, None], ["a", "a"], ["1", "1"], ["", ""]),
    ([None, "", 7, ["x"]], ["", "a", "b", "c"], ["1", "2", "3", "4"], ["", "", "", ""]),
    (["sum", None], ["a", "a"], ["1", "2"], ["sum", "a"]),
    ([], [], [], []),
])  # fmt: skip
def test_a_form_is_a_kind_else_a_task_of_several_groups_else_nothing(kinds, tasks, groups, expected) -> None:
    assert forms(kinds, tasks, groups) == expected


def test_every_step_of_a_run_has_its_form() -> None:
    runs = [make_trace(0, meta={"kind": "count"}), make_trace(1, task_id="own"), make_trace(5), make_trace(9)]
    assert features(runs).groupby("transcript_id")["form"].unique().map(list).tolist() == [
        ["count"],
        [""],
        ["t1"],
        ["t1"],
    ]


def test_family_and_form_are_one_label_and_what_is_not_known_is_left_out() -> None:
    assert [task_label("math", "sum"), task_label("math"), task_label("", "sum"), task_label("")] == [
        "math · sum", "math", "sum", "",
    ]  # fmt: skip
    frame = pd.DataFrame({"task_set": ["math", ""], "form": ["sum", "sum"]})
    assert task_labels(frame).tolist() == ["math · sum", "sum"]
    assert task_labels(frame[["task_set"]]).tolist() == ["math", ""]
    assert task_labels(pd.DataFrame({"x": [1, 2]})).tolist() == ["", ""]
