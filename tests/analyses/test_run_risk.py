"""Risks of runs: on runs of written reasoning whose slips show in their effects, and the page on the demo's runs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from analyses import run_risk as page
from analyses.run_scores import ADDED, BASES, CEILING, DOUBTS, LENGTH, SENTENCES, UNCERTAINTY, Deal, read, scored
from tests.analyses.test_ceiling import written_runs
from trajkit.demo.cells import CELL_PX
from trajkit.demo.grid import GRID
from trajkit.demo.named import named_cells
from trajkit.detection import StepPredictor
from trajkit.judging.ranking import select_steps
from trajkit.traces.store import write_traces

REGIONS = np.kron(np.arange(GRID * GRID).reshape(GRID, GRID), np.ones((CELL_PX, CELL_PX), int))
FEW = StepPredictor(max_iter=10)
AT = (4, 8)


def seen(trace, rng):
    """With effects that rest on the cell that is named, and hardly where it is misread; and log-probabilities."""
    n = len(trace.steps)
    wrong = np.array([label == "false" for label in trace.meta["step_labels"]])
    bare = replace(trace, effects=np.zeros((n, GRID * GRID), np.float32), effects_kind="measured", regions=REGIONS)
    weight = np.where(wrong, 0.5, 4.0) + rng.normal(0, 0.5, n)
    effects = named_cells(bare) * weight[:, None] + rng.normal(0, 0.2, bare.effects.shape)
    logprob = -np.exp(rng.normal(-2, 0.5, n) + 0.5 * wrong)
    steps = tuple(
        replace(step, logprob=float(p), entropy=float(-p)) for step, p in zip(trace.steps, logprob, strict=True)
    )
    return replace(bare, effects=effects.astype(np.float32), steps=steps)


@pytest.fixture(scope="module")
def traces():
    rng = np.random.default_rng(0)
    return [seen(trace, rng) for trace in written_runs(240)]


def scores_of(traces):
    runs = read(traces)
    selected = select_steps(runs.frame, AT)
    deal = Deal(runs, 0, FEW, lambda note: None, n_folds=3)
    return runs, selected, deal, scored(runs, [deal], selected)


@pytest.fixture(scope="module")
def told(traces):
    return scores_of(traces)


def test_every_score_is_there_at_the_steps_and_the_ceiling_too(told) -> None:
    runs, selected, _, scores = told
    rows = np.concatenate([one.rows for one in selected])
    every = [name for name in scores if name != "tortuosity alone"]
    assert {CEILING, *ADDED, *BASES, *(f"{base} + {name}" for base in BASES for name in ADDED)} <= set(every)
    for name in every:
        assert np.isfinite(np.atleast_2d(scores[name])[:, rows]).all(), name
    assert runs.maps.shape == (len(runs.frame), 64)


def test_grounded_steps_are_those_that_a_region_supports_by_half_a_nat(traces, told) -> None:
    runs, selected, _, _ = told
    by_id = {trace.transcript_id: trace for trace in traces}
    here, grounded = selected[0], runs.grounded(selected[0])
    for row, found in list(zip(here.rows, grounded, strict=True))[:40]:
        effects = by_id[runs.frame["transcript_id"].iloc[row]].effects
        np.testing.assert_array_equal(found, effects[: AT[0]].max(axis=1) >= 0.5)
    assert 0 < grounded.mean() < 1


def test_slips_that_show_are_told_up_to_what_could_be_known(told) -> None:
    runs, selected, deal, scores = told
    judged = page.Judged(runs, scores, deal.fold[None], selected, 50)
    auc = judged.areas(judged.folds).set_index(["method", "step"])["auc"]
    assert auc[CEILING, 8] > 0.65
    assert auc[CEILING, 8] + 0.1 > auc[SENTENCES, 8] > auc[LENGTH, 8] + 0.03
    share = judged.shares(judged.folds).set_index(["method", "step"])["share"]
    assert share[SENTENCES, 8] == pytest.approx((auc[SENTENCES, 8] - 0.5) / (auc[CEILING, 8] - 0.5))
    assert share[SENTENCES, 8] > share[UNCERTAINTY, 8]
    gain = judged.gains_over_uncertainty(judged.folds).set_index(["method", "step"])["gain"]
    assert gain[DOUBTS, 8] == pytest.approx(auc[DOUBTS, 8] - auc[UNCERTAINTY, 8])


def test_no_score_sees_what_the_run_has_yet_to_say(traces, told) -> None:
    runs, selected, _, scores = told
    first, rng, begun = traces[0], np.random.default_rng(1), AT[0]
    effects, steps = first.effects.copy(), list(first.steps)
    effects[begun:] = rng.normal(0, 5, effects[begun:].shape)
    steps[begun:] = [replace(step, logprob=-3.0, entropy=2.0) for step in steps[begun:]]
    again = scores_of([replace(first, effects=effects, steps=tuple(steps)), *traces[1:]])[3]
    names = runs.frame["transcript_id"].to_numpy(str)
    here = selected[0].rows[names[selected[0].rows] == first.transcript_id]
    later = selected[1].rows[names[selected[1].rows] == first.transcript_id]
    assert len(here) == len(later) == 1
    for name, score in scores.items():
        np.testing.assert_array_equal(np.atleast_2d(again[name])[:, here], np.atleast_2d(score)[:, here], err_msg=name)
    assert again[SENTENCES][0, later] != scores[SENTENCES][0, later]


def test_the_page_stands_beside_its_picture(traces, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(page, "STEPS", (4,))
    monkeypatch.setattr(page, "LEAST", 10)
    monkeypatch.setattr(page, "StepPredictor", partial(StepPredictor, max_iter=5))
    folder = write_traces(traces, tmp_path / "traces" / "runs.parquet").parent
    page.main([str(folder), "--deals", "1", "--boot", "20", "--out", str(tmp_path / "page.md")])
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == text.strip()
    assert f"`python -m analyses.run_risk {folder} --deals 1 --boot 20`" in text
    assert text.count(f"| {CEILING} |") == 2
    assert text.count(f"| {SENTENCES} |") == 7
    assert (tmp_path / "page.svg").stat().st_size > 5000
