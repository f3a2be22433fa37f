"""analyze, fit, monitor and report on saved runs."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from trajkit.traces.store import read_traces, write_traces


def test_analyze_compares_outcomes(cli, traces):
    result = cli("analyze", traces)
    assert result.code == 0, result.err
    for part in ("success", "hallucination", "reasoning failure", "level of concentration", "tortuosity"):
        assert part in result.out


@pytest.mark.parametrize(("form", "first"), [("md", "README.md"), ("html", "index.html"), ("csv", "runs.csv")])
def test_analyze_writes_studies(cli, traces, tmp_path, form, first):
    out = tmp_path / "sub" / "analysis"
    result = cli("analyze", traces, "--report", out, "--format", form, "--only", "concentration", "--boot", "100")
    assert result.code == 0, result.err
    assert f"Wrote {out}" in result.out.replace("\n", "")
    assert (out / first).stat().st_size > 300


def test_studies_of_a_larger_folder_are_of_whole_groups_and_every_page_says_so(cli, traces, tmp_path):
    n = len(read_traces(traces))
    asked = ("--report", tmp_path, "--only", "concentration", "--boot", "100", "--most", "180")
    assert cli("analyze", traces, *asked).code == 0
    for page in ("README.md", "concentration.md"):
        said = (tmp_path / page).read_text(encoding="utf-8")
        assert f"drawn, whole groups at random, from {n} runs (seed 0)" in said
        assert "--most 180" in said  # makes it again
    assert cli("analyze", traces, *asked, "--format", "csv").code == 0
    assert len((tmp_path / "runs.csv").read_text(encoding="utf-8").splitlines()) == 1 + n  # the numbers of all runs


def test_analyze_says_in_what_it_writes_which_studies_could_not_be_made(cli, tmp_path, make_trace):
    rng = np.random.default_rng(1)
    write_traces([make_trace(g, 0, False, rng) for g in range(12)], tmp_path / "t.parquet")
    out = tmp_path / "out"
    result = cli("analyze", tmp_path / "t.parquet", "--report", out, "--boot", "100")
    assert result.code == 0, result.err
    index = (out / "README.md").read_text()
    for title in ("Failure, early", "Which outcome it was"):
        assert f"{title}: not made." in index
        assert f"{title}: not made." in result.err.replace("\n", " ")


def test_analyze_keeps_the_studies_made_before_it_is_stopped(cli, traces, tmp_path, monkeypatch):
    from trajkit.studies import early_failure

    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(early_failure, "early_failure", stopped)
    out = tmp_path / "out"
    cli("analyze", traces, "--report", out, "--only", "concentration", "--only", "early_failure", "--boot", "100")
    assert (out / "concentration.md").exists()
    assert "concentration.md" in (out / "README.md").read_text()


def test_analyze_names_what_it_does_not_know(cli, traces, tmp_path):
    cli("analyze", traces, "--report", tmp_path, "--format", "pdf").assert_one_line_error("md, html, csv", "'pdf'")
    cli("analyze", traces, "--report", tmp_path, "--only", "taste").assert_one_line_error("no study 'taste'")
    cli("analyze", traces, "--only", "outcomes").assert_one_line_error("--report")
    cli("analyze", traces, "--format", "csv").assert_one_line_error("--report")
    cli("analyze", traces, "--most", "500").assert_one_line_error("--report")
    (tmp_path / "file").write_text("mine")
    cli("analyze", traces, "--report", tmp_path / "file").assert_one_line_error("is a file; name a folder")


def test_analyze_of_a_few_groups_shows_the_numbers_of_runs_and_no_interval(cli, tmp_path, make_trace):
    rng = np.random.default_rng(1)
    write_traces([make_trace(g, 0, g % 2 > 0, rng) for g in range(8)], tmp_path / "t.parquet")
    result = cli("analyze", tmp_path / "t.parquet")
    assert result.code == 0, result.err
    assert " ".join(result.out.split()).count("No interval: a side has runs of under 10 groups") == 1
    number = r"(?:[+−]?\d\.\d\d|–)"
    assert re.search(rf"^mean step +\d +4 +{number} +{number} +(?:\d\.\d{{3}}|–) +not ", result.out, re.M)


def test_analyze_tells_a_bound_from_an_interval_where_a_difference_is_total(cli, tmp_path, make_trace):
    rng = np.random.default_rng(1)
    runs = [make_trace(2 * g, 0, g % 2 > 0, rng) for g in range(8)]
    apart = [replace(run, effects=run.effects * (1 if run.success else 1e3)) for run in runs]
    write_traces(apart, tmp_path / "t.parquet")
    out = " ".join(cli("analyze", tmp_path / "t.parquet").out.split())
    rows = re.findall(r"path length \d 4 \+1\.00\d? \(([+−]\d\.\d+) to \+1\.00\d?\)", out)
    assert rows
    assert all(float(row.replace("−", "-")) < 1 for row in rows)
    assert "a δ of 1 or −1 has an exact bound all the same" in out


def test_analyze_of_many_groups_shows_intervals(cli, traces):
    out = cli("analyze", traces).out
    number = r"[+−]0\.\d+"
    row = rf"path length +\d+ +\d+ +{number} \({number} to {number}\) +{number} +(< 0\.001|\d\.\d{{3}}) +\w+"
    assert len(re.findall(row, out)) == 3


def test_analyze_of_runs_without_outcomes_says_that_there_is_nothing_to_compare(cli, tmp_path, make_trace):
    rng = np.random.default_rng(1)
    write_traces([make_trace(g, 0, None, rng) for g in range(5)], tmp_path / "t.parquet")
    result = cli("analyze", tmp_path / "t.parquet")
    assert result.code == 0
    assert "Fewer than two known outcomes have runs here, so there is nothing to compare." in result.out


def test_fit_shows_held_out_results_beside_baselines_and_saves_detectors(cli, traces, tmp_path, monkeypatch):
    from trajkit.judging import fit as fitting

    whole = fitting.fit_detectors
    monkeypatch.setattr(
        fitting, "fit_detectors", lambda *a, **k: whole(*a, **k, compared=("length", "task", "uncertainty"), n_boot=20)
    )
    result = cli("fit", traces, "--out", tmp_path / "detectors", "--alpha", "0.2")
    assert result.code == 0, result.err
    for part in ("length", "task", "uncertainty", "random", "tortuosity alone", "ORACLE", "False alarms", "macro"):
        assert part.lower() in result.out.lower()
    card = json.loads((tmp_path / "detectors" / "detectors.json").read_text())["card"]
    assert card["alpha"] == 0.2
    assert card["model"] == "toy"


@pytest.mark.parametrize(("failed", "word"), [(None, "target"), (False, "failed"), (True, "successful")])
def test_fit_of_too_few_or_one_sided_runs_is_one_line(cli, tmp_path, make_trace, failed, word):
    rng = np.random.default_rng(2)
    write_traces([make_trace(g, 0, failed, rng) for g in range(6)], tmp_path / "t.parquet")
    cli("fit", tmp_path / "t.parquet", "--out", tmp_path / "d").assert_one_line_error(word)
    assert not (tmp_path / "d").exists()


def test_report_reads_the_columns_of_runs_once(cli, traces, detectors, tmp_path, monkeypatch):
    from trajkit.runs import table

    reads, rows = [], table.tables_of
    monkeypatch.setattr(table, "tables_of", lambda *a, **k: reads.append(a) or rows(*a, **k))
    result = cli("report", traces, "--out", tmp_path / "report", "--detectors", detectors)
    assert result.code == 0, result.err
    assert len(reads) == 1


def test_report_refuses_runs_of_another_model_before_it_writes(cli, detectors, tmp_path, make_trace):
    rng = np.random.default_rng(1)
    write_traces([replace(make_trace(g, 0, g % 2 > 0, rng), model="other") for g in range(8)], tmp_path / "t.parquet")
    result = cli("report", tmp_path / "t.parquet", "--out", tmp_path / "report", "--detectors", detectors)
    result.assert_one_line_error("fitted on runs of 'toy'")
    assert not (tmp_path / "report").exists()


def test_monitor_replays_only_held_out_runs_unless_asked_for_all(cli, traces, detectors):
    held = cli("monitor", traces, "--detectors", detectors)
    every = cli("monitor", traces, "--detectors", detectors, "--all", "--list", "3")
    assert held.code == every.code == 0, held.err + every.err
    assert "Replaying held-out runs only: " in held.out
    assert "Replaying all runs: 240 of 240" in every.out
    for part in (
        "False alarms on successful runs",
        "Failing runs that were alarmed",
        "tokens after the alarm",
        "Alarms (",
    ):
        assert part in held.out


def test_monitor_names_the_question_of_an_alarm_and_writes_numbers_as_elsewhere(cli, traces, detectors):
    out = cli("monitor", traces, "--detectors", detectors, "--all").out
    assert re.search(r"g\d+-\d +how many\? +\w+ +\d of \d +0\.\d\d +\d+(\.\d)? %", out)
    threshold = re.search(r"first exceeds (\S+): at most 10 % of successful", out)
    assert threshold
    assert re.fullmatch(r"0\.\d\d", threshold[1])
    assert re.search(r"a new run of a new group .* 10 % *\n", out)
    assert re.search(r"all successful runs, pooled .* not promised *\n", out)
    assert "are of groups that the detectors were made from and do not count here" in " ".join(out.split())


def test_monitor_says_in_words_that_a_replay_breaks_the_promise(cli, detectors, tmp_path, make_trace):
    rng = np.random.default_rng(3)
    alike = [replace(make_trace(300 + g, 0, True, rng), success=True, outcome="success") for g in range(40)]
    write_traces(alike, tmp_path / "t.parquet")
    out = " ".join(cli("monitor", tmp_path / "t.parquet", "--detectors", detectors).out.split())
    assert "THE PROMISE IS BROKEN on these runs" in out
    assert "10 % at most are promised" in out


def test_monitor_tells_drift_of_the_scores_also_of_runs_whose_outcomes_are_not_known(
    cli, traces, detectors, tmp_path, make_trace
):
    rng = np.random.default_rng(3)
    alike = [replace(make_trace(300 + g, 0, True, rng), success=None, outcome="unknown") for g in range(90)]
    write_traces(alike, tmp_path / "t.parquet")
    out = " ".join(cli("monitor", tmp_path / "t.parquet", "--detectors", detectors).out.split())
    assert "No run has a known outcome" in out
    assert "THE SCORES HAVE DRIFTED: after 90 runs their maxima are not like those of the calibration (p" in out
    held = " ".join(cli("monitor", traces, "--detectors", detectors).out.split())
    assert "No drift of the scores is told over 20 runs" in held


def test_monitor_says_that_runs_of_one_hard_group_pooled_are_of_no_promise(cli, detectors, tmp_path, make_trace):
    rng = np.random.default_rng(3)
    easy = [make_trace(300 + g, 0, False, rng) for g in range(60)]
    hard = [replace(make_trace(400, r, True, rng), success=True, outcome="success") for r in range(60)]
    write_traces(easy + hard, tmp_path / "t.parquet")
    out = " ".join(cli("monitor", tmp_path / "t.parquet", "--detectors", detectors).out.split())
    assert "THE PROMISE IS BROKEN" not in out
    assert "of the 120 successful runs were alarmed in this replay, more than 10 %: that is another quantity" in out


def test_monitor_of_runs_that_the_detectors_were_made_from_is_refused_unless_asked_for_all(
    cli, traces, detectors, tmp_path
):
    card = json.loads((detectors / "detectors.json").read_text())["card"]
    seen = [run for run in read_traces(traces) if run.group_id in card["fit_groups"]]
    write_traces(seen, tmp_path / "t.parquet")
    cli("monitor", tmp_path / "t.parquet", "--detectors", detectors).assert_one_line_error("made from", "--all")
    out = " ".join(cli("monitor", tmp_path / "t.parquet", "--detectors", detectors, "--all").out.split())
    assert "Whether the promise is kept cannot be told: no run of a group new to the detectors succeeded" in out


def test_monitor_takes_no_copy_for_new_whatever_its_group_id_says(cli, traces, detectors, tmp_path):
    card = json.loads((detectors / "detectors.json").read_text())["card"]
    made_from = {*card["fit_groups"], *card["calibration_groups"]}
    renamed = [replace(run, group_id=f"new {run.group_id}") for run in read_traces(traces)]
    n = sum(run.group_id[4:] in made_from for run in renamed)
    write_traces(renamed, tmp_path / "t.parquet")
    result = cli("monitor", tmp_path / "t.parquet", "--detectors", detectors)
    out = " ".join(result.out.split())
    assert f"Not new, whatever their group ids say: {n} runs of {len(made_from)} groups (new g0, " in out
    assert f"Replaying held-out runs only: {240 - n} of 240" in out
    every = " ".join(cli("monitor", tmp_path / "t.parquet", "--detectors", detectors, "--all").out.split())
    assert f"{n} runs are of groups that the detectors were made from and do not count here" in every
    seen = [run for run in renamed if run.group_id[4:] in made_from]
    write_traces(seen, tmp_path / "t.parquet")
    cli("monitor", tmp_path / "t.parquet", "--detectors", detectors).assert_one_line_error("made from", "--all")


def test_monitor_counts_new_groups_that_are_copies_of_each_other_as_one(cli, detectors, tmp_path, make_trace):
    rng = np.random.default_rng(3)
    run = make_trace(300, 0, False, rng)
    copies = [replace(run, transcript_id=f"c{n}", group_id=f"c{n}") for n in range(30)]
    write_traces([run, *copies], tmp_path / "t.parquet")
    result = cli("monitor", tmp_path / "t.parquet", "--detectors", detectors)
    assert re.search(r"a new run of a new group +1 ", result.out)
    assert "trajkit: warning: 31 groups are taken as 1" in result.err


def test_monitor_says_when_detectors_do_not_know_their_images(cli, traces, detectors, tmp_path):
    from trajkit.detection.store import load_detectors, save_detectors

    save_detectors(tmp_path / "old", replace(load_detectors(detectors), keys=None))
    out = " ".join(cli("monitor", traces, "--detectors", tmp_path / "old").out.split())
    assert "do not say which images they were made from" in out
    assert "do not say which images" not in cli("monitor", traces, "--detectors", detectors).out


def test_monitor_of_one_group_is_not_sure_that_nothing_goes_wrong(cli, detectors, tmp_path, make_trace):
    rng = np.random.default_rng(3)
    write_traces([make_trace(300, 0, False, rng)], tmp_path / "t.parquet")
    out = cli("monitor", tmp_path / "t.parquet", "--detectors", detectors).out
    assert re.search(r"a new run of a new group +1 +0\.0 % \(0\.0–97\.5 %\) ", out)


def test_monitor_of_another_models_runs_is_refused(cli, detectors, tmp_path, make_trace):
    rng = np.random.default_rng(3)
    write_traces([make_trace(g, 0, False, rng, model="other") for g in range(4)], tmp_path / "t.parquet")
    cli("monitor", tmp_path / "t.parquet", "--detectors", detectors).assert_one_line_error("'toy'", "'other'")


def test_report_writes_a_page_and_says_where(cli, traces, detectors, tmp_path):
    result = cli("report", traces, "--out", tmp_path / "report", "--detectors", detectors)
    assert result.code == 0, result.err
    assert (tmp_path / "report" / "index.html").stat().st_size > 1000
    assert "index.html" in result.out


def test_doctor_has_a_line_for_each_thing_and_fails_when_the_demo_is_missing(cli, monkeypatch, tmp_path):
    from trajkit.demo import paths

    for name in ("MODEL", "ESTIMATOR", "TRACES", "DETECTORS"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    result = cli("doctor")
    assert result.code == 1
    for part in ("python", "torch", "demo model", "estimator", "traces", "detectors", "→ "):
        assert part in result.out
    assert "4 things are missing" in result.out
