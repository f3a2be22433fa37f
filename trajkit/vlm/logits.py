"""What is checked and ruled out before a model takes its next token, and how it is drawn."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor

from trajkit.errors import InputError
from trajkit.vlm.model import VLM


class TextLogits(LogitsProcessor):
    """Stops a generation whose logits are not finite, and rules out the tokens that stand for images and video.

    With NaN logits greedy decoding would go on with a token that means nothing, and sampling would end in an error that
    names no cause. A placeholder in a generation would be taken for part of an image by every later pass over it.
    """

    def __init__(self, vlm: VLM) -> None:
        config = vlm.model.config
        self._placeholders = torch.tensor([config.image_token_id, config.video_token_id], device=vlm.model.device)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Raises InputError when logits hold NaN, or are infinite for the likeliest token."""
        if not torch.isfinite(scores.amax(-1)).all():
            raise InputError(
                "the model's logits hold NaN or infinite values: an overflow of float16, or damaged weights. Load it "
                "with dtype=torch.bfloat16 or torch.float32, or download the checkpoint again."
            )
        return scores.index_fill(-1, self._placeholders, float("-inf"))


class Draw(LogitsProcessor):
    """Draws each row's next token, and leaves it as the only one possible: greedy decoding then takes it.

    The draw is `generate`'s own, from a generator that nothing else draws from or seeds.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Raises InputError when no token is possible."""
        if not torch.isfinite(scores.amax(-1)).all():
            raise InputError(
                "the checkpoint's generation settings rule out every token; look at suppress_tokens, bad_words_ids and "
                "sequence_bias in its generation_config.json."
            )
        tokens = torch.multinomial(torch.softmax(scores, -1), 1, generator=self._generator)
        return torch.full_like(scores, float("-inf")).scatter_(-1, tokens, 0.0)
