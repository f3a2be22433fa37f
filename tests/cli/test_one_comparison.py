"""The same runs have the same δ, interval and p in the terminal, the report, the study and its files."""

from __future__ import annotations

import re
from html import unescape

import pandas as pd
import pytest

from trajkit.judging.comparison import compare_runs
from trajkit.runs.table import run_table
from trajkit.tables import words
from trajkit.tables.names import metric_name, outcome_name


@pytest.fixture(scope="module")
def found(traces):
    return compare_runs(run_table(traces))


def said(one) -> tuple[str, ...]:
    """What people read of a difference: δ with its interval, the part that is tested, p and the verdict."""
    return (words.difference(one.delta), words.signed(one.delta_tested), words.p_value(one.p_corrected), one.verdict)


def test_terminal_report_study_and_file_say_the_same(cli, traces, found, tmp_path):
    terminal = cli("analyze", traces)
    study = cli("analyze", traces, "--report", tmp_path / "md", "--only", "metric_distributions")
    file = cli("analyze", traces, "--report", tmp_path / "csv", "--only", "metric_distributions", "--format", "csv")
    page = cli("report", traces, "--out", tmp_path / "report")
    assert not any(result.code for result in (terminal, study, file, page))

    markdown = (tmp_path / "md" / "metric_distributions.md").read_text()
    html = (tmp_path / "report" / "index.html").read_text()
    numbers = pd.read_csv(tmp_path / "csv" / "metric_distributions_2.csv", float_precision="round_trip")
    numbers = numbers.set_index(["metric", "a", "b"])
    sections = re.split(r"^Differences: ", terminal.out, flags=re.M)
    for one in found.differences:
        names = (metric_name(one.metric), outcome_name(one.a), outcome_name(one.b))
        row = numbers.loc[one.metric, one.a, one.b]
        assert (row["delta"], row["delta_low"], row["delta_high"]) == tuple(one.delta)
        assert (row["delta_tested"], row["p_corrected"]) == (one.delta_tested, one.p_corrected)

        [section] = [part for part in sections if part.startswith(f"{names[1]} (a) against {names[2]} (b)")]
        assert " ".join(said(one)) in " ".join(section.split()), one.metric
        cells = row_of(markdown, r"^\| (.*) \|$", r" \| ", names)
        assert cells[-1] == one.verdict
        assert {*said(one)[:2], said(one)[2].replace("<", r"\<")} <= set(cells)
        cells = row_of(html, r'^<tr><th scope="row">(.*)</td></tr>$', "</t[hd]><td[^>]*>", names)
        assert tuple(cells[-4:]) == said(one)
    for text in (markdown, unescape(html), " ".join(terminal.out.split())):
        assert f"corrected by Holm over {len(found.differences)} tests" in text


def row_of(text: str, line: str, between: str, names: tuple[str, ...]) -> list[str]:
    """The cells of the first row of a table that begins with these names."""
    rows = [re.split(between, row) for row in re.findall(line, text, re.M)]
    return [unescape(cell) for cell in next(row for row in rows if tuple(row[:3]) == names)]
