"""Which runs are asked for, in which order: one rule for the list on the page, its addresses, and `--where`.

Works on rows, a few words and numbers of each run, wherever they come from. Loads neither a model nor a server.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypedDict, get_args

from trajkit.errors import InputError
from trajkit.tables.names import OUTCOME_ORDER
from trajkit.traces.labels import LABELS

State = Literal["waiting", "running", "ended", "stopped", "failed", "saved"]
NONE = "none"
"""In place of a value that is not known, in filters and in what they count."""
FACETS = ("outcome", "task", "model", "state", "label", "alarmed")
"""Keys that a value, or several, can be asked of."""
SORTS = ("began", "question", "n_steps", "risk", "outcome")
_KNOWN: Mapping[str, tuple[str, ...]] = {
    "outcome": (*OUTCOME_ORDER, NONE),
    "state": get_args(State),
    "label": (*LABELS, NONE),
    "alarmed": ("yes", "no"),
}
_SEARCHED = ("question", "id", "task", "group", "model", "answer", "target")
_MOST = 500
_DOWN = ("began", "n_steps", "risk")
"""What is sorted from the largest on where nothing else is said."""
_Kind = tuple[str | bool | None, ...]
"""The values of a row, one for each of FACETS."""


Numbered = Sequence[tuple[int, str]]
"""Events, each with its number, as JSON."""


def rounded(value: float | None) -> float | None:
    """As rows, documents and events say it: six digits, and None for what is not finite."""
    return None if value is None or not math.isfinite(value) else round(float(value), 6)


class Row(TypedDict):
    """One run in a list. What is not known is None, or "" of texts. alarm: the step that alarmed. risk: the largest.
    began: seconds since 1970. decision: what the policy did."""

    id: str
    source: Literal["live", "saved"]
    state: State
    question: str
    task: str
    group: str
    model: str
    answer: str
    target: str
    outcome: str | None
    n_steps: int
    n_tokens: int
    alarm: int | None
    risk: float | None
    began: float | None
    label: str | None
    decision: str | None


_NUMBERS = ("alarm", "risk", "began")


def check_row(row: Row) -> None:
    """Raises TypeError where a value is of another kind, as in a damaged file: it would spoil the list of all runs."""
    sound = (
        all(isinstance(row[name], str) for name in _SEARCHED)  # type: ignore[literal-required]
        and all(isinstance(row[name], int | float | None) for name in _NUMBERS)  # type: ignore[literal-required]
        and isinstance(row["n_steps"], int)
        and isinstance(row["n_tokens"], int)
        and row["state"] in _KNOWN["state"]
        and (row["outcome"] or NONE) in _KNOWN["outcome"]
        and isinstance(row["decision"], str | None)
    )
    if not sound:
        raise TypeError("not the row of a run")


class RunSource(Protocol):
    """Where runs come from. `rows` and `follow` are called in the event loop's thread and must not wait; `document` and
    `set_label` may, and are called in others."""

    @property
    def labels(self) -> bool:
        """Whether labels can be kept."""
        ...

    @property
    def live(self) -> bool:
        """Whether the list may change by itself: runs may come, or more be known of those that are there."""
        ...

    @property
    def trouble(self) -> str:
        """What is wrong with it now, for whoever looks at the list; "" for nothing."""
        ...

    def rows(self) -> Sequence[Row]:
        """Of all runs, in the order in which they are listed where no other is asked for."""
        ...

    def document(self, id_: str) -> Mapping[str, Any] | None:
        """A whole run; of a live one its row and `events` = True; None where there is no such run."""
        ...

    def follow(self, id_: str, start: int) -> AsyncGenerator[Numbered, None] | None:
        """The events of a live run, from `start` on, as many at a time as there are; None where there is none."""
        ...

    def set_label(self, id_: str, label: str | None) -> bool:
        """Whether there is such a run, which then has the label. Raises InputError where it cannot be kept."""
        ...

    def close(self) -> None:
        """End its threads, with what they have to do done. May wait."""
        ...


@dataclass(frozen=True)
class Query:
    """words: all of them stand in the run's texts. values: of a facet, those that are wanted. sort: None for the order
    of the source."""

    words: tuple[str, ...] = ()
    values: Mapping[str, frozenset[str]] = field(default_factory=dict)
    sort: str | None = None
    down: bool = False
    limit: int = 50
    offset: int = 0

    @classmethod
    def parse(cls, pairs: Iterable[tuple[str, str]]) -> Query:
        """Of keys and values as in an address; an empty value asks for nothing, a key that repeats for any of its
        values. Raises InputError, which names the key, for one that is not known or whose value it cannot have."""
        given: dict[str, list[str]] = {}
        for key, value in pairs:
            given.setdefault(key, [])
            if value.strip():
                given[key].append(value.strip())
        known = ("search", *FACETS, "sort", "order", "limit", "offset")
        if unknown := next((key for key in given if key not in known), None):
            raise InputError(f"{unknown!r} is nothing to ask for; known are {', '.join(known)}.")
        for name in FACETS:
            for value in given.get(name, ()):
                _one_of(name, value, _KNOWN.get(name, (value,)))
        last = {key: values[-1] for key, values in given.items() if values}
        sort = last.get("sort")
        return cls(
            words=tuple(word for text in given.get("search", ()) for word in text.casefold().split()),
            values={name: frozenset(given[name]) for name in FACETS if given.get(name)},
            sort=None if sort is None else _one_of("sort", sort, SORTS),
            down=_one_of("order", last.get("order", "down" if sort in _DOWN else "up"), ("up", "down")) == "down",
            limit=_whole("limit", last.get("limit", "50"), 1, _MOST),
            offset=_whole("offset", last.get("offset", "0"), 0, 10**9),
        )

    @classmethod
    def where(cls, texts: Iterable[str]) -> Query:
        """Of texts KEY=VALUE. Raises InputError as `parse`, and for a text without `=`, or a key that is about a list
        and not about runs."""
        pairs = []
        for text in texts:
            key, sign, value = text.partition("=")
            if not sign or key not in ("search", *FACETS):
                raise InputError(
                    f"expected KEY=VALUE with one of {', '.join(('search', *FACETS))}, such as outcome=hallucination; "
                    f"got {text!r}."
                )
            pairs.append((key, value))
        return cls.parse(pairs)


@dataclass(frozen=True)
class Found:
    """rows: those that match, all of them and in order. facets: facet → value → how many runs match that have it, were
    the facet's own filter taken away; a value that no such run has is 0."""

    rows: list[Row]
    facets: dict[str, dict[str, int]]


def find(rows: Iterable[Row], query: Query) -> Found:
    """The rows that a query asks for, in its order; rows without the value that is sorted by come last."""
    found, kinds = list[Row](), dict[_Kind, tuple[str, ...]]()  # facets that rows of a kind are not as wanted in
    saying = Counter[_Kind]()  # rows of each kind in which the words stand
    for row in rows:
        kind = row["outcome"], row["task"], row["model"], row["state"], row["label"], row["alarm"] is not None
        if (missed := kinds.get(kind)) is None:
            missed = tuple(name for name, wanted in query.values.items() if value_of(row, name) not in wanted)
            kinds[kind] = missed
        if _says(row, query.words):
            saying[kind] += 1
            if not missed:
                found.append(row)
    facets = {name: _counts(at, name, kinds, saying) for at, name in enumerate(FACETS)}
    return Found(_sorted(found, query), facets)


def _counts(at: int, facet: str, kinds: Mapping[_Kind, tuple[str, ...]], saying: Mapping[_Kind, int]) -> dict[str, int]:
    """Value → how many rows would be found that have it, were this facet's own filter taken away."""
    counts: dict[str, int] = {}
    for kind, missed in kinds.items():
        value = _said(kind[at])
        counts[value] = counts.get(value, 0) + (saying[kind] if missed in ((), (facet,)) else 0)
    return dict(sorted(counts.items()))


def _said(value: str | bool | None) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else value or NONE


def value_of(row: Row, facet: str) -> str:
    """A row's value of a facet, NONE where it is not known."""
    return _said(row["alarm"] is not None if facet == "alarmed" else row[facet])  # type: ignore[literal-required]


def _says(row: Row, words: Sequence[str]) -> bool:
    if not words:
        return True
    text = "\n".join(row[name] for name in _SEARCHED).casefold()  # type: ignore[literal-required]
    return all(word in text for word in words)


def _sorted(rows: list[Row], query: Query) -> list[Row]:
    if query.sort is None:
        return rows
    name = query.sort
    keys: dict[str, Callable[[Any], Any]] = {"question": str.casefold, "outcome": OUTCOME_ORDER.index}
    key = keys.get(name, lambda value: value)
    known = [row for row in rows if row[name] not in (None, "")]  # type: ignore[literal-required]
    rest = [row for row in rows if row[name] in (None, "")]  # type: ignore[literal-required]
    known.sort(key=lambda row: key(row[name]), reverse=query.down)  # type: ignore[literal-required]
    return known + rest


def _one_of(key: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise InputError(f"{key} must be one of {', '.join(known)}; got {value!r}.")
    return value


def _whole(key: str, value: str, least: int, most: int) -> int:
    if not value.isdecimal() or len(value) > 9 or not least <= int(value) <= most:
        raise InputError(f"{key} must be a whole number from {least} to {most}; got {value!r}.")
    return int(value)
