"""EffectEstimator: predicts the effect of hiding regions from attention alone. What all kinds of estimator share.

The linear one is the papers' (`linear.py`); the network (`network.py`) reads the same attention and predicts better.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from trajkit.errors import EstimatorMismatchError, InputError
from trajkit.fingerprints import ModelId
from trajkit.strict_json import parse_json

if TYPE_CHECKING:
    from trajkit.attribution.ablation import Ablation
    from trajkit.attribution.features import Pooling

FORMAT = 4
_CARD, _WEIGHTS = "estimator.json", "estimator.safetensors"
_TRIES = 3
"""Times that an estimator is read again which was replaced meanwhile."""
_ENTRIES = frozenset({"format", "kind", "binding", "sha256", "bound_sha256", "card"})
_KINDS = {
    "linear": "trajkit.attribution.linear:LinearEstimator",
    "network": "trajkit.attribution.network:NetworkEstimator",
}


LARGEST = 1e12
"""Nats: weights from which attention could make a larger effect are absurd. float32 holds the squares of smaller ones.
"""


@dataclass(frozen=True, eq=False)
class StepExample:
    """One training step.

    features (K, F), as by StepFeatures; masks (M, K) and the measured effect of each, (M,) nats; single (K,), the
    measured effect of each region alone, nats. group_id: steps of one group are never split.
    """

    features: NDArray[np.float32]
    masks: NDArray[np.bool_]
    effects: NDArray[np.float64]
    single: NDArray[np.float64]
    group_id: str = ""


@dataclass(frozen=True)
class Binding:
    """What an estimator was made for; used on anything else its numbers mean nothing."""

    fingerprint: str
    model: str
    revision: str | None
    region_method: str
    pooling: Pooling
    ablation: Ablation


@dataclass(frozen=True, eq=False)
class EffectEstimator(ABC):
    """A fitted estimator: named `arrays`, and the model, regions, pooling and ablation that it is bound to.

    See also: `NetworkEstimator`, `LinearEstimator`, `stream`.

    >>> estimator = tk.EffectEstimator.load("data/demo/estimator")
    >>> type(estimator).__name__, estimator.made_for.name, estimator.binding.ablation
    ('NetworkEstimator', 'data/demo/model', 'mean')
    >>> estimator.check(vlm.fingerprint, vlm.name)  # the model that it was made for: nothing is raised
    """

    arrays: Mapping[str, NDArray[np.float32]]
    binding: Binding
    card: Mapping[str, Any] = field(default_factory=dict)

    kind: ClassVar[str]
    has_intervals: ClassVar[bool] = False
    """Whether `predict_interval` gives intervals."""

    def __new__(cls, *arguments: Any, **named: Any) -> Self:
        """Raises InputError for the base itself: which kind an estimator is stands in its file."""
        if cls is EffectEstimator:
            raise InputError(
                "an estimator is loaded: tk.EffectEstimator.load(folder); `trajkit train-estimator` makes one."
            )
        return super().__new__(cls)

    def __repr__(self) -> str:
        bound = self.binding
        return f"{type(self).__name__}(for {bound.model}, {bound.region_method} regions, {bound.pooling} pooling)"

    def _repr_html_(self) -> str:
        from trajkit.notebook.models import estimator_html

        return estimator_html(self)

    @abstractmethod
    def predict(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """(..., K, F) features, as by StepFeatures → (..., K) estimated single-region effects, nats.

        Raises InputError when F does not fit.

        See also: `EffectEstimator.predict_interval`.

        >>> features = np.full((17, 2 * vlm.n_features + 3), 0.01, np.float32)  # of 17 regions that are looked at alike
        >>> estimator.predict(features).shape
        (17,)
        """

    def predict_interval(self, features: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """As `predict`, and half the width of an interval around each effect, nats; None for kinds without one.

        >>> features = np.full((17, 2 * vlm.n_features + 3), 0.01, np.float32)
        >>> effects, half_width = estimator.predict_interval(features)
        >>> bool((half_width > 0).all())
        True
        """
        return self.predict(features), None

    @classmethod
    @abstractmethod
    def check_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raise ValueError, saying what was expected, unless these are the arrays of this kind of estimator."""

    @classmethod
    @abstractmethod
    def largest_effect(cls, arrays: Mapping[str, NDArray[Any]]) -> float:
        """A bound on |effect| over all features that attention can give, nats, of arrays that pass `check_arrays`."""

    @classmethod
    def check_values(cls, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Raise ValueError, naming what is wrong, unless these arrays make finite effects of a sane size."""
        for name, array in arrays.items():
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite float32; got {array.dtype}")
        cls.check_arrays(arrays)
        if not (largest := cls.largest_effect(arrays)) <= LARGEST:
            raise ValueError(f"an effect could be {largest:.0e} nats; expected weights that keep it below {LARGEST:g}")

    @property
    def made_for(self) -> ModelId:
        """The model whose attention it reads."""
        return ModelId(self.binding.model, self.binding.fingerprint)

    def check(self, fingerprint: str, name: str) -> None:
        """Raise EstimatorMismatchError unless this model is the one it was made for (`ModelId.is_same`)."""
        ours = ModelId(name, fingerprint)
        if not self.made_for.is_same(ours):
            raise EstimatorMismatchError(
                f"this estimator was trained on {self.binding.model} ({self.binding.fingerprint}) and does not fit "
                f"{name} ({fingerprint}).{self.made_for.difference(ours)} Train one for it: "
                "trajkit train-estimator --help"
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
        """16 hex digits that tell these arrays from any others."""
        return _digest(self.arrays)

    def save(self, folder: str | Path) -> None:
        """Write arrays (safetensors) and card (JSON) to `folder`, both or neither: a kill leaves an older estimator
        whole. Other files of the folder stay. Raises InputError when it cannot be written, or could not be loaded.

        See also: `EffectEstimator.load`.

        >>> estimator.save(folder)
        >>> sorted(file.name for file in folder.iterdir())
        ['estimator.json', 'estimator.safetensors']
        """
        from safetensors.numpy import save

        from trajkit.files import replacing
        from trajkit.folders import replacing_folder

        try:
            self.check_values(self.arrays)
        except ValueError as error:
            raise InputError(
                f"the estimator was not saved and {folder} is as it was: {error}. Look for values that are far too "
                "large, or no numbers, in what it was trained on."
            ) from error
        folder = Path(folder)
        card = {
            "format": FORMAT,
            "kind": self.kind,
            "binding": asdict(self.binding),
            "sha256": self.digest,
            "bound_sha256": _bound(self.kind, asdict(self.binding), dict(self.card), self.digest),
            "card": dict(self.card),
        }
        weights = save({name: np.ascontiguousarray(array) for name, array in self.arrays.items()})
        with replacing_folder(folder) as new:
            with replacing(new / _WEIGHTS) as file:
                file.write(weights)
            with replacing(new / _CARD) as file:
                file.write((json.dumps(card, indent=2) + "\n").encode())

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read an estimator of any kind saved by `save`, also while another one takes its place.

        Raises InputError when files are missing, damaged or do not belong together.

        See also: `EffectEstimator.save`.

        >>> tk.EffectEstimator.load("data/demo/estimator").digest == estimator.digest
        True
        """
        for _ in range(_TRIES):
            before = _stamp(Path(folder))
            try:
                return cls._load(folder)
            except InputError:
                if _stamp(Path(folder)) == before:  # nobody replaced it while it was read
                    raise
        return cls._load(folder)

    @classmethod
    def _load(cls, folder: str | Path) -> Self:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        from trajkit.folders import restore_folder

        folder = Path(folder)
        restore_folder(folder)
        for name in (_CARD, _WEIGHTS):
            if not (folder / name).is_file():
                raise InputError(
                    f"no estimator in {folder}: {name} is missing. Train one: trajkit train-estimator --help"
                )
        try:
            record = parse_json((folder / _CARD).read_text(encoding="utf-8"))
            if not isinstance(record, dict):
                raise ValueError(f"{_CARD} is a {type(record).__name__} and no object")
            if record["format"] != FORMAT:
                raise InputError(
                    f"the estimator in {folder} has format {record['format']!r}, this trajkit reads {FORMAT}; "
                    "train it again."
                )
            if other := sorted(record.keys() ^ _ENTRIES):
                raise ValueError(
                    f"{_CARD} must hold {', '.join(sorted(_ENTRIES))}; {', '.join(other)} is missing or more"
                )
            if record["kind"] not in _KINDS:
                raise ValueError(f"kind must be one of {', '.join(_KINDS)}; got {record['kind']!r}")
            module, name = _KINDS[record["kind"]].split(":")
            found: type[EffectEstimator] = getattr(import_module(module), name)
            arrays = load_file(folder / _WEIGHTS)
            found.check_values(arrays)
            if record["sha256"] != _digest(arrays):
                raise ValueError(f"{_CARD} and {_WEIGHTS} were not saved together")
            bound = _bound(record["kind"], record["binding"], record["card"], record["sha256"])
            if record["bound_sha256"] != bound:
                raise ValueError(f"{_CARD} was changed by hand, and says of these weights what is not so")
            estimator = found(arrays, Binding(**record["binding"]), record["card"])
        except InputError:
            raise
        except KeyError as error:
            raise InputError(
                f"the estimator in {folder} is damaged: {_CARD} has no {error}. Train it again or restore the files."
            ) from error
        except (OSError, ValueError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
            raise InputError(
                f"the estimator in {folder} is damaged: {error}. Train it again or restore the files."
            ) from error
        if not isinstance(estimator, cls):
            raise InputError(f"the estimator in {folder} is {record['kind']}; expected {cls.kind}.")
        return estimator


def usable_examples(examples: list[StepExample]) -> list[StepExample]:
    """Those whose measured effects vary over the masks; others say nothing about which region matters.

    Raises InputError when none is left or examples differ in their number of masks.
    """
    usable = [e for e in examples if np.ptp(e.effects) > 1e-6]
    if not usable:
        raise InputError(
            f"none of the {len(examples)} steps has effects that vary over its masks; "
            "does the model look at the image at all?"
        )
    counts = {len(e.effects) for e in usable}
    if len(counts) > 1:
        raise InputError(f"every example must have the same number of masks; got {sorted(counts)}.")
    return usable


def check_loss(loss: float) -> float:
    """The loss of a step of fitting. Raises InputError when it is not finite: nothing good can come of it."""
    if not np.isfinite(loss):
        raise InputError(
            "fitting diverged: its loss is no longer finite. Measured effects may be absurdly large, as when float16 "
            "overflows (load the model with dtype=torch.bfloat16 or torch.float32), or the learning rate is too high."
        )
    return loss


def _stamp(folder: Path) -> tuple[int, int] | None:
    """What changes when another folder takes the name, or a file in it is replaced."""
    try:
        about = folder.stat()
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns


def _bound(kind: str, binding: Mapping[str, Any], card: Mapping[str, Any], digest: str) -> str:
    """16 hex digits of what an estimator is bound to and says of itself, together with its weights."""
    return hashlib.sha256(json.dumps([kind, binding, card, digest], sort_keys=True).encode()).hexdigest()[:16]


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name}{arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()[:16]
