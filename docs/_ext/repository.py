"""What pages have for the repository, made fit for the site: pictures in light and dark, headings that are links."""

from __future__ import annotations

import re
from typing import Any

_PICTURE = re.compile(
    r'<picture><source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">\s*'
    r'<img src="([^"]+)" alt="([^"]*)"></picture>'
)
_LINKED_HEADING = re.compile(r"^(#+ )\[([^\]]+)\]\(((?:\.\./)*)([^)]+)\)$", re.M)


def setup(app: Any) -> dict[str, Any]:
    """Register what is done to the text of a page before it is read."""
    app.connect("source-read", _rewrite)
    return {"parallel_read_safe": True}


def _rewrite(app: Any, name: str, source: list[str]) -> None:
    text = _PICTURE.sub(lambda at: _image(at[2], "light", at[3]) + _image(at[1], "dark", at[3]), source[0])
    source[0] = _LINKED_HEADING.sub(r"\1\2\n\n[\4](\3\4)", text)


def _image(path: str, scheme: str, alt: str) -> str:
    return f"\n```{{image}} {path}\n:class: only-{scheme}\n:alt: {alt}\n```\n"
