"""The ceiling: what judges who know the scene make of runs whose every mistake is known."""

from __future__ import annotations

import numpy as np
import pytest

from analyses import ceiling
from pipelines.demo.writer import write_reasoning
from trajkit.demo.grid import GRID
from trajkit.demo.items import demo_items, judge_by_scene, scene_of
from trajkit.demo.knowing import KNOWN, known_frame
from trajkit.demo.questions import parse_question
from trajkit.traces.trace import Step, Trace


def written_runs(n):
    """Runs of written reasoning, half of them with slips, judged as a model's would be."""
    for i, item in enumerate(demo_items("validation", n, 1)):
        scene, question = scene_of(item.meta["cells"]), parse_question(item.question)
        hardness = np.full((GRID, GRID), 0.0 if i % 2 else 1.0)
        written = write_reasoning(question, scene, hardness, np.random.default_rng(i), float(i % 2 == 0))
        judged = judge_by_scene(item, written.sentences, written.answer)
        steps = tuple(Step(text, "thinking", j, j + 1, None, None) for j, text in enumerate(written.sentences))
        effects, regions = np.zeros((len(steps), 0), np.float32), np.zeros((1, 1), np.uint8)
        meta = {**item.meta, **judged.facts}
        yield Trace(
            item.id, "", item.question, steps, effects, None, regions, item.group_id,
            task_set=item.task_set, success=judged.success, outcome=judged.outcome, meta=meta,
        )  # fmt: skip


@pytest.fixture(scope="module")
def frame():
    return known_frame(list(written_runs(300)))


def test_a_row_a_run_and_sentence(frame):
    last = frame.groupby("transcript_id").last()
    assert len(last) == 300
    assert 0.05 < last["failure"].mean() < 0.6
    assert set(KNOWN) <= set(frame)
    assert (last["cause_past"] == last["failure"]).all()  # a written failure always has its cause in a sentence
    assert not frame.loc[~frame["failure"], "cause_past"].any()
    assert (last["off_course"] == last["failure"]).all()


def test_who_knows_more_tells_more_and_the_later_the_better(frame):
    rows = {step: ceiling._at(frame, step, 100) for step in (2, 12)}
    early, late = ({name: rows[step][name].value for name in ceiling.JUDGES} for step in rows)
    assert late["cause"] > early["cause"] > 0.5
    assert late["sentences"] > late["scene alone"]
    assert rows[2]["cause"].low < early["cause"] < rows[2]["cause"].high
    assert rows[2]["runs"] == 300 >= rows[12]["runs"]


def test_a_sentence_that_no_run_comes_to_has_no_row(frame):
    assert ceiling._at(frame, 500, 10) == {}


def test_a_failure_alone_among_successes_has_no_row(frame):
    """A fold without it would have nothing to learn from."""
    one = frame.loc[frame["failure"], "transcript_id"].iloc[0]
    assert ceiling._at(frame[~frame["failure"] | (frame["transcript_id"] == one)], 2, 10) == {}


def test_who_sees_the_sentences_knows_how_hard_the_picture_is_too(frame):
    """Where difficulty decides and no sentence has said anything, both judges tell all."""
    blank = frame.assign(failure=frame["difficulty"] > 0.5, **dict.fromkeys(KNOWN, 0.0))
    row = ceiling._at(blank, 1, 10)
    assert row["sentences"].value == pytest.approx(row["scene alone"].value)
    assert row["scene alone"].value > 0.95


def test_within_a_form_the_form_tells_nothing(frame):
    """Where the form alone decides, pairs of one form are told by nobody, and there are none where it decides all."""
    forms = frame["kind"].unique()
    blank = dict.fromkeys(("difficulty", *KNOWN), 0.0)
    easy = frame.assign(failure=frame["kind"].isin(forms[: len(forms) // 2]), **blank)
    assert ceiling._at(easy, 2, 10)["sentences"].value > 0.95
    assert ceiling._at(easy, 2, 10, within="kind") == {}
    flipped = easy["group_id"].isin(easy["group_id"].unique()[::7])
    row = ceiling._at(easy.assign(failure=easy["failure"] ^ flipped), 2, 10, within="kind")
    assert row["sentences"].value == 0.5


def test_the_page_says_whether_the_world_is_one_in_which_monitors_can_be_judged(tmp_path, frame, capsys):
    ceiling.report(tmp_path / "ceiling.md", "python -m analyses.ceiling", frame, frame[~frame["failure"]], 50)
    text = (tmp_path / "ceiling.md").read_text()
    assert "At sentence 4 " in text
    assert "| general | trail_end |" in text
    assert "Within form" in text
    assert "| all | " in text.split("Greedy answers")[1]
    assert (tmp_path / "ceiling.svg").exists()
