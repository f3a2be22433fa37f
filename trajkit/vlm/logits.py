"""What is checked and ruled out before a model takes its next token, and how it is drawn."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from trajkit.errors import InputError
from trajkit.vlm.model import VLM


class Failures(StoppingCriteria):
    """Rows of a batch that cannot go on, and why: each ends where it failed, and the others go on as they would have.

    raising: raise the first one's error instead. at: row → (length of the sequence that it failed at, why).
    """

    def __init__(self, raising: bool = True) -> None:
        self._raising = raising
        self.at: dict[int, tuple[int, InputError]] = {}

    def end(self, rows: Tensor, input_ids: Tensor, scores: Tensor, error: InputError) -> Tensor:
        """(B, V) scores from which a token can be taken for the failed `rows` too, (B,) truth values."""
        if self._raising:
            raise error
        for row in rows.nonzero()[:, 0].tolist():
            self.at.setdefault(row, (input_ids.shape[1], error))
        return scores.masked_fill(rows[:, None], 0.0)

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        return torch.tensor([row in self.at for row in range(len(input_ids))], device=input_ids.device)


class TextLogits(LogitsProcessor):
    """Ends a run whose logits are not finite, and rules out the tokens that stand for images and video.

    With NaN logits greedy decoding would go on with a token that means nothing, and sampling would end in an error that
    names no cause. A placeholder in a generation would be taken for part of an image by every later pass over it.
    """

    def __init__(self, vlm: VLM, failures: Failures | None = None) -> None:
        self._failures = failures or Failures()
        config = vlm.model.config
        self._placeholders = torch.tensor([config.image_token_id, config.video_token_id], device=vlm.model.device)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """A row fails when its logits hold NaN, or are infinite for the likeliest token."""
        bad = ~torch.isfinite(scores.amax(-1))
        if bad.any():
            error = InputError(
                "the model's logits hold NaN or infinite values: an overflow of float16, or damaged weights. Load it "
                "with dtype=torch.bfloat16 or torch.float32, or download the checkpoint again."
            )
            scores = self._failures.end(bad, input_ids, scores, error)
        return scores.index_fill(-1, self._placeholders, float("-inf"))


class Draw(LogitsProcessor):
    """Draws each row's next token, and leaves it as the only one possible: greedy decoding then takes it.

    The draw is `generate`'s own, from a generator that nothing else draws from or seeds.
    """

    def __init__(self, generator: torch.Generator, failures: Failures | None = None) -> None:
        self._generator, self._failures = generator, failures or Failures()

    def skip(self, n: int, shape: tuple[int, int]) -> None:
        """Draw `n` times for nothing, as from (B, V) scores: a generation that goes on from its n-th token."""
        for _ in range(n):
            torch.multinomial(torch.ones(shape, device=self._generator.device), 1, generator=self._generator)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """A row fails when no token is possible."""
        bad = ~torch.isfinite(scores.amax(-1))
        if bad.any():
            error = InputError(
                "the checkpoint's generation settings rule out every token; look at suppress_tokens, bad_words_ids and "
                "sequence_bias in its generation_config.json."
            )
            scores = self._failures.end(bad, input_ids, scores, error)
        tokens = torch.multinomial(torch.softmax(scores, -1), 1, generator=self._generator)
        return torch.full_like(scores, float("-inf")).scatter_(-1, tokens, 0.0)
