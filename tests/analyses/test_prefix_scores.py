"""Scores of the whole prefix, where the densities are known; and the page on the demo's runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analyses import prefix_scores as page
from trajkit.detection import max_score_threshold

SHIFT, LONGEST = 0.5, 12


def streams(rng: np.random.Generator, n: int, failed: bool) -> np.ndarray:
    """(n, LONGEST) log-odds of steps that are N(−SHIFT/2, 1), and N(SHIFT/2, 1) in failing runs, NaN after the end."""
    odds = rng.normal((failed - 0.5) * SHIFT, 1, (n, LONGEST))
    return np.where(np.arange(LONGEST) < rng.integers(1, LONGEST + 1, n)[:, None], odds, np.nan)


@pytest.fixture(scope="module")
def known() -> page.Learned:
    """The densities themselves; the learned ratio is the sum of log-odds, as it is in this world."""
    rng = np.random.default_rng(0)
    odds = np.concatenate([streams(rng, 3000, failed) for failed in (False, True)])
    frame = pd.DataFrame({"failure": np.repeat([0.0, 1.0], 3000)})
    ratio = page.Learned.from_runs(page.Runs(frame, odds)).ratio
    means = np.full(LONGEST, SHIFT / 2)
    return page.Learned(-means, means, 1.0, ratio)


def test_a_ratio_of_known_densities_exceeds_one_over_alpha_on_at_most_alpha_of_successful_runs(
    known: page.Learned,
) -> None:
    rng = np.random.default_rng(1)
    scores = page.prefix_scores(streams(rng, 4000, failed=False), known)[page.PRODUCT]
    for alpha in (0.05, 0.1, 0.3):
        rate = (np.nanmax(scores, axis=1) > -np.log(alpha)).mean()
        assert rate <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / 4000)


def test_by_the_rule_of_maxima_every_score_keeps_the_promise_and_the_ratio_has_power(known: page.Learned) -> None:
    rng = np.random.default_rng(2)
    good, bad = (page.prefix_scores(streams(rng, 4000, failed), known) for failed in (False, True))
    power = {}
    for name in good:
        maxima = np.nanmax(good[name], axis=1)
        thresholds = [max_score_threshold(rng.choice(maxima, 29, replace=False), 0.1) for _ in range(400)]
        rates = np.array([(maxima > threshold).mean() for threshold in thresholds])
        assert rates.mean() <= 0.1 + 3 * rates.std() / 20
        power[name] = (np.nanmax(bad[name], axis=1) > np.quantile(maxima, 0.9)).mean()
    assert power[page.PRODUCT] > power[page.RISK] + 0.05  # steps are independent here, so that the sum knows more
    assert power[page.RATIO] > power[page.RISK]
    ville = (np.nanmax(bad[page.PRODUCT], axis=1) > -np.log(0.1)).mean()
    assert power[page.PRODUCT] > ville


def test_a_cusum_is_the_sum_from_where_it_was_lowest() -> None:
    excess = np.array([[1.0, -3.0, 2.0, 0.5, -1.0], [-1.0, -1.0, 4.0, np.nan, np.nan]])
    np.testing.assert_array_equal(page.cusum(excess), [[1, -2, 2, 2.5, 1.5], [-1, -1, 4, np.nan, np.nan]])


def test_the_page_compares_each_score_with_the_risk_on_the_same_deals(tmp_path, capsys) -> None:
    page.main(["--splits", "2", "--out", str(tmp_path / "page.md")])
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == text.strip()
    assert "`python -m analyses.prefix_scores --splits 2`" in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[2:]].count(f"| {page.RISK}") == 1
    assert len(rows) == 2 + 8
