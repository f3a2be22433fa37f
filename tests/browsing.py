"""What every page of trajkit must be in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
