"""The routes of the page: its files, lists, whole runs, events, labels, and what is refused."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import threading
import time
from urllib.parse import quote

import httpx
import pytest

from tests.live.conftest import listening, run_alone
from tests.traces.factory import make_trace
from trajkit.live.access import Access
from trajkit.live.query import Row
from trajkit.live.saved import SavedRuns
from trajkit.live.view import PAGE, page_app
from trajkit.traces.labels import read_labels
from trajkit.traces.store import write_traces

ODD = "a/b ?#%é/events"
JSON = {"Content-Type": "application/json"}


class Told:
    """A source of one live run, whose events are those that are given."""

    labels = False
    live = True
    trouble = ""

    def __init__(self, row: Row, events: list[str]) -> None:
        self.row, self.events = row, events

    def rows(self):
        return [self.row]

    def document(self, id_):
        return {"events": True, **self.row} if id_ == self.row["id"] else None

    def follow(self, id_, start):
        async def events():
            for number in range(start, len(self.events)):
                await asyncio.sleep(0.03)
                yield [(number, self.events[number])]

        return events() if id_ == self.row["id"] else None

    def set_label(self, id_, label):
        return False

    def close(self):
        pass


@pytest.fixture
def folder(tmp_path):
    runs = [make_trace(i) for i in range(3)] + [
        make_trace(3, transcript_id=ODD, success=False, outcome="hallucination")
    ]
    write_traces(runs, tmp_path / "runs.parquet")
    return tmp_path


@pytest.fixture
def saved(folder):
    runs = SavedRuns(folder)
    yield runs
    runs.close()


@pytest.fixture
def told(saved):
    row = Row(**{**saved.rows()[0], "source": "live", "state": "ended", "question": "live", "began": 5.0})
    return Told(row, [json.dumps({"event": name}) for name in ("start", "text", "step", "end")])


def ask(sources, *requests, token=None):
    """The answers to requests (method, path, further arguments), one after another."""

    async def work():
        transport = httpx.ASGITransport(page_app(sources, Access.at("127.0.0.1", token)))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8322") as client:
            return [await client.request(method, path, **more) for method, path, more in requests]

    return run_alone(work())


def get(sources, path, **more):
    return ask(sources, ("GET", path, more))[0]


def message_of(answer) -> str:
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    return answer.json()["error"]["message"]


def test_the_page_and_each_of_its_files_are_served_under_a_strict_policy(saved):
    page = get([saved], "/")
    assert page.status_code == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert '<main id="app"' in page.text
    for file in PAGE.iterdir():
        answer = get([saved], f"/page/{file.name}")
        assert (answer.status_code, answer.content) == (200, file.read_bytes())
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    "name", ["..%2Fview.py", "%2e%2e/view.py", "nothing.js", "", ".", "%2e%2e", "page.css%00", "%2Fetc%2Fpasswd"]
)
def test_no_other_file_is_served(saved, name):
    answer = get([saved], f"/page/{name}")
    assert answer.status_code == 404
    message_of(answer)


def test_a_list_says_how_many_match_how_many_there_are_and_what_else_could_be_asked_for(saved):
    found = get([saved], "/api/runs?outcome=success&limit=2&offset=1&sort=n_steps").json()
    assert (found["total"], found["all"]) == (3, 4)
    assert [row["n_steps"] for row in found["runs"]] == [4, 3]
    assert found["facets"]["outcome"] == {"hallucination": 1, "success": 3}
    assert (found["labels"], found["live"]) == (True, False)


@pytest.mark.parametrize("query", ["outcome=wrong", "sort=id", "limit=0", "limit=x", "nothing=1", "alarmed=maybe"])
def test_a_list_that_cannot_be_is_refused_in_words(saved, query):
    answer = get([saved], f"/api/runs?{query}")
    assert answer.status_code == 400
    assert query.split("=")[0] in message_of(answer)


def test_a_run_is_found_by_its_id_however_odd(saved):
    answer = get([saved], f"/api/runs/{quote(ODD, safe='')}")
    assert answer.status_code == 200
    assert (answer.json()["id"], answer.json()["outcome"]) == (ODD, "hallucination")
    assert len(answer.json()["steps"]) == make_trace(3).n_steps
    unknown = get([saved], "/api/runs/nothing")
    assert unknown.status_code == 404
    assert "there is no such run" in message_of(unknown)


def test_a_run_whose_file_was_damaged_meanwhile_is_said(saved, folder):
    size = (folder / "runs.parquet").stat().st_size
    with open(folder / "runs.parquet", "r+b") as file:
        file.seek(200)
        file.write(b"\xff" * (size - 600))
    answer = get([saved], "/api/runs/run-0000")
    assert answer.status_code == 500
    assert "runs.parquet: damaged, cannot be read" in message_of(answer)


def test_a_live_run_wins_over_a_saved_one_of_its_id_and_both_are_listed_once(saved, told):
    sources = [told, saved]
    found = get(sources, "/api/runs").json()
    assert [row["source"] for row in found["runs"]] == ["live", "saved", "saved", "saved"]
    assert found["live"]
    assert get(sources, "/api/runs/run-0000").json()["events"] is True
    assert len(get(sources, "/api/runs/run-0001").json()["steps"]) > 0


def test_events_are_numbered_and_go_on_after_the_last_that_was_seen(told, saved, monkeypatch):
    monkeypatch.setattr("trajkit.live.view._QUIET", 0.01)
    answer = get([told, saved], "/api/runs/run-0000/events", headers={"Last-Event-ID": "1"})
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    blocks = [block for block in answer.text.split("\n\n") if block]
    assert ": still here" in blocks
    assert [block for block in blocks if not block.startswith(":")] == [
        'id: 2\ndata: {"event": "step"}',
        'id: 3\ndata: {"event": "end"}',
    ]
    for last in ("", "x", "-1", "9" * 500):
        whole = get([told], "/api/runs/run-0000/events", headers={"Last-Event-ID": last})
        assert whole.text.count("data: ") == 4
    assert get([saved], "/api/runs/run-0000/events").status_code == 404


def test_a_label_is_kept_and_answered_with_the_row(saved, folder):
    path = f"/api/runs/{quote(ODD, safe='')}/label"
    given, taken = ask(
        [saved],
        ("PUT", path, {"json": {"label": "reasoning_failure"}}),
        ("PUT", path, {"content": b'{"label": null}', "headers": {"Content-Type": "application/json; charset=utf-8"}}),
    )
    assert (given.json()["label"], given.json()["outcome"]) == ("reasoning_failure", "reasoning_failure")
    assert (taken.json()["label"], taken.json()["outcome"]) == (None, "hallucination")
    ask([saved], ("PUT", path, {"json": {"label": "success"}}))
    assert read_labels(folder) == {ODD: "success"}


REFUSED = {
    "no JSON": (400, {"content": b"{", "headers": JSON}),
    "another key": (400, {"json": {"label": None, "at": 3}}),
    "no key": (400, {"json": {}}),
    "a list": (400, {"json": ["success"]}),
    "another label": (400, {"json": {"label": "fine"}}),
    "a number": (400, {"json": {"label": 1}}),
    "too long": (400, {"content": b'{"label": null' + b" " * 20_000 + b"}", "headers": JSON}),
    "too deep": (400, {"content": b"[" * 9000, "headers": JSON}),
    "a form": (415, {"data": {"label": "success"}}),
    "no type": (415, {"content": b'{"label": "success"}'}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_label_that_is_none_or_comes_as_something_else_is_refused(saved, folder, what):
    status, request = REFUSED[what]
    (answer,) = ask([saved], ("PUT", "/api/runs/run-0000/label", request))
    assert answer.status_code == status
    message_of(answer)
    assert read_labels(folder) == {}


def test_a_label_of_a_run_that_is_not_there_or_cannot_be_kept_is_refused(saved, folder, told):
    (unknown,) = ask([saved], ("PUT", "/api/runs/nothing/label", {"json": {"label": "success"}}))
    assert unknown.status_code == 404
    (folder / "labels.json").write_text("not ours")
    (broken,) = ask([saved], ("PUT", "/api/runs/run-0001/label", {"json": {"label": "success"}}))
    assert broken.status_code == 409
    assert "does not hold labels of runs" in message_of(broken)
    assert (folder / "labels.json").read_text() == "not ours"
    assert ask([told], ("PUT", "/api/runs/run-0000/label", {"json": {"label": "success"}}))[0].status_code == 404


def test_what_is_not_served_and_other_methods_are_said_in_words(saved):
    answers = ask([saved], ("GET", "/nothing", {}), ("POST", "/api/runs", {"json": {}}), ("PUT", "/", {"json": {}}))
    assert [answer.status_code for answer in answers] == [404, 405, 405]
    assert message_of(answers[1]) == "POST /api/runs is not served."


def test_a_token_is_asked_for_where_there_is_one(saved):
    bare, borne = (
        get([saved], "/api/runs", headers=headers) for headers in ({}, {"Authorization": "Bearer secret-token"})
    )
    assert bare.status_code == borne.status_code == 200
    answers = ask(
        [saved],
        ("GET", "/api/runs", {}),
        ("GET", "/", {}),
        ("GET", "/api/runs", {"headers": {"Authorization": "Bearer secret-token"}}),
        token="secret-token",
    )
    assert [answer.status_code for answer in answers] == [401, 401, 200]


class Endless(Told):
    """A run of which more and more is told, faster than anybody reads. let_go: whether its viewer was."""

    def __init__(self, row: Row) -> None:
        super().__init__(row, [])
        self.let_go = threading.Event()

    def follow(self, id_, start):
        async def events():
            try:
                for number in itertools.count(start):
                    yield [(number, "x" * 2**16)]
            finally:
                self.let_go.set()

        return events()


def test_a_viewer_that_goes_without_having_read_is_let_go(told):
    source, row = Endless(told.row), told.row
    with listening(page_app([source], Access())) as address:
        host, port = address.removeprefix("http://").split(":")
        viewer = socket.create_connection((host, int(port)))
        viewer.sendall(f"GET /api/runs/{row['id']}/events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        assert viewer.recv(2**16).startswith(b"HTTP/1.1 200")
        time.sleep(0.2)
        assert not source.let_go.is_set()
        viewer.close()
        assert source.let_go.wait(10)
