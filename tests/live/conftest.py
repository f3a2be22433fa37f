"""A server over the demo's model, listening for real, and another server that it can have before it."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

import trajkit as tk
from trajkit.attribution.explainer import Watching
from trajkit.demo import paths
from trajkit.live.app import Limits, Server
from trajkit.live.local import LocalEngine
from trajkit.live.serving import StoppedInOrder

RECORDED = Path(__file__).parent / "recorded"
QUESTIONS = {one["id"]: one for one in map(json.loads, (RECORDED / "questions.jsonl").read_text().splitlines())}
MODEL = "trajkit-demo"


def data_url(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def messages_about(name: str):
    """What the recorded question `name` asks."""
    asked = QUESTIONS[name]
    image = {"type": "image_url", "image_url": {"url": data_url(RECORDED / asked["image"])}}
    return [{"role": "user", "content": [image, {"type": "text", "text": asked["question"]}]}]


def run_alone(work):
    """What a coroutine returns, in a thread of its own: a browser of other tests may have left a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


@contextmanager
def listening(served, port=0, grace=5):
    """The address at which an application, or a `Server`, listens, in a thread of its own. A `Server` is finished."""
    app = served.app() if isinstance(served, Server) else served
    config = uvicorn.Config(app, port=port, log_level="warning", timeout_graceful_shutdown=grace)
    server = StoppedInOrder(config, served) if isinstance(served, Server) else uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
        assert thread.is_alive()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="session")
def demo_monitor():
    from trajkit.detection.store import load_detectors

    return load_detectors(paths.DETECTORS).monitor


@pytest.fixture(scope="session")
def local_engine(demo_vlm, demo_estimator, demo_monitor):
    return LocalEngine(Watching(demo_vlm, demo_estimator, demo_monitor), MODEL)


@pytest.fixture(scope="session")
def served(local_engine):
    """(server, address) over the demo's model."""
    server = Server(local_engine, Limits(runs=1, waiting=4))
    with listening(server) as address:
        yield server, address


@pytest.fixture
def client(served):
    from openai import OpenAI

    with OpenAI(base_url=f"{served[1]}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def demo_stream(demo_vlm, demo_estimator, demo_monitor):
    """What `tk.stream` gives for a question, to compare with."""

    def make(name, **options):
        from PIL import Image

        asked = QUESTIONS[name]
        image = Image.open(RECORDED / asked["image"]).convert("RGB")
        return tk.stream(demo_vlm, image, asked["question"], estimator=demo_estimator, monitor=demo_monitor, **options)

    return make
