"""Runs for those who look on: numbered events, rows made of them, told from any point and at any pace."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from io import BytesIO

import numpy as np
import openai
import pytest
from PIL import Image

from tests.live.conftest import listening, run_alone
from tests.live.test_app import ask, wait_until
from tests.live.watching import events_of, newest
from trajkit.live.app import Limits, Server
from trajkit.live.history import Folded, History, RunLog
from trajkit.trajectory.concentration import concentration

NAME = "s00-0"
STEP = {"kind": "thinking", "text": "a.", "alarm": False, "risk": 0.1, "attempt": 0, "decision": None}


def step(index, **about):
    return {"event": "step", "index": index, "tokens": [5 * index, 5 * index + 5], **STEP, **about}


def text(said, kind="answer", attempt=0):
    return {"event": "text", "kind": kind, "text": said, "attempt": attempt}


def end(**about):
    return {"state": "ended", "stopped": False, "reason": "", "answer": "4", "n_tokens": 9, **about}


def folded(*events):
    fold = Folded({"question": "how many?"})
    for event in events:
        fold.take(event)
    return fold


async def followed(log, start=0):
    return [(number, json.loads(event)) async for several in log.follow(start) for number, event in several]


@pytest.fixture(scope="module")
def watched(served, demo_stream):
    """(steps of a stream, row, events) of one run."""
    expected = list(demo_stream(NAME, temperature=0, seed=0))
    with openai.OpenAI(base_url=f"{served[1]}/v1", api_key="none", max_retries=0) as client:
        ask(client)
    row = newest(served[1])
    return expected, row, events_of(served[1], row["id"])


def test_a_row_is_what_the_events_say_of_the_latest_attempt():
    first = [step(0, risk=0.2), step(1), step(2, risk=0.9, alarm=True, decision={"action": "ask again"}), text("old")]
    row = folded(*first).row
    assert (row["n_steps"], row["risk"], row["alarm"], row["decision"]) == (3, 0.9, 2, "ask again")
    second = [text("new", attempt=1), step(1, risk=0.3, attempt=1)]
    fold = folded(*first, *second)
    assert (fold.row["n_steps"], fold.row["risk"], fold.row["alarm"], fold.answer) == (2, 0.3, None, "new")
    assert (fold.row["n_tokens"], fold.row["decision"]) == (10, "ask again")
    fold.take({"event": "end"} | end())
    assert (fold.row["state"], fold.row["answer"], fold.row["n_tokens"]) == ("ended", "4", 9)


def test_steps_that_are_told_anew_take_the_place_of_others():
    folded, rng, known = Folded({}), np.random.default_rng(0), []
    for _ in range(2000):
        index = int(rng.integers(len(known) + 1)) if rng.random() < 0.1 else len(known)
        known[index:] = [(None if rng.random() < 0.1 else rng.random(), rng.random() < 0.1)]
        risk, alarm = known[-1]
        folded.take(step(index, risk=risk, alarm=alarm))
        most = max((risk for risk, _ in known if risk is not None), default=None)
        first = next((at for at, (_, alarmed) in enumerate(known) if alarmed), None)
        assert (folded.row["risk"], folded.row["alarm"], folded.row["n_steps"]) == (most, first, len(known))


def test_a_step_late_in_a_run_costs_a_row_no_more_than_an_early_one():
    folded, began = Folded({}), time.process_time()
    for index in range(20_000):
        folded.take(step(index))
    assert time.process_time() - began < 5  # seconds; where all steps are looked at again it is most of a minute


def test_who_follows_has_every_event_once_from_where_it_was():
    async def scenario():
        log = RunLog("1", {})
        log.add("text", text("a"))
        seen = asyncio.ensure_future(followed(log))
        late = asyncio.ensure_future(followed(log, 1))
        for said in "bc":
            await asyncio.sleep(0.01)
            log.add("text", text(said))
        log.add("end", end())
        return await seen, await late, await followed(log, 3), await followed(log, 99)

    seen, late, last, beyond = run_alone(scenario())
    assert [number for number, _ in seen] == [0, 1, 2, 3]
    assert [event.get("text") for _, event in seen] == ["a", "b", "c", None]
    assert late == seen[1:]
    assert last == beyond == seen[3:]  # who comes back to less than it has seen learns how it ended


def test_ids_sort_in_the_order_of_runs_whatever_the_clock_says(monkeypatch):
    async def scenario():
        history, hours = History(), iter([0, 3600, -3600, 0])
        real = time.time()
        monkeypatch.setattr(time, "time", lambda: real + next(hours))
        ids = [history.begin("how many?", "toy").id for _ in range(4)]
        return ids, [row["id"] for row in history.rows()]

    ids, listed = run_alone(scenario())
    assert sorted(ids) == ids == listed[::-1]


def test_the_oldest_that_are_over_are_forgotten_by_number_and_by_memory():
    async def scenario(**limits):
        history = History(**limits)
        running = history.begin("how many?", "toy")
        for _ in range(5):
            log = history.begin("how many?", "toy")
            log.add("text", text("x" * 1000))
            log.add("end", end())
        kept = [row["id"][:8] for row in history.rows()]
        return kept, running.id in [row["id"] for row in history.rows()], history.nbytes

    kept, running, _ = run_alone(scenario(most=3))
    assert kept == ["00000006", "00000005", "00000001"]
    assert running
    kept, running, held = run_alone(scenario(most_bytes=4000))
    assert running
    assert 1000 < held < 4000 + 2000
    assert kept[0] == "00000006"


def test_a_start_has_all_that_a_page_draws(watched, local_engine):
    steps, row, events = watched
    numbers, told = zip(*events, strict=True)
    assert numbers == tuple(range(len(events)))
    start = told[0]
    assert start["event"] == "start"
    assert (start["state"], start["id"]) == ("running", row["id"])
    assert start["n_regions"] == len(steps[0].effects)
    assert start["threshold"] == pytest.approx(local_engine.watching.monitor.threshold, abs=1e-6)
    assert (start["watches"], start["effects_kind"], start["notes"]) == ("failure", "estimated", [])
    picture = Image.open(BytesIO(base64.b64decode(start["image"]["url"].split(",")[1])))
    assert picture.size == (start["image"]["width"], start["image"]["height"])
    runs = np.frombuffer(base64.b64decode(start["map"]["runs"]), "<u2").reshape(-1, 2)
    assert runs[:, 1].sum() == start["map"]["width"] * start["map"]["height"]
    assert runs[:, 0].max() == start["n_regions"] - 1


def test_steps_and_text_are_those_of_a_stream(watched):
    steps, row, events = watched
    told = [event for _, event in events if event["event"] == "step"]
    assert [one["text"] for one in told] == [step.text for step in steps]
    for one, expected in zip(told, steps, strict=True):
        np.testing.assert_allclose(one["effects"], expected.effects, atol=1e-4)
        np.testing.assert_allclose(one["half_width"], expected.half_width, atol=1e-4)
        level = float(concentration(expected.effects[None])[0])
        assert one["concentration"] == (None if np.isnan(level) else pytest.approx(level, abs=1e-4))
        assert (one["alarm"], one["kind"]) == (bool(expected.alarm), expected.kind)
        assert one["risk"] == pytest.approx(expected.risk, abs=1e-4)
        assert bool(one["reason"]) == one["alarm"]
    written = "".join(event["text"] for _, event in events if event["event"] == "text")
    assert "".join(written.split()) == "".join("".join(step.text for step in steps).split())
    last = events[-1][1]
    assert last["event"] == "end"
    assert (last["state"], last["stopped"], last["reason"]) == ("ended", False, "")
    assert "".join(last["answer"].split()) == "".join(steps[-1].text.split())
    assert {name: last[name] for name in row} == row  # by which it is listed again without reading all of them


def test_text_is_told_in_pieces_of_a_tenth_of_a_second_not_token_by_token(watched):
    _, row, events = watched
    pieces = sum(event["event"] == "text" for _, event in events)
    assert pieces < row["n_tokens"] / 2


def test_a_client_that_goes_is_said_to_have_and_what_there_was_is_told(local_engine):
    server = Server(local_engine)
    with listening(server) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        with ask(client, stream=True) as chunks:
            for chunk in chunks:
                if (chunk.model_extra or {}).get("trajkit", {}).get("step") == 0:
                    break
        wait_until(lambda: not server.history.open)
        row = newest(address)
        events = [event for _, event in events_of(address, row["id"])]
    assert events[-1]["reason"] == "the client went away"
    assert (events[-1]["state"], row["state"]) == ("stopped", "stopped")
    assert row["n_steps"] == sum(event["event"] == "step" for event in events) >= 1


def test_a_time_limit_is_said(local_engine):
    server = Server(local_engine, Limits(seconds=0.05))
    with listening(server) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        ask(client)
        last = events_of(address, newest(address)["id"])[-1][1]
    assert last["state"] == "stopped"
    assert "more than 0.05 s" in last["reason"]
