"""From a log of another tool to a report: the commands of docs/your-logs.md, on a small log."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from trajkit.demo import paths
from trajkit.traces.store import read_traces

PAGE = (paths.ROOT / "docs" / "your-logs.md").read_text("utf-8")
SHOWN = re.findall(r"^```sh\ntrajkit (.*?)\n```\n\n```text\n(.*?)\n```", PAGE, re.M | re.S)
LOG = Path(__file__).parents[1] / "traces" / "importers" / "golden" / "inspect" / "shipped.eval"


def in_kind(text: str) -> str:
    """A text whose numbers may be others."""
    return re.sub(r"question\b", "questions", re.sub(r"\d+", "N", text))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the log is, and nothing else."""
    shutil.copy(LOG, tmp_path / "digits.eval")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_of_the_page_lead_from_a_log_to_a_report_and_print_what_it_shows(folder, cli):
    assert [command.split()[0] for command, _ in SHOWN] == ["import", "attribute", "report"]
    for command, shown in SHOWN:
        result = cli(*shlex.split(command))
        assert result.code == 0, result.err
        assert in_kind(result.out).strip() == in_kind(shown)
    runs, explained = read_traces(folder / "runs/digits"), read_traces(folder / "runs/explained")
    assert runs.ids == explained.ids
    for before, after in zip(runs, explained, strict=True):
        assert before.effects.shape[1] == 0
        assert after.effects.shape == (after.n_steps, after.n_regions)
        assert abs(after.effects).max() > 1
        assert [step.text for step in before.steps] == [step.text for step in after.steps]
        assert (before.answer, before.outcome, before.score) == (after.answer, after.outcome, after.score)


def test_the_report_shows_the_steps_and_what_they_rest_on(folder, cli, chromium):
    for command, _ in SHOWN:
        assert cli(*shlex.split(command)).code == 0
    runs, page = read_traces(folder / "runs/explained"), chromium.new_page()
    asked = [run for run in runs if run.question == runs[0].question]
    try:
        page.goto((folder / "report" / "index.html").as_uri())
        page.get_by_text(asked[0].question).first.click()
        page.wait_for_selector("text=Effects of this step")
        shown = page.inner_text("body")
    finally:
        page.close()
    assert any(all(step.text in shown for step in run.steps) for run in asked)
    assert "nats" in shown
