"""Text that is safe to show: what models and files say, as cells of tables."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any

from trajkit.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_ESCAPE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, screen
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|\x9c|$)"  # OSC, DCS and their kind: titles, links, clipboard
    r"|\x1b[ -/]*[0-~]"  # the short ones
    r"|\x9b[0-?]*[ -/]*[@-~]",
    re.DOTALL,
)
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but the line end, marks of direction, halves of surrogate pairs."""
_MARKUP = re.compile(r"([\\`|<>&\[\]*~$]|(?<!\w)_|_(?!\w)|(?<=\w)@|:(?=//)|(?<=www)\.|(?<=mailto):)", re.I)
"""The last four stand in addresses, which GitHub turns into links by themselves."""

_FORMULA = re.compile(r"[\s\x00]*(?:[=@\uff1d\uff20]|[+\-\uff0b\uff0d](?![\d.,]+%?$))|[\t\r\n]")
"""How a formula begins, in wide letters too. A number with its sign is none."""


LINES = "\n\r\t"
"""Control characters of text in several lines."""
DIRECTION = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that change the direction of what follows: one name can be shown as another."""


def require_plain(text: str, called: str, allowed: str = "", refused: str = "") -> str:
    """`text`, when it can be stored and shown: no half of a surrogate pair and no control character but the `allowed`
    ones, and none of `refused`. Raises InputError, which calls it as `called` says."""
    for character in text:
        bad = unicodedata.category(character) in ("Cc", "Cs") and character not in allowed
        if bad or character in refused:
            raise InputError(f"{called} must be plain text, got {character!r} in {text[:60]!r}; take it out.")
    return text


def inert(text: str) -> str:
    """`text` as a terminal may show it: no escape sequences, no control or direction characters, but its lines."""
    return _CONTROL.sub("", _ESCAPE.sub("", text).replace("\t", " "))


def clean(text: str) -> str:
    """`inert`, on one line."""
    return inert(re.sub(r"[\n\r\t\v\f\u2028\u2029\x85]+", " ", _ESCAPE.sub("", text)))


def shortened(text: str, longest: int = 60) -> str:
    """`clean`, and no longer than that."""
    said = clean(text[: longest + 1])
    return said if len(text) <= longest else f"{said[: longest - 2].rstrip()} …"


def for_cell(value: Any) -> Any:
    """A value as a spreadsheet may have it: a text that it would run as a formula begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def for_spreadsheet(frame: pd.DataFrame) -> str:
    """`frame` as CSV without its index, its cells and names by `for_cell`."""
    return frame.map(for_cell).rename(columns=lambda name: for_cell(str(name))).to_csv(index=False)


def escaped(text: str) -> str:
    """`text` as Markdown shows it: nothing in it is markup, HTML or the border of a cell."""
    return _MARKUP.sub(r"\\\1", text)


def code(text: str) -> str:
    """`text` as a span of code in Markdown, whatever quotes it holds itself."""
    text = clean(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"
