"""The page beside a run in this process: the run is shown as it goes on, and stays what it is without a beside."""

from __future__ import annotations

import httpx
import pytest

from tests.live.test_app import wait_until
from tests.live.test_faults import Viewer
from tests.live.watching import events_of, newest
from trajkit.errors import InputError
from trajkit.live.beside import Beside

NAME = "s01-1"


@pytest.fixture
def beside(demo_vlm, demo_monitor):
    with Beside(demo_vlm, demo_monitor) as beside:
        yield beside


def begin(beside, demo_stream, **options):
    running = demo_stream(NAME, on_token=beside.token, on_step=beside.step, **{"temperature": 0, "seed": 0} | options)
    beside.begun(running)
    return running


def test_a_run_is_shown_while_it_goes_on_and_when_it_is_over(beside, demo_stream):
    plain = list(demo_stream(NAME, temperature=0, seed=0))
    running = begin(beside, demo_stream)
    viewer = Viewer(beside.address, newest(beside.address)["id"])
    steps = [next(running)]
    wait_until(lambda: any(event["event"] == "step" for _, event in viewer.seen))
    steps += running
    beside.over()
    viewer.join(10)
    assert [step.text for step in steps] == [step.text for step in plain]
    told = [event for _, event in viewer.seen]
    assert [one["text"] for one in told if one["event"] == "step"] == [step.text for step in steps]
    written = "".join(one["text"] for one in told if one["event"] == "text")
    assert "".join(written.split()) == "".join("".join(step.text for step in steps).split())
    assert (told[0]["event"], told[-1]["event"], told[-1]["state"]) == ("start", "end", "ended")
    assert events_of(beside.address, newest(beside.address)["id"]) == viewer.seen
    assert httpx.get(beside.address).headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [(KeyboardInterrupt(), "stopped", "it was stopped"), (InputError("it is not finite"), "failed", "not finite")],
)
def test_a_run_that_was_stopped_says_why(beside, demo_stream, error, state, reason):
    running = begin(beside, demo_stream)
    next(running)
    running.close()
    beside.over(error)
    told = events_of(beside.address, newest(beside.address)["id"])
    assert told[-1][1]["state"] == state
    assert reason in told[-1][1]["reason"]


def test_another_run_on_its_port_is_refused(beside, demo_vlm):
    with pytest.raises(InputError, match="choose another --port"):
        Beside(demo_vlm, None, int(beside.address.rsplit(":", 1)[1]))
