"""What every page of trajkit must be in a browser."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

COLOURS = """(picture) => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,
    getComputedStyle(document.querySelector(picture)).filter]"""


def assert_dark_on_screen_alone(chromium: Any, path: Path, picture: str) -> None:
    """Where dark is wanted the page at `path` is dark with light text, its pictures turned; on paper it is not.

    picture: the selector of a picture.
    """
    page = chromium.new_page(color_scheme="dark")
    page.goto(path.as_uri())
    paper, ink, turned = page.evaluate(COLOURS, picture)
    assert _light(paper) < 60 < 200 < _light(ink)
    assert turned.startswith("invert")
    page.emulate_media(media="print")
    paper, ink, turned = page.evaluate(COLOURS, picture)
    assert _light(ink) < 60 < 250 < _light(paper)
    assert turned == "none"
    page.close()


def _light(colour: str) -> float:
    """The mean of `rgb(r, g, b)`, 0 to 255."""
    parts = [float(part) for part in colour.strip("rgba()").split(",")[:3]]
    return sum(parts) / 3


class Watched:
    """A page of a server in a browser, with what it logged and asked for. expected: parts of errors that it may log."""

    def __init__(self, browser: Any, url: str, width: int = 1280, **options: Any) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        self.page.set_default_timeout(20_000)
        self.expected: list[str] = []
        self.trouble: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: message.type == "error" and self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.trouble.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.add_init_script(
            "addEventListener('securitypolicyviolation', (e) => console.error('policy: ' + e.violatedDirective))"
        )
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)

    def until(self, condition: str, argument: Any = None, seconds: float = 5) -> None:
        """Wait for an expression, or a function of `argument`, to be true; playwright's own way makes code of text,
        which the page forbids."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(condition, argument):
            if time.monotonic() > end:
                pytest.fail(f"never came true: {condition}")
            self.page.wait_for_timeout(25)

    def assert_no_trouble(self, address: str) -> None:
        """Nothing was logged that is not expected, and nobody but the server at `address` was asked."""
        assert [text for text in self.trouble if not any(part in text for part in self.expected)] == []
        assert [url for url in self.requests if not url.startswith((address, "data:", "blob:"))] == []
