"""Every analysis writes its report, on few runs; what it says is in the tables of the library, which have their own
tests."""

from __future__ import annotations

import re

import pytest

from analyses import demo_model, detection, estimators, faithfulness, performance
from trajkit.demo.tasks import FAMILIES


def tables(text: str) -> list[list[str]]:
    """The Markdown tables of a report, as lists of lines."""
    return [block.splitlines() for block in text.split("\n\n") if block.lstrip().startswith("|")]


@pytest.fixture
def report(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what an analysis keeps for the next one stays here

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
    text = report(faithfulness, "--models", "qwen3_vl", "--runs", "2", "--train-runs", "3", "--boot", "10")
    methods, families = tables(text)
    ceiling = next(line for line in methods if "leave-one-out" in line)
    assert "1.00 (1.00 to 1.00)" in ceiling
    for name in ("network estimator", "linear estimator", "AT2 recipe", "raw attention", "AttnLRP", "TAM", "random"):
        assert any(line.startswith(f"| {name}") for line in methods)
    assert len(families) == 2 + 2
    assert re.search(r"LDS of the network estimator less that of raw attention, paired: -?\d", text)


def test_estimators(report):
    text = report(estimators, "--train-runs", "10", "--test-runs", "5", "--boot", "10")
    variants, efficiency, transfer, length = tables(text)
    assert any("network (shipped form)" in line for line in variants)
    assert len(transfer) == 2 + 6
    assert len(efficiency) == 2 + 1
    assert len(length) > 2


def test_performance(report):
    text = report(performance, "--quick")
    assert len(tables(text)) == 2
    assert "reported as lagging" in text


def test_detection(report):
    text = report(detection, "--boot", "10")
    assert len(tables(text)) == 10
    for baseline in ("length", "task", "uncertainty", "random"):
        assert f"| {baseline}" in text
