"""`trajkit collect --server`: the runs of another server, gone on with, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest

from tests.live.conftest import MODEL, listening
from tests.live.fickle import Fickle
from tests.live.test_app import wait_until
from trajkit.attribution.explainer import Watching
from trajkit.live.app import Limits, Server
from trajkit.live.local import LocalEngine
from trajkit.traces.store import read_traces


@pytest.fixture(scope="module")
def served(demo_vlm, demo_estimator):
    """(address of a server over the demo's model, what stands before it)."""
    fickle = Fickle(Server(LocalEngine(Watching(demo_vlm, demo_estimator), MODEL), Limits(runs=4)).app())
    with listening(fickle) as address:
        yield f"{address}/v1", fickle


@pytest.fixture
def collect(cli, model_and_estimator):
    more = [*model_and_estimator, "--max-new-tokens", "60", "--temperature", "0", "--samples", "1"]
    return lambda *arguments: cli("collect", *arguments, *more)


def by_id(folder):
    return {run.transcript_id: run for run in read_traces(folder)}


def test_runs_of_a_server_are_those_of_the_model_here_and_gone_on_with(collect, questions, tmp_path, served):
    address, fickle = served
    there, here = tmp_path / "there", tmp_path / "here"
    result = collect(questions(2), "--out", there, "--server", address)
    assert result.code == 0, result.err
    assert "2 runs of 2 questions" in result.out
    fickle.bodies.clear()
    result = collect(questions(3), "--out", there, "--server", address)
    assert "3 runs of 3 questions" in result.out
    assert "(1 new)" in result.out
    assert len({json.dumps(body["messages"]) for body in fickle.bodies}) == 1
    assert collect(questions(3), "--out", here).code == 0
    runs, expected = by_id(there), by_id(here)
    assert runs.keys() == expected.keys() == {"q0-0", "q1-0", "q2-0"}
    for name, run in runs.items():
        assert run.tokens.tolist() == expected[name].tokens.tolist()
        assert (run.steps, run.outcome) == (expected[name].steps, expected[name].outcome)
        assert abs(run.effects - expected[name].effects).max() < 1e-4
        assert run.meta["server"] == {"model": MODEL, "owned_by": "trajkit"}


def test_a_folder_holds_runs_that_were_made_in_one_way(collect, questions, tmp_path, served):
    there, here = tmp_path / "there", tmp_path / "here"
    assert collect(questions(1), "--out", there, "--server", served[0]).code == 0
    collect(questions(2), "--out", there).assert_one_line_error("made with server {'model'", "to be made without.")
    assert collect(questions(1), "--out", here).code == 0
    collect(questions(2), "--out", here, "--server", served[0]).assert_one_line_error("made without server")


def test_a_question_that_the_server_refuses_is_left_out_by_name(collect, questions, tmp_path, served):
    fickle = served[1]
    fickle.faults = [400] * 5 + [None]
    result = collect(questions(2), "--out", tmp_path / "runs", "--server", served[0], "--concurrency", "1")
    assert result.code == 1
    assert "left out question q0 (line 1, scene.png): " in result.err
    assert "answers 400: " in result.err
    assert "1 of 2 questions could not be used" in result.err
    assert set(by_id(tmp_path / "runs")) == {"q1-0"}


def test_a_server_that_lets_nobody_in_ends_it_in_one_line(collect, questions, tmp_path, served):
    fickle = served[1]
    fickle.faults = [None, None, 401]  # the first is asked again without log-probabilities
    result = collect(questions(3), "--out", tmp_path / "runs", "--server", served[0], "--concurrency", "1")
    fickle.faults = [None]
    result.assert_one_line_error("answers 401")
    assert set(by_id(tmp_path / "runs")) == {"q0-0"}


def test_ctrl_c_keeps_what_is_there_and_cuts_off_what_is_asked(collect, questions, tmp_path, served):
    address, fickle = served
    out = tmp_path / "runs"
    fickle.faults = [None, None, "stall"]
    fickle.bodies.clear()

    def stop():
        wait_until(lambda: any(out.glob("*.parquet")) and len(fickle.bodies) == 3)
        os.kill(os.getpid(), signal.SIGINT)

    stopping = threading.Thread(target=stop)
    stopping.start()
    result = collect(questions(2), "--out", out, "--server", address, "--concurrency", "1")
    stopping.join()
    assert result.code == 130
    assert result.err.splitlines()[-1].startswith("trajkit: stopped; 1 run is safe in ")
    wait_until(lambda: fickle.now == 0)
    fickle.faults = [None]
    assert "(1 new)" in collect(questions(2), "--out", out, "--server", address).out


@pytest.mark.parametrize("option", ["--server-model=m", "--server-stall=3", "--concurrency=2"])
def test_what_is_about_a_server_needs_one(cli, questions, tmp_path, option):
    result = cli("collect", questions(1), "--out", tmp_path / "runs", option)
    assert result.code == 2
    assert f"{option.partition('=')[0]} is about another server; name it with --server" in result.err


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://here/v1", "http://"])
def test_an_address_that_is_none_is_refused_before_anything_is_loaded(cli, questions, tmp_path, address):
    result = cli("collect", questions(1), "--out", tmp_path / "runs", "--server", address)
    assert result.code == 2
    assert f"such as http://localhost:8000/v1; got '{address}'" in result.err


def test_a_server_that_is_not_there_is_said_before_a_model_is_loaded(cli, questions, tmp_path, monkeypatch):
    from trajkit.cli import loading

    monkeypatch.setattr(loading, "load_model", lambda *arguments: pytest.fail("a model was loaded"))
    result = cli("collect", questions(1), "--out", tmp_path / "runs", "--server", "http://127.0.0.1:9/v1")
    result.assert_one_line_error("is the server up?")
    assert not (tmp_path / "runs").exists()
