"""What a newcomer writes first by mistake is answered by a sentence that says what to write instead, or just works."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import trajkit as tk
from trajkit.errors import InputError

DEMO = Path(__file__).parents[1] / "data" / "demo"
IMAGE, QUESTION = DEMO / "example.png", "sort row 2 up."


@pytest.fixture(scope="module")
def traces():
    return tk.read_traces(DEMO / "traces")[:120]


@pytest.fixture(scope="module")
def table(traces):
    return tk.run_table(traces).table


@pytest.fixture(scope="module")
def detectors():
    return tk.detection.load_detectors(DEMO / "detectors")


def said(call) -> str:
    with pytest.raises(InputError) as error:
        call()
    return str(error.value)


def test_a_loaded_model_is_not_loaded_again(demo_vlm):
    assert "is watched as it is: tk.watch(model, processor" in said(lambda: tk.load_vlm(demo_vlm.model))
    assert "loaded already" in said(lambda: tk.load_vlm(demo_vlm))
    assert "got NoneType" in said(lambda: tk.load_vlm(None))
    assert "The demo's is in" not in said(lambda: tk.load_vlm("data/demo/estimator"))


def test_one_run_is_as_good_as_several(traces):
    assert len(tk.features(traces[0])) == traces[0].thinking.sum()
    assert len(tk.run_table(traces[0])) == 1


def test_what_is_no_runs_is_told(traces, table):
    assert "each a Trace; got str among them" in said(lambda: tk.features(["data/demo/traces"]))
    assert "got DataFrame" in said(lambda: tk.run_table(table))


def test_runs_are_compared_from_their_path_themselves_or_a_table(traces):
    assert re.match(r"Comparison\(\d of 57 differences", repr(tk.judging.compare_runs(traces, draws=20)))


def test_statistics_take_columns(traces, table):
    assert "tk.stats.auc(table['failed']" in said(lambda: tk.stats.auc(table, "path_length"))
    assert "table['outcome'] != 'success'" in said(lambda: tk.stats.auc(table["outcome"], table["path_length"]))
    assert "tk.run_table(traces).table; got Traces" in said(lambda: tk.stats.compare(traces, "path_length"))
    assert tk.stats.auc(table["outcome"] != "success", table["path_length"]).n_pos == (table["failed"] == 1).sum()


def test_a_run_that_is_not_there(traces):
    assert "there is no run 'nope'" in said(lambda: traces["nope"])
    with pytest.raises(IndexError, match="there are 120 runs, the first is number 0; got 120"):
        traces[120]
    assert traces[-1].transcript_id == traces.ids[-1]
    assert len(list(traces)) == 120


@pytest.mark.parametrize("image", [IMAGE, str(IMAGE), np.zeros((32, 32, 3), np.uint8), b"", None])
def test_image_and_question_that_have_changed_places(demo_vlm, demo_estimator, image):
    if image is None:
        from PIL import Image

        image = Image.new("RGB", (32, 32))
    text = said(lambda: tk.stream(demo_vlm, QUESTION, image, estimator=demo_estimator))
    assert text == "image and question have changed places: the image comes first, then the question."


def test_a_folder_in_place_of_what_is_in_it(demo_vlm, demo_estimator):
    def stream(model=demo_vlm, **options):
        return said(lambda: tk.stream(model, IMAGE, QUESTION, **{"estimator": demo_estimator} | options))

    assert "EffectEstimator.load('data/demo/estimator')" in stream(estimator="data/demo/estimator")
    assert "load_detectors('data/demo/detectors').monitor" in stream(monitor="data/demo/detectors")
    assert 'Policy("stop")' in stream(policy="stop")
    assert "load_vlm('data/demo/model')" in stream("data/demo/model")
    assert "tk.watch(model, processor" in stream(demo_vlm.model)


def test_what_is_asked(demo_vlm, demo_estimator):
    assert "there is no question" in said(lambda: tk.trace(demo_vlm, IMAGE, estimator=demo_estimator))
    assert "got int" in said(lambda: tk.trace(demo_vlm, IMAGE, 5, estimator=demo_estimator))
    assert "there is no image" in said(lambda: tk.trace(demo_vlm, None, QUESTION, estimator=demo_estimator))


def test_a_watch_of_something_else(demo_vlm, demo_estimator):
    def watch(*given):
        return said(lambda: tk.watch(*given, IMAGE, QUESTION, estimator=demo_estimator))

    assert "tk.watch(vlm.model, vlm.processor" in watch(demo_vlm, demo_vlm.processor)
    assert "takes the model first" in watch(demo_vlm.processor, demo_vlm.model)


def test_regions_of_no_image_and_a_single_number(demo_vlm):
    assert "got VLM" in said(lambda: tk.segment(demo_vlm, IMAGE))
    assert "k must be (fewest, most)" in said(lambda: tk.segment(IMAGE, "blocks", 16))


@pytest.mark.parametrize("name", ["log.eval", "log.json", "runs.jsonl"])
def test_logs_of_other_tools_are_imported(tmp_path, name):
    (tmp_path / name).write_text("{}")
    assert f"tk.import_traces({str(tmp_path / name)!r})" in said(lambda: tk.read_traces(tmp_path / name))


def test_reading_and_writing_take_one_path(traces, tmp_path):
    assert "got list" in said(lambda: tk.read_traces([tmp_path]))
    for given in ((tmp_path / "a.parquet", traces), (traces[0], tmp_path / "a.parquet")):
        assert "write_traces takes runs, then a path" in said(lambda given=given: tk.write_traces(*given))


def test_an_estimator_is_loaded():
    assert "EffectEstimator.load(folder)" in said(lambda: tk.EffectEstimator("data/demo/estimator"))


def test_a_monitor_is_calibrated_by_a_predictor(traces, detectors):
    assert "got Traces for the predictor" in said(lambda: tk.Monitor.calibrate(traces, detectors.predictor))
    assert "Take detectors.predictor" in said(lambda: tk.Monitor.calibrate(detectors, traces))
    assert "watches='success'" in said(lambda: tk.Policy(enough=detectors))


def test_predictors_take_features(traces, detectors):
    assert said(lambda: detectors.predictor.risks(traces)).endswith("gives; got Traces.")
    assert "got Traces" in said(lambda: tk.EarlyFailurePredictor().fit(traces, [0, 1] * 60))


def test_trajectories_are_of_effects(traces):
    for metric in (tk.trajectory.path_length, tk.trajectory.concentration, tk.trajectory.project):
        assert "give trace.effects" in said(lambda metric=metric: metric(traces[0]))


def test_figures_of_runs_are_theirs(traces):
    assert "trace.plot()" in said(lambda: tk.plots.metrics_by_step(traces[0]))
    assert "traces.plot(metric)" in said(lambda: tk.plots.outcome_distributions(traces, "path_length"))


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("load_detectors", "it is trajkit.detection.load_detectors"),
        ("compare_runs", "it is trajkit.judging.compare_runs"),
        ("load_vml", r"did you mean load_vlm\?"),
    ],
)
def test_a_name_of_another_room_is_pointed_to(name, instead):
    with pytest.raises(AttributeError, match=f"module 'trajkit' has no attribute '{name}'; {instead}"):
        getattr(tk, name)
