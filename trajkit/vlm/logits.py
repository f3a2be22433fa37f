"""A check on what a model says next, while it generates."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor

from trajkit.errors import InputError


class FiniteLogits(LogitsProcessor):
    """Stops a generation whose logits hold NaN, or are infinite for the likeliest token.

    Greedy decoding would go on with a token that means nothing, and sampling would end in an error that names no cause.
    """

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if not torch.isfinite(scores.amax(-1)).all():
            raise InputError(
                "the model's logits hold NaN or infinite values: an overflow of float16, or damaged weights. Load it "
                "with dtype=torch.bfloat16 or torch.float32, or download the checkpoint again."
            )
        return scores
