"""`trajkit serve` from a shell: what it refuses, and a server that logs JSON, asks for a token and sends webhooks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import httpx
import pytest

from tests.live.conftest import messages_about
from tests.live.test_app import wait_until
from tests.live.test_webhooks import SECRET, Receiver


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "set --token"),
        (["--token", "two words"], "without spaces"),
        (["--allow-host", "https://a"], "--allow-host takes a name"),
        (["--allow-origin", "example.org"], "--allow-origin takes a scheme"),
        (["--webhook", "http://localhost:1/"], "set a secret"),
        (["--webhook-text"], "name where with --webhook"),
        (["--webhook", "localhost:1", "--webhook-secret", SECRET], "goes to an address"),
        (["--webhook", "http://localhost:1/", "--webhook-secret", "hunter2"], "whsec_"),
        (["--log-format", "xml"], "json"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_loaded(cli, arguments, said, monkeypatch):
    monkeypatch.delenv("TRAJKIT_WEBHOOK_SECRET", raising=False)
    result = cli("serve", "--model", "/nothing/here", *arguments)
    result.assert_one_line_error(said)
    assert result.code == 2
    assert "hunter2" not in result.err


def test_its_many_options_stand_in_groups(cli):
    said = cli("serve", "--help").out
    heads = ("Options", "Address and access", "Another server generates", "Load", "Webhooks", "Log")
    places = [said.index(f"─ {head} ─") for head in heads]
    assert places == sorted(places)
    assert places[1] < said.index("--allow-host") < places[2] < said.index("--upstream-model") < places[3]


def test_a_server_as_it_runs_in_production():
    """A token, JSON lines, webhooks: one that fails at first is sent at the latest when the server is told to stop."""
    receiver, lines = Receiver(500), []
    environment = os.environ | {"TRAJKIT_TOKEN": "s3cret", "TRAJKIT_WEBHOOK_SECRET": SECRET}
    with receiver.listening() as url:
        command = [sys.executable, "-m", "trajkit", "serve", "--port", "0", "--log-format", "json", "--webhook", url]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8", env=environment)
        threading.Thread(target=lambda: lines.extend(iter(process.stderr.readline, "")), daemon=True).start()
        try:
            wait_until(lambda: lines or process.poll() is not None, 60)
            address = json.loads(lines[0])["address"]
            asked = {"messages": messages_about("s00-0"), "max_tokens": 30}
            assert httpx.post(f"{address}/v1/chat/completions", json=asked).status_code == 401
            bearing = {"Authorization": "Bearer s3cret"}
            answer = httpx.post(f"{address}/v1/chat/completions", json=asked, headers=bearing, timeout=60)
            assert answer.json()["choices"][0]["finish_reason"] == "length"
            run = answer.headers["X-Trajkit-Run"]
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(30)
    assert code == 143
    sent = [json.loads(body) for _, body, _ in receiver.got]
    assert {hook["data"]["run"] for hook in sent} == {run}
    assert sent[-1]["type"] == "run.ended"
    assert len(receiver.got) >= 2  # the first of them was not taken
    told = [json.loads(line) for line in lines if not line.startswith("trajkit: ")]
    assert [one["event"] for one in told if one["event"] not in ("verdict", "webhook")] == [
        "listening",
        "refused",
        "start",
        "end",
        "closing",
    ]
    assert [line for line in lines if line.startswith("trajkit: ")] in ([], ["trajkit: stopped.\n"])
    assert "s3cret" not in "".join(lines)
