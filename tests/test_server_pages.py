"""What docs/server.md and docs/page.md show is run as it stands: against a server that is started as they say."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from trajkit.demo import paths

DOCS = paths.ROOT / "docs"
SERVER, PAGE = DOCS / "server.md", DOCS / "page.md"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def commands(page: Path) -> list[list[str]]:
    """Words of every `trajkit …` line."""
    lines = "".join(blocks(page, "sh")).splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("trajkit ")]


@contextmanager
def running(folder: Path, *arguments: str):
    """The address that a command of trajkit prints, while it runs in `folder`."""
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT), "TRAJKIT_WEBHOOK_SECRET": SECRET}
    process = subprocess.Popen(
        [sys.executable, "-m", "trajkit", *arguments], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        for line in process.stderr:
            if found := re.search(r"http://\S+?:\d+", line):
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield found[0]
                break
        else:
            pytest.fail("it ended without an address")
    finally:
        process.terminate()
        assert process.wait(30) in (0, 143, -15)


@contextmanager
def receiver():
    """An address that takes webhooks, and what it has got: (headers, body)."""
    got: list[tuple[dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            headers = {name.lower(): value for name, value in self.headers.items()}
            got.append((headers, self.rfile.read(int(headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *what):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", got
    finally:
        server.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One in which `data/demo` is."""
    made = tmp_path_factory.mktemp("docs")
    (made / "data").symlink_to(paths.ROOT / "data")
    return made


@pytest.fixture(scope="module")
def served(folder):
    """(address, webhooks that came) of a server as the page starts one, but for its ports."""
    with (
        receiver() as (hook, got),
        running(folder, "serve", "--save", "runs", "--webhook", hook, "--port", "0") as address,
    ):
        yield address, got


def shell(block: str, folder: Path, **ports: str) -> str:
    for port, address in ports.items():
        block = block.replace(f"localhost:{port[1:]}", address.removeprefix("http://"))
    done = subprocess.run(["bash", "-euc", block], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_python_of_the_page_asks_and_knows_true_webhooks(served, folder, monkeypatch, capsys):
    address, got = served
    monkeypatch.chdir(folder)
    names: dict = {}
    for block in blocks(SERVER, "python"):
        exec(compile(block.replace("http://localhost:8321", address), str(SERVER), "exec"), names)
    *steps, last = capsys.readouterr().out.splitlines()
    assert len(steps) > 2
    assert re.match(r"0 \S.* 0\.\d+", steps[0])
    assert re.match(r"(True|False) \[0\.\d", last)
    assert len(names["told"]["steps"][0]["effects"]) == names["told"]["regions"]["k"]
    until(lambda: len(got) >= 2)
    is_genuine = names["is_genuine"]
    for headers, body in got:
        assert is_genuine(headers, body, SECRET)
        assert not is_genuine(headers, body + b" ", SECRET)
        assert not is_genuine(headers | {"webhook-timestamp": "1"}, body, SECRET)
        assert json.loads(body)["type"] in {"run.ended", "run.alarm", "run.decision"}


def test_curl_gets_the_answer_with_its_steps(served, folder):
    (asked,) = [block for block in blocks(SERVER, "sh") if "chat/completions" in block]
    answer = json.loads(shell(asked, folder, _8321=served[0]))
    assert answer["choices"][0]["message"]["content"]
    about = answer["trajkit"]
    assert set(about) >= set(fields("The object `trajkit`", 0)) - {"unexplained"}
    for step in about["steps"]:
        assert set(step) - {"run"} == set(fields("The object `trajkit`", 1)), "the table names every field"
        assert set(step["effects"][0]) == {"region", "box", "effect", "half_width"}


def fields(section: str, which: int) -> list[str]:
    """Names in the first column of a table of `| field | |` under a heading."""
    text = SERVER.read_text(encoding="utf-8").split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    table = re.split(r"^\| field \| \|\n", text, flags=re.M)[which + 1].split("\n\n", 1)[0]
    return re.findall(r"^\| `(\w+)` \|", table, re.M)


def test_health_and_metrics_are_read_as_the_page_says(served, folder):
    (block,) = [block for block in blocks(SERVER, "sh") if "/metrics" in block]
    told = shell(block, folder, _8321=served[0])
    assert '"status":"ok"' in told
    assert "# TYPE trajkit_" in told


def test_every_metric_and_every_field_of_the_log_is_in_its_table(served):
    from prometheus_client.parser import text_string_to_metric_families

    from trajkit.live.logs import FIELDS

    text = SERVER.read_text(encoding="utf-8")
    told = httpx.get(f"{served[0]}/metrics").text
    families = [one for one in text_string_to_metric_families(told) if not one.name.endswith("_created")]
    kept = {f"{one.name}_total" if one.type == "counter" else one.name for one in families}
    assert set(re.findall(r"^\| `(trajkit_\w+)` \|", text, re.M)) == kept
    of_log = text.split("The log goes to stderr", 1)[1].split("The events:", 1)[0]
    assert dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", of_log, re.M)) == FIELDS


def test_every_command_is_one_that_trajkit_takes(folder, monkeypatch):
    from typer.main import get_command

    from trajkit.cli.main import app

    monkeypatch.chdir(folder)
    monkeypatch.setenv("TRAJKIT_WEBHOOK_SECRET", SECRET)
    known = get_command(app).commands
    found = [*commands(SERVER), *commands(PAGE)]
    assert len(found) >= 8
    for name, *arguments in found:
        known[name].make_context(name, arguments)


def test_saved_runs_are_asked_for_as_the_page_says(folder):
    (block,) = [block for block in blocks(PAGE, "sh") if "/api/runs" in block]
    with running(folder, "view", "data/demo/traces", "--port", "0") as address:
        found = json.loads(shell(block, folder, _8322=address))
    assert set(found) >= {"total", "all", "runs", "facets"}
    assert len(found["runs"]) == 3
    assert {run["outcome"] for run in found["runs"]} == {"hallucination"}


def test_the_report_of_the_page_is_written_of_the_runs_that_the_server_kept(served, folder):
    (asked,) = [block for block in blocks(SERVER, "sh") if "chat/completions" in block]
    run = json.loads(shell(asked, folder, _8321=served[0]))["trajkit"]["run"]
    (words,) = [words for words in commands(PAGE) if words[0] == "report"]

    def shown() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-m", "trajkit", *words],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(paths.ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        page = (folder / "report" / "index.html").read_text(encoding="utf-8")
        return [one["id"] for one in json.loads(re.search(r'id="payload">(.*?)</script>', page, re.S)[1])["runs"]]

    until(lambda: list((folder / "runs").glob("*.parquet")))
    until(lambda: run in shown())


@pytest.mark.parametrize("doc", [SERVER, PAGE], ids=["server", "page"])
def test_the_pages_that_are_named_are_there(doc):
    for target in re.findall(r"\]\((?!http)([^)#]*)", doc.read_text(encoding="utf-8")):
        assert not target or (doc.parent / target).exists(), target


def test_every_key_of_the_page_is_in_its_help():
    help_ = (paths.ROOT / "trajkit/live/page/dialogs.js").read_text(encoding="utf-8")
    listed = set(re.findall(r'^    \["([^"]+)"', help_, re.M)) | set(re.findall(r'\], \["([^"]+)"', help_))
    keys = {key for entry in listed for key in entry.split()}
    table = PAGE.read_text(encoding="utf-8").split("| key | |", 1)[1].split("\n\n", 1)[0]
    told = set(re.findall(r"`([^`]+)`", table)) | set("↓↑→←") & set(table)
    assert told <= keys | {"j", "k"}
    assert keys - {"Home", "End", "Tab"} <= told
