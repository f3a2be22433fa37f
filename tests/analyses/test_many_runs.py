"""Made-up runs are runs as the store has them, and hang on nothing but their number."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from analyses import many_runs
from analyses.many_runs import PER_GROUP, REGIONS, STEPS, write_many
from trajkit.runs.features import features
from trajkit.traces.doctor import examine
from trajkit.traces.store import read_traces


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(many_runs, "FILE", 200)
        patch.setattr(many_runs, "GROUP", 80)
        return write_many(tmp_path_factory.mktemp("many"), 500)


def test_they_are_sound_runs_of_all_sizes(folder):
    found = examine(folder)
    assert (found.runs, found.bad, found.files) == (500, (), ())
    runs = list(read_traces(folder))
    assert len({run.transcript_id for run in runs}) == 500
    assert len({run.group_id for run in runs}) == 500 / PER_GROUP
    for named, asked in ((lambda run: run.n_steps, STEPS), (lambda run: run.n_regions, REGIONS)):
        sizes = [named(run) for run in runs]
        assert asked[0] <= min(sizes) < asked[0] + 10
        assert asked[1] - 10 < max(sizes) <= asked[1]


def test_effects_are_mostly_small_and_a_few_carry_a_step(folder):
    effects = np.concatenate([run.effects.ravel() for run in read_traces(folder)])
    assert np.median(np.abs(effects)) < 0.1 < 1 < np.quantile(effects, 0.999)


def test_each_has_a_feature_row_for_every_thought(folder):
    assert len(features(folder)) == sum(run.n_steps - 1 for run in read_traces(folder))


def test_a_seed_makes_the_same_runs_again():
    first, again, other = (many_runs.many_runs(40, 8, seed) for seed in (0, 0, 1))
    assert isinstance(first, pa.Table)
    assert first.equals(again)
    assert not first.equals(other)
