"""A damaged log of inspect is an error of one line: never a traceback, never a hang."""

from __future__ import annotations

import copy
import json
import random
import time
import warnings
from pathlib import Path

import pytest

import trajkit as tk
from trajkit.errors import InputError

GOLDEN = Path(__file__).parent / "golden" / "inspect"
JSON = (GOLDEN / "shapes.json").read_bytes()
ODD = [None, True, -1, 1e400, 10**30, "", "x", "attachment://none", [], [[]], [[0, 10**9]], {}, {"type": "reasoning"}]
ODD += ["\ud800", "\x1b[31m", "data:image/png;base64,AAAA"]


def outcome(path: Path) -> list[str]:
    """What importing says of a file: reasons, each of one line. Fails on any other error."""
    reasons: list[str] = []
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            runs = tk.import_traces(path, format="inspect", set_aside=lambda run, error: reasons.append(str(error)))
            tk.write_traces(runs, path.with_suffix(".parquet"))
        except InputError as error:
            reasons.append(str(error))
    assert time.perf_counter() - start < 20
    assert not any("\n" in reason or "Traceback" in reason for reason in reasons)
    return reasons


@pytest.mark.parametrize("name", ["shapes.eval", "chunked.eval", "deflated.eval", "shapes.json"])
def test_a_log_that_is_cut_off_or_overwritten_is_told_in_a_line(tmp_path, name):
    whole, rng = (GOLDEN / name).read_bytes(), random.Random(0)
    path = tmp_path / name
    for number in range(40):
        data = bytearray(whole)
        if number % 2:
            del data[rng.randrange(len(data)) :]
        else:
            for _ in range(rng.choice((1, 20, 400))):
                data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(bytes(data))
        assert outcome(path) or number % 2 == 0


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\3\4", b"{", b"[]", b"null", b'{"version": 2}', b"[" * 100_000])
@pytest.mark.parametrize("name", ["a.eval", "a.json"])
def test_what_is_no_log_is_told_in_a_line(tmp_path, data, name):
    (tmp_path / name).write_bytes(data)
    assert outcome(tmp_path / name)


def places(value, at=()):
    """Where a value of JSON holds others: the first two items of each list, and all but events that are not read."""
    yield at
    if isinstance(value, dict):
        for key in value.keys() - {"stats", "results", "store", "model_usage", "timelines"}:
            yield from places(value[key], (*at, key))
    for number, one in enumerate(value[:2] if isinstance(value, list) else ()):
        yield from places(one, (*at, number))


def test_odd_values_anywhere_in_a_log_are_told_in_a_line(tmp_path):
    log, rng = json.loads(JSON), random.Random(0)
    log["samples"] = log["samples"][:1]
    everywhere = [at for at in sorted(places(log), key=str) if at][::2]
    assert len(everywhere) > 60
    for at in everywhere:
        damaged = copy.deepcopy(log)
        node = damaged
        for key in at[:-1]:
            node = node[key]
        node[at[-1]] = rng.choice(ODD)
        (tmp_path / "a.json").write_text(json.dumps(damaged))
        outcome(tmp_path / "a.json")


def test_values_that_are_nested_too_deeply_are_told_in_a_line(tmp_path):
    for depth in (300, 480, 700, 990, 5_000):
        log = json.loads(JSON)
        log["samples"][0]["scores"] = {"s": {"value": "DEEP"}}
        text = json.dumps(log).replace('"DEEP"', "[" * depth + "]" * depth)
        (tmp_path / "a.json").write_text(text)
        outcome(tmp_path / "a.json")


@pytest.mark.parametrize("refs", [[["a", "b"]], [[0.0, 1.5]], [[None, None]], [[[0], [1]]], [[0, 3]] * 50_000])
def test_references_to_pooled_inputs_that_are_no_ranges_or_too_many_leave_out_the_run_alone(tmp_path, refs):
    log = json.loads(JSON)
    good, bad = log["samples"][0], copy.deepcopy(log["samples"][0])
    event = {"event": "model", "input_refs": refs, "output": bad["output"]}
    pool = {"messages": [{"role": "user", "content": "?"}] * 3}
    bad |= {"id": "bad", "output": {}, "messages": [], "events": [event], "events_data": pool}
    (tmp_path / "a.json").write_text(json.dumps(log | {"samples": [good, bad]}))
    assert [reason for reason in outcome(tmp_path / "a.json") if "ranges" in reason or "more than 100,000" in reason]
    assert len(tk.read_traces(tmp_path / "a.parquet")) == 1
