"""Monitors keep their promise where the truth is known; and the simulation tells the mistakes that look alike."""

from __future__ import annotations

import numpy as np
import pytest

from analyses import guarantees
from analyses.simulated_monitors import (
    WORLDS,
    World,
    by_step,
    confident,
    draw_among_spared,
    draw_first,
    false_alarms,
    marginal,
    one_rank_low,
)
from trajkit.detection.calibration import Watches

SIMS = 300
WATCHES: tuple[Watches, ...] = ("failure", "success")


def bound(rates: np.ndarray) -> float:
    """What a mean of 10 % stays under but for chance."""
    return 0.1 + 3 * rates.std() / np.sqrt(len(rates))


@pytest.mark.parametrize("watches", WATCHES)
@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_at_most_alpha_of_the_runs_to_be_spared_are_alarmed(world: World, watches: Watches) -> None:
    for n in (9, 19, 50):
        rates = false_alarms(marginal(0.1), n, world, SIMS, watches=watches)
        assert rates.mean() <= bound(rates)
        assert rates.mean() > (0.03 if world.digits is not None else 0.075)  # and not by hardly alarming


@pytest.mark.parametrize("watches", WATCHES)
def test_with_confidence_at_most_delta_of_monitors_have_more_than_alpha(watches: Watches) -> None:
    for n, least in ((22, 0.02), (50, 0.0), (100, 0.01)):
        more = false_alarms(confident(0.1, 0.1), n, World(-1), SIMS, watches=watches) > 0.1
        assert least < more.mean() <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / SIMS)


def test_mistakes_that_look_alike_break_the_promise_and_are_told() -> None:
    for rule, draw, sims in (
        (one_rank_low(0.1), draw_first, SIMS),
        (marginal(0.1), draw_among_spared, SIMS),
        (by_step(0.1), draw_first, 20),
    ):
        rates = false_alarms(rule, 50, World(-1), sims, draw)
        assert rates.mean() > bound(rates)


def test_monitors_of_any_score_keep_it_too() -> None:
    found = [row["found"] for row in guarantees.own_scores(25)]
    rate, off = np.mean([one.value for one in found]), np.mean([one.high - one.value for one in found])
    assert 0.04 < rate <= 0.1 + 0.75 * off  # four times as many as each is of: 3 standard errors


def test_the_page_has_what_the_committed_one_has(tmp_path, capsys) -> None:
    guarantees.main(["--sims", "4", "--runs", "9", "22", "--out", str(tmp_path / "page.md")])
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == text.strip()
    assert "`python -m analyses.guarantees --sims 4 --runs 9 22`" in text
    assert "| easy groups look riskier, half of the scores are ties | false alarms, 10 % promised |" in text
    assert "| a quantile of each step |" in text
