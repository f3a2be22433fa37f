"""Soft ranks are ranks in the limit, and a gradient passes through them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, spearmanr

from trajkit.attribution.ranks import centred_ranks, soft_ranks, soft_spearman

COLD = 1e-8


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_cold_soft_ranks_are_ranks_with_ties_at_their_mean():
    values = np.array([[3.0, -1.0, 3.0, 10.0, 0.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
    found = soft_ranks(torch.from_numpy(values), COLD)
    np.testing.assert_allclose(found, [[0.5, -2, 0.5, 2, -1], [-2, -1, 0, 1, 2]], atol=1e-6)
    np.testing.assert_allclose(found, centred_ranks(values), atol=1e-6)
    np.testing.assert_allclose(found, rankdata(values, axis=-1) - 3, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_cold_soft_spearman_is_scipys(seed):
    x, y = numbers(32, seed=seed), numbers(32, seed=seed + 10)
    y = y + seed * x
    y[:5] = y[5]  # ties
    found = soft_spearman(torch.from_numpy(x), torch.from_numpy(centred_ranks(y)), COLD)
    assert float(found) == pytest.approx(spearmanr(x, y).statistic, abs=1e-6)


def test_a_factor_and_an_offset_change_nothing_and_a_sign_turns_it():
    x, ranks = torch.from_numpy(numbers(4, 32)), torch.from_numpy(centred_ranks(numbers(4, 32, seed=1)))
    one = soft_spearman(x, ranks, 0.3)
    assert one.shape == (4,)
    torch.testing.assert_close(soft_spearman(100 * x - 7, ranks, 0.3), one)
    torch.testing.assert_close(soft_spearman(-x, ranks, 0.3), -one)


def test_following_the_gradient_puts_values_in_the_order_of_the_ranks():
    ranks = torch.from_numpy(centred_ranks(numbers(16, seed=1)))
    values = torch.from_numpy(numbers(16)).requires_grad_()
    optimiser = torch.optim.Adam([values], lr=0.1)
    for _ in range(200):
        optimiser.zero_grad()
        (-soft_spearman(values, ranks, 0.3)).backward()
        optimiser.step()
    assert spearmanr(values.detach(), ranks).statistic > 0.99


def test_values_that_do_not_vary_have_no_order_and_a_finite_gradient():
    values = torch.zeros(3, 8, requires_grad=True)
    found = soft_spearman(values, torch.from_numpy(centred_ranks(numbers(3, 8))).float(), 0.3)
    found.sum().backward()
    assert (found == 0).all()
    assert torch.isfinite(values.grad).all()
