"""Studies as Markdown, as one page in a real browser, and as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tests.browsing import assert_dark_on_screen_alone
from tests.detection.world import make_runs, make_trace
from trajkit.errors import InputError
from trajkit.studies import write
from trajkit.studies.make import STUDIES, make_all
from trajkit.studies.runs import read_runs
from trajkit.studies.study import Study
from trajkit.studies.write import FORMATS, Format, StudyFolder
from trajkit.tables import Estimate, Table
from trajkit.tables.names import metric_name

HOSTILE = "<script>document.title = 'broken'</script>"


def write_studies(
    studies: Sequence[Study],
    out: Path,
    form: Format,
    made_by: str,
    summary: str,
    left_out: Mapping[str, str],
    data: Mapping[str, pd.DataFrame],
) -> Path:
    """All studies at once; what to open first."""
    folder = StudyFolder(out, form, made_by, summary, data)
    folder.add(studies, left_out)
    return folder.first


@pytest.fixture(scope="module")
def runs():
    traces = [make_trace(run) for run in make_runs(40)]
    return read_runs([replace(trace, task_set=f"{HOSTILE}{trace.task_set}") for trace in traces])


@pytest.fixture(scope="module")
def studies(runs):
    return make_all(runs, n_boot=100)[0]


def test_markdown_has_a_page_a_study_its_picture_and_how_to_read_it(studies, tmp_path):
    first = write_studies(studies, tmp_path / "out", "md", "the command", "40 runs.", {"Taste": "there is none."}, {})
    index = first.read_text(encoding="utf-8")
    assert "Taste: not made. There is none." in index
    assert "(how_to_read.md)" in index
    for name in STUDIES:
        page = (tmp_path / "out" / f"{name}.md").read_text(encoding="utf-8")
        assert "Regenerate: `the command`" in page
        assert f"]({name}.svg)" in page
        assert (tmp_path / "out" / f"{name}.svg").read_text(encoding="utf-8").startswith("<svg")


def test_the_same_studies_are_written_alike(studies, tmp_path):
    for folder in ("a", "b"):
        write_studies(studies, tmp_path / folder, "md", "c", "s", {}, {})
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_studies_of_other_runs_leave_no_file_of_the_ones_before_and_files_of_others_stay(studies, tmp_path):
    write_studies(studies, tmp_path, "md", "c", "25 runs.", {}, {})
    (tmp_path / "outcomes_notes.txt").write_text("mine")
    data = {"runs": pd.DataFrame({"a": [1]})}
    write_studies(studies[:1], tmp_path, "csv", "c", "40 runs.", {}, data)
    write_studies(studies[:2], tmp_path, "csv", "c", "40 runs.", {}, {})  # one more of the same
    kept = {path.name for path in tmp_path.iterdir()}
    assert {"README.txt", "runs.csv", "outcomes_notes.txt", f"{studies[1].name}_1.csv"} <= kept
    assert not {name for name in kept if name.endswith((".md", ".svg", ".html"))}


def test_the_page_opens_offline_and_runs_nothing_that_traces_say(studies, tmp_path, chromium):
    path = write_studies(studies, tmp_path, "html", "the command", "40 runs.", {}, {})
    page = chromium.new_page(viewport={"width": 1200, "height": 900})
    trouble: list[str] = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda request: request.url.startswith("file:") or trouble.append(request.url))
    page.on("console", lambda message: trouble.append(message.text))
    page.goto(path.as_uri())
    policy = page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")
    assert "default-src 'none'; style-src 'unsafe-inline'" in policy
    assert "script-src" not in policy
    assert page.title() == "What these traces show"
    assert trouble == []
    assert page.locator("section").count() == len(STUDIES) + 1
    assert page.locator("figure svg").count() == len(STUDIES)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.close()


def test_the_page_is_dark_where_that_is_wanted_and_light_on_paper(studies, tmp_path, chromium):
    path = write_studies(studies, tmp_path, "html", "the command", "40 runs.", {}, {})
    assert_dark_on_screen_alone(chromium, path, "figure svg")
    page = chromium.new_page(viewport={"width": 1032, "height": 700})  # of A4 across, less its margins
    page.goto(path.as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert not page.locator("nav").is_visible()
    page.close()


def test_csv_holds_a_row_a_run_and_every_table(studies, runs, tmp_path):
    write_studies(studies, tmp_path, "csv", "c", "s", {}, {"runs": runs.table})
    again = pd.read_csv(tmp_path / "runs.csv")
    assert len(again) == len(runs.table)
    assert "msd_exponent" in again
    written = len(list(tmp_path.glob("*_[0-9]*.csv")))
    assert written == sum(len(study.tables) for study in studies)
    curve = pd.read_csv(tmp_path / "early_failure_1.csv")
    assert list(curve) == ["method", "step", "n_runs", "n_failures", "n_scored", "pairs", "auc", "auc_low", "auc_high"]
    assert (curve["auc_low"] <= curve["auc"]).any()


def test_csv_has_all_digits_and_machine_names_and_pages_have_few(tmp_path):
    rows = {"metric": ["msd_exponent"], "auc": [Estimate(0.61234567, 0.5, 0.7)]}
    study = Study("taste", "Taste", "Is it?", {"AUC": Table(pd.DataFrame(rows), names={"metric": metric_name})})
    write_studies([study], tmp_path / "csv", "csv", "c", "s", {}, {})
    file = (tmp_path / "csv" / "taste_1.csv").read_text(encoding="utf-8")
    assert file == "metric,auc,auc_low,auc_high\nmsd_exponent,0.61234567,0.5,0.7\n"
    write_studies([study], tmp_path / "md", "md", "c", "s", {}, {})
    page = (tmp_path / "md" / "taste.md").read_text(encoding="utf-8")
    assert "| MSD exponent | 0.61 (0.50–0.70) |" in page


def test_the_page_sets_numbers_flush_right_and_has_the_note_of_a_table(tmp_path):
    rows = {"metric": ["path_length"], "auc": [Estimate(0.61, 0.5, 0.7)]}
    study = Study("taste", "Taste", "Is it?", {"AUC": Table(pd.DataFrame(rows), note="a < b.")})
    page = write_studies([study], tmp_path / "o", "html", "c", "s", {"Other": "there is none."}, {}).read_text("utf-8")
    assert '<th class="number">auc</th>' in page
    assert '<td class="number">0.61 (0.50–0.70)</td>' in page
    assert "<th>metric</th>" in page
    assert '<p class="note">a &lt; b.</p>' in page
    assert "was not made: There is none." in page


@pytest.mark.parametrize("form", FORMATS)
def test_a_study_is_written_once_and_those_before_it_stay(studies, runs, tmp_path, form, monkeypatch):
    out = tmp_path / "out"
    folder = StudyFolder(out, form, "c", "s", {"runs": runs.table})
    folder.add([], {"Taste": "there is none."})
    assert not out.exists(), "nothing is written before there is a study"
    folder.add(studies[:1], {})
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    written = []
    whole = write.write_text
    monkeypatch.setattr(write, "write_text", lambda path, text: (written.append(path.name), whole(path, text)))
    folder.add(studies[1:], {})
    about_all = {"md": {"README.md", "how_to_read.md"}, "html": {"index.html"}, "csv": {"README.txt"}}[form]
    assert set(written) & set(before) <= about_all | {write.MARK}
    assert not any(name.startswith(studies[0].name) for name in written)
    at_once = tmp_path / "at once"
    write_studies(studies, at_once, form, "c", "s", {"Taste": "there is none."}, {"runs": runs.table})
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in at_once.iterdir()
    }


def test_a_file_in_the_way_is_named(studies, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="is a file; name a folder"):
        write_studies(studies, tmp_path / "out", "md", "c", "s", {}, {})
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_of_other_files_is_not_written_to_and_one_of_ours_is(studies, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        write_studies(studies, tmp_path, "md", "c", "s", {}, {})
    assert (tmp_path / "README.md").read_text() == "mine"
    for form in ("md", "csv"):
        write_studies(studies[:1], tmp_path / "ours", form, "c", "s", {}, {})


def test_markdown_shows_what_traces_say_and_reads_none_of_it(studies, tmp_path):
    write_studies(studies, tmp_path / "out", "md", "c", "s", {}, {})
    for page in (tmp_path / "out").glob("*.md"):
        assert "<script>" not in page.read_text(encoding="utf-8"), page.name
    assert r"\<script\>" in (tmp_path / "out" / "outcomes.md").read_text(encoding="utf-8")
