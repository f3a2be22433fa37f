"""Labels of sentences: in a file, in the runs themselves, and what of them is refused."""

from __future__ import annotations

import pytest

from tests.traces.factory import make_trace
from trajkit.errors import InputError
from trajkit.traces.step_labels import check_known, labels_of, read_step_labels


def test_they_are_read_from_json_lines_and_from_tables(tmp_path):
    (tmp_path / "l.jsonl").write_text(
        '{"transcript_id": "a", "step": 3, "label": "false"}\n\n{"transcript_id": "a", "step": 1, "label": ""}\n'
        '{"transcript_id": "b", "step": 1, "label": "lost", "by": "me"}\n'
    )
    (tmp_path / "l.csv").write_text("step,label,transcript_id\n3,false,a\n1,,a\n1,lost,b\n")
    (tmp_path / "l.tsv").write_text("transcript_id\tstep\tlabel\na\t3\tfalse\na\t1\t\nb\t1\tlost\n")
    for name in ("l.jsonl", "l.csv", "l.tsv"):
        assert read_step_labels(tmp_path / name) == {"a": ["", None, "false"], "b": ["lost"]}


def test_a_label_that_cannot_be_told_is_null(tmp_path):
    (tmp_path / "l.jsonl").write_text('{"transcript_id": "a", "step": 2, "label": null}\n')
    assert read_step_labels(tmp_path / "l.jsonl") == {"a": [None, None]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.jsonl", '{"transcript_id": "a", "step": 0, "label": ""}', "line 1: step must be a whole number from 1 on"),
        ("l.jsonl", '{"transcript_id": "a", "step": true, "label": ""}', "step must be a whole number.*got True"),
        ("l.jsonl", '{"transcript_id": "a", "step": 1.5, "label": ""}', "step must be a whole number"),
        ("l.jsonl", '{"transcript_id": "a", "step": 10000000, "label": ""}', "step must be a whole number"),
        ("l.jsonl", '{"transcript_id": "a", "label": ""}', "step must be a whole number.*got None"),
        ("l.jsonl", '{"transcript_id": "a", "step": 1, "label": "wrong"}', "'false', 'lost' or ''.*got 'wrong'"),
        ("l.jsonl", '{"transcript_id": "a", "step": 1, "label": ["false"]}', "label must be"),
        ("l.jsonl", '{"transcript_id": "a", "step": 1}', "got 'none'"),
        ("l.jsonl", '{"transcript_id": "a", "step": 1, "label": ""}\n' * 2, "line 2: step 1 of run 'a' has a label"),
        ("l.jsonl", "\n", "holds no label"),
        ("l.csv", "transcript_id,step\na,1\n", "has no column label; got 'transcript_id', 'step'"),
        (
            "l.csv",
            "transcript_id,step,label\na,one,false\n",
            "line 2: step must be a whole number from 1 on, got 'one'",
        ),
    ],
)
def test_a_file_of_something_else_is_said(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_step_labels(tmp_path / name)


def test_those_of_a_run_are_in_its_meta_and_those_told_beside_it_go_before():
    run = make_trace(1, meta={"step_labels": ["", "false", None]})  # three thinking steps
    assert labels_of(run) == ["", "false", None]
    assert labels_of(run, {run.transcript_id: ["lost"]}) == ["lost", None, None]
    assert labels_of(run, {"other": ["lost"]}) == [None, None, None]
    assert labels_of(make_trace(1)) == [None, None, None]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["", "", "", "false"], "go to step 4, and it has 3 thinking steps"),
        (["wrong"], "must each be 'false', 'lost' or ''.*got 'wrong'"),
        ([1], "must each be.*got 1"),
        ("false", "must be a list, an entry a thinking step; got str"),
        ({"1": "false"}, "must be a list.*got dict"),
    ],
)
def test_labels_that_do_not_fit_the_run_are_refused_by_its_name(labels, message):
    run = make_trace(1)
    with pytest.raises(InputError, match=f"the labels of run 'run-0001' {message}"):
        labels_of(run, {"run-0001": labels})
    with pytest.raises(InputError, match=f"the step_labels of run 'run-0001' {message}"):
        labels_of(make_trace(1, meta={"step_labels": labels}))


def test_labels_of_no_run_are_refused():
    check_known({"a": [""]}, {"a", "b"})
    with pytest.raises(InputError, match="run 'x' and of 1 more, and no such run"):
        check_known({"a": [""], "y": [""], "x": [""]}, {"a", "b"})
