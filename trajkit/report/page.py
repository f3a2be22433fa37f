"""The page that `trajkit view` serves, as parts of one file: its styles, its scripts and its body."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

from trajkit import live

_FOLDER = Path(live.__file__).parent / "page"
_BODY = re.compile(r"<body[^>]*>(.*)</body>", re.DOTALL)


@dataclass(frozen=True)
class Page:
    """styles, scripts: texts of its files, in the order in which it names them. body: before they run."""

    styles: tuple[str, ...]
    scripts: tuple[str, ...]
    body: str


@cache
def page() -> Page:
    """Of the files in the folder of the page."""
    index = _read("index.html")
    named = _Named()
    named.feed(index)
    styles, scripts = (tuple(map(_read, names)) for names in (named.styles, named.scripts))
    return Page(styles, scripts, "".join(_BODY.findall(index)))


def source_of(script: str) -> str:
    """How a content-security policy names a script that stands in the page: by the hash of its text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@dataclass(eq=False)
class _Named(HTMLParser):
    """Finds the files that a page names, by their places from its folder on."""

    styles: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = dict(attrs)
        if tag == "script":
            self.scripts.append((about["src"] or "").removeprefix("page/"))
        elif tag == "link" and about.get("rel") == "stylesheet":
            self.styles.append((about["href"] or "").removeprefix("page/"))


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
