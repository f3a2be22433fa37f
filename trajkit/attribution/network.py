"""NetworkEstimator: a small network for each region, the same for all, shown the region among the others of the image.

A linear map of attention cannot tell a region that a step looks at from one that all steps look at, nor follow a step
to what it reads through its own earlier text. The network sees, for every head, the logarithm of a region's direct and
through-text attention (`StepFeatures`), the same less its mean over regions, and the largest value over regions.
Several members are trained from different starts and averaged, and what is small beside the largest of a step is taken
for nothing (`shrinkage`); how much members differ, scaled on runs that none was trained on, gives an interval for each
effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from trajkit.attribution.estimator import Binding, EffectEstimator, StepExample, check_loss, usable_examples
from trajkit.attribution.faithfulness import GROUNDED
from trajkit.attribution.linear import pearson
from trajkit.attribution.ranks import centred_ranks, soft_spearman
from trajkit.attribution.shrinkage import SHARES, best_share, firm
from trajkit.errors import InputError
from trajkit.stats.resampling import some_groups

if TYPE_CHECKING:
    from torch import Tensor

COVERAGE = 0.9
"""Share of effects that lie within `half_width` of their estimate."""
_LAYERS = ("w1", "b1", "w2", "b2", "w3", "b3")
_SHAPES = {
    "w1": 3,
    "b1": 2,
    "w2": 3,
    "b2": 2,
    "w3": 3,
    "b3": 2,
    "floor": 1,
    "mean": 1,
    "deviation": 1,
    "share": 1,
    "offset": 1,
    "from": 1,
    "factor": 1,
}
_BANDS = 6
_BAND_SIZE = 50
"""Most bands of |estimate| above 0 that intervals are calibrated in; there are fewer where the last two would hold less
than twice this many effects."""
_EXPANDED_BYTES = 2e9
"""Inputs of a training that take more than this are made anew in every epoch and not kept."""
_TEMPERATURE = 0.3
"""Of the soft ranks of masks in a training."""
_LARGEST_CALIBRATED = 1e6
"""Of `offset`, `from` (nats) and `factor`: none is near it."""
_LARGEST_FACTS = (1e4, 20.0, 20.0)
"""Of a step: |mean log-probability|, |log(mean entropy + 1e-4)| and log of its tokens."""
N_FACTS = 3
"""Features of a step that say nothing of regions, at the end: mean log-probability, mean entropy, tokens."""


class NetworkEstimator(EffectEstimator):
    """A fitted network.

    arrays: `floor` (2·L·H,), added before the logarithm; `mean` and `deviation` (D,) of the inputs; `w1` (M, D, h) …
    `b3` (M, 1) of the M members, the last layer in nats; `share` (1,) of a step's largest effect, in [0, 0.5], up to
    which another is none; for `half_width` `offset` (1,), and for each of B bands of |estimate| `from` (B,), where it
    begins, rising from 0, nats, and `factor` (B,).

    See also: `LinearEstimator`, `EffectEstimator`.

    >>> network = tk.NetworkEstimator.load("data/demo/estimator")
    >>> features = np.full((17, 2 * vlm.n_features + 3), 0.01, np.float32)  # of 17 regions
    >>> network.predict(features).shape, network.half_width(features).shape
    ((17,), (17,))
    """

    kind: ClassVar[str] = "network"
    has_intervals: ClassVar[bool] = True

    @classmethod
    def check_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> None:
        expected: dict[str, tuple[int, ...]] = {}
        if {name: array.ndim for name, array in arrays.items()} == _SHAPES:
            members, _, width = arrays["w1"].shape
            inputs = 3 * len(arrays["floor"]) + N_FACTS
            expected = {
                "floor": arrays["floor"].shape,
                "mean": (inputs,),
                "deviation": (inputs,),
                "share": (1,),
                "offset": (1,),
                "from": arrays["from"].shape,
                "factor": arrays["from"].shape,
                "w1": (members, inputs, width),
                "b1": (members, width),
                "w2": (members, width, width),
                "b2": (members, width),
                "w3": (members, width, 1),
                "b3": (members, 1),
            }
        if {name: array.shape for name, array in arrays.items()} != expected:
            raise ValueError(f"arrays do not fit each other: { {n: a.shape for n, a in arrays.items()} }")
        if (arrays["deviation"] <= 0).any() or (arrays["floor"] <= 0).any():
            raise ValueError("floor and deviation must be positive")
        if not 0 <= arrays["share"][0] <= 0.5:
            raise ValueError(f"share must be in [0, 0.5]; got {arrays['share'][0]:g}")
        if not len(arrays["from"]) or arrays["from"][0] != 0 or (np.diff(arrays["from"]) <= 0).any():
            raise ValueError("bands must begin at 0 and rise")
        if (arrays["factor"] < 0).any() or (arrays["offset"] <= 0).any():
            raise ValueError("factors must not be negative, and the offset must be positive")
        for name in ("offset", "from", "factor"):
            if (arrays[name] > _LARGEST_CALIBRATED).any():
                raise ValueError(f"{name} must be at most {_LARGEST_CALIBRATED:g}; got {arrays[name].max():g}")

    @classmethod
    def largest_effect(cls, arrays: Mapping[str, NDArray[Any]]) -> float:
        a = {name: np.abs(array.astype(float)) for name, array in arrays.items()}
        floor = arrays["floor"].astype(float)
        log = np.maximum(np.abs(np.log(floor)), np.log(1 + floor))  # attention to a region is at most 1
        inputs = (np.concatenate([log, 2 * log, log, _LARGEST_FACTS]) + a["mean"]) / a["deviation"]
        hidden = np.einsum("d,mdh->mh", inputs, a["w1"]) + a["b1"]  # |silu(x)| is at most |x|
        hidden = hidden + np.einsum("mh,mhj->mj", hidden, a["w2"]) + a["b2"]
        return float((np.einsum("mh,mho->mo", hidden, a["w3"]) + a["b3"]).max())

    def predict(self, features: NDArray[Any]) -> NDArray[np.float32]:
        return self._estimate(self._members(features))

    def predict_interval(self, features: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`predict` and `half_width` from one pass."""
        members = self._members(features)
        estimate = self._estimate(members)
        band = np.searchsorted(self.arrays["from"], np.abs(estimate), "right") - 1
        half_width = self.arrays["factor"][band] * (members.std(0) + self.arrays["offset"])
        return estimate, half_width.astype(np.float32)

    def half_width(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """(..., K, F) features → (..., K) nats: effects lie within this of `predict` about as often as COVERAGE says.

        Split-conformal prediction (Lei et al. 2018, doi 10.1080/01621459.2017.1307116) with the members' spread as
        scale, by bands of |estimate| (Vovk et al. 2003, Mondrian confidence machines): most effects are next to
        nothing, and over all of them together the promise would be kept by those alone. It holds over the effects of a
        band in runs like those of the calibration, about, since regions of one run are not independent.
        """
        return self.predict_interval(features)[1]

    def _estimate(self, members: NDArray[np.float32]) -> NDArray[np.float32]:
        """(M, ..., K) of the members → (..., K) their mean, shrunk."""
        return firm(members.mean(0), float(self.arrays["share"][0])).astype(np.float32)

    def _members(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """(M, ..., K) estimates of each member."""
        import torch

        n = len(self.arrays["floor"])
        if features.shape[-1] != n + N_FACTS:
            raise InputError(f"features must have 2·L·H + {N_FACTS} = {n + N_FACTS} columns; got {features.shape}.")
        x = expand(np.asarray(features, np.float32), self.arrays["floor"])
        x = (x - self.arrays["mean"]) / self.arrays["deviation"]
        layers = [torch.from_numpy(self.arrays[name]) for name in _LAYERS]
        with torch.inference_mode():
            members: NDArray[np.float32] = _forward(torch.from_numpy(x.reshape(-1, x.shape[-1])), *layers).numpy()
        return members.reshape(len(members), *features.shape[:-1])

    @classmethod
    def fit(
        cls,
        examples: Sequence[StepExample],
        binding: Binding,
        *,
        epochs: int = 40,
        members: int = 4,
        width: int = 64,
        batch_size: int = 64,
        rate: float = 6e-3,
        mask_weight: float = 0.3,
        rank_weight: float = 1.0,
        shares: Sequence[float] = SHARES,
        calibration: float = 0.15,
        seed: int = 0,
        advance: Callable[[float], None] = lambda loss: None,
    ) -> Self:
        """Fit on measured steps, with AdamW and one cycle of the learning rate.

        The loss is the mean squared error of single-region effects, as a share of the variance of mask effects, less
        mask_weight · (mean over steps of the Pearson r over random masks between their predicted and measured effects)
        and rank_weight · (mean over steps, 0 for those that are not grounded, of the same as a Spearman correlation,
        made smooth: `soft_spearman`). What a mask is predicted to do is the sum over the regions that it hides.
        shares: of a step's largest effect, up to one of which another is none (`shrinkage.firm`): the one with the
        highest LDS is taken.
        calibration: the part of groups that members are not trained on and that set this share and the intervals.
        Raises InputError when a share is not in [0, 0.5] or there is none, no step's effects vary over its masks, there
        are too few groups to set some aside, or the fit diverges.
        """
        import torch

        if not shares or not all(0 <= share <= 0.5 for share in shares):
            raise InputError(f"shares must be one or more numbers in [0, 0.5]; got {tuple(shares)}.")
        train, held_out = _set_aside(usable_examples(list(examples)), calibration, seed)
        n = train[0].features.shape[1] - N_FACTS
        floor = floor_of(e.features[:, :n] for e in train)
        mean, deviation = _moments(expand(e.features, floor) for e in train)
        deviation += np.float32(1e-4)
        k = max(len(e.features) for e in train)
        unit = float(np.std(np.concatenate([e.effects - e.effects.mean() for e in train])))
        valid = _padded([np.ones(len(e.features), np.float32) for e in train], k, 0)
        single = _padded([e.single / unit for e in train], k, 0)
        masks = _padded([e.masks.astype(np.float32) for e in train], k, 1)
        effects = torch.from_numpy(np.stack([e.effects - e.effects.mean() for e in train]) / unit).float()
        ranks = torch.from_numpy(centred_ranks(np.stack([e.effects for e in train]))).float()
        grounded = torch.tensor([float(e.single.max() >= GROUNDED) for e in train])

        def inputs(i: int) -> NDArray[np.float32]:
            return (expand(train[i].features, floor) - mean) / deviation

        fits = 12 * sum(e.features.size for e in train) < _EXPANDED_BYTES
        kept = [inputs(i) for i in range(len(train))] if fits else []

        generator = torch.Generator().manual_seed(seed)
        layers = {
            "w1": torch.randn(members, len(mean), width, generator=generator) / len(mean) ** 0.5,
            "b1": torch.zeros(members, width),
            "w2": torch.randn(members, width, width, generator=generator) / width**0.5,
            "b2": torch.zeros(members, width),
            "w3": torch.randn(members, width, 1, generator=generator) / width**0.5,
            "b3": torch.zeros(members, 1),
        }
        for layer in layers.values():
            layer.requires_grad_()
        optimiser = torch.optim.AdamW(layers.values(), lr=rate, weight_decay=1e-3)
        total = epochs * -(-len(train) // batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total)
        for _ in range(epochs):
            for rows in torch.randperm(len(train), generator=generator).split(batch_size):
                x = _padded([kept[i] if kept else inputs(i) for i in rows.tolist()], k, 0)
                predicted = _forward(x.flatten(0, 1), *layers.values()).unflatten(1, (-1, k)) * valid[rows]
                error = ((predicted - single[rows]) ** 2).sum((1, 2)) / valid[rows].sum()  # (members,)
                summed = torch.einsum("bvk,mbk->mbv", masks[rows], predicted)
                agreement = pearson(summed - summed.mean(-1, keepdim=True), effects[rows]).mean(1)
                order = (soft_spearman(summed, ranks[rows], _TEMPERATURE) * grounded[rows]).mean(1)
                loss = (error - mask_weight * agreement - rank_weight * order).sum()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
                advance(check_loss(float(loss.detach())) / members)
        arrays = {name: layer.detach().numpy() for name, layer in layers.items()}
        arrays |= {"w3": arrays["w3"] * unit, "b3": arrays["b3"] * unit}
        arrays |= {"floor": floor, "mean": mean, "deviation": deviation, "share": np.zeros(1)}
        fitted = cls({name: np.ascontiguousarray(a, np.float32) for name, a in arrays.items()}, binding)
        share = best_share([fitted.predict(e.features) for e in held_out], held_out, shares)
        fitted = cls({**fitted.arrays, "share": np.array([share], np.float32)}, binding)
        return cls({**fitted.arrays, **_calibrate(fitted, held_out)}, binding)


def floor_of(parts: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(2·L·H,) what is added to attention before its logarithm: 1 % of its mean over (rows, 2·L·H) parts."""
    return 0.01 * _moments(parts)[0] + np.float32(1e-9)


def expand(features: NDArray[np.float32], floor: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., K, 2·L·H + 3) features → (..., K, 3·2·L·H + 3) inputs: each region's logarithm, and where it stands."""
    n = len(floor)
    log = np.log(features[..., :n] + floor)
    most = np.broadcast_to(log.max(-2, keepdims=True), log.shape)
    logprob, entropy, tokens = np.moveaxis(features[..., n:], -1, 0)
    facts = np.stack([logprob, np.log(entropy + 1e-4), np.log(tokens)], -1)
    return np.concatenate([log, log - log.mean(-2, keepdims=True), most, facts], -1, dtype=np.float32)


def _moments(parts: Iterable[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of the columns of (rows, D) parts, one part in memory at a time."""
    count, total, squares = 0, np.float64(0), np.float64(0)
    for part in parts:
        count, total, squares = count + len(part), total + part.sum(0, np.float64), squares + (part**2.0).sum(0)
    mean = np.asarray(total / count)
    return mean.astype(np.float32), np.sqrt(np.maximum(squares / count - mean**2, 0)).astype(np.float32)


def _forward(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, w3: Tensor, b3: Tensor) -> Tensor:
    """(rows, D) inputs → (M, rows) outputs of the M members."""
    from torch.nn.functional import silu

    hidden = silu(x @ w1 + b1[:, None])  # (M, rows, h)
    hidden = hidden + silu(hidden @ w2 + b2[:, None])
    return (hidden @ w3 + b3[:, None])[..., 0]


def _padded(rows: list[NDArray[Any]], k: int, axis: int) -> Any:
    """Arrays with regions along `axis`, padded to `k` of them with zeros, as one float32 tensor."""
    import torch

    shape = list(rows[0].shape)
    shape[axis] = k
    whole = np.zeros((len(rows), *shape), np.float32)
    for place, row in zip(whole, rows, strict=True):
        place[(slice(None),) * axis + (slice(row.shape[axis]),)] = row
    return torch.from_numpy(whole)


def _set_aside(examples: list[StepExample], part: float, seed: int) -> tuple[list[StepExample], list[StepExample]]:
    """(to train on, to calibrate with), split by group."""
    groups = {e.group_id for e in examples}
    if len(groups) < 2:
        raise InputError(f"a network needs runs of at least 2 groups (images or questions); got {len(groups)}.")
    aside = some_groups(groups, part, seed)
    return [e for e in examples if e.group_id not in aside], [e for e in examples if e.group_id in aside]


def _calibrate(fitted: NetworkEstimator, examples: list[StepExample]) -> dict[str, NDArray[np.float32]]:
    """`offset`, `from` and `factor` of `half_width`. Effects that are shrunk to 0 are a band of their own, as they are
    most and would keep the promise of others; of the rest each band holds about half as many as the one below."""
    members = [fitted._members(e.features) for e in examples]
    estimates = np.concatenate([fitted._estimate(m) for m in members])
    size = np.abs(estimates)
    spread = np.concatenate([m.std(0) for m in members])
    error = np.abs(np.concatenate([e.single for e in examples]) - estimates)
    offset = max(float(np.median(error)), 1e-6)
    some = size[size > 0]
    n_bands = int(np.clip(np.log2(max(len(some), 1) / _BAND_SIZE), 1, _BANDS))
    least = [some.min()] if 0 < len(some) < len(size) else []
    halves = np.quantile(some, 1 - 0.5 ** np.arange(1, n_bands)) if len(some) else []
    starts = np.unique(np.array([0, *least, *halves], np.float32))
    held = np.histogram(size, [*starts, np.inf])[0] > 0  # none of many equal estimates lies below them
    starts = np.concatenate([[np.float32(0)], starts[held][1:]])
    band = np.searchsorted(starts, size, "right") - 1
    factors = []
    for b in range(len(starts)):
        scaled = np.sort((error / (spread + offset))[band == b])
        factors.append(scaled[min(int(np.ceil(COVERAGE * (len(scaled) + 1))), len(scaled)) - 1])
    return {"offset": np.array([offset], np.float32), "from": starts, "factor": np.array(factors, np.float32)}
