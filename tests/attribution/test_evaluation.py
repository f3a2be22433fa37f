"""Figures of faithfulness are those of SciPy and scikit-learn over the same runs; intervals resample groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import r2_score

import trajkit as tk
from trajkit.attribution.ablation import measure_effects
from trajkit.attribution.evaluation import TOP, Scored, joint_drops, score_measured, score_run
from trajkit.attribution.faithfulness import lds
from trajkit.attribution.figures import faithfulness_table, paired
from trajkit.attribution.item import Item
from trajkit.attribution.measure import Generation, MeasuredRun, Measuring, measure
from trajkit.attribution.shrinkage import firm
from trajkit.errors import InputError
from trajkit.vlm.sentences import split_steps

RNG = np.random.default_rng(0)


def run(group: int, t: int = 4, k: int = 6, m: int = 16) -> MeasuredRun:
    return MeasuredRun(
        f"g{group}",
        "math",
        np.zeros((t, k, 2), np.float32),
        RNG.random((m, k)) < 0.5,
        RNG.normal(size=(m, t)),
        RNG.normal(size=(k, t)),
        np.arange(40),
    )


def scored(name: str, measured: MeasuredRun, scores) -> Scored:
    return replace(score_measured(name, measured, scores), seconds=0.5, tokens=50)


@pytest.fixture(scope="module")
def runs():
    return [run(i // 2) for i in range(30)]


@pytest.fixture(scope="module")
def noisy(runs):
    return [r.single.T + RNG.normal(size=r.single.T.shape) for r in runs]


@pytest.fixture(scope="module")
def table(runs, noisy):
    methods = {"good": noisy, "exact": [r.single.T for r in runs]}
    return faithfulness_table(
        [scored(name, r, s) for name, scores in methods.items() for r, s in zip(runs, scores, strict=True)],
        in_nats=("good", "exact"),
    ).set_index(["method", "figure"])


def test_figures_are_those_of_scipy_and_scikit_learn(runs, noisy, table):
    x = np.concatenate([s.ravel() for s in noisy])
    y = np.concatenate([r.single.T.ravel() for r in runs])
    good = table.loc["good"]["value"]
    np.testing.assert_allclose(good["r²"], pearsonr(x, y)[0] ** 2)
    np.testing.assert_allclose(good["R²"], r2_score(y, x))
    ranks = [spearmanr(r.masks @ s[t], r.effects[:, t])[0] for r, s in zip(runs, noisy, strict=True) for t in range(4)]
    np.testing.assert_allclose(good["LDS"], np.mean(ranks))
    np.testing.assert_allclose(good["ms per token"], 10)
    assert table.loc[("exact", "r²"), "value"] == pytest.approx(1)


@pytest.mark.parametrize("alike", [0.0, 0.3])
def test_steps_without_an_answer_count_as_nothing_and_stay_in(runs, noisy, alike):
    silent = [np.where(np.arange(4)[:, None] < 2, alike, s) for s in noisy]
    rows = [scored(n, r, s) for n, each in (("all", noisy), ("half", silent)) for r, s in zip(runs, each, strict=True)]
    table = faithfulness_table(rows).set_index(["method", "figure"])["value"]
    assert table["half", "no answer"] == 0.5
    assert table["all", "no answer"] == 0
    answered = [lds(s[t], r.masks, r.effects[:, t]) for r, s in zip(runs, noisy, strict=True) for t in (2, 3)]
    assert table["half", "LDS"] == pytest.approx(np.mean(answered) / 2)


def test_scores_that_are_no_numbers_are_refused(runs):
    with pytest.raises(InputError, match="the scores of 'broken' hold NaN"):
        score_measured("broken", runs[0], np.full_like(runs[0].single.T, np.nan))


def test_intervals_hold_the_value_and_need_ten_groups(runs, noisy, table):
    known = table.dropna()  # leave-one-out is itself the measurement
    assert len(known) > 5
    assert (known["low"] <= known["value"] + 1e-9).all()
    assert (known["high"] >= known["value"] - 1e-9).all()
    alone = faithfulness_table([scored("good", runs[0], noisy[0])]).set_index("figure")
    assert alone.loc[["r²", "LDS"], ["low", "high"]].isna().all(axis=None)


def test_a_paired_difference_is_tighter_than_its_parts(runs, noisy):
    both = [scored("a", r, s) for r, s in zip(runs, noisy, strict=True)]
    both += [scored("b", r, s + 0.1 * RNG.normal(size=s.shape)) for r, s in zip(runs, noisy, strict=True)]
    value, low, high = paired(both, "a", "b", "LDS")
    alone = faithfulness_table(both).set_index(["method", "figure"]).loc[("a", "LDS")]
    assert low <= value <= high
    assert high - low < 0.7 * (alone["high"] - alone["low"])


@pytest.fixture(scope="module")
def generation(demo_vlm, prompt, generated, scene_image):
    spans, texts, _ = split_steps(generated.tolist(), demo_vlm)
    regions = tk.segment(scene_image, "blocks", (16, 16))
    return Generation(Item("a", scene_image, prompt.question, "g"), prompt, generated, spans, texts, regions)


def test_top_regions_are_hidden_together(demo_vlm, generation):
    t, k = len(generation.spans), generation.regions.k
    scores = {"one": RNG.normal(size=(t, k)), "other": RNG.normal(size=(t, k))}
    drops = joint_drops(demo_vlm, generation, scores, "mean")
    best = np.argsort(-scores["other"][1])[:3]
    mask = np.zeros((1, k), bool)
    mask[0, best] = True
    g = generation
    direct = measure_effects(demo_vlm, g.prompt, g.tokens, g.spans, g.regions, mask)
    np.testing.assert_allclose(drops["other"][1, TOP.index(3)], direct[0, 1], atol=1e-3)


def test_measured_effects_beat_chance_when_a_real_run_is_scored(demo_vlm, generation):
    measured = measure(demo_vlm, generation, Measuring(n_masks=16))
    torch.manual_seed(0)
    methods = {"measured": None, "random": lambda g, m: RNG.normal(size=m.single.T.shape)}
    rows = faithfulness_table(score_run(demo_vlm, generation, measured, methods)).set_index(["method", "figure"])
    assert ("measured", "ms per token") not in rows.index
    for figure in ("r²", "LDS", "drop@1", "drop@5"):
        assert rows.loc[("measured", figure), "value"] > rows.loc[("random", figure), "value"]


def test_scores_are_judged_shrunk_beside_themselves(demo_vlm, generation):
    measured = measure(demo_vlm, generation, Measuring(n_masks=16))
    whole, shrunk = score_run(demo_vlm, generation, measured, {"measured": None}, shrunk={"measured": 0.2})
    assert (whole.method, shrunk.method) == ("measured", "measured, shrunk")
    expected = score_measured("", measured, firm(measured.single.T, 0.2))
    here = slice(0, -len(TOP))
    np.testing.assert_allclose(shrunk.sums[:, here], expected.sums[:, here])
    assert not np.allclose(shrunk.sums[:, here], whole.sums[:, here])
    assert np.isfinite(shrunk.sums[:, -len(TOP) :]).all()
    assert np.isnan(shrunk.seconds)
