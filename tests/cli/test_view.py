"""`trajkit view`: a real process, asked over its port; and labels, which every command that reads runs takes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import pytest

from trajkit.traces.labels import set_label
from trajkit.traces.store import read_traces, write_traces


@contextmanager
def viewing(*arguments):
    """(address as printed, process) of `trajkit view ARGUMENTS` on a free port."""
    command = [sys.executable, "-m", "trajkit", "view", *map(str, arguments), "--port", "0"]
    environment = os.environ | {"TRAJKIT_TOKEN": ""}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"at (http://\S+) ", line):
                yield found[1], process, said
                break
        else:
            pytest.fail(f"it ended: {''.join(said)}")
    finally:
        process.kill()
        process.wait()


def test_it_shows_runs_with_risks_of_detectors_and_ends_with_ctrl_c(traces, detectors, tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    shutil.copy(traces, folder)
    set_label(folder, "g0-0", "hallucination")
    set_label(folder, "gone", "success")
    with viewing(folder, "--detectors", detectors) as (address, process, said):
        assert "1 run labelled by hand, in place of its outcome. 1 label more is of a run that is not here" in said[0]
        assert "240 runs at http://127.0.0.1:" in said[1]
        found = httpx.get(f"{address}/api/runs").json()
        end = time.monotonic() + 20
        while found["live"]:
            assert time.monotonic() < end
            found = httpx.get(f"{address}/api/runs?sort=risk").json()
        assert found["total"] == 240
        assert all(row["risk"] is not None for row in found["runs"])
        labelled = httpx.get(f"{address}/api/runs?label=hallucination").json()
        assert [row["id"] for row in labelled["runs"]] == ["g0-0"]
        put = httpx.put(f"{address}/api/runs/g1-0/label", json={"label": "success"})
        assert put.json()["outcome"] == "success"
        assert httpx.get(address).headers["Content-Security-Policy"].startswith("default-src 'none'")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert json.loads((folder / "labels.json").read_text())["labels"].keys() == {"g0-0", "gone", "g1-0"}


def test_a_token_is_in_the_link_that_is_printed(traces):
    with viewing(traces, "--token", "secret-word") as (link, _, _said):
        assert link.endswith("/?token=secret-word")
        assert httpx.get(link.replace("secret-word", "wrong")).status_code == 401
        with httpx.Client(follow_redirects=True) as browser:
            assert browser.get(link).status_code == 200
            assert browser.get(link.split("?")[0] + "api/runs").json()["total"] == 240


def test_what_cannot_be_shown_is_said_in_one_line(cli, traces, detectors, tmp_path, make_trace):
    import numpy as np

    cli("view", tmp_path / "nothing", "--port", 0).assert_one_line_error("does not exist")
    cli("view", tmp_path, "--port", 0).assert_one_line_error("holds no .parquet file")
    cli("view", traces, "--host", "0.0.0.0", "--port", 0).assert_one_line_error("--token")
    cli("view", traces, "--detectors", tmp_path, "--port", 0).assert_one_line_error("no detectors in")
    other = write_traces([make_trace(0, 0, True, np.random.default_rng(0), "other")], tmp_path / "other.parquet")
    refused = cli("view", other, "--detectors", detectors, "--port", 0)
    refused.assert_one_line_error("the detectors were fitted on runs of 'toy'", "'other'")
    (tmp_path / "other.labels.json").write_text("{}")
    cli("view", other, "--port", 0).assert_one_line_error("other.labels.json does not hold labels")


def test_it_loads_neither_torch_nor_plotly():
    code = (
        "import sys, trajkit.cli.main, trajkit.live.view, trajkit.live.saved, trajkit.live.listening; "
        "print({'torch', 'transformers', 'plotly', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture
def labelled(traces, tmp_path):
    """Runs with two labels that turn their outcomes round, and one of no run."""
    path = tmp_path / "runs.parquet"
    shutil.copy(traces, path)
    saved = read_traces(path)
    right, wrong = (next(run for run in saved if run.success is is_right) for is_right in (True, False))
    set_label(path, right.transcript_id, "hallucination")
    set_label(path, wrong.transcript_id, "success")
    set_label(path, "gone", "success")
    return path, right.transcript_id, wrong.transcript_id


SAID = "2 runs labelled by hand, in place of their outcomes. 1 label more is of a run that is not here, and kept."


def test_fit_learns_from_labels_and_says_how_many(cli, labelled, tmp_path, monkeypatch):
    from trajkit.judging import fit as judging

    path, right, wrong = labelled
    read = []
    fit_detectors = judging.fit_detectors
    monkeypatch.setattr(judging, "fit_detectors", lambda runs, **more: read.append(runs) or fit_detectors(runs, **more))
    result = cli("fit", path, "--out", tmp_path / "detectors")
    assert result.code == 0, result.err
    assert SAID in result.err
    assert "2 outcomes are from labels by hand." in read[0].summary()
    outcome = read[0].table.set_index("transcript_id")["failed"]
    assert (outcome[right], outcome[wrong]) == (1, 0)


def test_analyze_monitor_and_report_take_labels_and_say_how_many(cli, labelled, traces, detectors, tmp_path):
    path, right, _ = labelled
    before, after = (cli("analyze", one) for one in (traces, path))
    assert SAID in after.err
    assert SAID not in before.err
    assert before.out != after.out
    replayed = cli("monitor", path, "--detectors", detectors, "--all")
    assert SAID in replayed.err
    told = re.search(r"Labelled by hand: (\d) of \d+ alarmed runs? and (\d) of \d+ others?\. Where", replayed.out)
    assert int(told[1]) + int(told[2]) == 2
    assert "Labelled by hand" not in cli("monitor", traces, "--detectors", detectors, "--all").out
    result = cli("report", path, "--out", tmp_path / "report", "--runs", right)
    assert result.code == 0, result.err
    assert SAID in result.err
    page = (tmp_path / "report" / "index.html").read_text()
    assert re.search(r"labelled by hand.{0,80}\b2\b|\b2\b.{0,80}labelled by hand", page, re.S)
    payload = json.loads(re.search(r'id="payload">(.*?)</script>', page, re.S)[1])
    assert [(run["id"], run["outcome"], run["label"]) for run in payload["runs"]] == [
        (right, "hallucination", "hallucination")
    ]


def test_labels_that_cannot_be_read_stop_a_command_and_are_left_as_they_are(cli, labelled, tmp_path):
    path = labelled[0]
    file = path.with_name("runs.labels.json")
    file.write_text("{broken")
    for command in (
        ("fit", path, "--out", tmp_path / "d"),
        ("analyze", path),
        ("report", path, "--out", tmp_path / "r"),
    ):
        cli(*command).assert_one_line_error("runs.labels.json does not hold labels of runs", "Correct it")
    assert file.read_text() == "{broken"
