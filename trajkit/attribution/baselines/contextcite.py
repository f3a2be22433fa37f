"""ContextCite (Cohen-Wang et al. 2024, arXiv 2409.00729): a sparse linear surrogate of the measured log-probability."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trajkit.attribution.ablation import Ablation, measure_effects, random_masks
from trajkit.attribution.regions import Regions
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import Span


def contextcite(
    vlm: VLM,
    prompt: Prompt,
    tokens: Tensor,
    spans: Sequence[Span],
    regions: Regions,
    n_masks: int = 32,
    alpha: float = 0.01,
    seed: int = 0,
    ablation: Ablation = "mean",
) -> NDArray[np.float64]:
    """(T, K) nats: weights of hidden regions in a Lasso fitted to the measured effects of `n_masks` random masks.

    The masks are drawn afresh from `seed` and the tokens, and each measured by a pass of its own. As published: each
    region kept with probability ½, columns standardised, `alpha` = 0.01 on targets per token, weights scaled back.
    Otherwise: the target is the drop in log-probability, as elsewhere here, and not the logit of the probability.
    """
    from sklearn.linear_model import Lasso

    masks = random_masks(np.random.default_rng([seed, *tokens.tolist()]), n_masks, regions.k)
    effects = measure_effects(vlm, prompt, tokens, spans, regions, masks, ablation)  # (M, T)
    lengths = np.array([span.end - span.start for span in spans])
    spread = masks.std(0)
    spread[spread == 0] = 1  # a region that was always hidden, or never, gets weight 0
    columns = (masks - masks.mean(0)) / spread  # (M, K)
    fits = [Lasso(alpha=alpha, max_iter=10_000).fit(columns, target).coef_ for target in (effects / lengths).T]
    return np.stack(fits) / spread * lengths[:, None]
