"""Every analysis writes its report, on few runs; what it says is in the tables of the library, which have their own
tests."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

import analyses
from analyses import (
    attributing,
    concentration,
    coverage,
    data_efficiency,
    demo_model,
    detection,
    early_failure,
    elapsed,
    estimators,
    faithfulness,
    following,
    length,
    metric_distributions,
    out_of_distribution,
    outcomes,
    performance,
    policies,
    regions,
    scatter,
    size,
    trajectories,
    transfer,
    weights,
)
from tests.detection.world import make_runs, make_trace
from trajkit.demo.questions import FORMS
from trajkit.traces.store import write_traces


def tables(text: str) -> list[list[str]]:
    """The Markdown tables of a report, as lists of lines."""
    return [block.splitlines() for block in text.split("\n\n") if block.lstrip().startswith("|")]


def headings(text: str) -> list[list[str]]:
    """The headings of the Markdown tables of a page."""
    return [[cell.strip() for cell in table[0].strip("|").split(" | ")] for table in tables(text)]


def in_order(some: list[str], of: list[str]) -> bool:
    """Whether `some` come among `of` in the same order."""
    rest = iter(of)
    return all(one in rest for one in some)


def committed(name: str) -> list[list[str]]:
    """Headings of the tables of a page in reports/."""
    return headings((Path(analyses.__file__).parents[1] / "reports" / f"{name}.md").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where one analysis keeps measured runs for the next."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def report(tmp_path, kept, capsys, monkeypatch):
    monkeypatch.chdir(kept)

    def write(analysis, *arguments: str) -> str:
        path = tmp_path / "report.md"
        analysis.main([*arguments, "--out", str(path)])
        assert capsys.readouterr().out.strip() == path.read_text(encoding="utf-8").strip()
        return path.read_text(encoding="utf-8")

    return write


def test_demo_model(report):
    text = report(demo_model, "--models", "qwen3_vl", "--runs", "10")
    greedy, sampled, lengths, causes = tables(text)
    assert headings(text)[0] == ["family", "form", "questions", "right"]
    assert headings(text)[1][3:] == ["failing", "success", "hallucination", "reasoning failure", "unknown"]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in greedy[2:]]
    assert [row[1] for row in rows if row[1] != "all"] == [form for forms in FORMS.values() for form in forms]
    assert sum(int(row[2]) for row in rows if row[1] == "all") == 2 * int(rows[0][2]) == 20
    assert len(sampled) == len(causes) == len(greedy)
    assert [line.split("|")[1].strip() for line in lengths[2:]] == ["all", *FORMS]


def test_outcomes_and_causes_of_the_demo_model_are_counted_by_form():
    runs = pd.DataFrame(
        [
            ("general", "trail_end", "success", "", 20),
            ("general", "trail_before", "hallucination", "misreading", 30),
            ("math", "sort_up", "reasoning_failure", "wrong step", 25),
            ("math", "sort_up", "hallucination", "misreading", 35),
        ],
        columns=["family", "form", "outcome", "detail", "sentences"],
    )
    right = demo_model.accuracy(runs).frame.set_index(["family", "form"])["right"]
    assert (right["all", "all"].value, right["general", "trail_end"].value, right["math", "sort_up"].value) == (
        0.25,
        1,
        0,
    )
    failing = demo_model.outcomes(runs).frame.set_index(["family", "form"])
    assert failing.loc[("general", "all"), "failing"].value == 0.5
    assert failing.loc[("math", "sort_up"), ["hallucination", "reasoning failure"]].tolist() == [1, 1]
    causes = demo_model.causes(runs).frame.set_index(["family", "form"])
    assert list(causes) == ["failing", "misreading", "wrong step"]
    assert causes.loc[("all", "all")].tolist() == [3, 2, 1]
    lengths = demo_model.lengths(runs).frame.set_index("family")
    assert lengths.loc["all", "hallucination"] == "32 (30–34)"
    assert lengths.loc["code", "success"] == "–"


def test_faithfulness(report):
    text = report(faithfulness, "--models", "qwen3_vl", "--runs", "2", "--train-runs", "3", "--boot", "10")
    sizes, grounded, methods, metrics, families = tables(text)
    assert sizes[0].startswith("| method | top-1, ≥ 3 nats | top-1, 0.5 to 3 nats")
    assert [line.split("|")[1].strip() for line in sizes[2:6]] == [
        "network estimator",
        "raw attention",
        "raw attention's top × estimated size",
        "raw attention's top × measured size",
    ]
    assert "top-1, network estimator less this" in grounded[0]
    shown = committed("faithfulness")
    assert all(in_order(new, old) for new, old in zip(headings(text)[:3], shown, strict=False))  # bands may be empty
    assert in_order(headings(text)[3], shown[-2])
    assert in_order(shown[-1], headings(text)[4])  # the page was made without slow methods
    assert methods[0].endswith("| R² | r² |")
    assert any(line.startswith("| path length |") for line in metrics)
    assert "Too few steps to tell" in text
    reference = next(line for line in methods if "leave-one-out" in line)
    assert reference.startswith("| leave-one-out, measured | 1.000 |")  # by definition, so without an interval
    shrunk = ("integrated gradients, shrunk", "leave-one-out, measured, shrunk")
    for name in ("network estimator", "linear estimator", "AT2 recipe", "raw attention", "AttnLRP", "TAM", "random"):
        assert any(line.startswith(f"| {name}") for line in methods)
    assert all(any(line.startswith(f"| {name}") for line in grounded) for name in shrunk)
    assert len(families) == 2 + 2
    assert "LDS, network estimator less this" in methods[0]


def test_faithfulness_without_slow_methods(report):
    text = report(faithfulness, "--models", "qwen3_vl", "--runs", "2", "--train-runs", "3", "--boot", "10", "--quick")
    made_by = "python -m analyses.faithfulness --runs 2 --train-runs 3 --quick --models qwen3_vl --boot 10"
    assert f"Regenerate: `{made_by}`." in text
    assert "| boosted trees" in text
    assert "| AttnLRP" not in text
    assert len(tables(text)) == 5
    assert in_order(headings(text)[4], committed("faithfulness")[-1])  # the page has slow methods too


def test_estimators(report):
    text = report(estimators, "--models", "qwen3_vl", "--train-runs", "10", "--test-runs", "5", "--boot", "10")
    (variants,) = tables(text)
    assert headings(text) == committed("estimators")
    assert any("network (shipped form)" in line for line in variants)
    assert any("boosted trees" in line for line in variants)
    assert "Boosted trees on the same inputs" in text


FEW, SMALL = ("--runs", "5"), ("--train-runs", "10", "--runs", "5")
TWO_SIZES = ("--train-runs", "26", "--runs", "5")


@pytest.mark.parametrize(
    ("analysis", "arguments", "rows"),
    [
        (scatter, FEW, 1),
        (length, FEW, 6),
        (elapsed, FEW, 12),
        (weights, SMALL[:2], 2),
        (data_efficiency, TWO_SIZES, 4),
        (transfer, SMALL, 6),
        (out_of_distribution, ("--runs", "2"), 4),
    ],
)
def test_an_analysis_of_each_model_writes_its_table_and_its_picture(report, tmp_path, analysis, arguments, rows):
    text = report(analysis, "--models", "qwen3_vl", "--boot", "5", *arguments)
    table, *others = tables(text)
    for old, new in zip(committed(analysis.__name__.rpartition(".")[2]), headings(text), strict=False):
        assert in_order(old, new)
    assert 2 < len(table) <= 2 + rows
    header = [name.strip() for name in table[0].split("|")]
    if "r²" in header:  # over all steps: after what is honest, and beside what it is without regions
        assert header.index("r²") > header.index("top-1, grounded steps")
        assert header.index("r²") > header.index("raw attention's top × measured size, r²")
    assert all(line.startswith("| qwen3_vl |") for each in (table, *others) for line in each[2:])
    (picture,) = re.findall(r"!\[[^]]+\]\((report\.(?:svg|png))\)", text)
    assert (tmp_path / picture).stat().st_size > 2000


def test_regions(report, monkeypatch):
    monkeypatch.setattr(regions, "STRATEGIES", [("blocks", (16, 16)), ("vision", (16, 128))])
    strategies, times = tables(
        report(regions, "--models", "qwen3_vl", "--boot", "5", "--train-runs", "3", "--runs", "2")
    )
    assert len(strategies) == 2 + 2
    assert in_order(committed("regions")[0], [cell.strip() for cell in strategies[0].strip("|").split(" | ")])
    assert "generation / segmenting" in times[0]


def test_performance(report):
    text = report(performance, "--quick")
    *_, fingerprints = tables(text)
    assert len(tables(text)) == 3
    assert re.search(r"\| 0.05 GB \| [\d.e+]+ GB/s, 16 GB in [\d.]+ s \|", fingerprints[2])
    assert "reported as lagging" in text


def test_following(report):
    text = report(following, "--quick", "--runs", "2", "--repeats", "1")
    compared, costs = tables(text)
    assert headings(text) == committed("following")
    features, effects, read = [cell.strip() for cell in compared[2].strip("|").split(" | ")][3:]
    assert max(float(features), float(effects)) < 1e-4
    assert read == "1.000"
    assert len(costs) == 3


def test_attributing(report):
    text = report(attributing, "--quick", "--timed", "2", "--repeats", "1")
    compared, times = tables(text)
    assert headings(text) == committed("attributing")
    rows = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in compared[2:]]
    assert [row[1] for row in rows] == ["12 of 12"] * 3 + ["47 of 47"]
    assert max(float(row[2]) for row in rows) < 1e-3
    assert [row[3] for row in rows] == ["12 of 12"] * 3 + ["47 of 47"]
    assert len(times) == 7
    assert "0 in doubt" in text


def test_size(report):
    text = report(size, "--runs", "60", "--repeats", "1", "--metric-steps", "2000")
    read, memory, processes, other, metrics = tables(text)
    assert (
        read[2].split("|")[3].strip() == processes[2].split("|")[3].strip() == other[2].split("|")[3].strip() == "1.00"
    )
    assert [line.split("|")[1].strip() for line in memory[2:]] == ["1", "6", "60"]
    assert [line.split("|")[1].strip() for line in metrics[2:]] == ["float64", "float32"]
    assert any("loop over runs with pandas" in line for line in other)


def test_detection(report):
    text = report(detection, "--boot", "10")
    assert len(tables(text)) == 10
    assert headings(text) == committed("detection")
    assert "| uncertainty + length + task |" in text
    assert "| reasoning failure |" in text
    for baseline in ("length", "task", "uncertainty", "random"):
        assert f"| {baseline}" in text


def test_policies(report, tmp_path):
    text = report(policies, "--scenes", "5", "--generate-at", "0.2", "--boot", "20")
    assert "Regenerate: `python -m analyses.policies --scenes 5 --generate-at 0.2 --boot 20`." in text
    replayed, curve, generated = tables(text)
    shown = committed("policies")
    assert headings(text) == shown[:3]
    assert [line.split("|")[1].strip() for line in replayed[2:4]] == ["no monitor", "stop at the alarm"]
    assert len(curve) == 2 + 3 * 4
    names = [line.split("|")[1].strip() for line in generated[2:]]
    assert "ask again from the last good step" in names
    assert "enough: answer when success is sure" in names
    assert "Of the monitor of success: " in text
    assert (tmp_path / "report.svg").stat().st_size > 2000


@pytest.mark.parametrize("study", [trajectories, metric_distributions, concentration, early_failure, outcomes])
def test_studies_of_any_folder_of_traces(report, study, tmp_path):
    traces = write_traces([make_trace(run) for run in make_runs(40)], tmp_path / "traces" / "runs.parquet").parent
    text = report(study, str(traces), "--boot", "100")
    name = study.__name__.rpartition(".")[2]
    assert f"Regenerate: `python -m analyses.{name} {traces} --boot 100 --out " in text
    assert len(tables(text)) >= 2
    assert "(report.svg)" in text


def test_every_page_says_the_command_that_makes_it_and_stands_in_the_list_of_pages():
    root = Path(analyses.__file__).parent
    pages = sorted((root.parent / "reports").glob("*.md"))
    listed = (root.parent / "reports" / "README.md").read_text(encoding="utf-8")
    for page in (page for page in pages if page.name != "README.md"):
        (command,) = re.findall(r"Regenerate: `python -m analyses\.(\w+)", page.read_text(encoding="utf-8"))
        assert command == page.stem
        assert (root / f"{command}.py").is_file()
        assert f"[{command}]({page.name})" in listed


def test_coverage(report):
    (table,) = tables(report(coverage, "--sims", "4", "--refitted", "4", "--groups", "20"))
    assert len(table) == 2 + len(list(coverage.all_cases()))
