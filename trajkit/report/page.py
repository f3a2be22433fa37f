"""The page that `trajkit view` serves, as parts of one file: its style, its scripts and its body."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from trajkit import live

_FOLDER = Path(live.__file__).parent / "page"
_STYLE = re.compile(r'<link rel="stylesheet" href="page/([\w.-]+)">')
_SCRIPT = re.compile(r'<script defer src="page/([\w.-]+)"></script>')
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
    index = (_FOLDER / "index.html").read_text(encoding="utf-8")
    styles, scripts = (tuple(_read(name) for name in named.findall(index)) for named in (_STYLE, _SCRIPT))
    return Page(styles, scripts, "".join(_BODY.findall(index)))


def source_of(script: str) -> str:
    """How a content-security policy names a script that stands in the page: by the hash of its text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
