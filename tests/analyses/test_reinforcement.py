"""Two checkpoints on the same questions: what is said of each, and of their difference."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analyses import reinforcement as page
from trajkit.demo import paths
from trajkit.demo.questions import FAMILIES


@pytest.fixture
def written(tmp_path, capsys):
    def write(*arguments: str) -> str:
        path = tmp_path / "report.md"
        page.main([*arguments, "--out", str(path)])
        assert capsys.readouterr().out.strip() == path.read_text(encoding="utf-8").strip()
        return path.read_text(encoding="utf-8")

    return write


def lines(text: str, start: str) -> list[list[str]]:
    """The rows of all tables that begin with `start`."""
    return [
        [cell.strip() for cell in row.strip("| ").split(" | ")] for row in text.splitlines() if row.startswith(start)
    ]


def test_a_model_beside_itself_differs_in_nothing(written):
    model = str(paths.MODEL)
    text = written("--before", model, "--after", model, "--questions", "10", "--boot", "20")
    assert f"--before {model} --after {model} --questions 10 --boot 20`" in text
    rows = [row for name in ("all", *FAMILIES) for row in lines(text, f"| {name} |")]
    assert len(rows) == 5 * 6
    assert [row[1] for row in lines(text, "| all |")] == ["10", "20", "20", "20", "20"]
    for row in [*rows, *(lines(text, f"| {name} ")[0] for name in page.KNOWING)]:
        assert row[-3] == row[-2]
        assert row[-1] in ("+0.000", "+0.00", "0.000", "0.00", "–")
    before, after = ([row[1:] for row in lines(text, f"| {when} |")] for when in ("before", "after"))
    assert before == after
    assert 15 <= sum(int(row[0]) for row in before) <= 20  # of the runs that answered


def test_what_training_told_of_its_updates_stands_first(written, tmp_path):
    updates = [
        {"number": n, "reward": n / 10, "disagree": 0.5, "length": 50.0, "entropy": 0.1, "kl": None if n < 3 else 0.01}
        for n in range(1, 11)
    ]
    file = tmp_path / "updates.jsonl"
    pd.DataFrame(updates).to_json(file, orient="records", lines=True)
    (first, *_, last) = page.course(file).shown.rows
    assert first[:2] == ["1 to 2", "0.150"]
    assert last[:2] == ["9 to 10", "0.950"]
    assert (first[-1], last[-1]) == ("–", "0.010")


def runs(right, sure, logprob=None):
    n = len(right)
    return pd.DataFrame(
        {"group_id": [f"q{i // 2:02d}" for i in range(n)], "repeat": [0, 1] * (n // 2), "family": "math"}
        | {"right": np.array(right, float), "sure": sure, "logprob": sure if logprob is None else logprob}
    )


@pytest.fixture
def two():
    """Before: answers as sure as they are right. After: all of them sure, and more of them right."""
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.05, 0.95, 400)
    drawn = rng.random(400)
    return runs(drawn < chance, chance), runs(drawn < chance + 0.15, np.full(400, 0.99), rng.random(400))


def test_differences_are_of_the_same_questions(two):
    before, after = two
    found = page.compared(before, after, page.mean("right"), 500)
    gain = after["right"].mean() - before["right"].mean()
    assert found["difference"].value == pytest.approx(gain)
    assert found["difference"].beside(0.0) == "above"
    wide = found["before"].high - found["before"].low
    assert found["difference"].high - found["difference"].low < 0.8 * wide  # apart, it would be wider than either
    with pytest.raises(ValueError, match="the same questions"):
        page.compared(before, after.iloc[::-1], page.mean("right"), 10)


def test_a_model_that_is_always_sure_no_longer_knows(two):
    table = page.knowing(*two, n_boot=300).frame.set_index("figure")
    auc, gap = table.loc["AUC of the answer's probability"], table.loc["too sure"]
    assert auc["before"].value > 0.75
    assert auc["after"].value == 0.5
    assert auc["difference"].beside(0.0) == "below"
    assert gap["before"].beside(0.0) == "not told from"
    assert gap["after"].value == pytest.approx(0.99 - two[1]["right"].mean())
    sure = table.loc["sure (90 % or more), of all"]
    assert sure["before"].value == pytest.approx((two[0]["sure"] >= 0.9).mean())
    wrong = table.loc["wrong, of the sure"]
    assert wrong["after"].value == pytest.approx(1 - two[1]["right"].mean())


def test_answers_that_are_missing_are_left_out_of_what_is_said_of_answers(two):
    before, after = two
    some = before.assign(sure=before["sure"].where(before.index >= 100))
    table = page.reliability(some, after, n_boot=50).frame
    assert table[table["model"] == "before"]["runs"].sum() == 300
    told = page.knowing(some, after, n_boot=20).frame.set_index("figure")
    rest = before.iloc[100:]
    assert told.loc["too sure", "before"].value == pytest.approx((rest["sure"] - rest["right"]).mean())


def test_bins_hold_the_share_that_was_right(two):
    table = page.reliability(*two, n_boot=200).frame
    before = table[table["model"] == "before"]
    assert len(before) == 8
    assert before["probability"].is_monotonic_increasing
    inside = [row.right.low <= row.probability <= row.right.high for row in before.itertuples()]
    assert sum(inside) >= 7
    after = table[table["model"] == "after"]
    assert len(after) == 1  # one probability, one bin
    assert after["right"].iloc[0].high < after["probability"].iloc[0]
