"""What a query asks for is what is found, in its order, and what could be asked for besides is counted."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from trajkit.errors import InputError
from trajkit.live.query import FACETS, Query, Row, find, value_of


def make_row(id_: str, **known) -> Row:
    blank = dict.fromkeys(("outcome", "alarm", "risk", "began", "label", "decision"))
    texts = dict.fromkeys(("question", "task", "group", "model", "answer", "target"), "")
    return Row(
        **({"id": id_, "source": "saved", "state": "saved", "n_steps": 3, "n_tokens": 9} | blank | texts | known)
    )


ROWS = [
    make_row("a", question="Is there a red 7?", task="math", outcome="success", risk=0.2, n_steps=4, model="m1"),
    make_row("b", question="what is LEFT of it", task="math", outcome="hallucination", risk=0.9, alarm=2, n_steps=9),
    make_row("c", question="Straße in Łódź", task="code", outcome="unknown", risk=None, n_steps=2, label="success"),
    make_row("d", question="", task="", outcome=None, state="running", source="live", began=5.0, risk=0.4),
]


def asked(*pairs: tuple[str, str]) -> list[str]:
    return [row["id"] for row in find(ROWS, Query.parse(pairs)).rows]


@pytest.mark.parametrize(
    ("pairs", "ids"),
    [
        ([], "abcd"),
        ([("search", "red")], "a"),
        ([("search", "IT left")], "b"),
        ([("search", "STRASSE łódź")], "c"),
        ([("search", "red left")], ""),
        ([("search", "m1")], "a"),
        ([("search", "  ")], "abcd"),
        ([("outcome", "hallucination")], "b"),
        ([("outcome", "hallucination"), ("outcome", "success")], "ab"),
        ([("outcome", "none")], "d"),
        ([("alarmed", "yes")], "b"),
        ([("alarmed", "no"), ("task", "math")], "a"),
        ([("task", "math"), ("task", "code"), ("outcome", "unknown")], "c"),
        ([("state", "running")], "d"),
        ([("label", "success")], "c"),
        ([("label", "none"), ("outcome", "")], "abd"),
        ([("sort", "risk")], "bdac"),
        ([("sort", "risk"), ("order", "up")], "adbc"),
        ([("sort", "question")], "acbd"),
        ([("sort", "question"), ("order", "down")], "bcad"),
        ([("sort", "n_steps")], "badc"),
        ([("sort", "outcome")], "abcd"),
        ([("sort", "began")], "dabc"),
    ],
)
def test_a_query_finds_what_it_says(pairs, ids):
    assert asked(*pairs) == list(ids)


def test_rows_that_are_alike_stay_in_their_order_whichever_way_they_are_sorted():
    rows = [make_row(str(i), n_steps=i % 2) for i in range(6)]
    for order, ids in (("up", "024135"), ("down", "135024")):
        assert (
            "".join(row["id"] for row in find(rows, Query.parse([("sort", "n_steps"), ("order", order)])).rows) == ids
        )


def test_a_facet_counts_what_matches_were_its_own_filter_taken_away():
    facets = find(ROWS, Query.parse([("task", "math"), ("outcome", "success")])).facets
    assert facets["outcome"] == {"hallucination": 1, "none": 0, "success": 1, "unknown": 0}
    assert facets["task"] == {"code": 0, "math": 1, "none": 0}
    assert facets["model"] == {"m1": 1, "none": 0}
    assert facets["alarmed"] == {"no": 1, "yes": 0}


def test_facets_say_how_many_runs_are_found_when_their_value_is_asked_for():
    rng = random.Random(0)
    rows = [
        make_row(
            str(i),
            question=rng.choice(["red", "blue"]),
            task=rng.choice(["", "math", "code"]),
            outcome=rng.choice([None, "success", "failure"]),
            alarm=rng.choice([None, 1]),
            label=rng.choice([None, "success"]),
            model=rng.choice(["m1", "m2"]),
        )
        for i in range(300)
    ]
    base = [("search", "red"), ("task", "math"), ("task", "none"), ("alarmed", "yes")]
    facets = find(rows, Query.parse(base)).facets
    for name in FACETS:
        others = [pair for pair in base if pair[0] != name]
        assert set(facets[name]) == {value_of(row, name) for row in rows}
        for value, n in facets[name].items():
            assert len(find(rows, Query.parse([*others, (name, value)])).rows) == n
        assert Counter(value_of(row, name) for row in find(rows, Query.parse(others)).rows) == Counter(
            {value: n for value, n in facets[name].items() if n}
        )


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (("outcom", "success"), "'outcom' is nothing to ask for; known are search, outcome"),
        (("outcome", "wrong"), "outcome must be one of success, hallucination"),
        (("alarmed", "true"), "alarmed must be one of yes, no; got 'true'"),
        (("state", "over"), "state must be one of waiting"),
        (("label", "fine"), "label must be one of success"),
        (("sort", "id"), "sort must be one of began"),
        (("order", "asc"), "order must be one of up, down"),
        (("limit", "0"), "limit must be a whole number from 1 to 500"),
        (("limit", "501"), "got '501'"),
        (("limit", "-1"), "got '-1'"),
        (("limit", "²"), "got '²'"),
        (("offset", "1e3"), "offset must be a whole number"),
        (("offset", "9" * 5000), "offset must be a whole number"),
    ],
)
def test_what_cannot_be_asked_for_is_said_by_its_key(pair, words):
    with pytest.raises(InputError) as error:
        Query.parse([pair])
    assert words in str(error.value)


def test_where_takes_what_is_about_runs():
    query = Query.where(["outcome=hallucination", "outcome=failure", "search=a=b c", "alarmed=no"])
    assert query == Query.parse(
        [("outcome", "hallucination"), ("outcome", "failure"), ("search", "a=b c"), ("alarmed", "no")]
    )
    for text in ("outcome", "limit=3", "sort=risk", "=success", "nothing=1"):
        with pytest.raises(InputError, match="expected KEY=VALUE with one of search, outcome"):
            Query.where([text])
