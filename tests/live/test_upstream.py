"""Another server generates, as recorded from vLLM: its answer passes unchanged, followed here, cut by a policy."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from dataclasses import replace

import openai
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from tests.live.conftest import MODEL, RECORDED, listening, messages_about, run_alone
from tests.live.test_app import ask, text_of, wait_until
from trajkit.attribution.explainer import Watching
from trajkit.live.app import Server
from trajkit.live.following import Followed, _News
from trajkit.live.request import _opened, parse_request
from trajkit.live.upstream import UpstreamEngine, UpstreamError, find_model
from trajkit.live.wishes import wished

_FAULTS = [("die", "in the middle"), ("stall", "sent nothing for 1 s"), ("nonsense", "no chunk of an answer")]


class Recorded:
    """Plays recorded answers, an event after `wait` seconds. after: events, after which it does as `then` says: "die",
    "stall", "nonsense"."""

    def __init__(self, name="s00-0.greedy", after=None, then="die", wait=0.001):
        self.events = (RECORDED / f"{name}.sse").read_text().split("\n\n")[:-1]
        self.after, self.then = after, then
        self.bodies, self.left, self.wait = [], 0, wait

    def app(self):
        return Starlette(
            routes=[
                Route("/v1/models", lambda request: JSONResponse({"data": [{"id": MODEL}]})),
                Route("/v1/chat/completions", self.answer, methods=["POST"]),
            ]
        )

    async def answer(self, request):
        self.bodies.append(await request.json())
        return StreamingResponse(self.play(), media_type="text/event-stream")

    async def play(self):
        try:
            for number, event in enumerate(self.events):
                if number == self.after:
                    if self.then == "stall":
                        await asyncio.sleep(30)
                    if self.then == "nonsense":
                        yield "data: {not json\n\n"
                    return
                yield event + "\n\n"
                await asyncio.sleep(self.wait)
        except asyncio.CancelledError:
            self.left += 1
            raise


@contextmanager
def before(recorded, demo_vlm, demo_estimator, monitor=None, **options):
    """(server, client) of a trajkit server over a recorded one."""
    with listening(recorded.app()) as other:
        engine = UpstreamEngine(f"{other}/v1", MODEL, Watching(demo_vlm, demo_estimator, monitor), **options)
        server = Server(engine)
        with (
            listening(server.app()) as address,
            openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client,
        ):
            yield server, client


def recorded_text(recorded):
    thinking = content = ""
    for event in recorded.events:
        if event.startswith("data: {"):
            for choice in json.loads(event[6:])["choices"]:
                thinking += choice["delta"].get("reasoning") or ""
                content += choice["delta"].get("content") or ""
    return thinking, content


@pytest.mark.parametrize("name", ["s00-0.greedy", "s01-0.plain", "s01-1.cut", "s00-1.sampled"])
def test_an_answer_passes_unchanged_and_is_followed(name, demo_vlm, demo_estimator, demo_monitor):
    recorded = Recorded(name)
    with before(recorded, demo_vlm, demo_estimator, demo_monitor) as (_, client):
        thinking, content, told, reason = text_of(ask(client, name.split(".")[0], stream=True))
    assert (thinking, content) == recorded_text(recorded)
    assert reason == ("length" if "cut" in name else "stop")
    steps = [one for one in told if "step" in one]
    said = "".join(one["text"] for one in steps)
    assert "".join(said.split()) == "".join((thinking + content).split())
    assert not any("unexplained" in one for one in told)


def test_steps_are_those_of_a_local_run(demo_vlm, demo_estimator, demo_monitor, demo_stream):
    expected = list(demo_stream("s00-0", temperature=0))
    with before(Recorded(), demo_vlm, demo_estimator, demo_monitor) as (_, client):
        told = text_of(ask(client, stream=True))[2]
    steps = [one for one in told if "step" in one]
    assert [one["text"] for one in steps] == [step.text for step in expected]
    for one, step in zip(steps, expected, strict=True):
        strongest = one["effects"][0]
        assert strongest["effect"] == pytest.approx(float(step.effects[strongest["region"]]), abs=1e-3)
        assert one["risk"] == pytest.approx(step.risk, abs=1e-4)


def test_the_request_is_passed_on_but_for_what_is_ours(demo_vlm, demo_estimator):
    recorded = Recorded()
    with before(recorded, demo_vlm, demo_estimator) as (_, client):
        ask(client, extra_body={"trajkit": {"effects": "none"}}, user="me")
    (body,) = recorded.bodies
    assert body["user"] == "me"
    assert "trajkit" not in body
    assert body["return_token_ids"]
    assert body["messages"] == messages_about("s00-0")


@pytest.mark.parametrize(("then", "said"), _FAULTS)
def test_a_server_that_fails_is_said_to_and_what_came_is_kept(then, said, demo_vlm, demo_estimator):
    with before(Recorded(after=20, then=then), demo_vlm, demo_estimator, stall=1.0) as (server, client):
        seen = []
        with pytest.raises(openai.APIError, match=said):
            seen.extend(ask(client, stream=True))
        assert text_of(seen)[0]
        wait_until(lambda: server.places.taken == 0)
        assert server.history.rows()[0]["state"] == "failed"


def test_asking_again_ends_where_the_policy_does(demo_vlm, demo_estimator, demo_monitor):
    recorded = Recorded("s00-1.sampled")
    eager = replace(demo_monitor, threshold=1e-6)  # alarms in every attempt
    with before(recorded, demo_vlm, demo_estimator, eager) as (_, client):
        asked = {"trajkit": {"policy": "ask again", "tries": 2}}
        told = text_of(ask(client, "s00-1", stream=True, extra_body=asked))[2]
    decided = [(one["attempt"], one["decision"]["action"]) for one in told if one.get("decision")]
    assert decided == [(0, "ask again"), (1, "ask again"), (2, "flag")]
    assert len(recorded.bodies) == 3


def test_runs_of_one_policy_share_passes(demo_vlm, demo_estimator, monkeypatch):
    from trajkit.attribution import follow

    sizes, read = [], follow.read_pieces
    monkeypatch.setattr(follow, "read_pieces", lambda vlm, pieces: sizes.append(len(pieces)) or read(vlm, pieces))
    engine = UpstreamEngine("http://127.0.0.1:9/v1", MODEL, Watching(demo_vlm, demo_estimator))
    wish = parse_request(json.dumps({"messages": messages_about("s00-0")}).encode()).wish
    groups = [engine._group(wished(engine.watching, wish)) for _ in range(2)]
    seen = []
    followed = [
        Followed(
            group,
            lambda group=group: group.join(messages=_opened(messages_about("s00-0"))),
            lambda follower: None,
            seen.append,
            seen.append,
        )
        for group in groups
    ]
    tokens = [
        token
        for event in Recorded().events
        if event.startswith("data: {")
        for choice in json.loads(event[6:])["choices"]
        for token in choice.get("token_ids") or ()
    ]
    engine.following._take([_News(of, tokens) for of in followed])
    assert sizes == [2]
    assert len(seen) == 2 * 4
    assert len({step.row for step in seen}) == 2


def test_a_client_that_goes_closes_the_upstream_request(demo_vlm, demo_estimator):
    recorded = Recorded(after=20, then="stall")
    with before(recorded, demo_vlm, demo_estimator) as (server, client):
        with ask(client, stream=True) as chunks:
            for number, _ in enumerate(chunks):
                if number > 20:
                    break
        wait_until(lambda: recorded.left == 1)
        wait_until(lambda: server.places.taken == 0)


def test_no_server_no_model(demo_vlm):
    with pytest.raises(UpstreamError, match="is the server up"):
        run_alone(find_model("http://127.0.0.1:9/v1", None))
    with listening(Recorded().app()) as other:
        assert run_alone(find_model(f"{other}/v1", None)) == MODEL
        with pytest.raises(UpstreamError, match="no model 'x'"):
            run_alone(find_model(f"{other}/v1", None, "x"))
