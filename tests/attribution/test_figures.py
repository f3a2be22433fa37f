"""Figures in bands of a step's largest effect: sums of bands add up to those of all steps, and each band is its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import pearsonr, permutation_test

from trajkit.attribution.evaluation import ESTIMATED_GATE, ORACLE_GATE, SUMS, score_measured, step_gates
from trajkit.attribution.figures import (
    ALL,
    BANDS,
    GROUNDED_STEPS,
    band_table,
    exchanged,
    faithfulness_table,
    paired,
    step_counts,
)
from trajkit.attribution.measure import MeasuredRun

RNG = np.random.default_rng(0)
SIZES = (0.1, 1.0, 8.0)
"""Of the largest effects of the three steps that every run below has: one for each band."""


def run(group: int, k: int = 6) -> MeasuredRun:
    single = RNG.uniform(-0.04, 0.04, size=(k, 3)) * SIZES
    single[RNG.integers(k, size=3), range(3)] = SIZES
    masks = RNG.random((16, k)) < 0.5
    features = np.zeros((3, k, 2), np.float32)
    return MeasuredRun(f"g{group}", "math", features, masks, masks @ single, single, np.arange(40))


@pytest.fixture(scope="module")
def runs():
    return [run(i // 2) for i in range(24)]


@pytest.fixture(scope="module")
def scored(runs):
    noise = [RNG.normal(size=r.single.T.shape) * np.array([[0.1], [0.3], [0.5]]) for r in runs]
    return [score_measured("noisy", r, r.single.T + e) for r, e in zip(runs, noise, strict=True)]


def test_steps_are_counted_in_the_band_of_their_largest_effect(scored):
    counts = step_counts(scored)
    assert counts == {
        GROUNDED_STEPS: (48, 12),
        "≥ 3 nats": (24, 12),
        "0.5 to 3 nats": (24, 12),
        "< 0.5 nats": (24, 12),
        ALL: (72, 12),
    }


def test_a_step_that_no_region_supports_is_not_grounded_however_much_some_region_speaks_against_it():
    """Its top region, which top-1 asks for, is then the one that matters least."""
    against = run(0)
    against.single[:] = -np.abs(against.single)
    counts = step_counts([score_measured("exact", against, against.single.T)])
    assert counts[GROUNDED_STEPS] == (0, 0)
    assert counts["< 0.5 nats"] == (3, 1)
    against.single[0, 2] = 0.6  # beside −8
    against.single[1, 2] = -8
    assert step_counts([score_measured("exact", against, against.single.T)])["0.5 to 3 nats"] == (1, 1)


def test_a_figure_of_a_band_is_that_of_its_steps_alone(runs, scored):
    assert np.sum([s.sums for s in scored], 0).sum(0)[0] == sum(r.single.size for r in runs)
    for band, steps in (("< 0.5 nats", [0]), (GROUNDED_STEPS, [1, 2]), (ALL, [0, 1, 2])):
        alone, values = [], []
        for r in runs:
            scores = r.single.T + np.linspace(0, 0.3, r.single.size).reshape(r.single.T.shape)
            alone.append((scores[steps].ravel(), r.single.T[steps].ravel()))
            values.append(score_measured("m", r, scores))
        x, y = (np.concatenate(v) for v in zip(*alone, strict=True))
        found = faithfulness_table(values, band=band, n_boot=20).set_index("figure")["value"]
        np.testing.assert_allclose(found["r²"], pearsonr(x, y)[0] ** 2)


def test_top_agreement_is_the_share_of_steps_whose_top_region_is_the_measured_one(runs, scored):
    table = band_table(scored, n_boot=50).set_index(["band", "figure"])
    assert table.loc[("≥ 3 nats", "top-1"), "value"] == 1
    assert table.loc[("< 0.5 nats", "top-1"), "value"] < 0.9
    assert table.loc[(GROUNDED_STEPS, "top-1"), "steps"] == 48
    wrong = [score_measured("wrong", r, -r.single.T) for r in runs]
    assert faithfulness_table(wrong, n_boot=5).set_index("figure").loc["top-1", "value"] == 0
    value, low, high = paired([*scored, *wrong], "noisy", "wrong", "top-1", band="≥ 3 nats")
    assert value == high == 1
    assert 0.3 < low < 1  # no chance of another step is known


def test_the_p_of_a_difference_is_that_of_a_permutation_test_over_groups(runs):
    runs = [*runs[:6], *(replace(r, group_id=f"{r.group_id}b") for r in runs[6:12])]  # 6 groups of two runs
    noise = [[RNG.normal(size=r.single.T.shape) * scale for r in runs] for scale in (0.1, 0.5)]
    rows = [
        score_measured(name, r, r.single.T + e)
        for name, own in zip(("a", "b"), noise, strict=True)
        for r, e in zip(runs, own, strict=True)
    ]
    lds = [[s.sums[:, SUMS.index("lds")].sum() for s in rows if s.method == m] for m in ("a", "b")]
    by_group = np.reshape(lds, (2, 6, 2)).sum(2)
    exact = permutation_test(by_group, lambda x, y: (x - y).mean(), permutation_type="samples", n_resamples=np.inf)
    difference, p = exchanged(rows, "a", "b", "LDS")
    assert difference == pytest.approx(paired(rows, "a", "b", "LDS")[0])
    assert p == pytest.approx(exact.pvalue, abs=0.03)
    assert p < 0.1
    assert exchanged(rows, "b", "a", "LDS") == (-difference, p)
    assert exchanged([*rows, *(replace(s, method="c") for s in rows if s.method == "a")], "a", "c", "LDS")[1] == 1


def test_bands_without_any_step_are_left_out(runs):
    rows = [
        score_measured(
            "m",
            MeasuredRun(r.group_id, "", r.features[:1], r.masks, r.effects[:, :1], r.single[:, :1], r.tokens),
            r.single.T[:1],
        )
        for r in runs
    ]
    assert set(band_table(rows, n_boot=5)["band"]) == {"< 0.5 nats", ALL}


def test_one_region_and_one_number_a_step_reach_a_high_r2_over_all_steps_and_say_little_of_the_middling_ones(runs):
    """Raw attention that is right on large steps and silly on others: r² over all cannot see it."""
    rows = []
    for r in runs:
        raw = np.where(np.arange(3)[:, None] == 2, r.single.T, RNG.normal(size=r.single.T.shape))
        rows += step_gates(r, raw, r.single.T * 0.9)
    table = band_table(rows, n_boot=5).set_index(["method", "band", "figure"])["value"]
    for gate in (ORACLE_GATE, ESTIMATED_GATE):
        assert table[gate, ALL, "r²"] > 0.95
        assert table[gate, "0.5 to 3 nats", "r²"] < 0.3
        assert table[gate, "0.5 to 3 nats", "top-1"] < 0.5
        assert (gate, ALL, "drop@1") not in table.index


def test_r2_comes_last(scored):
    assert list(faithfulness_table(scored, in_nats=["noisy"], n_boot=5)["figure"])[-2:] == ["R²", "r²"]
    assert faithfulness_table(scored, n_boot=5)["figure"].iloc[0] == "top-1"
    assert next(iter(BANDS)) == GROUNDED_STEPS
