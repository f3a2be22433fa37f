"""What studies say of made-up runs whose truth is known."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.detection.world import make_runs, make_trace, random_walks
from trajkit.errors import InputError
from trajkit.plots.style import OUTCOME_COLOURS
from trajkit.runs.table import RunTable
from trajkit.studies.early_measures import PROBED_PATH
from trajkit.studies.make import STUDIES, check_names, make, make_all
from trajkit.studies.runs import read_runs
from trajkit.tables.names import metric_name
from trajkit.tables.render import markdown
from trajkit.trajectory import RUN_METRICS, run_metrics
from trajkit.trajectory.features import FEATURE_NAMES


@pytest.fixture(scope="module")
def runs():
    return read_runs([make_trace(run) for run in make_runs(70)])


@pytest.fixture(scope="module")
def studies(runs):
    made, left_out = make_all(runs, n_boot=150)
    assert left_out == {}
    return {study.name: study for study in made}


def table(study, start):
    """The frame of the table whose title starts so."""
    return next(table.frame for title, table in study.tables.items() if title.startswith(start))


def pages(study):
    """All that people read of a study."""
    return " ".join([*study.reading, *study.tables, *map(markdown, study.tables.values())])


def test_every_study_has_tables_a_picture_and_a_reading_without_a_stray_number(studies):
    assert list(studies) == list(STUDIES)
    for study in studies.values():
        assert study.pictures
        assert study.reading
        assert all(len(table.frame) for table in study.tables.values())
        assert not re.search(r"\bnan\b", pages(study).lower())


def test_what_people_read_has_no_machine_name(studies):
    machine = {*RUN_METRICS, *FEATURE_NAMES, *OUTCOME_COLOURS}
    named = re.compile(rf"\b({'|'.join(name for name in machine if '_' in name)})\b")
    for name, study in studies.items():
        assert not named.findall(pages(study).replace("\\", "")), name


def test_one_metric_has_one_name_wherever_it_comes_from():
    for of_prefix, of_run in (("mean", "level"), ("slope", "slope"), ("sd", "spread")):
        assert metric_name(f"concentration_{of_prefix}") == metric_name(f"hhi_{of_run}")


def test_runs_are_read_once_with_the_answer_left_out():
    traces = [make_trace(run) for run in make_runs(6)]
    without = replace(traces[0], transcript_id="x", effects_kind=None, effects=np.zeros((traces[0].n_steps, 0), "f4"))
    runs = read_runs([*traces, without])
    assert (runs.left_out, len(runs), int((~runs.used).sum())) == (0, len(traces) + 1, 1)
    assert [len(path) for path in runs.paths] == [trace.n_steps - 1 for trace in traces]
    alone = run_metrics(runs.paths[4], [0, len(runs.paths[4])])
    for name in RUN_METRICS:
        np.testing.assert_array_equal(runs.table[name][4], alone[name][0], err_msg=name)
    with pytest.raises(InputError, match=r"needs effects, and of 1 run none has any .* `trajkit attribute` gets them"):
        read_runs([without]).with_effects()
    silent = [replace(without, steps=tuple(replace(step, kind="answer") for step in without.steps))]
    with pytest.raises(InputError, match="of 1 run none has a thinking step"):
        read_runs(silent)


def test_the_summary_counts_runs_questions_and_groups_apart_and_runs_without_a_form():
    traces = [replace(make_trace(run), meta={"kind": "count"}) for run in make_runs(16, per_group=3)]
    said = read_runs(traces).summary()
    assert said.startswith("48 runs of 16 groups: ")
    assert "question" not in said
    asked = [replace(trace, question=f"what is {i % 3}?") for i, trace in enumerate(traces)]
    assert read_runs(asked).summary().startswith("48 runs of 48 questions in 16 groups: ")
    one = read_runs([replace(traces[0], meta={}), *traces[1:]]).summary()
    assert "1 run has a question form, without" not in one
    assert "1 run has no question form, without which runs are compared within their family alone." in one
    none = read_runs([replace(trace, meta={}) for trace in traces]).summary()
    assert "No run has a question form, without which" in none


def test_runs_with_other_numbers_of_regions_stand_beside_each_other():
    traces = [make_trace(run) for run in make_runs(4)]
    fewer = replace(traces[1], effects=traces[1].effects[:, :3], regions=np.arange(3).reshape(1, 3))
    runs = read_runs([traces[0], fewer, *traces[2:]])
    alone = run_metrics(runs.paths[1], [0, len(runs.paths[1])])
    assert runs.table["path_length"][1] == alone["path_length"][0]


def test_a_signal_in_the_path_is_a_gain_over_length_task_and_uncertainty():
    said = []
    for larger in (3, 1):
        world = make_runs(150, seed=3, signal=0)
        moving = [replace(run, effects=run.effects * (1 if run.outcome == "success" else larger)) for run in world]
        study = make("early_failure")(read_runs([make_trace(run) for run in moving]), 300, lambda note: None)
        said.append(study.reading[0])
    assert "Trajectory and concentration add to uncertainty, length and task at step" in said[0]
    assert "nothing that can be told" in said[1] or "make it worse" in said[1]


def test_walks_that_differ_only_in_length_are_told_apart_by_the_oracle_alone():
    """At every absolute step the interval of the AUC must hold 0.5, but for chance; path length at a fraction fools."""
    runs = read_runs([make_trace(walk) for walk in random_walks(300, 1)])
    study = make("early_failure")(runs, 200, lambda note: None)
    by_step = table(study, "AUC at absolute steps").set_index("method")
    areas = by_step.loc[["trajectory", "trajectory+concentration"], "auc"]
    assert np.mean([area.beside(0.5) == "not told from" for area in areas if area.has_interval]) >= 0.8
    oracle = table(study, "ORACLE: AUC").set_index(["method", "fraction"])
    assert oracle.loc[("length", 0.5), "auc"].value > 0.9


def test_hidden_states_have_a_row_where_they_were_kept():
    rng = np.random.default_rng(0)
    traces = [make_trace(run) for run in make_runs(40)]
    kept = [replace(t, hidden=rng.normal(size=(t.n_steps, 8)).astype("f4") + (not t.success)) for t in traces]
    study = make("early_failure")(read_runs(kept), 100, lambda note: None)
    by_step = table(study, "AUC at absolute steps").set_index("method")
    assert {"hidden", PROBED_PATH} <= set(by_step.index)
    assert {"probe on hidden states", "probe + all features"} <= {
        row[0] for row in study.tables["AUC at absolute steps, by what was known then"].shown.rows
    }
    gained = table(study, "Gain in AUC of trajectory and concentration over the probe")["gain"]
    assert all(np.isfinite(gain.value) for gain in gained)
    assert any("A linear probe on hidden states beats trajectory and concentration at step" in s for s in study.reading)


def test_a_run_has_its_own_uncertainty_and_not_a_concentration_of_that_name(runs):
    last = runs.frame.groupby("transcript_id", sort=False).tail(1)
    for name in ("logprob_mean", "entropy_mean", "n_tokens"):
        np.testing.assert_array_equal(runs.table[name], last[name])


def test_the_paper_s_reading_is_measured_and_not_assumed(studies):
    """In this world hallucinations move little and lost reasoning a lot, whatever they concentrate on."""
    agreement = table(studies["outcomes"], "The paper's reading").set_index("region")
    assert list(agreement.index) == ["fixation", "wandering", "neither"]
    direct = table(studies["outcomes"], "Level and spread").set_index("family")
    assert list(direct.index) == ["all, within families", "document", "math"]
    assert sum(share.value for share in agreement["share_success"]) == pytest.approx(1)


def test_a_world_made_as_the_paper_reads_it_agrees_with_it_and_one_turned_round_does_not():
    """Hallucinations look at one region all along; lost reasoning now at one and now at all."""
    for turned, expected in ((False, "yes"), (True, "no, reversed")):
        rng, world = np.random.default_rng(0), []
        for run in make_runs(60, signal=0):
            steps = max(len(run.effects), 4)
            narrow = ((run.outcome == "hallucination") != turned) != (rng.random() < 0.1)
            one = np.eye(6)[rng.integers(6, size=steps)] * 5 + 0.05 * rng.random((steps, 6))
            wide = np.where(rng.random(steps)[:, None] < 0.5, one, 1 + 0.2 * rng.random((steps, 6)))
            columns = {n: np.resize(getattr(run, n), steps) for n in ("tokens", "logprob", "entropy")}
            world.append(make_trace(replace(run, effects=one if narrow else wide, **columns)))
        direct = table(make("outcomes")(read_runs(world), 100, lambda note: None), "Level and spread").iloc[0]
        assert (direct["level_agrees"], direct["spread_agrees"]) == (expected, expected)


def test_confusion_counts_every_run_once(studies, runs):
    confusion = table(studies["outcomes"], "Confusion")
    for _, row in confusion.groupby("outcome"):
        assert sum(cell.n for cell in row["n"]) == row["runs"].iloc[0]
        assert {cell.of for cell in row["n"]} == set(row["runs"])
    assert sum(cell.n for cell in confusion["n"]) == len(runs.table)


def test_p_values_are_corrected_over_the_whole_table(studies):
    shown = table(studies["metric_distributions"], "Differences")
    assert (shown["p_corrected"] >= shown["p_permutation"]).all()
    assert shown["p_corrected"].max() == 1


def test_every_metric_is_measured_in_every_space(studies):
    spaces = table(studies["trajectories"], "What each metric depends on")
    counts = spaces.groupby("metric")["space"].nunique()
    assert (counts == 5).all()
    own = spaces[spaces["space"] == "effects"]
    assert own["spearman"].to_numpy() == pytest.approx(1)


def test_a_study_that_runs_do_not_allow_is_left_out_with_its_reason():
    successes = [replace(make_trace(run), success=True, outcome="success") for run in make_runs(12)]
    made, left_out = make_all(read_runs(successes), n_boot=100)
    assert [study.name for study in made] == ["concentration"]
    assert "of 36 runs 36 are known to have succeeded and 0 to have failed" in left_out["Failure, early"]


def test_another_name_is_refused():
    with pytest.raises(InputError, match="no study 'taste'; there are: trajectories, "):
        make("taste")
    with pytest.raises(InputError, match="no study 'taste'; there are: trajectories, "):
        check_names(["outcomes", "taste"])
    assert check_names(["outcomes", "concentration", "outcomes"]) == ["outcomes", "concentration"]


@pytest.mark.parametrize("case", ["few", "short", "unsupported", "all", "targets", "one group"])
def test_unusual_folders_end_in_a_study_or_a_reason(case):
    world = make_runs(6 if case == "few" else 40)
    if case == "short":
        world = [
            replace(r, **{n: getattr(r, n)[:2] for n in ("effects", "tokens", "logprob", "entropy")}) for r in world
        ]
    if case == "unsupported":
        world = [replace(run, effects=-np.abs(run.effects)) for run in world]
    if case == "one group":
        world = [replace(run, group_id="one") for run in world]
    traces = [make_trace(run) for run in world]
    if case == "all":
        traces = [replace(trace, task_set="all") for trace in traces]
    if case == "targets":  # right or wrong, and of no kind
        traces = [replace(t, outcome="success" if t.success else "unknown") for t in traces]
    made, left_out = make_all(read_runs(traces), n_boot=100)
    assert len(made) + len(left_out) == len(STUDIES)
    assert made
    if case == "targets":
        assert "of no kind" in left_out["Which outcome it was"]
        assert "failure" in set(table(made[0], "The paper's figures")["outcome"])
    if case == "one group":
        path = next(study for study in made if study.name == "trajectories")
        assert not any(area.has_interval for area in table(path, "What each metric depends on")["auc"])
        assert "clear of 0.5 in every space: none" in " ".join(path.reading)


def test_runs_share_a_region_map_only_where_it_is_the_same():
    first, second, third, fourth = (
        replace(make_trace(run), image_sha256=sha)
        for run, sha in zip(make_runs(4, 1), ("a", "a", "a", ""), strict=True)
    )
    turned = replace(third, regions=third.regions[:, ::-1].copy())
    labels = read_runs([first, second, turned, fourth]).labels
    assert labels[0] is labels[1]
    assert labels[0] is not labels[2]
    np.testing.assert_array_equal(labels[2], turned.regions)
    np.testing.assert_array_equal(labels[3], fourth.regions)


def narrow(rng, steps):
    return np.eye(6)[rng.integers(6, size=steps)] * 5 + 0.05 * rng.random((steps, 6))


def wide(rng, steps):
    one = narrow(rng, steps)
    return np.where(np.arange(steps)[:, None] % 2 == rng.integers(2), one, 1 + 0.2 * rng.random((steps, 6)))


def world_of(outcome_of, effects_of, n=120):
    """One run a group, of the forms `count` and `largest` in turn, of four steps."""
    rng, world = np.random.default_rng(0), []
    for i, run in enumerate(make_runs(n, 1, signal=0)):
        form = ("count", "largest")[i % 2]
        outcome = outcome_of(form, i // 2)
        columns = {name: np.resize(getattr(run, name), 4) for name in ("tokens", "logprob", "entropy")}
        world.append(
            replace(
                run, task_set="science", form=form, outcome=outcome, effects=effects_of(rng, form, outcome), **columns
            )
        )
    return read_runs([make_trace(run) for run in world])


def test_a_rule_that_is_one_about_the_form_is_gone_within_form():
    """Hallucinations are mostly of one form and lost reasoning of the other; what is looked at goes with the form."""

    def outcome(form, i):
        kinds = ("hallucination", "reasoning_failure") if form == "largest" else ("reasoning_failure", "hallucination")
        return "success" if i % 2 else kinds[i % 10 == 0]

    runs = world_of(outcome, lambda rng, form, _: (narrow if form == "largest" else wide)(rng, 4), 240)
    study = make("outcomes")(runs, 150, lambda note: None)
    row = table(study, "Level and spread").iloc[0]
    assert row["level_mixed"].value > 0.7
    assert row["spread_mixed"].value < 0.3
    assert (row["forms_with_both"], row["forms"]) == (2, 2)
    assert (row["level_agrees"], row["spread_agrees"]) == ("not told", "not told")
    assert any("not told apart over all" in said and "with forms mixed" in said for said in study.reading)
    place = table(study, "The paper's reading").set_index("region").loc["fixation"]
    assert place["more"].beside(0) == "not told from"
    by_form = table(study, "Outcomes by task family").set_index(["form", "outcome"])
    assert by_form.loc[("largest", "hallucination"), "n"] == (48, 120)
    everywhere, within = (
        {row[0] for row in found.shown.rows}
        for title, found in study.tables.items()
        if title.startswith(("AUC of each outcome", "The same, among"))
    )
    assert everywhere - within == {"task"}, "what is one and the same among the runs compared has no row"


def test_differences_between_outcomes_that_follow_from_the_form_are_none_within_form():
    def outcome(form, i):
        failed = i % 10 < 7 if form == "largest" else i % 10 < 2
        return "hallucination" if failed else "success"

    runs = world_of(outcome, lambda rng, form, _: (narrow if form == "largest" else wide)(rng, 4), 160)
    for forms, found in (("mixed", True), ("known", False)):
        at, no_form = runs.rows.schema.get_field_index("form"), pa.array([""] * len(runs))
        seen = RunTable(runs.rows.set_column(at, "form", no_form)) if forms == "mixed" else runs
        shown = table(make("metric_distributions")(seen, 150, lambda note: None), "Differences").set_index("metric")
        assert (shown.loc["hhi_level", "p_corrected"] < 0.05) == found
        study = make("concentration")(seen, 150, lambda note: None)
        assert ("level higher" in study.reading[0]) == found
        path = table(make("trajectories")(seen, 150, lambda note: None), "What each metric depends on")
        area = path.set_index(["metric", "space"]).loc[("path_length", "effects"), "auc"]
        assert (area.beside(0.5) != "not told from") == found


def test_outcomes_that_are_told_apart_wholly_are_said_to_be():
    """An AUC of 0 or 1 has a bound, so it is no null."""

    def outcome(form, i):
        return ("success", "hallucination", "reasoning_failure")[i % 3]

    def effects(rng, form, outcome):
        steady = {"success": 3.0, "hallucination": 9.0, "reasoning_failure": 1.0}[outcome]
        one = np.eye(6)[0] * steady + 1 + 0.01 * rng.random((4, 6))
        one[1::2] *= np.where(
            np.arange(6) == 0, {"success": 0.8, "hallucination": 1.0, "reasoning_failure": 0.2}[outcome], 1
        )
        return one

    runs = world_of(outcome, effects)
    study = make("outcomes")(runs, 150, lambda note: None)
    row = table(study, "Level and spread").iloc[0]
    assert row["level"].value == 1
    assert 0 < row["level"].low < 1
    assert row["level_agrees"] == "yes"
    assert not any("not told apart" in said or "too few groups" in said for said in study.reading)
    study = make("concentration")(runs, 150, lambda note: None)
    for kind, side in (("Hallucination", "higher"), ("Reasoning failure", "lower")):
        [said] = [said for said in study.reading if said.startswith(f"{kind} beside success")]
        assert f"level {side} (AUC {'1.00' if side == 'higher' else '0.00'} (0." in said


def test_causes_that_a_judge_gave_are_counted_and_said():
    traces = [make_trace(run) for run in make_runs(40)]
    failing = [t for t in traces if t.outcome == "reasoning_failure"]
    silent, wrong = {"detail": "no answer"}, {"detail": "wrong step"}
    caused = [replace(t, meta=(silent if t is failing[0] else wrong) if t in failing else {}) for t in traces]
    study = make("outcomes")(read_runs(caused), 100, lambda note: None)
    causes = table(study, "What went wrong").set_index("cause")
    n = len(failing)
    assert causes["runs"].to_dict() == {"wrong step": (n - 1, n), "no answer": (1, n)}
    assert any(said.startswith("Causes of reasoning failure, as its judge says: wrong step") for said in study.reading)
    assert not any(
        "What went wrong" in title for title in make("outcomes")(read_runs(traces), 100, lambda n: None).tables
    )
