"""Runs that are kept: events as they come, traces when they are over, and nothing lost that was produced."""

from __future__ import annotations

import asyncio
import json
import logging
import time

import httpx
import numpy as np
import openai
import pytest

from tests.live.conftest import listening, run_alone
from tests.live.test_app import ask, wait_until
from tests.live.watching import events_of
from tests.traces.factory import make_trace
from trajkit.errors import InputError
from trajkit.live import keeping
from trajkit.live.access import Access
from trajkit.live.app import Server
from trajkit.live.history import History, RunLog
from trajkit.live.keeping import Keeper
from trajkit.live.query import SORTS
from trajkit.live.saved import SavedRuns
from trajkit.live.view import page_app
from trajkit.traces.labels import read_labels
from trajkit.traces.store import read_traces

START = {"question": "how many?", "began": 1.0, "state": "running", "image": None}
END = {"state": "ended", "stopped": False, "reason": "", "answer": "4", "n_tokens": 9}


def told(log, n=2, trace=None):
    """A run from its start to its end, with `n` pieces of text."""
    log.add("start", START)
    for number in range(n):
        log.add("text", {"kind": "thinking", "text": f"word {number} ", "attempt": 0})
    log.trace = trace
    log.add("end", END)
    return log


def lines_of(folder, log):
    file = folder / "live" / f"{log.id}.jsonl"
    return file.read_text().splitlines() if file.exists() else []


async def followed(log, start=0):
    return [one async for several in log.follow(start) for one in several]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(keeping, "FLUSH_SECONDS", 0.1)
    monkeypatch.setattr(keeping, "AGAIN_SECONDS", 0.1)


@pytest.fixture
def keeper(tmp_path):
    keeper = Keeper(tmp_path / "traces")
    yield keeper
    keeper.close()


def saved_log(keeper, number=1):
    return RunLog(f"{number:08d}-0123abcd", {}, keeper.note)


def test_events_are_on_the_disk_as_they_come_and_a_trace_under_the_same_id_when_it_is_over(keeper):
    log = saved_log(keeper)
    log.add("start", START)
    wait_until(lambda: lines_of(keeper.folder, log) == log.events)
    told(log, trace=lambda: make_trace(3))
    wait_until(lambda: keeper.is_kept(log))
    assert lines_of(keeper.folder, log) == log.events
    (trace,) = read_traces(keeper.folder)
    assert trace.transcript_id == log.id
    assert trace.meta["began"] == 1.0
    np.testing.assert_array_equal(trace.effects, make_trace(3).effects)


def test_a_run_of_before_has_the_same_events_under_the_same_numbers(keeper):
    runs = [told(saved_log(keeper, number), n=number) for number in (1, 2, 3)]
    keeper.close()
    again = Keeper(keeper.folder)
    history = History(keeper=again)
    assert [row["id"] for row in history.rows()] == [log.id for log in runs[::-1]]
    for log in runs:
        assert history.get(log.id).row == log.row
        assert run_alone(followed(history.get(log.id), 1)) == list(enumerate(log.events))[1:]
    assert run_alone(_begin(history)).startswith("00000004-")
    again.close()


async def _begin(history):
    return history.begin("how many?", "toy").id


@pytest.mark.parametrize("left", ["a line", "half a line", "nothing"])
def test_a_run_whose_server_was_killed_is_closed_and_says_so(keeper, left):
    log = saved_log(keeper)
    log.add("start", START)
    log.add("text", {"kind": "answer", "text": "4", "attempt": 0})
    wait_until(lambda: len(lines_of(keeper.folder, log)) == 2)
    keeper.close()
    file = keeper.file_of(log)
    cut = {"a line": 0, "half a line": -9, "nothing": None}[left]
    whole = file.read_bytes()
    file.write_bytes(b"" if cut is None else whole[: cut or None])
    again = Keeper(keeper.folder)
    found = again.restore()
    if cut is None:
        assert found == []
        again.close()
        return
    (log,) = found
    assert log.over
    assert (log.row["state"], log.row["answer"]) == ("stopped", "4" if left == "a line" else "")
    again.close()
    kept = [json.loads(line) for line in lines_of(keeper.folder, log)]
    assert [one["event"] for one in kept] == ["start", "text", "end"][-len(kept) :] if cut == 0 else ["start", "end"]
    assert kept[-1]["reason"] == "the server stopped while it was under way"
    assert run_alone(followed(log, 99))[0][0] == len(kept) - 1


def test_old_ones_are_cleared_by_number_and_those_that_stay_are_read_from_the_disk(tmp_path):
    keeper = Keeper(tmp_path)

    async def scenario():
        history = History(most=4, most_bytes=500, keeper=keeper)
        logs = []
        for _ in range(8):
            log = history.begin("how many?", "toy")
            logs.append(told(log))
            while not keeper.is_kept(log):
                await asyncio.sleep(0.01)
        history.begin("how many?", "toy")
        return logs, history, [await followed(log) for log in logs[-3:]]

    logs, history, told_again = run_alone(scenario())
    keeper.close()
    assert {file.stem for file in (tmp_path / "live").iterdir()} == {log.id for log in logs[-3:]}
    assert [[json.loads(event)["event"] for _, event in events] for events in told_again] == [
        ["start", "text", "text", "end"]
    ] * 3
    assert history.nbytes < 1500


def test_a_full_disk_is_said_once_and_what_waited_is_written_when_there_is_room(keeper, caplog):
    """A link to /dev/full in the place of a file is a disk without room for it."""
    log = saved_log(keeper)
    events, part = keeper.file_of(log), keeper.folder / "part-00000.parquet"
    for full in (events, part):
        full.symlink_to("/dev/full")
    with caplog.at_level(logging.INFO, "trajkit.live.keeping"):
        told(log, trace=lambda: make_trace(3))
        wait_until(lambda: keeper.trouble)
        assert "No space left on device" in keeper.trouble
        time.sleep(0.5)  # it is tried again, and that is not said again
        assert len(log.events) == 4
        assert not keeper.is_kept(log)
        for full in (events, part):
            full.unlink()
        wait_until(lambda: keeper.is_kept(log))
        assert keeper.trouble == ""
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert lines_of(keeper.folder, log) == log.events
    assert read_traces(keeper.folder).ids == [log.id]


def test_a_run_that_cannot_be_saved_as_a_trace_is_said_and_the_others_are(keeper, caplog):
    def broken():
        raise ValueError("no such run")

    bad, good = saved_log(keeper, 1), saved_log(keeper, 2)
    told(bad, trace=broken)
    told(good, trace=lambda: make_trace(3))
    wait_until(lambda: keeper.is_kept(good))
    assert "cannot be saved as a trace: no such run" in caplog.text
    assert read_traces(keeper.folder).ids == [good.id]


def test_one_folder_has_one_keeper(keeper):
    with pytest.raises(InputError, match="another process is writing to"):
        Keeper(keeper.folder)
    keeper.close()
    Keeper(keeper.folder).close()


def test_a_server_that_keeps_its_runs_has_them_as_traces_for_any_command(local_engine, tmp_path, demo_stream):
    history = History(keeper=Keeper(tmp_path / "traces"))
    server = Server(local_engine, history=history)
    with listening(server) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        ask(client)
        with ask(client, temperature=1, stream=True) as chunks:
            next(iter(chunk for chunk in chunks if "step" in (chunk.model_extra or {}).get("trajkit", {})))
        wait_until(lambda: not history.open)
        stopped, whole = httpx.get(f"{address}/api/runs").json()["runs"][:2]
        headers = {"Content-Type": "application/json"}
        label = httpx.put(f"{address}/api/runs/{whole['id']}/label", json={"label": "hallucination"}, headers=headers)
        assert label.json()["label"] == "hallucination"
        events = events_of(address, whole["id"])
    running = demo_stream("s00-0", temperature=0, seed=0)
    expected = running.trace() if list(running) else None
    traces = {trace.transcript_id: trace for trace in read_traces(tmp_path / "traces")}
    assert set(traces) == {stopped["id"], whole["id"]}
    kept = traces[whole["id"]]
    np.testing.assert_allclose(kept.effects, expected.effects, atol=1e-4)
    assert [step.text for step in kept.steps] == [step.text for step in expected.steps]
    assert (kept.answer, kept.image_sha256) == (expected.answer, expected.image_sha256)
    assert [step.alarm for step in kept.steps] == [step.alarm for step in expected.steps]
    assert traces[stopped["id"]].meta["stopped"]
    assert read_labels(tmp_path / "traces") == {whole["id"]: "hallucination"}
    saved = SavedRuns(tmp_path / "traces")
    rows = {row["id"]: row for row in saved.rows()}
    saved.close()
    assert rows[whole["id"]]["began"] == whole["began"]
    again = Keeper(tmp_path / "traces")
    restored = History(keeper=again)
    assert [json.loads(event) for _, event in run_alone(followed(restored.get(whole["id"])))] == [
        event for _, event in events
    ]
    assert restored.get(whole["id"]).row["label"] == "hallucination"
    again.close()


def test_the_page_says_that_runs_cannot_be_saved_for_as_long_as_that_lasts(chromium, keeper):
    history, log = History(keeper=keeper), saved_log(keeper)
    with listening(page_app([history], Access.at("127.0.0.1"))) as address:
        page = chromium.new_page()
        page.goto(address)
        page.wait_for_selector(".browse")
        warning = page.get_by_text("Runs cannot be saved in")
        assert warning.count() == 0
        keeper.file_of(log).symlink_to("/dev/full")
        told(log)
        warning.wait_for(timeout=10_000)
        assert "No space left on device" in warning.inner_text()
        keeper.file_of(log).unlink()
        warning.wait_for(state="hidden", timeout=10_000)
        page.close()


STEP = {"event": "step", "attempt": 0, "index": 0, "risk": 0.5, "alarm": False, "tokens": [0, 1], "decision": None}


@pytest.mark.parametrize(
    "event",
    [
        STEP | {"risk": "high"},
        STEP | {"decision": "stop"},
        {"event": "text", "kind": "answer", "attempt": 0, "text": 3},
        {"event": "end"} | END | {"question": 4},
        {"event": "end"} | END | {"outcome": "odd"},
        {"event": "end"} | END | {"began": []},
    ],
)
def test_a_file_of_events_that_is_damaged_spoils_no_list(event, tmp_path, caplog):
    events = tmp_path / "live"
    events.mkdir()
    lines = [{"event": "start"} | START, event]
    (events / "00000001-00000000.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    history = History(keeper=Keeper(tmp_path))
    told(history.begin("how many?", "toy"))
    with listening(page_app([history], Access())) as address:
        listed = [httpx.get(f"{address}/api/runs", params={"sort": sort, "search": "many"}).json() for sort in SORTS]
    history.close()
    assert [one["total"] for one in listed] == [1] * len(SORTS)
    assert "00000001-00000000.jsonl holds no events of a run" in caplog.text
