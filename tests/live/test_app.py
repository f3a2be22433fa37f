"""The server as OpenAI's own client sees it: the same tokens as ever, and beside them what they rest on."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import httpx
import numpy as np
import openai
import pytest

from tests.live.conftest import MODEL, listening, messages_about, run_alone
from trajkit.live.access import Access
from trajkit.live.app import Limits, Server

NAME = "s00-0"


def ask(client, name=NAME, **options):
    return client.chat.completions.create(
        model=MODEL, messages=messages_about(name), **({"temperature": 0, "seed": 0} | options)
    )


def wait_until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def text_of(stream_of_chunks):
    thinking, content, told, reason = "", "", [], None
    for chunk in stream_of_chunks:
        if "trajkit" in (chunk.model_extra or {}):
            told.append(chunk.model_extra["trajkit"])
        for choice in chunk.choices:
            thinking += (choice.delta.model_extra or {}).get("reasoning_content", "")
            content += choice.delta.content or ""
            reason = choice.finish_reason or reason
    return thinking, content, told, reason


def test_a_stream_is_what_the_model_writes_with_its_steps(client, demo_stream, demo_vlm):
    expected = demo_stream(NAME, temperature=0, seed=0)
    steps = list(expected)
    thinking, content, told, reason = text_of(ask(client, stream=True))
    written = demo_vlm.tokenizer.decode(expected.tokens, skip_special_tokens=True)
    assert "".join((thinking + "</think>" + content).split()) == "".join(written.split())
    found = [one for one in told if "step" in one]
    assert [one["text"] for one in found] == [step.text for step in steps]
    for one, step in zip(found, steps, strict=True):
        assert one["tokens"] == [step.token_start, step.token_end]
        strongest = one["effects"][0]
        np.testing.assert_allclose(strongest["effect"], step.effects[strongest["region"]], atol=1e-4)
        assert abs(strongest["effect"]) >= np.abs(step.effects).max() - 1e-4
        assert one["alarm"] == bool(step.alarm)
    assert reason == "stop"


def test_a_whole_answer_has_the_same_text_and_steps_as_a_stream(client):
    thinking, content, told, _ = text_of(ask(client, stream=True))
    whole = ask(client)
    message = whole.choices[0].message
    assert message.content == content
    assert message.model_extra["reasoning_content"] == message.model_extra["reasoning"] == thinking
    steps = whole.model_extra["trajkit"]["steps"]
    assert [one["text"] for one in steps] == [one["text"] for one in told if "step" in one]
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


def test_a_limit_of_tokens_is_the_reason_that_is_given_and_usage_is_told(client):
    chunks = list(ask(client, max_tokens=12, stream=True, stream_options={"include_usage": True}))
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == ["length"]
    assert chunks[-1].usage.completion_tokens == 12
    assert chunks[-1].choices == []


@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_an_alpha_as_asked_for_is_that_of_the_verdicts(alpha, client, demo_monitor):
    whole = ask(client, max_tokens=20, extra_body={"trajkit": {"alpha": alpha}})
    thresholds = {step["verdict"]["threshold"] for step in whole.model_extra["trajkit"]["steps"]}
    assert thresholds == {demo_monitor.at(alpha).threshold}
    assert thresholds != {demo_monitor.threshold}


@pytest.mark.parametrize("stream", [False, True])
def test_token_ids_are_told_to_who_asks(stream, client, demo_stream):
    expected = demo_stream(NAME, temperature=0, seed=0)
    list(expected)
    answer = ask(client, stream=stream, extra_body={"return_token_ids": True})
    choices = [choice for chunk in answer for choice in chunk.choices] if stream else answer.choices
    ids = [token for choice in choices for token in (choice.model_extra or {}).get("token_ids", ())]
    assert ids == expected.tokens


@pytest.mark.parametrize(("asked", "kind"), [("all", float), ("top", dict), ("none", type(None))])
def test_effects_as_asked_for(client, asked, kind):
    whole = ask(client, max_tokens=20, extra_body={"trajkit": {"effects": asked}})
    for step in whole.model_extra["trajkit"]["steps"]:
        effects = step.get("effects")
        assert isinstance(effects if effects is None else effects[0], kind)


def test_models_health_and_metrics(client, served):
    (model,) = client.models.list().data
    assert model.id == MODEL
    assert model.model_extra["trajkit"]["engine"] == "local"
    ask(client, max_tokens=12)
    assert httpx.get(f"{served[1]}/health").json()["status"] == "ok"
    metrics = httpx.get(f"{served[1]}/metrics").text
    assert 'trajkit_requests_total{outcome="ended"}' in metrics


def test_a_request_that_is_wrong_says_why_as_openai_does(client, served):
    with pytest.raises(openai.BadRequestError, match="temperature"):
        ask(client, temperature=-1)
    with pytest.raises(openai.BadRequestError, match=r"cannot alarm: alpha=0\.01 needs at least 99 groups"):
        ask(client, extra_body={"trajkit": {"alpha": 0.01}})
    with pytest.raises(openai.BadRequestError, match="logprobs are not told"):
        ask(client, logprobs=True)
    with pytest.raises(openai.NotFoundError, match="not served"):
        client.embeddings.create(model=MODEL, input="x")
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{served[1]}/v1/chat/completions", content=b"{", headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_client_that_goes_takes_its_run_with_it(client, served):
    server, _ = served
    with ask(client, stream=True) as chunks:
        for chunk in chunks:
            if chunk.choices and (chunk.choices[0].delta.model_extra or {}).get("reasoning"):
                break
    wait_until(lambda: server.places.taken == 0)
    wait_until(lambda: server.history.rows()[0]["state"] == "stopped")
    ask(client, max_tokens=5)  # and the next has its place


def test_those_who_wait_have_their_turn_and_too_many_are_refused(local_engine):
    server = Server(local_engine, Limits(runs=1, waiting=1))
    with listening(server) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(ask(client, max_tokens=80))) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_until(lambda: server.places.waiting == 1)
        with pytest.raises(openai.RateLimitError, match="1 requests wait"):
            ask(client)
        for thread in threads:
            thread.join()
        assert len(answers) == 2


def test_a_run_that_takes_too_long_is_stopped_and_what_there_is_of_it_answered(local_engine):
    server = Server(local_engine, Limits(seconds=0.01))
    with listening(server) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client:
        whole = ask(client)
    assert whole.model_extra["trajkit"]["stopped"]


def test_a_token_is_asked_for_where_there_is_one(local_engine):
    with listening(Server(local_engine, access=Access("secret"))) as address:
        assert httpx.get(f"{address}/health").status_code == 200
        assert httpx.get(f"{address}/v1/models").status_code == 401
        for key, status in (("wrong", 401), ("secret", 200)):
            headers = {"Authorization": f"Bearer {key}"}
            assert httpx.get(f"{address}/v1/models", headers=headers).status_code == status


def test_who_looks_on_sees_each_event_once_also_after_coming_back(client, served):
    _, address = served
    ask(client, max_tokens=60)
    run = httpx.get(f"{address}/api/runs").json()["runs"][0]
    where = f"{address}/api/runs/{run['id']}/events"
    events = [json.loads(line[5:]) for line in httpx.get(where).text.splitlines() if line.startswith("data:")]
    assert [events[0]["event"], events[-1]["event"]] == ["start", "end"]
    assert sum(one["event"] == "step" for one in events) == run["n_steps"]
    rest = httpx.get(where, headers={"Last-Event-ID": "2"}).text
    assert next(line for line in rest.splitlines() if line.startswith("id:")) == "id: 3"
    assert httpx.get(f"{address}/api/runs/nobody/events").status_code == 404


def test_policies_act_and_say_so(client):
    """On runs that alarm: stop leaves no answer, and the last chunk says that it was stopped."""
    stopped = [
        ask(client, name, temperature=1, seed=seed, extra_body={"trajkit": {"policy": "stop"}})
        for name in ("s00-0", "s01-1")
        for seed in range(3)
    ]
    for whole in stopped:
        own = whole.model_extra["trajkit"]
        decided = [step["decision"]["action"] for step in own["steps"] if step["decision"]]
        assert own["stopped"] == ("stop" in decided)


def test_the_other_ways_of_openais_client_work_too(client, served):
    whole = ask(client).choices[0].message.content
    with client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=messages_about(NAME), temperature=0, seed=0, stream=True
    ) as response:
        assert response.headers["X-Trajkit-Run"]
        lines = list(response.iter_lines())
    assert lines[-2:] == ["data: [DONE]", ""]
    assert not [line for line in lines if line and not line.startswith("data: ")]
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=messages_about(NAME), temperature=0)
    assert raw.parse().choices[0].message.content == whole
    with client.chat.completions.stream(model=MODEL, messages=messages_about(NAME), temperature=0) as events:
        for _ in events:
            pass
        assert events.get_final_completion().choices[0].message.content == whole

    async def ask_at_once():
        async with openai.AsyncOpenAI(base_url=f"{served[1]}/v1", api_key="none", max_retries=0) as asking:
            asked = {"model": MODEL, "messages": messages_about(NAME), "temperature": 0, "seed": 0}
            one, stream = await asyncio.gather(
                asking.chat.completions.create(**asked), asking.chat.completions.create(**asked, stream=True)
            )
            chunks = [chunk async for chunk in stream]
            return one.choices[0].message.content, text_of(chunks)[1]

    assert run_alone(ask_at_once()) == (whole, whole)


def test_a_client_that_drops_what_it_does_not_know_has_the_same_answer(client, served):
    """As gateways do: only what OpenAI documents is kept of a chunk."""
    known = {"choices": {"index", "delta", "finish_reason"}, "delta": {"role", "content"}}
    asked = {"messages": messages_about(NAME), "temperature": 0, "seed": 0, "stream": True}
    asked |= {"user": "me", "stream_options": {"include_usage": True}, "n": 1, "metadata": {"a": "b"}}
    content, reasons, usage = "", [], []
    for line in httpx.post(f"{served[1]}/v1/chat/completions", json=asked, timeout=60).text.split("\n\n"):
        if not line or line == "data: [DONE]":
            continue
        chunk = json.loads(line.removeprefix("data: "))
        assert {"id", "object", "created", "model", "choices"} <= set(chunk)
        usage += [chunk["usage"]] if chunk.get("usage") else []
        for choice in chunk["choices"]:
            kept = {name: value for name, value in choice.items() if name in known["choices"]}
            delta = {name: value for name, value in kept["delta"].items() if name in known["delta"]}
            content += delta.get("content") or ""
            reasons += [kept["finish_reason"]] if kept["finish_reason"] else []
    whole = ask(client)
    assert (content, reasons) == (whole.choices[0].message.content, ["stop"])
    assert usage == [whole.usage.model_dump(include={"prompt_tokens", "completion_tokens", "total_tokens"})]
