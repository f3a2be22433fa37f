"""Training measures each run once, goes on where it stopped, and reports on groups that it did not train on."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from trajkit.attribution.linear import LinearEstimator
from trajkit.attribution.measure import MeasuredStore, Measuring, measure_runs
from trajkit.attribution.network import NetworkEstimator
from trajkit.attribution.stream import Sampling
from trajkit.attribution.training import train_estimator
from trajkit.demo.runs import demo_items
from trajkit.errors import InputError

HOW = Measuring(n_masks=8)


def items(n=6):
    return demo_items("validation", n, seed=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("measured")


@pytest.fixture(scope="module")
def trained(demo_vlm, folder):
    store = MeasuredStore(folder, asdict(HOW))
    return train_estimator(
        demo_vlm, items(), kind="linear", how=HOW, sampling=Sampling(1.0, seed=0), store=store, steps=5
    )


def test_a_report_says_what_was_measured_and_how_faithful_the_estimator_is(trained):
    estimator, report = trained
    assert isinstance(estimator, LinearEstimator)
    assert report.runs == 6
    assert report.steps == estimator.card["steps"] > 6
    assert report.passes > 6 * (1 + 8 + 16)
    assert report.peak_gb > 0.1
    assert 0 <= report.r2 <= 1
    assert estimator.card["trained_on_runs"] == 5


def test_runs_already_measured_are_read_and_no_pass_is_made(demo_vlm, trained, folder, monkeypatch):
    monkeypatch.setattr(demo_vlm.model, "generate", None)
    store = MeasuredStore(folder, asdict(HOW))
    again, report = train_estimator(
        demo_vlm, items(), kind="network", how=HOW, sampling=Sampling(1.0, seed=0), store=store, epochs=1
    )
    assert isinstance(again, NetworkEstimator)
    assert report.steps == trained[1].steps


def test_a_run_that_was_interrupted_equals_one_that_was_not(demo_vlm, folder, trained, tmp_path):
    store = MeasuredStore(tmp_path, asdict(HOW))
    whole = {r.group_id: r for r in measure_runs(demo_vlm, items(), HOW, sampling=Sampling(1.0, seed=0), store=store)}
    kept = MeasuredStore(folder, asdict(HOW))
    for item in items():
        run = kept.read(item.id)
        np.testing.assert_allclose(run.effects, whole[item.group_id].effects, atol=1e-3)


def test_other_settings_are_refused(folder, trained):
    with pytest.raises(InputError, match="measured with ablation 'mean', and these are to be measured with 'tokens'"):
        MeasuredStore(folder, asdict(HOW) | {"ablation": "tokens"})


def test_a_damaged_file_is_named(folder, trained, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    store = MeasuredStore(copy, asdict(HOW))
    item = next(iter(items(1)))
    store._path(item.id).write_bytes(b"cut off")
    with pytest.raises(InputError, match=r"is damaged.*remove it"):
        store.read(item.id)


def test_too_few_groups_are_refused(demo_vlm):
    with pytest.raises(InputError, match="at least 3 images"):
        train_estimator(demo_vlm, items(2), how=HOW, sampling=Sampling(1.0, seed=0))
