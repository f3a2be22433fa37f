"""Monitors of somebody else's scores: one rule, one promise, in the score's own unit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trajkit.demo import paths
from trajkit.detection import Monitor, max_score_threshold
from trajkit.errors import InputError
from trajkit.judging.alarms import replay


def table(n_groups: int = 60, seed: int = 0) -> pd.DataFrame:
    """A judge's scores of 1 to 6 steps a run, three runs a scene, about 10 and with no bounds."""
    rng = np.random.default_rng(seed)
    rows = []
    for group in range(n_groups):
        for repeat in range(3):
            ok = bool(rng.random() < 0.6)
            for step in range(1, int(rng.integers(2, 8))):
                score = 10 + rng.normal() + 2 * (not ok)
                rows.append({"id": f"{group}-{repeat}", "scene": f"s{group}", "ok": ok, "at": step, "judge": score})
    return pd.DataFrame(rows)


def monitor_of(frame: pd.DataFrame, **options: object) -> Monitor:
    names = {"score": "judge", "group": "scene", "success": "ok", "run": "id"}
    return Monitor.of_scores(frame, **(names | options))  # type: ignore[arg-type]


def test_the_threshold_is_that_of_the_maxima_of_one_run_a_group_that_succeeded() -> None:
    frame = table()
    one = frame[frame["id"].str.endswith("-1")]
    monitor = monitor_of(one)
    good = one[one["ok"]].groupby("id")["judge"].max()
    assert (monitor.n, monitor.threshold) == (len(good), max_score_threshold(good.to_numpy(), 0.1))
    assert f"the score first exceeds {monitor.threshold:.3g}: at most 10 % of successful runs" in monitor.message


def test_an_alarm_comes_at_the_first_score_beyond_the_threshold_and_once() -> None:
    monitor = monitor_of(table())
    run = monitor.start()
    assert not run.verdict.alarmed
    assert run.verdict.to_dict()["risk"] is None
    over = monitor.threshold + 1
    verdicts = [run.update_score(score) for score in (-50.0, monitor.threshold, over, over + 1, 0.0)]
    assert [verdict.alarm for verdict in verdicts] == [False, False, True, False, False]
    assert [verdict.alarmed for verdict in verdicts] == [False, False, True, True, True]
    assert [verdict.max_risk for verdict in verdicts] == [-50.0, monitor.threshold, over, over + 1, over + 1]


@pytest.mark.parametrize("watches", ["failure", "success"])
def test_a_score_that_is_better_when_high_is_watched_the_other_way_round(watches: str) -> None:
    frame = table()
    worse = monitor_of(frame, watches=watches)
    better = monitor_of(frame.assign(judge=-frame["judge"]), higher="better", watches=watches)
    assert better.threshold == worse.threshold
    for score in (8.0, 11.0, 15.0):
        assert better.start().update_score(-score) == worse.start().update_score(score)
    direction = "falls below" if watches == "failure" else "exceeds"
    assert f"the score first {direction}" in better.message


def test_a_monitor_of_success_is_calibrated_on_runs_that_failed_and_says_so() -> None:
    frame = table()
    one = frame[frame["id"].str.endswith("-2")]
    monitor = monitor_of(one, watches="success")
    bad = one[~one["ok"]].groupby("id")["judge"].min()  # a high score is worse: success is a low one
    assert (monitor.n, monitor.threshold) == (len(bad), max_score_threshold(-bad.to_numpy(), 0.1))
    assert monitor.start().update_score(-100.0).alarm
    assert not monitor.start().update_score(100.0).alarm
    assert "Says that it is enough when the score first falls below" in monitor.message
    assert "at most 10 % of failing runs" in monitor.message


def test_rows_may_be_runs() -> None:
    last = table().groupby("id").tail(1)
    assert monitor_of(last, run=None).n > 20


def test_runs_whose_success_is_not_known_are_drawn_and_left_out() -> None:
    frame = table()
    unknown = frame.assign(ok=frame["ok"].astype(object).where(frame["scene"] != "s0", None))
    ok = frame.groupby("scene")["ok"].first()
    one = unknown[unknown["id"].str.endswith("-0")]
    assert monitor_of(one).n == int(ok[[f"s{i}" for i in range(1, 60)]].sum())


@pytest.mark.parametrize(
    ("options", "wrong", "message"),
    [
        (
            {"score": "nothing"},
            {},
            "no column 'nothing' for 'score'; it has id, scene, ok, at, judge. Name it: score=…",
        ),
        ({"run": "trace"}, {}, "Name it: run=…, or run=None where each row is a run"),
        ({}, {"judge": np.nan}, r"'judge' must hold finite numbers; \d+ of \d+ are not"),
        ({}, {"judge": "high"}, "'judge' must hold finite numbers.*the first high"),
        ({}, {"ok": lambda rows: np.arange(len(rows)) % 2 == 0}, "'ok' must say the same in all rows of a run"),
        ({}, {"scene": lambda rows: np.arange(len(rows))}, "'scene' must say the same in all rows of a run"),
        ({}, {"scene": None}, "'scene' must name the image or question in every row"),
        ({}, {"ok": "yes"}, "whether it succeeded.*found 'yes'"),
        ({"higher": "up"}, {}, "'higher' parameter of Monitor must be 'worse' or 'better'. Got 'up'"),
        ({"watches": "all"}, {}, "'watches' parameter of Monitor must be 'failure' or 'success'"),
    ],
)
def test_what_is_no_table_of_scores_is_an_input_error(options: dict, wrong: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        monitor_of(table(12).assign(**wrong), **options)


def test_a_table_is_a_data_frame() -> None:
    with pytest.raises(InputError, match="must be a pandas DataFrame; got dict"):
        monitor_of(table(12).to_dict("list"))  # type: ignore[arg-type]


def test_each_kind_of_monitor_takes_its_own_kind_of_step() -> None:
    run = monitor_of(table()).start()
    with pytest.raises(InputError, match="finite number; got nan"):
        run.update_score(float("nan"))
    with pytest.raises(InputError, match=r"finite number; got '0\.3'"):
        run.update_score("0.3")  # type: ignore[arg-type]
    step = type("Step", (), {"kind": "thinking", "effects": np.ones(3)})()
    with pytest.raises(InputError, match=r"update_score\(score\)"):
        run.update(step)
    with pytest.raises(InputError, match="cannot judge the steps of a model by itself"):
        monitor_of(table()).check("demo")


def test_it_survives_its_file_which_must_be_as_it_was_written(tmp_path: Path) -> None:
    monitor = monitor_of(table(), higher="better", watches="success", delta=0.2, alpha=0.2)
    path = monitor.save(tmp_path)
    again = Monitor.load(tmp_path)
    assert again.to_state() == monitor.to_state()
    assert again.start().update_score(7.0) == monitor.start().update_score(7.0)
    record = json.loads(path.read_text())
    record["monitor"]["threshold"] += 1
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="not what was written"):
        Monitor.load(tmp_path)
    with pytest.raises(InputError, match=r"expected monitor\.json, as Monitor\.save writes it\.$"):
        Monitor.load(tmp_path / "none")
    with pytest.raises(InputError, match=r"load_detectors\(folder\)\.monitor"):
        Monitor.load(paths.DETECTORS)


def test_a_replay_takes_no_order_of_its_runs_for_drift() -> None:
    """Saved runs may stand in any order, as by how they went."""
    from trajkit.detection.score_table import score_frame

    monitor, new = monitor_of(table(200)), table(200, seed=1)
    most = new.groupby("id")["judge"].transform("max")
    in_order = new.assign(most=most).sort_values(["most", "id", "at"], ignore_index=True)
    assert not replay(monitor, score_frame(in_order, "judge", "scene", "ok", "id", "at"), 50).drift.warned


def test_a_replay_of_new_scores_is_held_against_the_promise() -> None:
    from trajkit.detection.score_table import score_frame

    monitor = monitor_of(table(200))
    new, worse = table(200, seed=1), table(200, seed=2)
    worse["judge"] += 1.5
    found = [replay(monitor, score_frame(one, "judge", "scene", "ok", "id", "at"), 50) for one in (new, worse)]
    assert [one.check.kept == "broken" for one in found] == [False, True]
    assert [one.drift.warned for one in found] == [False, True]
    for name, rows in worse.groupby("id"):
        row = found[1].runs.set_index("transcript_id").loc[name]
        run = monitor.start()
        at = [run.update_score(score).alarm for score in rows["judge"]]
        assert row["alarm_step"] == (at.index(True) + 1 if True in at else 0)
