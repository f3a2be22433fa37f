"""The form of a question: its kind, or nothing."""

from __future__ import annotations

import pandas as pd
import pytest

from trajkit.runs.features import features
from trajkit.traces.forms import form_of, task_label, task_labels

from .factory import make_trace


@pytest.mark.parametrize(
    ("meta", "form"),
    [
        ({"kind": "sum"}, "sum"),
        ({"kind": ""}, ""),
        ({}, ""),
        ({"kind": 7}, ""),
        ({"kind": ["x"]}, ""),
        ({"kind": None}, ""),
    ],
)
def test_a_form_is_a_kind_that_is_a_text_else_nothing(meta: dict[str, object], form: str) -> None:
    assert form_of(meta) == form


def test_every_step_of_a_run_has_its_form_which_is_the_same_whatever_other_runs_are_in_the_file() -> None:
    runs = [make_trace(0, meta={"kind": "count"}), make_trace(1, task_id="own"), make_trace(5), make_trace(9)]
    together = features(runs).groupby("transcript_id")["form"].unique().map(list).tolist()
    assert together == [["count"], [""], [""], [""]]
    assert [features([run])["form"].unique().tolist() for run in runs] == together


def test_family_and_form_are_one_label_and_what_is_not_known_is_left_out() -> None:
    assert [task_label("math", "sum"), task_label("math"), task_label("", "sum"), task_label("")] == [
        "math · sum",
        "math",
        "sum",
        "",
    ]
    frame = pd.DataFrame({"task_set": ["math", ""], "form": ["sum", "sum"]})
    assert task_labels(frame).tolist() == ["math · sum", "sum"]
    assert task_labels(frame[["task_set"]]).tolist() == ["math", ""]
    assert task_labels(pd.DataFrame({"x": [1, 2]})).tolist() == ["", ""]
