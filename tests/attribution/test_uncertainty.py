"""Log-probability and entropy equal the definitions, also where a distribution is extreme."""

from __future__ import annotations

import torch

from trajkit.attribution.uncertainty import logprob_and_entropy


def test_they_equal_the_definitions_in_double_precision():
    logits = 4 * torch.randn(5, 1000, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([0, 7, 999, 3, 3])
    logprob, entropy = logprob_and_entropy(logits, tokens)
    exact = logits.double().log_softmax(-1)
    torch.testing.assert_close(logprob.double(), exact.gather(-1, tokens[:, None])[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(entropy.double(), -(exact.exp() * exact).sum(-1), atol=1e-5, rtol=0)


def test_tokens_ruled_out_add_nothing_and_a_token_far_below_keeps_its_log_probability():
    logits = torch.tensor([0.0, 0.0, -200.0, float("-inf")])
    logprob, entropy = logprob_and_entropy(logits, torch.tensor(2))
    torch.testing.assert_close(logprob, torch.tensor(-200.0) - torch.tensor(2.0).log())
    torch.testing.assert_close(entropy, torch.tensor(2.0).log())
    assert logprob_and_entropy(logits, torch.tensor(3))[0] == float("-inf")
