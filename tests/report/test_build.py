"""The report is one inert, complete file about any runs, and says in words what it cannot show."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.report.runs import HOSTILE, make_runs
from trajkit import live
from trajkit.errors import InputError
from trajkit.live.pixels import MAX_SIDE, label_map, quantised
from trajkit.live.query import Query
from trajkit.plots.style import OUTCOME_COLOURS
from trajkit.report import write_report
from trajkit.report.collection import Collection, choose, collect
from trajkit.report.detectors import early_panels, evaluation_of, predictor_note
from trajkit.traces.images import to_png


def payload_of(page: str, name: str = "payload") -> dict:
    """What the page's script reads; NaN is no JSON and would stop it."""
    text = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.S)[1]
    return json.loads(text, parse_constant=pytest.fail)


def test_the_page_is_one_file_with_plotly_in_it_once_and_nothing_from_elsewhere(full_report):
    from plotly.offline import get_plotlyjs

    page = full_report.read_text()
    visible = [path.name for path in full_report.parent.iterdir() if not path.name.startswith(".")]
    assert visible == ["index.html"]
    assert page.count(get_plotlyjs()[:2000]) == 1
    own = page.replace(get_plotlyjs(), "")
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", own)
    assert not re.search(r"""<(script|link)[^>]*\s(src|href)=["'](?!data:)""", own)
    assert full_report.stat().st_size < 12e6


def test_text_of_models_and_users_never_becomes_markup(full_report):
    page = full_report.read_text()
    assert "<script>alert(1)" not in page
    assert "<i>Demo" not in page
    assert "&lt;i&gt;Demo&lt;/i&gt; &amp; more" in page
    assert payload_of(page)["runs"][0]["steps"][0]["text"] == HOSTILE


def test_shown_runs_are_balanced_over_outcomes_and_held_out_from_the_detectors(full_report, fitted):
    shown = payload_of(full_report.read_text())["runs"]
    assert {name: sum(run["outcome"] == name for run in shown) for name in {run["outcome"] for run in shown}} == {
        "success": 3,
        "hallucination": 3,
        "reasoning_failure": 3,
    }
    assert not any(run["seen"] for run in shown)
    assert {run["group"] for run in shown} <= set(fitted.detectors.card["test_groups"])
    assert len({run["group"] for run in shown if run["outcome"] == "success"}) == 3


def test_runs_from_elsewhere_are_shown_first_and_counted_nowhere(runs, fitted, tmp_path):
    import trajkit as tk

    other = replace(runs[0], transcript_id="other", group_id="another", outcome="hallucination", success=False)
    told = {"others": [other], "said_of_others": "Made today."}
    page = write_report(runs[1:], tmp_path / "out", fitted.detectors, max_runs=2, **told).read_text()
    first, *rest = payload_of(page)["runs"]
    assert first["id"] == "other"
    risks = fitted.detectors.predictor.risks(tk.features([other]))
    np.testing.assert_allclose([step["risk"] for step in first["steps"][:-1]], risks, atol=1e-4)
    assert first["seen"] is (runs[0].group_id not in fitted.detectors.card["test_groups"])
    assert len(rest) == 2
    assert f"First, counted nowhere else: 1 run. Made today. 2 of {len(runs) - 1:,} runs" in page
    assert f"<dd>{len(runs) - 1:,}" in page


def test_shown_runs_carry_the_effects_and_risks_of_their_trace(full_report, runs, fitted):
    import trajkit as tk

    shown = payload_of(full_report.read_text())["runs"][-1]
    trace = next(run for run in runs if run.transcript_id == shown["id"])
    raw = np.frombuffer(base64.b64decode(shown["effects"]["values"]), "<i2") * shown["effects"]["unit"]
    np.testing.assert_allclose(raw.reshape(trace.effects.shape), trace.effects, atol=shown["effects"]["unit"])
    risks = fitted.detectors.predictor.risks(tk.features([trace]))
    np.testing.assert_allclose([step["risk"] for step in shown["steps"][:-1]], risks, atol=1e-4)
    assert shown["steps"][-1]["risk"] is None
    alarms = [step["alarm"] for step in shown["steps"]]
    assert sum(alarms) == (risks.max() > fitted.detectors.monitor.threshold)
    assert (shown["risk"], shown["alarm"] is None) == (pytest.approx(risks.max(), abs=1e-4), not sum(alarms))


def test_each_run_is_read_by_the_outcome_classifier_with_its_reasons(full_report, runs, fitted):
    import trajkit as tk
    from trajkit.detection.explanation import explain
    from trajkit.runs.table import last_steps

    classifier = fitted.detectors.outcome
    for shown in payload_of(full_report.read_text())["runs"]:
        last = last_steps(tk.features([run for run in runs if run.transcript_id == shown["id"]]))
        proba = classifier.predict_proba(last)[0]
        assert f" {100 * proba.max():.0f} %" in shown["reading"]
        assert f". For {classifier.classes_[proba.argmax()].replace('_', ' ')}: " in shown["reading"]
        assert all(reason.words in shown["reading"] for reason in explain(classifier, last)[0])
        assert ("abstains" in shown["reading"]) == (classifier.predict(last)[0] == "abstain")


def test_every_chosen_prefix_is_balanced_over_outcomes(runs):
    order = choose(collect(runs), 12)
    outcomes = [runs[at].outcome for at in order]
    assert len(order) == len(set(order)) == 12
    assert all(len(set(outcomes[i : i + 3])) == 3 for i in (0, 3, 6, 9))


def test_given_detectors_without_tables_are_judged_on_the_groups_that_they_have_not_seen(runs, fitted, tmp_path):
    page = write_report(runs, tmp_path, fitted.detectors, max_runs=2).read_text()
    figures = payload_of(page, "figures")
    assert {"auc_by_step", "auc_by_fraction", "false_alarms"} <= set(figures)
    held_out = [run for run in runs if run.group_id in fitted.detectors.card["test_groups"]]
    bars = next(trace for trace in figures["auc_by_step"]["data"] if trace.get("name") == "runs")
    assert max(_numbers(bars["y"])) == len(held_out)


def test_detectors_tried_on_runs_of_unknown_outcome_say_that_nothing_can_be_told(runs, fitted, tmp_path):
    unknown = [replace(run, outcome="unknown", success=None) for run in runs]
    assert evaluation_of(collect(unknown, fitted.detectors), fitted.detectors) is None
    page = write_report(unknown, tmp_path, fitted.detectors, max_runs=1).read_text()
    assert page.count("No held-out run has a known outcome") == 2
    assert "This needs fitted detectors" not in page


def _numbers(array) -> list[float]:
    if isinstance(array, dict):
        return np.frombuffer(base64.b64decode(array["bdata"]), array["dtype"]).tolist()
    return array


CASES = {
    "no detectors": (lambda run: run, "trajkit fit"),
    "one outcome": (lambda run: replace(run, outcome="success", success=True), "Fewer than two known outcomes"),
    "unknown outcomes": (lambda run: replace(run, outcome="unknown", success=None), "not known"),
    "no effects": (
        lambda run: replace(run, effects=np.zeros((run.n_steps, 0), np.float32), effects_kind=None),
        "This run has no effects to draw",
    ),
    "no image": (lambda run: replace(run, image=None, image_sha256=""), "saved without its image"),
    "broken image": (lambda run: replace(run, image=b"no image", image_sha256=""), "cannot be shown"),
    "no regions": (lambda run: replace(run, regions=np.zeros((0, 0), int)), "no map of regions"),
    "no effect anywhere": (lambda run: replace(run, effects=0 * run.effects), "Not defined in any run"),
    "one thinking step": (
        lambda run: replace(run, steps=run.steps[:1], effects=run.effects[:1]),
        "Not defined in any run",
    ),
    "no thinking step": (
        lambda run: replace(run, steps=run.steps[-1:], effects=run.effects[-1:]),
        "nothing to compare",
    ),
    "no step at all": (lambda run: replace(run, steps=(), effects=run.effects[:0]), "nothing to compare"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_missing_is_said_in_words(case, tmp_path):
    change, words = CASES[case]
    page = write_report([change(run) for run in make_runs(3, 2)], tmp_path, max_runs=2).read_text()
    assert words in page
    assert 1 <= len(payload_of(page)["runs"]) <= 2


def test_runs_too_large_for_the_page_are_left_out_so_that_it_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr("trajkit.report.runs.BUDGET", 1_000_000)
    rng = np.random.default_rng(0)
    runs = []
    for i, run in enumerate(make_runs(6, 1)):
        noise = Image.fromarray(rng.integers(0, 255, (750, 1000, 3), dtype=np.uint8))
        labels = rng.integers(0, 16, (750, 1000))
        runs.append(replace(run, image=to_png(noise), image_sha256="", regions=labels, transcript_id=f"big-{i}"))
    page = write_report(runs, tmp_path).read_text()
    payload = payload_of(page)
    assert 1 <= len(payload["runs"]) < 6
    assert f"{len(payload['runs'])} of 6 runs" in page
    assert len(page) < 7.5e6  # with five million of plotly
    assert payload["runs"][0]["image"]["width"] == MAX_SIDE
    assert payload["runs"][0]["map"]["width"] <= MAX_SIDE


def test_a_failed_write_leaves_the_old_page_and_no_rest(full_report, runs, tmp_path, monkeypatch):
    path = write_report(runs[:2], tmp_path, max_runs=1)
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(InputError, match="No space left"):
        write_report(runs, tmp_path, max_runs=1)
    assert path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == [".trajkit-report", "index.html"]


def test_a_folder_of_somebody_else_is_not_written_to(runs, tmp_path):
    (tmp_path / "index.html").write_text("my own page")
    with pytest.raises(InputError, match="holds other files"):
        write_report(runs, tmp_path)
    assert (tmp_path / "index.html").read_text() == "my own page"


def test_no_runs_and_no_shown_runs_are_refused(runs, tmp_path):
    with pytest.raises(InputError, match="at least one run"):
        write_report([], tmp_path)
    with pytest.raises(InputError, match="max_runs"):
        write_report(runs, tmp_path, max_runs=0)


def test_a_label_map_comes_back_from_its_run_lengths_even_where_a_run_is_longer_than_16_bits():
    for labels in (np.zeros((400, 400), int), np.arange(30).reshape(5, 6), np.arange(3900).reshape(1300, 3)):
        packed = label_map(labels)
        pairs = np.frombuffer(base64.b64decode(packed["runs"]), "<u2").reshape(-1, 2)
        shown = labels if max(labels.shape) <= MAX_SIDE else labels[1::3, 1::3]
        unpacked = np.repeat(pairs[:, 0], pairs[:, 1]).reshape(packed["height"], packed["width"])
        np.testing.assert_array_equal(unpacked, shown)
    long = label_map(np.zeros((300, 600), int))
    assert len(base64.b64decode(long["runs"])) == 4 * 3  # 180,000 pixels of one label in counts of 16 bits


def test_quantised_effects_are_off_by_at_most_half_a_unit():
    effects = np.random.default_rng(1).normal(size=(5, 7)).astype(np.float32)
    packed = quantised(effects)
    back = np.frombuffer(base64.b64decode(packed["values"]), "<i2").reshape(5, 7) * packed["unit"]
    assert np.abs(back - effects).max() <= 0.51 * packed["unit"] <= 1e-4


def test_importing_plots_and_report_loads_no_plotly_and_no_jinja():
    code = "import sys, trajkit.plots, trajkit.report; print({'plotly', 'jinja2', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_models_are_told_apart_by_their_weights_and_not_by_where_they_lie(runs, fitted):
    detectors = replace(fitted.detectors, card={**fitted.detectors.card, "fingerprint": "abc"})
    here = [replace(run, model="elsewhere/model", meta={**run.meta, "fingerprint": "abc"}) for run in runs[:20]]
    assert "Beware" not in predictor_note(collect(here, detectors), detectors)
    other = [replace(run, meta={**run.meta, "fingerprint": "xyz"}) for run in runs[:20]]
    assert "Beware" in predictor_note(collect(other, detectors), detectors)
    unmarked = [replace(run, model="elsewhere/model") for run in runs[:20]]
    assert "these come from elsewhere/model" in predictor_note(collect(unmarked, detectors), detectors)


def test_runs_of_groups_that_the_detectors_do_not_know_count_as_held_out(fitted):
    fresh = [replace(run, group_id=f"new-{run.group_id}") for run in make_runs(6, 2, seed=9)]
    found = collect(fresh, fitted.detectors)
    assert found.held_out == {run.group_id for run in fresh}
    assert "so all count as new to them" in predictor_note(found, fitted.detectors)


def test_runs_that_the_detectors_were_made_from_do_not_count_as_held_out_under_other_group_ids(runs, fitted):
    renamed = [replace(run, group_id=f"new-{run.group_id}") for run in runs]
    found = collect(renamed, fitted.detectors)
    assert found.held_out == {f"new-{group}" for group in fitted.detectors.card["test_groups"]}
    note = predictor_note(found, fitted.detectors)
    assert "90 runs are of images and questions that the detectors were made from" in note
    assert "count as new to them" not in note
    older = replace(fitted.detectors, keys=None)
    assert "do not say which images they were made from" in predictor_note(collect(renamed, older), older)


def test_a_few_groups_have_no_interval_and_the_page_says_so(runs, tmp_path):
    page = write_report([r for r in runs if r.group_id in {run.group_id for run in runs[:12]}], tmp_path).read_text()
    assert "No interval: a side has runs of under 10 groups" in page
    row = re.search(r'<th scope="row">mean step</th>(.*?)</tr>', page)[1]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
    assert all(int(cell) > 0 for cell in cells[2:4])
    assert "(" not in cells[4]


def test_numbers_are_set_flush_right_and_names_are_not(full_report):
    page = full_report.read_text()
    assert '<th scope="col">metric</th>' in page
    assert re.search(r'<th scope="col" class="number">runs a</th>', page)
    assert re.search(r'<th scope="row">mean step</th><td>[a-z ]+</td><td>success</td><td class="number">\d+</td>', page)


def test_runs_that_a_target_alone_judged_are_right_or_wrong_and_the_others_are_counted_apart(tmp_path):
    def judged(i, run):
        success = None if i < 4 else i % 2 == 0
        target = "" if i < 3 else "7"
        return replace(run, outcome="success" if success else "unknown", success=success, target=target)

    page = write_report([judged(i, run) for i, run in enumerate(make_runs(10, 3))], tmp_path, max_runs=30).read_text()
    shown = payload_of(page)["runs"]
    counts = {name: sum(run["outcome"] == name for run in shown) for name in ("success", "failure", "unknown")}
    assert counts == {"success": 13, "failure": 13, "unknown": 4}
    assert OUTCOME_COLOURS["failure"] != OUTCOME_COLOURS["unknown"]
    assert "4 runs are not judged, 3 of them for want of a target." in page
    assert re.search(r'<th scope="row">mean step</th><td>failure</td><td>success</td>', page)


def test_no_feature_is_turned_by_the_runs_that_it_is_judged_on(runs, fitted):
    frame = collect(make_runs(40, 3, seed=5)).frame
    failed = (frame["outcome"] != "success").to_numpy()
    for sign, area in ((1, 1), (-1, 0)):  # failing runs are the longer ones, or the shorter ones
        frame["n_tokens"] = 100.0 + sign * 50 * failed
        collection = Collection(collect(runs).table, frame.assign(risk=0.5))
        found = evaluation_of(collection, fitted.detectors)
        for table in (found.auc_by_step, found.auc_by_fraction):
            assert set(table.loc[table["method"] == "more tokens", "auc"].dropna()) == {area}
            assert "length" not in set(table["method"])  # which is fitted, where it stands
        for panel in early_panels(found, fitted.detectors):
            assert "set beforehand and not by these runs" in panel.caveat


def test_a_method_that_says_the_same_of_all_runs_has_no_row(fitted):
    table = fitted.evaluation.auc_by_step
    same = table[table["method"] == "length"].assign(method="task", auc=0.5, low=np.nan, high=np.nan)
    panel = early_panels(replace(fitted.evaluation, auc_by_step=pd.concat([table, same])), fitted.detectors)[0]
    [details] = panel.details.values()
    assert "length" in [row[0] for row in details.shown.rows]
    assert "task" not in [row[0] for row in details.shown.rows]
    assert details.shown.rows[-1][0] == "runs (failing)"


def test_an_auc_without_an_interval_is_not_shown_and_a_file_has_it(fitted):
    table = fitted.evaluation.auc_by_step.assign(auc=1.0, low=np.nan, high=np.nan)
    panel = early_panels(replace(fitted.evaluation, auc_by_step=table), fitted.detectors)[0]
    [details] = panel.details.values()
    assert {cell for row in details.shown.rows[:-1] for cell in row[1:]} == {"–"}
    assert (details.plain()["auc"] == 1).all()


def test_the_policy_of_the_page_names_each_of_its_scripts_by_its_hash_and_takes_no_other(full_report):
    page = full_report.read_text()
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)[1]
    rules = {rule.split()[0]: rule.split()[1:] for rule in html.unescape(policy).split(";")}
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert rules["script-src"] == [f"'sha256-{name}'" for name in hashes]
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == ["'none'"]
    assert len(scripts) == len(list((Path(live.__file__).parent / "page").glob("*.js"))) + 2  # plotly, and the report's


def test_the_page_in_a_report_is_the_one_that_is_served(full_report):
    page = full_report.read_text()
    for file in (Path(live.__file__).parent / "page").iterdir():
        if file.suffix in (".js", ".css"):
            assert page.count(file.read_text()) == 1


def shown_in(path) -> list[str]:
    return [run["id"] for run in payload_of(path.read_text())["runs"]]


def test_runs_that_are_named_are_shown_in_their_order_and_the_summary_counts_all(runs, tmp_path):
    ids = [runs[at].transcript_id for at in (70, 3, 50, 3)]
    path = write_report(runs, tmp_path, ids=ids)
    assert shown_in(path) == ids[:3]
    assert payload_of(path.read_text())["all"] == len(runs)
    assert f"3 of {len(runs)} runs, those that were asked for." in path.read_text()
    assert f"<dt>runs</dt><dd>{len(runs)}</dd>" in path.read_text()


def test_runs_of_which_something_is_true_are_shown_as_detectors_and_labels_have_it(runs, fitted, tmp_path):
    wrong = [run.transcript_id for run in runs if run.outcome == "hallucination"]
    path = write_report(runs, tmp_path / "a", where=Query.where(["outcome=hallucination"]))
    assert shown_in(path) == wrong
    collection = collect(runs, fitted.detectors)
    largest = collection.frame.groupby("transcript_id", sort=False)["risk"].max()
    monitor = replace(fitted.detectors.monitor, threshold=float(largest.median()))
    alarmed = largest.index[largest > monitor.threshold].tolist()
    detectors = replace(fitted.detectors, monitor=monitor)
    path = write_report(runs, tmp_path / "b", detectors, where=Query.where(["alarmed=yes"]))
    assert shown_in(path) == alarmed
    assert len(alarmed) == len(runs) // 2
    path = write_report(
        runs, tmp_path / "c", ids=[*wrong[:2], "scene-000-0"], where=Query.where(["outcome=hallucination"])
    )
    assert shown_in(path) == [name for name in dict.fromkeys([*wrong[:2], "scene-000-0"]) if name in wrong]
    table = collect(runs).table.labelled({wrong[0]: "success"})
    path = write_report(runs, tmp_path / "d", table=table, where=Query.where(["label=success"]))
    assert [(run["id"], run["outcome"]) for run in payload_of(path.read_text())["runs"]] == [(wrong[0], "success")]


def test_runs_that_cannot_be_shown_are_refused_by_name(runs, tmp_path):
    with pytest.raises(InputError, match="there is no run 'nothing', 'none' in these traces"):
        write_report(runs, tmp_path, ids=["nothing", runs[0].transcript_id, "none"])
    with pytest.raises(InputError, match=f"none of {len(runs)} runs is what was asked for"):
        write_report(runs, tmp_path, where=Query.where(["search=there is no such question"]))
    for asked in ("alarmed=yes", "alarmed=no"):
        with pytest.raises(InputError, match="which runs alarmed is not known"):
            write_report(runs, tmp_path, where=Query.where([asked]))
    assert not list(tmp_path.iterdir())


def test_chosen_runs_that_are_too_large_together_are_counted(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("trajkit.report.runs.BUDGET", 60_000)
    page = write_report(runs, tmp_path, where=Query.where(["outcome=success"])).read_text()
    n, all_of_them = len(payload_of(page)["runs"]), sum(run.outcome == "success" for run in runs)
    assert 1 <= n < all_of_them
    assert f"{n} of {len(runs)} runs, the first of {all_of_them} that were asked for." in page
    monkeypatch.undo()
    page = write_report(runs, tmp_path, where=Query.where(["outcome=success"]), max_runs=2).read_text()
    assert f"2 of {len(runs)} runs, the first of {all_of_them} that were asked for." in page


def test_risks_that_were_saved_with_runs_are_shown_without_detectors(tmp_path):
    def watched(run):
        return replace(run, steps=tuple(replace(step, risk=0.5, alarm=at == 2) for at, step in enumerate(run.steps)))

    shown = payload_of(write_report([watched(run) for run in make_runs(2, 1)], tmp_path).read_text())["runs"]
    assert [(run["risk"], run["alarm"]) for run in shown] == [(0.5, 2), (0.5, 2)]
