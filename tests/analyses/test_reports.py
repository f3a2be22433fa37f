"""Every analysis writes its report, on few runs; what it says is in the tables of the library, which have their own
tests."""

from __future__ import annotations

import re

import pytest

from analyses import demo_model, detection, faithfulness
from trajkit.demo.tasks import FAMILIES


def tables(text: str) -> list[list[str]]:
    """The Markdown tables of a report, as lists of lines."""
    return [block.splitlines() for block in text.split("\n\n") if block.lstrip().startswith("|")]


@pytest.fixture
def report(tmp_path, capsys):
    def write(analysis, *arguments: str) -> str:
        path = tmp_path / "report.md"
        analysis.main([*arguments, "--out", str(path)])
        assert capsys.readouterr().out.strip() == path.read_text(encoding="utf-8").strip()
        return path.read_text(encoding="utf-8")

    return write


def test_demo_model(report):
    text = report(demo_model, "--runs", "10")
    greedy, sampled = tables(text)
    assert [line.split("|")[1].strip() for line in greedy[2:]] == ["all", *FAMILIES]
    assert len(sampled) == len(greedy)


def test_faithfulness(report):
    text = report(faithfulness, "--runs", "5", "--boot", "10")
    methods = tables(text)[0]
    ceiling = next(line for line in methods if "leave-one-out" in line)
    assert "1.000 (1.000 to 1.000)" in ceiling
    assert len(methods) == 2 + 4
    assert re.search(r"LDS of the estimator less that of raw attention, paired: -?\d", text)


def test_detection(report):
    text = report(detection, "--boot", "10")
    assert len(tables(text)) == 10
    for baseline in ("length", "task", "uncertainty", "random"):
        assert f"| {baseline}" in text
