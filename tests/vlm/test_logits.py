"""What a model may say next: text, from finite logits."""

from __future__ import annotations

import pytest
import torch

from trajkit.errors import InputError
from trajkit.vlm.logits import TextLogits


def test_placeholders_are_ruled_out_and_nothing_else_changes(demo_vlm):
    config = demo_vlm.model.config
    scores = torch.randn(2, config.text_config.vocab_size, generator=torch.Generator().manual_seed(0))
    allowed = TextLogits(demo_vlm)(torch.zeros(2, 1, dtype=torch.long), scores.clone())
    ruled_out = [config.image_token_id, config.video_token_id]
    assert (allowed[:, ruled_out] == float("-inf")).all()
    kept = torch.ones(scores.shape[1], dtype=torch.bool)
    kept[ruled_out] = False
    torch.testing.assert_close(allowed[:, kept], scores[:, kept])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_stop_the_generation(demo_vlm, value):
    scores = torch.zeros(1, demo_vlm.model.config.text_config.vocab_size)
    scores[0, 5] = value
    with pytest.raises(InputError, match="bfloat16"):
        TextLogits(demo_vlm)(torch.zeros(1, 1, dtype=torch.long), scores)
