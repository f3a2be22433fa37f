"""The examples of docs/in-your-loop.md run as they stand, one after another."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "in-your-loop.md"


@pytest.fixture
def quiet():
    """Logging as it was before."""
    root, own = logging.getLogger(), logging.getLogger("trajkit")
    before = root.handlers[:], own.level
    yield
    root.handlers[:] = before[0]
    own.setLevel(before[1])


def test_the_examples_of_the_page_run(tmp_path, monkeypatch, capsys, quiet):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    for name in ("data", "reports"):
        (tmp_path / name).symlink_to(PAGE.parents[1] / name)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    trace, heard = names["trace"], names["heard"]
    assert len(heard) > 1
    assert all(step.verdict is not None for step in heard)
    assert trace.n_steps == len(names["running"]._run.attempts[-1].steps)
    assert [step.text for step in names["followed"].steps] == [step.text for step in trace.steps]
    lines = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert {(line["event"], line["run"]) for line in lines} == {("step", "7")}
    assert "alarm=True" in capsys.readouterr().out


def test_the_pages_that_it_names_are_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parent / target).exists(), target
