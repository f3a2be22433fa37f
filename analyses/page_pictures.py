"""Pictures of the page, of real runs in a real browser, for README and docs.

    python -m analyses.page_pictures             # a minute; writes reports/page*.webp

None is picked by how it looks. `page`, `page-dark` and `page-phone` show the first run that fails and alarms and has at
least as many steps as the median run, in the order of data/demo/traces and among scenes of test digits, at its alarm;
`page-compare` shows it beside the first run of the same scene that is right; `page-list` shows the list of runs that
fail and alarm. `page-live` shows the first scene of the demo's seed while the model writes, once its fourth step is on
the page; it writes in slow motion, held still for a moment after each token, as it is faster than a camera. Needs a
`chromium` on the PATH.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Literal

import httpx
import numpy as np
from PIL import Image

import trajkit as tk
from trajkit.cli.demo import SEED
from trajkit.demo.items import demo_items
from trajkit.errors import InputError
from trajkit.files import replacing
from trajkit.traces.images import to_png

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DESKTOP, PHONE = (1440, 1080), (390, 844)
SCALE = 1.25
FAILING = ("hallucination", "reasoning_failure", "failure")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[str, int]]:
    """The address that a command of trajkit prints, and its process, while it runs."""
    process = subprocess.Popen([sys.executable, "-m", "trajkit", *arguments], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        found = next(filter(None, (re.search(r"http://\S+?:\d+", line) for line in process.stderr)), None)
        if found is None:
            raise InputError(f"trajkit {' '.join(arguments)} ended before it listened.")
        Thread(target=process.stderr.read, daemon=True).start()
        yield found[0], process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def chromium() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        raise InputError("the pictures need a `chromium` on the PATH.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


def shoot(
    browser: Browser,
    address: str,
    path: Path,
    size: tuple[int, int] = DESKTOP,
    scheme: Literal["light", "dark"] = "light",
    scale: float = SCALE,
) -> None:
    """A picture of what the page shows at an address, once it has been drawn."""
    page = browser.new_page(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        device_scale_factor=scale,
        reduced_motion="reduce",
    )
    page.goto(address)
    page.locator(".sentences li:visible, .runs li:visible").first.wait_for()
    page.wait_for_load_state("networkidle")
    keep(page, path)
    page.close()


def keep(page: Page, path: Path) -> None:
    """What a page shows now, as a small file."""
    picture = Image.open(io.BytesIO(page.screenshot()))
    with replacing(path) as stream:
        picture.convert("RGB").save(stream, "WEBP", quality=85, method=6)
    print(f"wrote {path}")


def runs(address: str, **asked: Any) -> list[dict[str, Any]]:
    """Rows of the list, once detectors have been asked about all runs."""
    while True:
        found = httpx.get(f"{address}/api/runs", params=asked | {"limit": 500}, timeout=60).json()
        if not found["live"]:
            return list(found["runs"])
        time.sleep(0.5)


class SlowMotion:
    """Holds a server still for a moment after each line of an answer that it sends."""

    def __init__(self, process: int, seconds: float = 0.1) -> None:
        self._process, self._seconds = process, seconds
        self._lock, self._over = Lock(), False

    def read(self, answer: httpx.Response) -> None:
        for _ in answer.iter_lines():
            with self._lock:
                if self._over:
                    return
                os.kill(self._process, signal.SIGSTOP)
                time.sleep(self._seconds)
                os.kill(self._process, signal.SIGCONT)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Still inside, and as fast as it is afterwards."""
        with self._lock:
            self._over = True
            os.kill(self._process, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process, signal.SIGCONT)


def saved(browser: Browser, traces: Path, out: Path) -> None:
    median = np.median([len(trace.steps) for trace in tk.read_traces(traces)])
    with serving("view", str(traces), "--port", "0") as (address, _):
        failing = runs(address, search="test-", alarmed="yes", outcome=FAILING)
        first = next(row for row in failing if row["n_steps"] >= median)
        right = next(
            row for row in runs(address, search=first["group"], outcome="success") if row["group"] == first["group"]
        )
        step = f"{address}/#run={first['id']}&step={first['alarm'] + 1}"
        shoot(browser, step, out / "page.webp")
        shoot(browser, step, out / "page-dark.webp", scheme="dark")
        shoot(browser, step, out / "page-phone.webp", PHONE, scale=2)
        shoot(browser, f"{step}&with={right['id']}", out / "page-compare.webp")
        asked = "&".join(f"outcome={one}" for one in FAILING)
        shoot(browser, f"{address}/#search=test-&alarmed=yes&{asked}", out / "page-list.webp")


def live(browser: Browser, out: Path) -> None:
    (item,) = demo_items("test", 1, SEED)
    assert isinstance(item.image, Image.Image)
    image = base64.b64encode(to_png(item.image)).decode()
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
        {"type": "text", "text": item.question},
    ]
    body = {"messages": [{"role": "user", "content": content}], "seed": SEED, "temperature": 1.0, "stream": True}
    with serving("serve", "--port", "0") as (address, process):
        page = browser.new_page(viewport={"width": DESKTOP[0], "height": DESKTOP[1]}, device_scale_factor=SCALE)
        page.goto(address)
        with httpx.stream("POST", f"{address}/v1/chat/completions", json=body, timeout=60) as answer:
            page.evaluate("address => { location.hash = address; }", f"run={answer.headers['X-Trajkit-Run']}")
            slow = SlowMotion(process)
            reading = Thread(target=slow.read, args=(answer,), daemon=True)
            reading.start()
            page.locator(".sentences li:nth-child(4)").wait_for()
            with slow.held():
                keep(page, out / "page-live.webp")
            reading.join()  # it reads one line more
        page.close()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, default=Path("data/demo/traces"))
    parser.add_argument("--out", type=Path, default=Path("reports"))
    args = parser.parse_args(argv)
    with chromium() as browser:
        saved(browser, args.traces, args.out)
        live(browser, args.out)


if __name__ == "__main__":
    main()
