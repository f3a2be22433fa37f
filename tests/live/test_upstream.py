"""Another server generates, as recorded from vLLM: its answer passes unchanged, followed here, cut by a policy."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import openai
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from tests.live.conftest import MODEL, RECORDED, listening, messages_about, run_alone
from tests.live.test_app import ask, text_of, wait_until
from tests.traces.factory import make_trace
from trajkit.attribution.explainer import Watching
from trajkit.detection.policies import Policy
from trajkit.live.app import Limits, Server
from trajkit.live.following import Followed, _News
from trajkit.live.history import History
from trajkit.live.keeping import Keeper
from trajkit.live.other_server import OtherServer, UpstreamError, find_model
from trajkit.live.request import _opened
from trajkit.live.saved import SavedRuns
from trajkit.live.upstream import UpstreamEngine
from trajkit.traces.store import write_traces

_FAULTS = [("die", "in the middle"), ("stall", "sent nothing for 1 s"), ("nonsense", "no chunk of an answer")]


class Recorded:
    """Plays recorded answers, an event after `wait` seconds. after: events, after which it does as `then` says: "die",
    "stall", "nonsense". change: of each chunk. refuses: fields of a request that it answers with 422."""

    def __init__(self, name="s00-0.greedy", after=None, then="die", wait=0.001, change=lambda chunk: None, refuses=()):
        self.events = (RECORDED / f"{name}.sse").read_text().split("\n\n")[:-1]
        for at, event in enumerate(self.events):
            if event.startswith("data: {"):
                change(chunk := json.loads(event[6:]))
                self.events[at] = f"data: {json.dumps(chunk, ensure_ascii=False)}"
        self.after, self.then, self.refuses = after, then, refuses
        self.bodies, self.left, self.wait = [], 0, wait

    @property
    def choices(self):
        chunks = [json.loads(event[6:]) for event in self.events if event.startswith("data: {")]
        return [choice for chunk in chunks for choice in chunk["choices"]]

    @property
    def tokens(self):
        return [token for choice in self.choices for token in choice.get("token_ids") or ()]

    def app(self):
        return Starlette(
            routes=[
                Route("/v1/models", lambda request: JSONResponse({"data": [{"id": MODEL}]})),
                Route("/v1/chat/completions", self.answer, methods=["POST"]),
            ]
        )

    async def answer(self, request):
        self.bodies.append(await request.json())
        if any(name in self.bodies[-1] for name in self.refuses):
            return JSONResponse({"error": "unknown field"}, 422)
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
        server = Server(engine, Limits(runs=8))
        with (
            listening(server) as address,
            openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client,
        ):
            yield server, client


def recorded_text(recorded):
    thinking = content = ""
    for choice in recorded.choices:
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


def test_a_server_that_has_ended_leaves_no_thread_behind(demo_vlm, demo_estimator, tmp_path):
    write_traces([make_trace(0)], tmp_path / "saved.parquet")
    with listening(Recorded().app()) as other:
        there = set(threading.enumerate())
        engine = UpstreamEngine(f"{other}/v1", MODEL, Watching(demo_vlm, demo_estimator, None))
        history, saved = History(keeper=Keeper(tmp_path / "kept")), SavedRuns(tmp_path / "saved.parquet")
        server = Server(engine, history=history, sources=[saved])
        with listening(server) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client:
            ask(client)
            began = {thread.name for thread in set(threading.enumerate()) - there}
        assert began > {"trajkit-following", "trajkit-keeper", "trajkit-saved-runs"}
        wait_until(lambda: not set(threading.enumerate()) - there)


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
    recorded = Recorded(after=20, then=then)
    with before(recorded, demo_vlm, demo_estimator, stall=1.0) as (server, client):
        seen = []
        with pytest.raises(openai.APIError, match=said):
            seen.extend(ask(client, stream=True))
        assert [one["text"] for one in steps_of(text_of(seen)[2])] == [
            "row 5 col 1 is blue 1.",
            "row 6 col 1 is orange 0.",
        ]
        wait_until(lambda: server.places.taken == 0)
        assert server.history.rows()[0]["state"] == "failed"
        sent = sum(len(choice.get("token_ids") or ()) for choice in recorded.choices[: recorded.after])
        assert abs(server.metrics.tokens._value.get() - sent) <= 1 < sent


def test_asking_again_ends_where_the_policy_does(demo_vlm, demo_estimator, demo_monitor):
    recorded = Recorded("s00-1.sampled")
    eager = replace(demo_monitor, threshold=1e-6)  # alarms in every attempt
    with before(recorded, demo_vlm, demo_estimator, eager) as (_, client):
        asked = {"trajkit": {"policy": "ask again", "tries": 2}}
        told = text_of(ask(client, "s00-1", stream=True, extra_body=asked))[2]
        whole = ask(client, "s00-1", extra_body=asked | {"return_token_ids": True})
    assert whole.choices[0].model_extra["token_ids"] == recorded.tokens  # of the last attempt alone
    decided = [(one["attempt"], one["decision"]["action"]) for one in told if one.get("decision")]
    assert decided == [(0, "ask again"), (1, "ask again"), (2, "flag")]
    assert len(recorded.bodies) == 2 * 3


def test_runs_share_passes_whatever_their_policy_and_alpha(demo_vlm, demo_estimator, demo_monitor, monkeypatch):
    from trajkit.attribution import follow

    sizes, read = [], follow.read_pieces
    monkeypatch.setattr(follow, "read_pieces", lambda vlm, pieces: sizes.append(len(pieces)) or read(vlm, pieces))
    engine = UpstreamEngine("http://127.0.0.1:9/v1", MODEL, Watching(demo_vlm, demo_estimator, demo_monitor))
    seen = []
    watched = [{"monitor": demo_monitor, "policy": Policy("stop")}, {"monitor": replace(demo_monitor, threshold=1e-6)}]
    followed = [
        Followed(
            engine.group,
            lambda own=own: engine.group.join(messages=_opened(messages_about("s00-0")), **own),
            lambda follower: None,
            seen.append,
            seen.append,
        )
        for own in watched
    ]
    engine.following._take([_News(of, Recorded().tokens) for of in followed])
    assert sizes == [2]
    assert len(seen) == 2 * 20
    engine.following.close()
    assert {step.row: step.verdict.threshold for step in seen} == {0: demo_monitor.threshold, 1: 1e-6}


def test_a_client_that_goes_closes_the_upstream_request(demo_vlm, demo_estimator):
    recorded = Recorded(after=20, then="stall")
    with before(recorded, demo_vlm, demo_estimator) as (server, client):
        with ask(client, stream=True) as chunks:
            for number, _ in enumerate(chunks):
                if number > 20:
                    break
        wait_until(lambda: recorded.left == 1)
        wait_until(lambda: server.places.taken == 0)


def test_an_error_that_goes_on_without_end_is_quoted_and_read_no_further():
    taken = []

    async def refuse(request):
        async def words():
            for _ in range(500):
                taken.append(1)
                yield b"no " * 2**16
                await asyncio.sleep(0.002)

        return StreamingResponse(words(), 500)

    async def ask_of(url):
        with pytest.raises(UpstreamError, match="answers 500: no no"):
            await anext(OtherServer(url).chunks({}, []))

    with listening(Starlette(routes=[Route("/v1/chat/completions", refuse, methods=["POST"])])) as address:
        run_alone(ask_of(f"{address}/v1"))
    assert len(taken) < 400


def test_no_server_no_model(demo_vlm):
    with pytest.raises(UpstreamError, match="is the server up"):
        find_model("http://127.0.0.1:9/v1", None)
    with listening(Recorded().app()) as other:
        assert find_model(f"{other}/v1", None) == MODEL
        with pytest.raises(UpstreamError, match="no model 'x'"):
            find_model(f"{other}/v1", None, "x")


def without_ids(chunk):
    """As of a server that tells neither token ids nor log-probabilities."""
    chunk.pop("prompt_token_ids", None)
    for choice in chunk["choices"]:
        choice |= {"token_ids": None, "logprobs": None}


def changed(*changes):
    return lambda chunk: [change(chunk) for change in changes]


def recount(by, what="completion_tokens"):
    def change(chunk):
        if "usage" in chunk:
            chunk["usage"][what] += by

    return change


def steps_of(told):
    return [one for one in told if "step" in one]


def texts(told):
    return [one["text"] for one in steps_of(told)]


def unexplained(told):
    return [one["unexplained"] for one in told if "unexplained" in one]


@pytest.mark.parametrize("name", ["s00-0.greedy", "s00-1.sampled", "s01-1.cut"])
def test_ids_made_from_text_are_counted_and_give_the_same_steps(name, demo_vlm, demo_estimator, demo_monitor):
    answers = []
    for change in (lambda chunk: None, without_ids):
        recorded = Recorded(name, change=change)
        with before(recorded, demo_vlm, demo_estimator, demo_monitor) as (_, client):
            answers.append(text_of(ask(client, name.split(".")[0], stream=True))[2])
    told, made = answers
    assert [told[-1]["token_ids"], made[-1]["token_ids"]] == ["told", "made"]
    assert unexplained(made) == []
    for one, other in zip(steps_of(told), steps_of(made), strict=True):
        assert [one["text"], one["tokens"]] == [other["text"], other["tokens"]]
        for effect, same in zip(one["effects"], other["effects"], strict=True):
            assert effect["region"] == same["region"]
            assert effect["effect"] == pytest.approx(same["effect"], abs=1e-4)


@pytest.mark.parametrize("by", [3, -2])
def test_another_count_is_said_once_at_the_end(by, demo_vlm, demo_estimator, caplog):
    recorded = Recorded(change=changed(without_ids, recount(by)))
    with before(recorded, demo_vlm, demo_estimator) as (server, client):
        told = text_of(ask(client, stream=True))[2]
        whole = ask(client).model_extra["trajkit"]
        log = server.history.rows()[0]["id"]
        events = [json.loads(event) for event in server.history.get(log).events]
    (said,) = unexplained(told)
    assert f"makes 147 tokens here where it wrote {148 + by}" in said
    assert whole["unexplained"] == said
    assert [event["message"] for event in events if event["event"] == "unexplained"] == [said]
    assert said in caplog.text
    assert steps_of(told)


def test_text_that_is_none_of_the_models_ends_the_steps_and_not_the_answer(demo_vlm, demo_estimator, demo_monitor):
    def strange(chunk):
        for choice in chunk["choices"]:
            if choice["delta"].get("reasoning") == " orange":
                choice["delta"]["reasoning"] = " turquoise"

    recorded = Recorded(change=changed(without_ids, strange))
    with before(recorded, demo_vlm, demo_estimator, demo_monitor) as (_, client):
        thinking, content, told, _ = text_of(ask(client, stream=True))
    assert (thinking, content) == recorded_text(recorded)
    assert [one["text"] for one in steps_of(told)] == ["row 5 col 1 is blue 1."]
    (said,) = unexplained(told)
    assert "' turquoise', which no tokens of this model's make" in said


def test_more_tokens_than_there_are_log_probabilities_are_none_of_what_was_written(demo_vlm, demo_estimator):
    def merged(chunk):
        chunk.pop("prompt_token_ids", None)
        for choice in chunk["choices"]:
            choice["token_ids"] = None
            if choice["delta"].get("reasoning") == " orange":  # one token there, two here
                choice["delta"]["reasoning"] = " orange green"

    with before(Recorded(change=merged), demo_vlm, demo_estimator) as (_, client):
        told = text_of(ask(client, stream=True))[2]
    assert len(steps_of(told)) == 1
    assert "makes 15 tokens here where it wrote 14" in unexplained(told)[0]


def test_another_prompt_is_said(demo_vlm, demo_estimator):
    recorded = Recorded(change=changed(without_ids, recount(5, "prompt_tokens")))
    with before(recorded, demo_vlm, demo_estimator) as (_, client):
        told = text_of(ask(client, stream=True))[2]
    assert "counts 60 tokens of the prompt, and the one made here has 55" in unexplained(told)[0]


def test_another_prompt_is_found_before_any_step_where_its_ids_are_told(demo_vlm, demo_estimator):
    def other(chunk):
        if chunk.get("prompt_token_ids"):
            chunk["prompt_token_ids"][-3] += 1

    recorded = Recorded(change=other)
    with before(recorded, demo_vlm, demo_estimator) as (_, client):
        thinking, content, told, _ = text_of(ask(client, stream=True))
    assert (thinking, content) == recorded_text(recorded)
    assert steps_of(told) == []
    (said,) = unexplained(told)
    assert "the other engine's prompt is not the one made here: 1 and 2 at position 52" in said


@pytest.mark.parametrize("asked", [{}, {"return_token_ids": True}, {"logprobs": True, "top_logprobs": 5}])
def test_ids_logprobs_and_usage_are_told_to_who_asks_and_to_nobody_else(asked, demo_vlm, demo_estimator):
    recorded = Recorded()
    with before(recorded, demo_vlm, demo_estimator, check_logprobs=True) as (_, client):
        usage = {"stream_options": {"include_usage": True}} if asked else {}
        chunks = list(ask(client, stream=True, extra_body=asked, **usage))
        whole = ask(client, extra_body=asked)
    assert recorded.bodies[0]["stream_options"] == {"include_usage": True}
    assert recorded.bodies[0]["logprobs"]
    choices = [choice for chunk in chunks for choice in chunk.choices]
    ids = [token for choice in choices for token in (choice.model_extra or {}).get("token_ids", ())]
    assert ids == (recorded.tokens if "return_token_ids" in asked else [])
    assert (whole.choices[0].model_extra.get("token_ids") or []) == ids
    told = [choice["logprobs"] for choice in recorded.choices if choice["logprobs"]]
    got = [choice.logprobs.model_dump() for choice in choices if choice.logprobs]
    assert [one["content"] for one in got] == ([one["content"] for one in told] if "logprobs" in asked else [])
    assert len(whole.choices[0].logprobs.content if whole.choices[0].logprobs else []) == len(got)
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == ([148] if asked else [])
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (55, 148)


@pytest.mark.parametrize("by", [0.0, -0.001, -0.5])
def test_log_probabilities_of_other_weights_are_told_apart_from_rounding(by, demo_vlm, demo_estimator):
    def moved(chunk):
        for choice in chunk["choices"]:
            for entry in (choice["logprobs"] or {}).get("content") or ():
                entry["logprob"] += by

    with before(Recorded(change=moved), demo_vlm, demo_estimator, check_logprobs=True) as (_, client):
        told = text_of(ask(client, stream=True))[2]
    assert told[-1]["logprob_difference"] == pytest.approx(-by, abs=1e-5)
    assert [("serves other weights" in said) for said in unexplained(told)] == [True] * bool(by)


def test_a_server_that_refuses_what_is_asked_besides_is_asked_without_it_and_remembered(demo_vlm, demo_estimator):
    recorded = Recorded(change=without_ids, refuses=("return_token_ids",))
    with before(recorded, demo_vlm, demo_estimator) as (_, client):
        told = [text_of(ask(client, stream=True))[2] for _ in range(2)]
        assert ["return_token_ids" in body for body in recorded.bodies] == [True, False, False]
        with pytest.raises(openai.BadRequestError, match="unknown field"):
            ask(client, extra_body={"return_token_ids": True})
    assert [one[-1]["token_ids"] for one in told] == ["made", "made"]
    recorded = Recorded(change=without_ids, refuses=("return_token_ids", "stream_options"))
    recorded.events = [event for event in recorded.events if '"usage"' not in event]
    with before(recorded, demo_vlm, demo_estimator) as (_, client):
        assert text_of(ask(client, stream=True))[2][-1]["token_ids"] == "unchecked"


def test_what_python_takes_for_the_end_of_a_line_passes_and_so_does_an_answer_cut_after_its_end(
    demo_vlm, demo_estimator
):
    def odd(chunk):
        for choice in chunk["choices"]:
            if choice["delta"].get("content") == " 2":
                choice["delta"]["content"] = "\u20282\x85"

    recorded = Recorded(change=odd)
    recorded.events = recorded.events[:-2]  # neither a count nor [DONE]
    with before(recorded, demo_vlm, demo_estimator) as (_, client):
        _, content, told, reason = text_of(ask(client, stream=True))
    assert content == "\u20282\x85"
    assert reason == "stop"
    assert unexplained(told) == []


def test_many_clients_at_once_each_have_their_own_steps(demo_vlm, demo_estimator, demo_monitor):
    with before(Recorded(), demo_vlm, demo_estimator, demo_monitor) as (server, client):
        alone = steps_of(text_of(ask(client, stream=True))[2])
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: text_of(ask(client, stream=True)), range(8)))
        assert server.places.taken == 0
    for *_, told, _ in answers:
        for one, expected in zip(steps_of(told), alone, strict=True):
            assert [one["text"], one["tokens"], one["alarm"]] == [expected[key] for key in ("text", "tokens", "alarm")]
            assert one["risk"] == pytest.approx(expected["risk"], abs=1e-5)
