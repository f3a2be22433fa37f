"""A log that inspect reads.

inspect-ai is not installed here: its 0.3.285 read these files (`inspect_ai.log.read_eval_log`, whole, header alone and
summaries) and showed them (reports/exporting.md). `python -m analyses.exporting --tools PYTHON` has it read them again.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from trajkit.errors import InputError
from trajkit.traces.exporters import export_traces
from trajkit.traces.exporters.scores import scores_of

from ..factory import make_trace
from .samples import samples

DEMO = [run for run in samples() if run.model == "demo"]


@pytest.fixture(params=["runs.eval", "runs.json"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The same log of either kind, as one object."""
    path = export_traces(DEMO, tmp_path / request.param)
    if path.suffix == ".json":
        assert path.read_bytes().startswith(b'{"version": 2, "eval"')  # inspect reads what stands before samples
        return json.loads(path.read_text(encoding="ascii"))
    with ZipFile(path) as file:
        samples = [json.loads(file.read(name)) for name in file.namelist() if name.startswith("samples/")]
        names = [f"samples/{sample['id']}_epoch_{sample['epoch']}.json" for sample in samples]
        assert file.namelist() == ["_journal/start.json", *names, "summaries.json", "header.json"]
        summaries = json.loads(file.read("summaries.json"))
        assert [summary["id"] for summary in summaries] == [sample["id"] for sample in samples]
        assert summaries[0]["scores"]["answer"] == {"value": "I", "answer": "yes"}
        header, start = json.loads(file.read("header.json")), json.loads(file.read("_journal/start.json"))
        assert {name: header[name] for name in start} == start
        return header | {"samples": samples}


def test_the_header_says_whose_runs_these_are(log: dict[str, Any]) -> None:
    assert (log["version"], log["status"]) == (2, "success")
    assert (log["eval"]["model"], log["eval"]["task"]) == ("demo", "runs")
    assert log["eval"]["dataset"]["samples"] == len(log["samples"]) == 3
    assert log["plan"]["config"] == {}  # the runs have no settings in common


def test_the_picture_is_attached_and_the_reasoning_a_part_of_its_own(log: dict[str, Any]) -> None:
    watched, _, imported = log["samples"]
    assert [message["role"] for message in watched["messages"]] == ["system", "user", "assistant"]
    image, text = watched["messages"][1]["content"]
    key = image["image"].removeprefix("attachment://")
    assert base64.b64decode(watched["attachments"][key].removeprefix("data:image/png;base64,")) == DEMO[0].image
    assert text == {"type": "text", "text": "is there a red 7?"}
    assert watched["input"] == watched["messages"][:-1]
    assert watched["messages"][-1]["content"][0] == {"type": "reasoning", "reasoning": "sentence 0. sentence 1."}
    assert watched["output"]["choices"] == [{"message": watched["messages"][-1], "stop_reason": "stop"}]
    assert (imported["attachments"], imported["output"]["choices"][0]["stop_reason"]) == ({}, "max_tokens")


def test_risk_alarm_and_concentration_are_scores_with_their_values_after_each_step(log: dict[str, Any]) -> None:
    watched, odd, imported = (sample["scores"] for sample in log["samples"])
    assert list(watched) == ["answer", "outcome", "risk", "alarm", "concentration"]
    assert (watched["answer"]["value"], watched["outcome"]["value"]) == ("I", "hallucination")
    assert watched["outcome"]["explanation"] == "misreading"
    assert watched["risk"]["value"] == 0.75
    assert [step["risk"] for step in watched["risk"]["metadata"]["steps"]] == [0.25, 0.75, None]
    assert "| 2 | 0.75 | sentence 1. |" in watched["risk"]["explanation"]
    assert (watched["alarm"]["value"], watched["alarm"]["metadata"]) == ("raised", {"step": 2})
    levels = [step["concentration"] for step in watched["concentration"]["metadata"]["steps"][:2]]
    assert watched["concentration"]["value"] == pytest.approx(sum(levels) / 2, abs=1e-6)
    assert (odd["outcome"]["value"], odd["answer"]["metadata"]["score"]) == ("failure", 0.5)
    assert imported == {}


def test_what_a_model_says_is_no_markup_in_an_explanation(log: dict[str, Any]) -> None:
    said = log["samples"][1]["scores"]["concentration"]["explanation"]
    (row,) = [line for line in said.splitlines() if "alert" in line]
    for mark in ("<script>", "**bold**", "[x](", "\x1b"):
        assert mark not in row
    assert row.count("|") - row.count("\\|") == 6


def test_results_are_means_and_shares(log: dict[str, Any]) -> None:
    found = {score["name"]: score for score in log["results"]["scores"]}
    assert found["answer"]["metrics"]["accuracy"]["value"] == 0
    assert {name: metric["value"] for name, metric in found["outcome"]["metrics"].items()} == {
        "failure": 0.5,
        "hallucination": 0.5,
    }
    assert (found["risk"]["scored_samples"], found["risk"]["unscored_samples"]) == (1, 2)


def test_repetitions_of_a_task_are_epochs_where_every_task_has_as_many(tmp_path: Path) -> None:
    def places(runs: Any) -> list[tuple[str, int]]:
        log = json.loads(export_traces(runs, tmp_path / "runs.json").read_text())
        assert log["eval"]["config"]["epochs"] == max(sample["epoch"] for sample in log["samples"])
        return [(sample["id"], sample["epoch"]) for sample in log["samples"]]

    grid = [make_trace(i, task_id=f"t{i // 4}") for i in range(8)]
    assert places(grid) == [(f"t{i // 4}", i % 4 + 1) for i in range(8)]
    assert places(grid[:7]) == [(f"run-{i:04d}", 1) for i in range(7)]
    assert places([make_trace(i, task_id="") for i in range(2)]) == [("run-0000", 1), ("run-0001", 1)]


def test_a_log_is_of_one_model_and_a_folder_of_any(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"these runs are of 2: demo, org/Other-8B\. Choose one, or"):
        export_traces(samples(), tmp_path / "runs.eval")
    folder = export_traces(samples(), tmp_path / "logs", format="inspect")
    assert sorted(path.name for path in folder.glob("*.eval")) == ["demo.eval", "org-Other-8B.eval"]
    runs = [make_trace(0, model="a/b"), make_trace(1, model="A-B")]
    assert len(list(export_traces(runs, tmp_path / "alike", format="inspect").glob("*.eval"))) == 2


def test_settings_that_all_runs_share_are_the_plans(tmp_path: Path) -> None:
    runs = [make_trace(i, meta={"temperature": 1.0, "seed": i, "max_new_tokens": "many"}) for i in range(2)]
    log = json.loads(export_traces(runs, tmp_path / "runs.json").read_text())
    assert log["plan"]["config"] == {"temperature": 1.0}


def test_the_risk_of_a_monitor_that_watches_for_success_is_said_to_be_that_of_success() -> None:
    watched = DEMO[0]
    assert "Risk of failure after each step." in scores_of(watched)["risk"]["explanation"]
    enough = replace(watched, meta={**watched.meta, "monitor": {"watches": "success", "threshold": 0.5}})
    assert "Probability of success" in scores_of(enough)["risk"]["explanation"]
