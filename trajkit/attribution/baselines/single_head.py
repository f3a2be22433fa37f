"""One attention head, the best of all on training examples: the least that a learned combination must beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trajkit.attribution.baselines.kernel import attention_seen
from trajkit.attribution.baselines.replayed import by_region, by_step, pass_inputs
from trajkit.attribution.estimator import StepExample, usable_examples
from trajkit.attribution.faithfulness import lds
from trajkit.attribution.regions import Regions
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import Span


def best_head(examples: Sequence[StepExample], n_heads: int) -> int:
    """The head, in 0..n_heads−1 and layer by layer, with the highest mean Spearman correlation over masks.

    Of each example, the first `n_heads` = L·H columns of `features` are direct attention to its regions. A head that is
    constant on an example counts 0 there. Raises InputError when no example has effects that vary.
    """
    usable = usable_examples(list(examples))
    scores = [
        [lds(example.features[:, head], example.masks, example.effects) for head in range(n_heads)]
        for example in usable
    ]
    return int(np.nan_to_num(scores).mean(0).argmax())


@torch.no_grad()
def single_head(
    vlm: VLM, prompt: Prompt, tokens: Tensor, spans: Sequence[Span], regions: Regions, *, head: int
) -> NDArray[Any]:
    """(T, K) in [0, 1]: attention of one head to a region's image tokens, summed; mean over a step's rows.

    head: as by `best_head`. Position t−1 predicts token t.
    """
    layer, place = divmod(head, vlm.text_config.num_attention_heads)

    def rows(attention: Tensor) -> Tensor:  # (H, S, S) → (n, N)
        return attention[place, prompt.length - 1 : -1][:, prompt.image_tokens]

    with attention_seen(vlm, rows) as layers:
        vlm.model.model(**pass_inputs(vlm, prompt, tokens), use_cache=False)
    lengths = torch.tensor([span.end - span.start for span in spans], device=tokens.device)
    return by_region((by_step(layers[layer].T, spans) / lengths).T, prompt, regions)
