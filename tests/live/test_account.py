"""What is told of a run beside its answer: counted, logged, sent to webhooks; none of it quotes anybody."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.live.conftest import MODEL, QUESTIONS, listening, messages_about
from tests.live.scripted import Scripted, until_cancelled
from tests.live.test_app import wait_until
from tests.live.test_run import raw, serving
from tests.live.test_webhooks import SECRET, Receiver
from trajkit.attribution.explainer import Watching
from trajkit.detection.policies import Policy
from trajkit.live.app import Server
from trajkit.live.generation import failed_by
from trajkit.live.local import LocalEngine
from trajkit.live.logs import FIELDS, logging_to
from trajkit.live.webhooks import Signer, Webhooks

NAME = "s00-1"  # whose answer is no bare number, which a log may hold for another reason
QUESTION = QUESTIONS[NAME]["question"]
ENDS = ("run.ended", "run.failed")
SAID = "what the model said of the picture"


@pytest.fixture(scope="module")
def alarming(demo_vlm, demo_estimator, demo_monitor):
    """An engine whose monitor alarms at the first step, and whose policy then ends the run."""
    return LocalEngine(Watching(demo_vlm, demo_estimator, replace(demo_monitor, threshold=0.0), Policy("stop")), MODEL)


def told(engine, texts=False, level="info", **options):
    """(answer, bodies of webhooks, lines of the log, metrics) of one run of a server."""
    receiver, stream = Receiver(), io.StringIO()
    with logging_to(stream, "json", level), receiver.listening() as url:
        server = Server(engine, webhooks=Webhooks([url], Signer(SECRET), texts))
        with listening(server) as address:
            asked = {"messages": messages_about(NAME), "temperature": 0, "seed": 0} | options
            answer = httpx.post(f"{address}/v1/chat/completions", json=asked, timeout=60)
            wait_until(
                lambda: any(json.loads(body)["type"] in ("run.ended", "run.failed") for _, body, _ in receiver.got)
            )
            metrics = httpx.get(f"{address}/metrics")
    *lines, last = stream.getvalue().splitlines()
    assert json.loads(last)["event"] == "closing"
    return answer, [body.decode() for _, body, _ in receiver.got], lines, metrics


def test_an_alarm_a_decision_and_the_end_are_told_in_numbers_alone(alarming):
    answer, bodies, lines, _ = told(alarming)
    run, whole = answer.headers["X-Trajkit-Run"], answer.json()
    steps = whole["trajkit"]["steps"]
    step = steps[0]
    hooks = [json.loads(body) for body in bodies]
    assert [hook["type"] for hook in hooks] == ["run.alarm", "run.decision", "run.ended"]
    assert {(hook["data"]["run"], hook["data"]["model"]) for hook in hooks} == {(run, MODEL)}
    alarm, decision, end = (hook["data"] for hook in hooks)
    assert (alarm["step"], alarm["risk"], alarm["tokens"]) == (1, step["risk"], step["tokens"])
    assert (decision["action"], decision["attempt"]) == ("stop", 0)
    assert (end["outcome"], end["n_steps"], end["alarm_step"]) == ("stopped", len(steps), 1)
    assert end["n_tokens"] == whole["usage"]["completion_tokens"]
    assert 0 <= end["waited"] <= end["first_step"] <= end["seconds"] < 60
    found = [json.loads(line) for line in lines]
    assert [(line["event"], line["run"]) for line in found] == [
        (event, run) for event in ("start", "verdict", "decision", "end")
    ]
    assert (found[1]["level"], found[1]["alarm"], found[2]["action"]) == ("warning", True, "stop")
    assert {name: found[3][name] for name in ("outcome", "seconds", "n_tokens", "n_steps")} == {
        name: end[name] for name in ("outcome", "seconds", "n_tokens", "n_steps")
    }
    documented = {"time", "level", "event", "message", *FIELDS}
    assert all(set(line) <= documented for line in found)
    for text in (*bodies, *lines):
        assert QUESTION not in text
        assert step["text"] not in text


def test_texts_are_sent_where_they_are_asked_for_and_are_never_logged(alarming):
    answer, bodies, lines, _ = told(alarming, texts=True, level="debug", trajkit={"policy": "flag"})
    whole = answer.json()
    hooks = {hook["type"]: hook["data"] for hook in map(json.loads, bodies)}
    assert hooks["run.alarm"]["text"] == whole["trajkit"]["steps"][0]["text"]
    assert hooks["run.alarm"]["question"] == QUESTION
    assert hooks["run.ended"]["answer"] == whole["choices"][0]["message"]["content"]
    log = "\n".join(lines)
    assert "request" in {json.loads(line)["event"] for line in lines}
    assert not [step["text"] for step in whole["trajkit"]["steps"] if json.dumps(step["text"])[1:-1] in log]
    assert QUESTION not in log


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_is_told_by_its_kind(stream):
    engine = Scripted(lambda put, cancelled: put(failed_by(ValueError(SAID), tokens=7)))
    answer, bodies, lines, metrics = told(engine, stream=stream)
    assert SAID in answer.text  # the client may know
    (hook,) = map(json.loads, bodies)
    assert (hook["type"], hook["data"]["kind"], hook["data"]["outcome"]) == ("run.failed", "ValueError", "failed")
    end = json.loads(lines[-1])
    assert (end["event"], end["level"], end["kind"]) == ("end", "error", "ValueError")
    assert not [text for text in (*bodies, *lines) if SAID in text]
    assert 'trajkit_requests_total{outcome="failed"} 1.0' in metrics.text
    assert end["n_tokens"] == hook["data"]["n_tokens"] == 7
    assert "trajkit_generated_tokens_total 7.0" in metrics.text


def test_what_is_refused_is_logged_by_status_and_kind_alone():
    stream = io.StringIO()
    with logging_to(stream, "json"), listening(Server(Scripted())) as address:
        httpx.post(f"{address}/v1/chat/completions", json={"messages": SAID})
        httpx.get(f"{address}/v1/models", headers={"Host": "evil.example"})
        metrics = httpx.get(f"{address}/metrics").text
    *found, last = map(json.loads, stream.getvalue().splitlines())
    assert last["event"] == "closing"
    assert [(line["event"], line["status"], line["kind"]) for line in found] == [
        ("refused", 400, "invalid_request_error"),
        ("refused", 421, "invalid_request_error"),
    ]
    assert SAID not in stream.getvalue()
    assert 'trajkit_requests_total{outcome="refused"} 2.0' in metrics


def test_metrics_are_named_and_typed_as_prometheus_asks_and_count_what_happened(alarming):
    answer, _, _, metrics = told(alarming)
    assert metrics.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(metrics.text)}
    values = {
        sample.name: sample.value for family in families.values() for sample in family.samples if not sample.labels
    }
    for name, family in families.items():
        assert re.fullmatch(r"trajkit_[a-z]+(_[a-z]+)*", name)
        assert family.documentation.endswith(".")
        assert family.type in ("counter", "gauge", "histogram")
        assert not re.search(r"_(total|count|sum|bucket|ms|milliseconds|counter|gauge|histogram)$", name)
        assert (family.type == "histogram") == name.endswith("_seconds")
        counted = {sample.name.removeprefix(name) for sample in family.samples}
        assert counted <= {"counter": {"_total", "_created"}, "gauge": {""}}.get(
            family.type, {"_bucket", "_sum", "_count", "_created"}
        )
    assert values["trajkit_generated_tokens_total"] == answer.json()["usage"]["completion_tokens"]
    n_steps = len(answer.json()["trajkit"]["steps"])
    assert (values["trajkit_steps_total"], values["trajkit_alarmed_runs_total"]) == (n_steps, 1)
    for name, n in (("first_step", 1), ("step_delay", n_steps), ("run", 1), ("queue_wait", 1)):
        assert values[f"trajkit_{name}_seconds_count"] == n
        assert 0 < values[f"trajkit_{name}_seconds_sum"] < 60
    labelled = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert labelled["trajkit_decisions_total", "stop"] == 1
    assert labelled["trajkit_requests_total", "stopped"] == 1
    assert labelled["trajkit_requests_total", "left"] == 0
    assert labelled["trajkit_webhooks_total", "sent"] == 3


def test_gauges_are_of_now():

    def values(client):
        return {
            line.split()[0]: float(line.split()[1])
            for line in client.get("/metrics").text.splitlines()
            if line[0] != "#"
        }

    with serving(Scripted(until_cancelled)) as (server, client), raw(client) as first, raw(client):
        wait_until(lambda: server.places.waiting == 1)
        run = client.get("/api/runs").json()["runs"][-1]["id"]
        with client.stream("GET", f"/api/runs/{run}/events"):
            wait_until(lambda: values(client)["trajkit_viewers"] == 1)
            found = values(client)
            assert (found["trajkit_runs_running"], found["trajkit_requests_waiting"]) == (1, 1)
        wait_until(lambda: values(client)["trajkit_viewers"] == 0)
        first.close()
        wait_until(lambda: values(client)["trajkit_requests_waiting"] == 0)
