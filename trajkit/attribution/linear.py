"""LinearEstimator: Δ̂(S, v) = Σ_k v_k · w·f_{S,k}, one weight for each attention head, no bias.

The linear map of vSTREAM (arXiv 2604.16587) and AT2 (arXiv 2504.13752): the papers' baseline, and the one whose weights
can be read as a map of layers and heads. Their objective is, within each step, the Pearson correlation between
predicted and measured effects of random masks. It knows nothing of how large effects are, so steps that hardly depend
on the image weigh as much as those that rest on it; a squared error in nats beside it (`scale_weight`) sets that right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from trajkit.attribution.estimator import Binding, EffectEstimator, StepExample, check_loss, usable_examples
from trajkit.errors import InputError


class LinearEstimator(EffectEstimator):
    """A fitted linear estimator; `weights` in nats per unit of pooled attention.

    See also: `NetworkEstimator`, `EffectEstimator`.

    >>> linear = tk.EffectEstimator.load("data/demo/estimator-linear")
    >>> linear.weights.shape  # one a layer and head
    (24,)
    >>> features = np.random.default_rng(0).random((4, len(linear.weights)))  # of 4 regions
    >>> bool(np.allclose(linear.predict(features), features @ linear.weights, atol=1e-3))
    True
    """

    kind: ClassVar[str] = "linear"

    @property
    def weights(self) -> NDArray[np.float32]:
        """(L·H,), layers in order, heads within them."""
        return self.arrays["weights"]

    @classmethod
    def check_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> None:
        if set(arrays) != {"weights"} or arrays["weights"].ndim != 1:
            raise ValueError(f"expected weights of one axis; got { {n: a.shape for n, a in arrays.items()} }")

    @classmethod
    def largest_effect(cls, arrays: Mapping[str, NDArray[Any]]) -> float:
        return float(np.abs(arrays["weights"].astype(float)).sum())  # attention to a region is at most 1

    def predict(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """(..., K, F) → (..., K) nats; of F the first L·H, direct attention, are read."""
        n = len(self.weights)
        if features.shape[-1] < n:
            raise InputError(f"features must begin with L·H = {n} attention heads; got shape {features.shape}.")
        return (features[..., :n] @ self.weights).astype(np.float32)

    @classmethod
    def fit(
        cls,
        examples: Sequence[StepExample],
        binding: Binding,
        n_heads: int,
        *,
        steps: int = 1000,
        batch_size: int = 512,
        rate: float = 1e-2,
        scale_weight: float = 0.7,
        seed: int = 0,
        advance: Callable[[float], None] = lambda loss: None,
    ) -> Self:
        """Fit on measured steps; Adam at `rate` with cosine decay, weights start at 1/(L·H), gradient clipped at 1.

        n_heads: L·H, how many of the features to read. The loss is −(mean Pearson r within steps) + scale_weight ·
        (mean squared error of the centred effects, as a share of their variance). scale_weight 0 is the objective of
        the papers; the default was chosen on held-out training runs of the demo.
        Raises InputError when no step's effects vary over its masks, or the fit diverges.

        See also: `EffectEstimator.save`.

        >>> from trajkit.attribution.estimator import StepExample
        >>> rng, truth = np.random.default_rng(0), np.array([1.0, 0.0, 3.0])
        >>> def example():  # a step: what attention to 8 regions was like, and what hiding them did
        ...     features, masks = rng.random((8, 3), np.float32), rng.random((32, 8)) < 0.5
        ...     return StepExample(features, masks, masks @ features @ truth, features @ truth)
        >>> fitted = tk.LinearEstimator.fit([example() for _ in range(50)], estimator.binding, 3, steps=200)
        >>> fitted.weights.round(1)
        array([ 1., -0.,  3.], dtype=float32)
        """
        import torch

        usable = usable_examples(list(examples))
        generator = torch.Generator().manual_seed(seed)
        design = torch.from_numpy(
            np.stack([e.masks.astype(np.float32) @ e.features[:, :n_heads] for e in usable])
        )  # (n, M, F)
        effects = _centred(torch.from_numpy(np.stack([e.effects for e in usable])).float())  # (n, M)
        variance = (effects**2).mean()
        weights = torch.full((n_heads,), 1 / n_heads, requires_grad=True)
        with torch.no_grad():
            start = _best_scale(_centred(design @ weights), effects).clamp_min(1e-3).log()
        log_scale = start.clone().requires_grad_()
        optimiser = torch.optim.Adam([weights, log_scale], lr=rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            rows = torch.randint(len(design), (min(batch_size, len(design)),), generator=generator)
            predicted = _centred(design[rows] @ weights)
            error = ((predicted * log_scale.exp() - effects[rows]) ** 2).mean() / variance
            loss = scale_weight * error - pearson(predicted, effects[rows]).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([weights], 1.0)
            optimiser.step()
            schedule.step()
            advance(check_loss(float(loss.detach())))
        with torch.no_grad():
            scale = float(_best_scale(_centred(design @ weights), effects))
        return cls({"weights": (weights.detach().numpy() * scale).astype(np.float32)}, binding)


def _centred(x: Any) -> Any:
    return x - x.mean(-1, keepdim=True)


def _best_scale(predicted: Any, effects: Any) -> Any:
    """The factor that brings `predicted` closest to `effects`, both centred, in least squares."""
    return (predicted * effects).sum() / (predicted**2).sum().clamp_min(1e-12)


def pearson(x: Any, y: Any) -> Any:
    """Correlation along the last axis of torch values that are centred along it."""
    return (x * y).sum(-1) / ((x**2).sum(-1) * (y**2).sum(-1)).clamp_min(1e-24).sqrt()
