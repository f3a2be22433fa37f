"""Commands on runs without effects, as other tools' logs give them: what needs none is there, the rest is said once."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest

from tests.traces.bare import without_effects
from trajkit.judging import fit
from trajkit.traces.store import read_traces, write_traces

HOW = "`trajkit attribute` gets them"


@pytest.fixture(scope="module")
def bare(traces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bare")
    return write_traces([without_effects(run) for run in read_traces(traces)], folder / "runs.parquet")


@pytest.fixture(scope="module")
def mixed(traces, tmp_path_factory):
    runs = [without_effects(run) if at % 4 == 0 else run for at, run in enumerate(read_traces(traces))]
    return write_traces(runs, tmp_path_factory.mktemp("mixed") / "runs.parquet")


@pytest.fixture(scope="module")
def of_text(bare, tmp_path_factory):
    """Detectors fitted on them."""
    from trajkit.detection.store import save_detectors

    folder = tmp_path_factory.mktemp("text")
    save_detectors(folder, fit.fit_detectors(read_traces(bare), compared=("length",), n_boot=20).detectors)
    return folder


def one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_analyze_compares_what_the_text_tells(cli, bare):
    result = cli("analyze", bare)
    assert result.code == 0, result.err
    assert result.err.count(HOW) == 1
    assert "mean log-probability" in result.out
    assert "path length" not in result.out
    assert "nan" not in result.out.lower()


def test_analyze_of_both_kinds_says_once_of_how_many_what_is_about_effects_is(cli, mixed):
    result = cli("analyze", mixed)
    assert result.err.count("180 of 240 runs have effects; what is about effects is said of those alone.") == 1
    assert "path length" in result.out
    assert "What is about effects is of the 180 of 240 runs that have them." in one_line(result.out)


def test_fit_fits_what_needs_no_effects_and_says_so(cli, bare, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "fit_detectors", partial(fit.fit_detectors, n_boot=20, compared=("task", "trajectory")))
    result = cli("fit", bare, "--out", tmp_path / "d")
    assert result.code == 0, result.err
    assert result.out.count(HOW) == 1
    card = json.loads((tmp_path / "d" / "detectors.json").read_text())["card"]
    assert card["features"] == "uncertainty+length"
    assert "trajectory" not in result.out


def test_fit_of_too_few_runs_for_any_step_says_so(cli, bare, tmp_path, monkeypatch):
    runs = [run for run in read_traces(bare) if run.group_id[1:].isdigit() and int(run.group_id[1:]) < 20]
    monkeypatch.setattr(fit, "fit_detectors", partial(fit.fit_detectors, n_boot=20, compared=("length",)))
    result = cli("fit", write_traces(runs, tmp_path / "few.parquet"), "--out", tmp_path / "d")
    assert result.code == 0, result.err
    assert "too few held-out runs reach any step to tell" in result.out


def test_monitor_of_text_watches_both_kinds_and_one_of_effects_refuses_in_words(cli, bare, mixed, of_text, detectors):
    for runs in (bare, mixed):
        result = cli("monitor", runs, "--detectors", of_text)
        assert result.code == 0, result.err
        assert "left out" not in result.out
    refused = cli("monitor", bare, "--detectors", detectors)
    refused.assert_one_line_error("runs can be judged: these detectors read trajectory", HOW)
    result = cli("monitor", mixed, "--detectors", detectors, "--all")
    assert result.code == 0, result.err
    assert one_line(result.out).count("60 of 240 runs are left out: these detectors read trajectory") == 1


def test_monitor_of_lines_takes_steps_without_effects(of_text, cli, monkeypatch):
    import io
    import sys

    lines = b"".join(
        json.dumps({"run": 1, "n_tokens": 5, "logprob": lp, "entropy": 0.2}).encode() + b"\n" for lp in (-1, -2)
    )
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    result = cli("monitor", "-", "--detectors", of_text)
    assert result.code == 0, result.err
    assert [json.loads(line)["event"] for line in result.out.splitlines()][:2] == ["verdict", "verdict"]


def payload(page: str) -> list[dict]:
    text = re.search(r'<script type="application/json" id="payload">(.*?)</script>', page, re.S)[1]
    return json.loads(text, parse_constant=pytest.fail)["runs"]


def test_report_shows_text_image_and_risk(cli, bare, of_text, tmp_path):
    assert cli("report", bare, "--out", tmp_path / "r", "--detectors", of_text, "--most", "3").code == 0
    page = (tmp_path / "r" / "index.html").read_text()
    assert "No run has effects" in page
    assert 'id="panel-logprob_mean"' in page
    assert 'id="panel-path_length"' not in page
    for run in payload(page):
        assert run["effects"] is run["map"] is None
        assert all(step["risk"] is not None for step in run["steps"] if step["kind"] == "thinking")
        assert run["notes"].count("This run has no effects to draw.") == 1


def test_report_with_detectors_that_need_effects_says_why_no_risk_is_shown(cli, mixed, bare, detectors, tmp_path):
    assert cli("report", bare, "--out", tmp_path / "b", "--detectors", detectors, "--most", "2").code == 0
    page = (tmp_path / "b" / "index.html").read_text()
    assert "Of 240 of 240 runs no risk is shown: these detectors read trajectory" in page
    assert "This cannot be told of these runs: these detectors read trajectory" in page
    for run in payload(page):
        assert run["risk"] is None
        assert "No risk is shown: these detectors read trajectory" in " ".join(run["notes"])
    assert cli("report", mixed, "--out", tmp_path / "m", "--detectors", detectors, "--most", "2").code == 0
    assert "Of 60 of 240 runs no risk is shown" in (tmp_path / "m" / "index.html").read_text()
