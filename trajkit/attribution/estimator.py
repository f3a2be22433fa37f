"""EffectEstimator: predicts the effect of hiding regions from attention alone, Δ̂(S, v) = Σ_k v_k · w·f_{S,k}.

The linear map of vSTREAM (arXiv 2604.16587) and AT2 (arXiv 2504.13752): one weight for each attention head, no bias.
Their objective is, within each step, the Pearson correlation between predicted and measured effects of random masks. It
knows nothing of how large effects are, so steps that hardly depend on the image weigh as much as those that rest on
it; a squared error in nats beside it (`scale_weight`) sets that right. One last factor puts predictions in nats.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.errors import EstimatorMismatchError, InputError

if TYPE_CHECKING:
    from trajkit.attribution.ablation import Ablation
    from trajkit.attribution.features import Pooling
    from trajkit.attribution.regions import Method

FORMAT = 1
_CARD, _WEIGHTS = "estimator.json", "estimator.safetensors"


@dataclass(frozen=True, eq=False)
class StepExample:
    """One training step: features (K, L·H), masks (M, K) and the measured effect of each mask, (M,) nats."""

    features: NDArray[np.float32]
    masks: NDArray[np.bool_]
    effects: NDArray[np.float64]


@dataclass(frozen=True)
class Binding:
    """What an estimator was made for; used on anything else its numbers mean nothing."""

    fingerprint: str
    model: str
    revision: str | None
    region_method: Method
    pooling: Pooling
    ablation: Ablation


@dataclass(frozen=True, eq=False)
class EffectEstimator:
    """A fitted linear estimator: `weights` (L·H,), in nats per unit of pooled attention."""

    weights: NDArray[np.float32]
    binding: Binding
    card: dict[str, Any] = field(default_factory=dict)

    def predict(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """(..., K, L·H) features → (..., K) estimated single-region effects, nats.

        Raises InputError when the last axis is not L·H.
        """
        if features.shape[-1] != len(self.weights):
            raise InputError(
                f"features must end in L·H = {len(self.weights)} attention heads; got shape {features.shape}."
            )
        return (features @ self.weights).astype(np.float32)

    def check(self, fingerprint: str, name: str) -> None:
        """Raise EstimatorMismatchError unless the model with this fingerprint is the one it was made for."""
        if fingerprint != self.binding.fingerprint:
            raise EstimatorMismatchError(
                f"this estimator was trained on {self.binding.model} ({self.binding.fingerprint}) and does not fit "
                f"{name} ({fingerprint}). Train one: python -m pipelines.train_estimator --model {name} --out FOLDER"
            )

    def check_regions(self, region_method: str) -> None:
        """Raise EstimatorMismatchError unless it was made for regions of this method."""
        if region_method != self.binding.region_method:
            raise EstimatorMismatchError(
                f"this estimator was trained on regions of method {self.binding.region_method!r} and does not fit "
                f"regions of method {region_method!r}. Segment with {self.binding.region_method!r}."
            )

    @property
    def digest(self) -> str:
        """16 hex digits that tell these weights from any others."""
        return _digest(self.weights)

    @classmethod
    def fit(
        cls,
        examples: Sequence[StepExample],
        binding: Binding,
        *,
        steps: int = 1000,
        batch_size: int = 512,
        rate: float = 1e-3,
        scale_weight: float = 0.7,
        seed: int = 0,
        advance: Callable[[float], None] = lambda loss: None,
    ) -> EffectEstimator:
        """Fit on measured steps; Adam at `rate` with cosine decay, weights start at 1/(L·H), gradient clipped at 1.

        The loss is −(mean Pearson r within steps) + scale_weight · (mean squared error of the centred effects, as a
        share of their variance). scale_weight 0 is the objective of the papers; the default was chosen on
        held-out training runs of the demo.
        Steps whose measured effects do not vary over the masks say nothing about correlation and are left out.
        Raises InputError when no example is left.
        """
        import torch

        usable = [e for e in examples if np.ptp(e.effects) > 1e-6]
        if not usable:
            raise InputError(
                f"none of the {len(examples)} steps has effects that vary over its masks; "
                "does the model look at the image at all?"
            )
        torch.manual_seed(seed)
        count = {len(e.effects) for e in usable}
        if len(count) > 1:
            raise InputError(f"every example must have the same number of masks; got {sorted(count)}.")
        design = torch.from_numpy(np.stack([e.masks.astype(np.float32) @ e.features for e in usable]))  # (n, M, F)
        effects = torch.from_numpy(np.stack([e.effects for e in usable])).float()  # (n, M)
        effects = _centred(effects)
        variance = (effects**2).mean()
        weights = torch.full((design.shape[-1],), 1 / design.shape[-1], requires_grad=True)
        with torch.no_grad():
            start = _best_scale(_centred(design @ weights), effects).clamp_min(1e-3).log()
        log_scale = start.clone().requires_grad_()
        optimiser = torch.optim.Adam([weights, log_scale], lr=rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            rows = torch.randint(len(design), (min(batch_size, len(design)),))
            predicted = _centred(design[rows] @ weights)
            error = ((predicted * log_scale.exp() - effects[rows]) ** 2).mean() / variance
            loss = scale_weight * error - _pearson(predicted, effects[rows]).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([weights], 1.0)
            optimiser.step()
            schedule.step()
            advance(float(loss.detach()))
        with torch.no_grad():
            scale = float(_best_scale(_centred(design @ weights), effects))
        return cls((weights.detach().numpy() * scale).astype(np.float32), binding)

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors) and card (JSON) to `folder`, each atomically."""
        from safetensors.numpy import save

        from trajkit.traces.atomic import replacing

        folder = Path(folder)
        card = {
            "format": FORMAT,
            "kind": "linear",
            "binding": asdict(self.binding),
            "weights_sha256": self.digest,
            "card": self.card,
        }
        with replacing(folder / _WEIGHTS) as file:
            file.write(save({"weights": np.ascontiguousarray(self.weights)}))
        with replacing(folder / _CARD) as file:
            file.write((json.dumps(card, indent=2) + "\n").encode())

    @classmethod
    def load(cls, folder: str | Path) -> EffectEstimator:
        """Read an estimator saved by `save`. Raises InputError when files are missing or do not fit each other."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(folder)
        for name in (_CARD, _WEIGHTS):
            if not (folder / name).is_file():
                raise InputError(
                    f"no estimator in {folder}: {name} is missing. Train one: python -m pipelines.train_estimator"
                )
        try:
            card = json.loads((folder / _CARD).read_text(encoding="utf-8"))
            weights = load_file(folder / _WEIGHTS)["weights"]
            binding = Binding(**card["binding"])
            version, digest = card["format"], card["weights_sha256"]
        except (ValueError, KeyError, TypeError, SafetensorError) as error:
            raise InputError(
                f"the estimator in {folder} is damaged: {error}. Train it again or restore the files."
            ) from error
        if version != FORMAT:
            raise InputError(
                f"the estimator in {folder} has format {version}, this trajkit reads {FORMAT}; train it again."
            )
        if weights.ndim != 1 or weights.dtype != np.float32 or not np.isfinite(weights).all():
            raise InputError(
                f"the estimator in {folder} must hold finite float32 weights of one axis; "
                f"got {weights.dtype} {weights.shape}."
            )
        if digest != _digest(weights):
            raise InputError(
                f"the estimator in {folder} is damaged: {_CARD} and {_WEIGHTS} were not saved together. "
                "Train it again or restore the files."
            )
        return cls(weights, binding, card.get("card", {}))


def _digest(weights: NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(weights).tobytes()).hexdigest()[:16]


def _centred(x: Any) -> Any:
    return x - x.mean(-1, keepdim=True)


def _best_scale(predicted: Any, effects: Any) -> Any:
    """The factor that brings `predicted` closest to `effects`, both centred, in least squares."""
    return (predicted * effects).sum() / (predicted**2).sum().clamp_min(1e-12)


def _pearson(x: Any, y: Any) -> Any:
    """Correlation along the last axis of values that are centred along it."""
    return (x * y).sum(-1) / ((x**2).sum(-1) * (y**2).sum(-1)).sqrt().clamp_min(1e-12)
