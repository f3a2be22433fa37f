"""What fails, fails alone: nothing that was produced is lost, generation goes on, and a message says what it was."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from tests.live.conftest import MODEL, RECORDED, listening, run_alone
from tests.live.test_app import ask, text_of, wait_until
from tests.live.test_upstream import Recorded, before, recorded_text
from tests.live.watching import events_of, newest, numbered
from trajkit.cli import loading
from trajkit.cli.main import main
from trajkit.live.app import Limits, Server
from trajkit.live.generation import Text
from trajkit.live.history import History
from trajkit.live.keeping import Keeper
from trajkit.live.local import LocalEngine
from trajkit.traces.store import read_traces


class Dying:
    """An estimator that explains `after` steps and then fails."""

    def __init__(self, estimator, after=1):
        self._estimator, self._left = estimator, after

    def __getattr__(self, name):
        return getattr(self._estimator, name)

    def predict_interval(self, features):
        if not self._left:
            raise RuntimeError("the estimator's worker died")
        self._left -= 1
        return self._estimator.predict_interval(features)


def client_of(address):
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def test_a_run_goes_on_unexplained_where_the_estimator_fails_here(local_engine, demo_stream, demo_vlm, tmp_path):
    watching = replace(local_engine.watching, estimator=Dying(local_engine.watching.estimator))
    server = Server(LocalEngine(watching, MODEL), history=History(keeper=Keeper(tmp_path)))
    with listening(server) as address, client_of(address) as client:
        thinking, content, told, reason = text_of(ask(client, stream=True))
        row = newest(address)
        events = [event for _, event in events_of(address, row["id"])]
    expected = demo_stream("s00-0", temperature=0, seed=0)
    steps = list(expected)
    written = demo_vlm.tokenizer.decode(expected.tokens, skip_special_tokens=True)
    assert "".join((thinking + "</think>" + content).split()) == "".join(written.split())
    assert reason == "stop"
    assert [one["text"] for one in told if "step" in one] == [steps[0].text]
    (said,) = [one["unexplained"] for one in told if "unexplained" in one]
    assert "the estimator's worker died" in said
    assert [event["message"] for event in events if event["event"] == "unexplained"] == [said]
    assert (row["state"], row["n_steps"]) == ("ended", 1)
    (trace,) = read_traces(tmp_path)
    assert (trace.n_steps, trace.answer, trace.meta["unexplained"]) == (1, row["answer"], said)
    assert row["answer"].split() == content.split()


def test_a_run_goes_on_unexplained_where_the_estimator_fails_behind_another_server(demo_vlm, demo_estimator, tmp_path):
    recorded = Recorded()
    with before(recorded, demo_vlm, Dying(demo_estimator)) as (server, client):
        thinking, content, told, _ = text_of(ask(client, stream=True))
        (row,) = server.history.rows()
    assert (thinking, content) == recorded_text(recorded)
    assert sum("step" in one for one in told) == 1
    assert any("the estimator's worker died" in one.get("unexplained", "") for one in told)
    assert (row["state"], row["n_steps"], row["answer"].split()) == ("ended", 1, content.split())


@pytest.mark.parametrize(("then", "said"), [("die", "in the middle"), ("nonsense", "no chunk of an answer")])
def test_what_came_of_another_server_that_fails_is_told_and_kept(then, said, demo_vlm, demo_estimator, tmp_path):
    history = History(keeper=Keeper(tmp_path))
    with before(Recorded(after=30, then=then, wait=0.02), demo_vlm, demo_estimator, stall=1.0) as (server, client):
        server.history = history
        with pytest.raises(openai.APIError, match=said):
            list(ask(client, stream=True))
        wait_until(lambda: not history.open)
        (row,) = history.rows()
        assert row["state"] == "failed"
        events = [json.loads(event) for event in history.get(row["id"]).events]
    history.close()
    assert said in events[-1]["reason"]
    assert row["n_steps"] == sum(event["event"] == "step" for event in events) > 0
    (trace,) = read_traces(tmp_path)
    assert (trace.transcript_id, trace.n_steps) == (row["id"], row["n_steps"])


def test_a_clock_that_jumps_breaks_no_duration_order_limit_or_file(local_engine, tmp_path, monkeypatch, caplog):
    real, jumps = time.time, iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: real() + (0, 3600, -3600)[next(jumps) % 3])
    history = History(keeper=Keeper(tmp_path))
    server = Server(local_engine, history=history)
    began = time.monotonic()
    with listening(server) as address, client_of(address) as client:
        for seed in range(3):
            ask(client, temperature=1, seed=seed)
        ids = [row["id"] for row in httpx.get(f"{address}/api/runs").json()["runs"]]
        events = [events_of(address, id_) for id_ in ids]
        metrics = httpx.get(f"{address}/metrics").text
        wait_until(lambda: all(history.get(id_).over and len(read_ids(tmp_path)) == 3 for id_ in ids), 10)
    took = time.monotonic() - began
    assert ids == sorted(ids, reverse=True)
    for told in events:
        assert [number for number, _ in told] == list(range(len(told)))
        assert all(0 <= event["delay"] < took for _, event in told if event["event"] == "step")
        assert told[-1][1]["state"] == "ended"
    (first_steps,) = [float(line.split()[1]) for line in metrics.splitlines() if "first_step_seconds_sum" in line]
    assert 0 < first_steps < 3 * took
    again = Keeper(tmp_path)
    assert [log.id for log in again.restore()] == sorted(ids)
    again.close()


def read_ids(folder):
    return read_traces(folder).ids if any(folder.glob("*.parquet")) else []


PROCESSES: set[int] = set()


@pytest.fixture(autouse=True)
def _none_is_left():
    yield
    for pid in PROCESSES:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    PROCESSES.clear()


class Process:
    """`trajkit serve` in a process of its own: forked, so that the model need not be loaded again. said: its stderr."""

    def __init__(self, vlm, port, folder):
        self._said = folder.with_suffix(f".{time.monotonic_ns()}")
        self.pid = os.fork()
        if self.pid == 0:
            self._serve(vlm, port, folder)
        self.address = f"http://127.0.0.1:{port}"
        PROCESSES.add(self.pid)
        wait_until(lambda: "serving" in self.said, 60)

    def _serve(self, vlm, port, folder):
        code = 70
        try:
            asyncio._set_running_loop(None)  # a browser's, of other tests
            signal.signal(signal.SIGINT, signal.default_int_handler)  # also where tests run behind a shell, without it
            with pytest.MonkeyPatch.context() as patch, open(self._said, "w", buffering=1) as said:
                patch.setattr(loading, "load_model", lambda *_: vlm)
                with redirect_stdout(said), redirect_stderr(said):
                    main(["serve", "--port", str(port), "--save", str(folder)])
        except SystemExit as done:
            code = int(done.code or 0)
        finally:
            os._exit(code)

    @property
    def said(self):
        return self._said.read_text() if self._said.exists() else ""

    def stop(self, number):
        """Its exit code."""
        os.kill(self.pid, number)
        PROCESSES.discard(self.pid)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Viewer(threading.Thread):
    """Somebody who looks on for as long as the connection lasts. seen: (number, event)."""

    def __init__(self, address, id_):
        super().__init__(daemon=True)
        self.seen, self._where = [], f"{address}/api/runs/{id_}/events"
        self.start()

    def run(self):
        try:
            with httpx.stream("GET", self._where, timeout=60) as answer:
                for one in numbered(answer.iter_lines()):
                    self.seen.append(one)
        except httpx.HTTPError:
            return


@pytest.fixture(scope="module")
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("served") / "traces"


def until_its_first_step(address, then, **options):
    """What a client of a long run receives that has `then` done after the first step."""
    received = []
    with client_of(address) as client:
        answer = ask(client, "s01-1", stream=True, temperature=1, **options)
        try:
            for chunk in answer:
                received.append(chunk)
                if (chunk.model_extra or {}).get("trajkit", {}).get("step") == 0 and then:
                    then = then(received[0].model_extra["trajkit"]["run"])
        except (openai.APIError, httpx.HTTPError):
            pass
    return received


def test_a_server_with_a_full_disk_goes_on_and_saves_when_there_is_room_again(demo_vlm, port, folder):
    """A limit on the size of files is what a disk without room is to a process."""
    process = Process(demo_vlm, port, folder)
    with client_of(process.address) as client:
        ask(client)
        wait_until(lambda: len(read_ids(folder)) == 1)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        answers = [ask(client, temperature=1, seed=seed).choices[0].message.content for seed in range(2)]
        assert all(answers)
        wait_until(lambda: "saving" in httpx.get(f"{process.address}/health").json())
        health = httpx.get(f"{process.address}/health")
        assert (health.status_code, health.json()["status"]) == (200, "ok")
        assert "cannot be saved" in health.json()["saving"]
        assert "cannot be saved" in httpx.get(f"{process.address}/api/runs").json()["trouble"]
        assert events_of(process.address, newest(process.address)["id"])[-1][1]["event"] == "end"
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wait_until(lambda: len(read_ids(folder)) == 3)
        wait_until(lambda: "saving" not in httpx.get(f"{process.address}/health").json())
        assert httpx.get(f"{process.address}/api/runs").json()["trouble"] == ""
    for file in (folder / "live").iterdir():
        told = [json.loads(line)["event"] for line in file.read_text().splitlines()]
        assert (told[0], told[-1], told.count("start")) == ("start", "end", 1)
    assert process.said.count("cannot be saved") == process.said.count("are kept in") == 1
    assert process.stop(signal.SIGTERM) == 143
    assert "Traceback" not in process.said


def test_a_server_that_is_killed_goes_on_where_it_was(demo_vlm, port, folder, tmp_path):
    process, viewers = Process(demo_vlm, port, folder), []
    question = {"image": str(RECORDED / "s00.png"), "question": "how many red in row 1 to row 3?"}
    (tmp_path / "questions.jsonl").write_text(json.dumps(question))
    collect = ["collect", str(tmp_path / "questions.jsonl"), "--images", str(RECORDED), "--out"]
    for command in (["serve", "--port", "0", "--save"], collect):
        line = [sys.executable, "-m", "trajkit", *command, str(folder)]
        second = subprocess.run(line, capture_output=True, text=True)
        (line,) = second.stderr.splitlines()
        assert second.returncode == 1
        assert line.startswith(f"trajkit: another process is writing to {folder}")

    def kill(id_):
        viewers.append(Viewer(process.address, id_))
        wait_until(lambda: viewers[0].seen)
        process.stop(signal.SIGKILL)

    received = until_its_first_step(process.address, kill)
    seen, run = viewers[0].seen, received[0].model_extra["trajkit"]["run"]
    viewers[0].join(10)
    assert [number for number, _ in seen] == list(range(len(seen)))
    process = Process(demo_vlm, port, folder)
    rest = events_of(process.address, run, seen[-1][0])
    assert rest[0][0] <= seen[-1][0] + 1
    assert [number for number, _ in rest] == list(range(rest[0][0], rest[0][0] + len(rest)))
    assert (rest[-1][1]["state"], rest[-1][1]["reason"]) == ("stopped", "the server stopped while it was under way")
    again = events_of(process.address, run)
    assert again[: min(len(seen), len(again) - 1)] == seen[: len(again) - 1]
    (row,) = [row for row in httpx.get(f"{process.address}/api/runs").json()["runs"] if row["id"] == run]
    assert (row["state"], row["n_steps"]) == ("stopped", sum(event["event"] == "step" for _, event in again))
    assert process.stop(signal.SIGTERM) == 143


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_server_that_is_told_to_stop_gives_its_clients_what_there_is_and_keeps_it(
    demo_vlm, port, folder, number, code
):
    process, codes = Process(demo_vlm, port, folder), []
    stop = threading.Thread(target=lambda: codes.append(process.stop(number)))
    received = until_its_first_step(process.address, lambda id_: stop.start())
    stop.join(30)
    assert codes == [code]
    thinking, _, told, reason = text_of(received)
    assert thinking
    assert reason == "stop"
    (last,) = [one for one in told if one.get("stopped")]
    kept = read_traces(folder)
    assert kept.ids[-1] == last["run"] == told[0]["run"]
    assert kept[len(kept) - 1].meta["stopped"]
    events = [json.loads(line) for line in (folder / "live" / f"{last['run']}.jsonl").read_text().splitlines()]
    assert (events[-1]["state"], events[-1]["reason"]) == ("stopped", "the server was stopped")
    assert "Traceback" not in process.said


class Timed:
    """An engine, and when it told of each piece of text, by run."""

    def __init__(self, engine):
        self._engine, self.told = engine, []

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def begin(self, request, put):
        times = []
        self.told.append(times)

        def timed(event):
            if isinstance(event, Text):
                times.append(time.perf_counter())
            put(event)

        return self._engine.begin(request, timed)


def cost_of_a_token(engine, n_viewers):
    """(seconds by the clock, seconds of this process's CPUs, what the viewers have seen of each run). The second run
    waits for the first, so that its viewers are there before it begins."""
    engine.told.clear()
    server = Server(engine, Limits(runs=1, waiting=8))
    command = [sys.executable, "-m", "tests.live.viewers"]
    again = {"temperature": 1, "seed": 1, "extra_body": {"trajkit": {"policy": "ask again", "tries": 25}}}
    with listening(server) as address, client_of(address) as client:
        viewers = subprocess.Popen(
            [*command, address, str(n_viewers)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert viewers.stdout.readline() == "ready\n"
        before = time.process_time()
        asking = [threading.Thread(target=ask, args=(client, "s01-1"), kwargs=again) for _ in range(2)]
        for one in asking:
            one.start()
        for one in asking:
            one.join()
        spent = time.process_time() - before
        seen = json.loads(viewers.communicate("over\n", timeout=20)[0].splitlines()[-1])
        events = {row["id"]: len(server.history.get(row["id"]).events) for row in server.history.rows()}
    assert all(seen[id_] == {str(n): n_viewers - 1} for id_, n in events.items() if n_viewers)
    gaps = [b - a for times in engine.told for a, b in itertools.pairwise(times)]
    return statistics.median(gaps), spent / len(gaps)


@pytest.mark.slow
@pytest.mark.alone
def test_generation_is_not_slowed_by_50_viewers_of_which_one_never_reads(local_engine):
    eager = replace(local_engine.watching.monitor, threshold=1e-6)  # so that runs are long: attempt after attempt
    engine = Timed(LocalEngine(replace(local_engine.watching, monitor=eager), MODEL))
    rounds = [(cost_of_a_token(engine, 0), cost_of_a_token(engine, 50)) for _ in range(3)]
    seconds, cpu = (statistics.median(with_[i] / without[i] for without, with_ in rounds) for i in range(2))
    print(f"with 50 viewers a token takes {seconds:.2f} times as long, and {cpu:.2f} times the CPU")
    assert cpu < 1.25
    assert seconds < 1.25


def test_a_viewer_that_never_reads_costs_no_memory_that_grows(local_engine):
    """Events of a run of 40 MB are not even asked for beyond what the system holds for its connection."""
    server = Server(local_engine)
    taken = []

    class Counted(History):
        async def _counted(self, events):
            async for several in events:
                taken.append(sum(len(event) for _, event in several))
                yield several

        def follow(self, id_, start=0):
            return self._counted(super().follow(id_, start))

    server.history = Counted(most_bytes=2**27)
    with listening(server) as address:
        log = run_alone(_long(server.history))
        where = urlsplit(address)
        with socket.socket() as never:
            never.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            never.connect((where.hostname, where.port))
            never.send(f"GET /api/runs/{log.id}/events HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
            time.sleep(1.0)
            assert 0 < sum(taken) < 8e6
            assert len(events_of(address, log.id)) == len(log.events)  # and another one is not held up


async def _long(history):
    log = history.begin("how many?", "toy")
    log.add("start", {"state": "running"})
    for _ in range(400):
        log.add("text", {"kind": "thinking", "text": "x" * 100_000, "attempt": 0})
    log.add("end", {"state": "ended", "stopped": False, "reason": "", "answer": "", "n_tokens": 1})
    return log
