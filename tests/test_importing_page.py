"""docs/importing.md: its commands run as they stand, and it tells of each format what keeps the thinking."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.traces.importers.logs import GOLDEN
from trajkit.cli.main import app
from trajkit.traces.importers.formats import FORMATS, importer

PAGE = (Path(__file__).parents[1] / "docs" / "importing.md").read_text(encoding="utf-8")
LOGS = {
    "batch_output.jsonl": "batch/digits_output.jsonl",
    "logs/run.eval": "inspect/shapes.eval",
    "outputs/MODEL/MODEL_MMBench_DEV_EN.tsv": "vlmevalkit/demo_Split.tsv",
    "transcripts": "scout",
    "completions": "dataset/digits_arrow",
}
"""Paths of the page → what stands for them."""
RESULTS = {
    "inspect_scout": "scout",
    "lmms-eval": "lmms_eval/kept",
    "lm-eval": "lm_eval/kept",
    "lighteval": "lighteval/held",
}
COMMANDS = [
    (title, command)
    for title, section in re.findall(r"^##? (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    for command in re.findall(r"^trajkit import .*", section, re.M)
]
SETTINGS = re.compile(r"--[a-z_-]{4,}|\b[A-Z_]{5,}=\w+|\bthink_end_token\b|\blog_completions=True\b")
"""Settings of tools as they are written in sentences."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("title", "command"), COMMANDS)
def test_its_commands_import_runs(title: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)[1:]
    source = LOGS.get(words[1]) or RESULTS.get(title)
    _put(GOLDEN / source if source else None, tmp_path / words[1])
    shutil.copytree(GOLDEN / "images", tmp_path / "images")
    if "--questions" in words:
        _questions(tmp_path)
    result = CliRunner().invoke(app, words)

    assert re.search(r"\d+ runs? of \d+ questions? in traces", result.output), result.output


def _put(source: Path | None, path: Path) -> None:
    """A copy of a golden log, and what stands beside it; without one, a line as the page writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if source is None:
        lines = [
            json.loads((GOLDEN / "batch" / f"digits_{part}.jsonl").open().readline()) for part in ("input", "output")
        ]
        record = {"id": "q7", "request": lines[0]["body"], "response": lines[1]["response"]["body"]}
        path.write_text(json.dumps(record) + "\n")
    elif source.is_dir():
        shutil.copytree(source, path)
    else:
        shutil.copy(source, path)
        for beside in source.parent.glob("digits_input.jsonl"):
            shutil.copy(beside, path.parent)


def _questions(folder: Path) -> None:
    lines = (GOLDEN / "questions.jsonl").read_text().splitlines()
    ids = (re.sub(r'"id": "[^"]*"', f'"id": "{number}"', line) for number, line in enumerate(lines))
    (folder / "questions.jsonl").write_text("\n".join(ids))


@pytest.mark.parametrize("format", FORMATS)
def test_it_names_the_settings_that_keep_the_thinking(format: str) -> None:
    for setting in SETTINGS.findall(importer(format).keeps):
        assert setting in PAGE, setting


def test_each_format_has_its_command() -> None:
    assert len(COMMANDS) >= len(FORMATS)
