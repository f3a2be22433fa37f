"""Prefix features → a finite design matrix, standardised step by step on the training runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trajkit.detection.logistic import Part
from trajkit.detection.state import HUGE, read, read_array, read_number
from trajkit.errors import EstimatorMismatchError, InputError
from trajkit.traces.forms import task_labels

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

FEATURE_SETS: dict[str, tuple[str, ...]] = {
    "trajectory": ("path_length", "net_displacement", "tortuosity", "straightness", "mean_step", "switch_rate"),
    "concentration": ("concentration", "concentration_mean", "concentration_slope", "concentration_sd"),
    "uncertainty": ("logprob_mean", "entropy_mean", "logprob_low", "entropy_high"),
    "length": ("n_tokens",),  # and the step itself: a level of each bin of steps
    "task": (),  # the one-hot of family and form together, and its products with every other feature
}
EFFECT_SETS = frozenset({"trajectory", "concentration"})
"""Those that are about effects."""
PATH = "path_length"
"""The prefix feature that a run has where it has effects, from its first step on."""
ALWAYS = (PATH, "net_displacement", "logprob_mean", "entropy_mean")
"""Those that are known from a run's first step on, or never. logprob_low and entropy_high are where their means
are, and are not asked for apart."""
DEFAULT_FEATURES = "trajectory+concentration+uncertainty+length"
TORTUOSITY_CAP = 1e3
Z_CAP = 5.0
_LONGEST, _ALIKE = 100.0, 1e-9  # of logarithms of steps: none is larger, and a smaller sd is rounding
_LEVEL = 10.0  # of the columns of `length`: large, so that the penalty hardly holds base rates back
_PART = 1 << 14
"""Rows of a design that are laid out at a time."""
_LOGARITHMIC = ("path_length", "net_displacement", "mean_step", "n_tokens", "tortuosity")


def parse_features(features: str, owner: str) -> tuple[str, ...]:
    """'length+task' → ('length', 'task'), in the order of FEATURE_SETS. Raises InputError on any other name."""
    wanted = [name.strip() for name in features.split("+")] if isinstance(features, str) else []
    if not wanted or any(name not in FEATURE_SETS for name in wanted):
        raise InputError(
            f"The 'features' parameter of {owner} must be one or more of {', '.join(FEATURE_SETS)}, joined by '+'. "
            f"Got {features!r} instead."
        )
    return tuple(name for name in FEATURE_SETS if name in wanted)


@cache
def columns_of(sets: tuple[str, ...]) -> tuple[str, ...]:
    """The prefix features that those sets read."""
    return tuple(column for name in sets for column in FEATURE_SETS[name])


@dataclass(frozen=True)
class Rows:
    """Prefix features without their frame. values: (n, F) in the order of `columns_of`; steps: (n,), 1-based; tasks:
    (n,) family and form of each (`task_label`), none where no set reads them."""

    values: Floats
    steps: Floats
    tasks: tuple[str, ...]

    @classmethod
    def of_frame(cls, frame: pd.DataFrame, sets: tuple[str, ...]) -> Rows:
        """Raises InputError where a column is missing or a step is no number ≥ 1."""
        columns = columns_of(sets)
        needed = ["step", *columns, *(["task_set"] if "task" in sets else [])]
        absent = [column for column in needed if column not in getattr(frame, "columns", ())]
        if absent:
            missing = f"its missing columns: {', '.join(absent)}"
            raise InputError(
                "Prefix features must be a DataFrame as `trajkit.features(traces)` gives; "
                f"{missing if hasattr(frame, 'columns') else f'got {type(frame).__name__}'}."
            )
        steps = frame["step"].to_numpy(float)
        if not (np.isfinite(steps).all() and (steps >= 1).all()):
            raise InputError("The column 'step' must hold numbers from 1 on; found NaN, infinite or smaller values.")
        tasks = tuple(task_labels(frame).tolist()) if "task" in sets else ()
        return cls(frame[list(columns)].to_numpy(float).reshape(len(frame), len(columns)), steps, tasks)

    def part(self, some: slice | NDArray[np.int64]) -> Rows:
        """Some of the rows."""
        tasks = tuple(np.array(self.tasks, object)[some].tolist()) if self.tasks else ()
        return Rows(self.values[some], self.steps[some], tasks)


class Place(NamedTuple):
    """Of n steps: (n,) their bins, (n, 3) 1, s and s², and (n, 2 + B) the columns of the set `length`."""

    bins: NDArray[np.int64]
    curve: Floats
    levels: Floats


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """What the training runs taught about the scale of each feature at each step.

    Steps fall into B bins of at least `min_runs` training rows; the last bin takes every later step, so the horizon is
    capped. In a bin a feature is made finite (log1p of lengths, tokens and of tortuosity capped at 1,000, whose +inf
    becomes the cap), standardised by the bin's mean and sd, and clipped to ±5; what is still not finite becomes 0, and
    where missing values vary inside a bin of the training rows, a centred indicator column says so. Every feature also
    enters multiplied by s and s², s the standardised logarithm of the step, so that what it says may change as a run
    goes on. The set `length` adds s, s² and the one-hot of the bin: with it, and only with it, the mean risk follows
    the share that fails from bin to bin. The set `task` adds the one-hot of family and form together and the products
    of that with every feature at 1, s and s², and with `length` those of its one-hot with s and s².

    first_steps: (B,) first step of each bin. mean, sd, missing: (B, F). flagged: (F,) has an indicator.
    """

    sets: tuple[str, ...]
    first_steps: Floats
    mean: Floats
    sd: Floats
    missing: Floats
    flagged: NDArray[np.bool_]
    step_mean: float
    step_sd: float
    tasks: tuple[str, ...]

    @classmethod
    def learn(cls, sets: tuple[str, ...], rows: Rows, min_runs: int) -> FeatureMap:
        """Bins, means and deviations of these training rows."""
        first_steps = _bins(rows.steps, min_runs)
        x = _finite_scale(rows.values, columns_of(sets))
        known = np.isfinite(x)
        bins = _bin_of(first_steps, rows.steps)
        order = np.argsort(bins, kind="stable")  # so that a bin is a slice: a mask would read all rows for each
        edges = np.searchsorted(bins[order], np.arange(len(first_steps) + 1))
        shape = (len(first_steps), x.shape[1])
        mean, sd, missing = np.zeros(shape), np.ones(shape), np.zeros(shape)
        for j in range(x.shape[1]):
            column, known_here = x[order, j], known[order, j]
            for b, (first, end) in enumerate(pairwise(edges)):
                here = known_here[first:end]
                missing[b, j] = 1 - here.mean()
                if here.any():
                    values = column[first:end][here]
                    mean[b, j], spread = values.mean(), values.std()
                    sd[b, j] = spread if spread > 1e-9 * abs(mean[b, j]) else 1.0
        s = np.log(np.minimum(rows.steps, first_steps[-1]))
        flagged = np.asarray(((missing > 0) & (missing < 1)).any(axis=0), dtype=bool)
        tasks = tuple(sorted(set(rows.tasks))) if "task" in sets else ()
        spread = float(s.std()) if s.std() > _ALIKE else 1.0
        return cls(sets, first_steps, mean, sd, missing, flagged, float(s.mean()), spread, tasks)

    @property
    def width(self) -> int:
        """P, the number of design columns."""
        return len(self.owners())

    def owners(self) -> list[str]:
        """The feature that each column of `matrix` belongs to; `step` and `task` for those that are of no feature."""
        columns = list(columns_of(self.sets))
        flags = [column for column, flagged in zip(columns, self.flagged, strict=True) if flagged]
        own = [*(name for name in columns for _ in range(3)), *flags]
        if "length" in self.sets:
            own += ["step"] * (2 + len(self.first_steps))
        if "task" in self.sets:
            own += ["task"] * len(self.tasks) * (3 if "length" in self.sets else 1)
            own += [name for _ in self.tasks for name in columns for _ in range(3)]
        return own

    def usual(self, steps: Floats) -> dict[str, Floats]:
        """For each feature, (n,) its mean over training rows at each of `steps`, in the feature's own unit.

        Of those that enter by their logarithm, the exponential of the mean logarithm.
        """
        mean = self.mean[_bin_of(self.first_steps, steps)]
        return {
            column: np.expm1(mean[:, j]) if column in _LOGARITHMIC else mean[:, j]
            for j, column in enumerate(columns_of(self.sets))
        }

    def matrix(self, rows: Rows) -> Floats:
        """(n, P) design matrix, always finite. Of one prefix: `StepDesign.vector`."""
        own, curve = self._of_any_task(rows)
        parts = [own]
        if "task" in self.sets:
            by_step = own[:, : 3 * len(columns_of(self.sets))]
            hot = (np.array(rows.tasks, str)[:, None] == np.array(self.tasks, str)).astype(float)  # (n, tasks)
            parts += [_products(hot, curve) if "length" in self.sets else hot, _products(hot, by_step)]
        return np.ascontiguousarray(np.concatenate(parts, axis=1))

    def parts(self, rows: Rows) -> Iterator[Part]:
        """`matrix` in parts of one task, of at most _PART rows each, without its zeros."""
        n_curve, n_by_step = 3 if "length" in self.sets else 1, 3 * len(columns_of(self.sets))
        n_own = self.width - len(self.tasks) * (n_curve + n_by_step)
        task = np.searchsorted(self.tasks, rows.tasks) if self.tasks else np.zeros(len(rows.steps), int)
        order = np.argsort(task, kind="stable")
        for number, of_task in enumerate(np.split(order, np.cumsum(np.bincount(task))[:-1])):
            places = [(np.arange(n_own), np.arange(n_own))]
            if "task" in self.sets:
                by_task = n_own + n_curve * len(self.tasks)
                places += [
                    (n_own + np.arange(n_curve), n_own + n_curve * number + np.arange(n_curve)),
                    (np.arange(n_by_step), by_task + n_by_step * number + np.arange(n_by_step)),
                ]
            for some in np.split(of_task, range(_PART, len(of_task), _PART)):
                own, curve = self._of_any_task(Rows(rows.values[some], rows.steps[some], ()))
                columns = np.concatenate([own, curve[:, :n_curve]], axis=1) if "task" in self.sets else own
                yield Part(some, columns, tuple(places))

    def _of_any_task(self, rows: Rows) -> tuple[Floats, Floats]:
        """The columns of the design that do not hang on the task; and (n, 3) 1, s and s²."""
        x = _finite_scale(rows.values, columns_of(self.sets))
        known = np.isfinite(x)
        bins, curve, levels = self.at(rows.steps)
        scaled = (np.where(known, x, 0.0) - self.mean[bins]) / self.sd[bins]
        z = np.where(known, np.minimum(np.maximum(scaled, -Z_CAP), Z_CAP), 0.0)  # (n, F)
        flags = (~known - self.missing[bins])[:, self.flagged]
        parts = [_products(z, curve), flags, *([levels] if "length" in self.sets else [])]
        return np.concatenate(parts, axis=1), curve

    def at(self, steps: Floats) -> Place:
        """What the steps alone say."""
        bins = _bin_of(self.first_steps, steps)
        s = (np.log(np.minimum(steps, self.first_steps[-1])) - self.step_mean) / self.step_sd
        curve = np.stack([np.ones(len(s)), s, s**2], axis=1)
        hot = bins[:, None] == np.arange(len(self.first_steps))
        return Place(bins, curve, np.concatenate([_LEVEL * curve[:, 1:], _LEVEL * hot], axis=1))

    def to_state(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "sets": list(self.sets),
            "columns": list(columns_of(self.sets)),
            "first_steps": self.first_steps.tolist(),
            "mean": self.mean.tolist(),
            "sd": self.sd.tolist(),
            "missing": self.missing.tolist(),
            "flagged": self.flagged.tolist(),
            "step_mean": self.step_mean,
            "step_sd": self.step_sd,
            "task_labels": list(self.tasks),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> FeatureMap:
        """Raises InputError on a missing or misshapen part, EstimatorMismatchError on other features than ours."""
        sets = tuple(str(name) for name in read(state, "sets", list))
        columns = read(state, "columns", list)
        if any(name not in FEATURE_SETS for name in sets) or columns != list(columns_of(sets)):
            raise EstimatorMismatchError(
                f"the saved detector reads the features {columns} (sets {list(sets)}), which this version of trajkit "
                "does not compute in that form; fit the detectors again."
            )
        first_steps = read_array(state, "first_steps", (None,), 1)
        if first_steps[0] != 1 or not (np.diff(first_steps) > 0).all():
            raise InputError(
                f"a saved detector must hold 'first_steps' that rise from 1; found {first_steps.tolist()[:5]}. "
                "Fit the detectors again."
            )
        shape = (len(first_steps), len(columns))
        sd = read_array(state, "sd", shape)
        if not (sd > 0).all():
            raise InputError(f"a saved detector must hold 'sd' above 0; found {sd.min():g}. Fit the detectors again.")
        return cls(
            sets=sets,
            first_steps=first_steps,
            mean=read_array(state, "mean", shape),
            sd=sd,
            missing=read_array(state, "missing", shape, 0, 1),
            flagged=read_array(state, "flagged", shape[1:], 0, 1).astype(bool),
            step_mean=read_number(state, "step_mean", 0, _LONGEST),
            step_sd=read_number(state, "step_sd", _ALIKE, _LONGEST),
            tasks=tuple(read(state, "task_labels", list)) if "task" in sets else (),
        )


def _products(a: Floats, b: Floats) -> Floats:
    """(n, A) and (n, B) → (n, A·B), each column of `a` with all of `b` in turn."""
    return (a[:, :, None] * b[:, None, :]).reshape(len(a), a.shape[1] * b.shape[1])


def _finite_scale(values: Floats, columns: tuple[str, ...]) -> Floats:
    """(n, F) tamed: only a missing value (NaN, or an infinity that means nothing) is left not finite."""
    x = values.copy()
    capped, logarithmic = tamed(columns)
    x[:, capped] = np.minimum(x[:, capped], TORTUOSITY_CAP)
    x[:, logarithmic] = np.log1p(np.maximum(x[:, logarithmic], 0.0))  # NaN stays NaN, a stray +inf stays +inf
    return np.where(np.isfinite(x), np.minimum(np.maximum(x, -HUGE), HUGE), x)


@cache
def tamed(columns: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """Which columns are capped, and which are read by their logarithm."""
    numbered = list(enumerate(columns))
    return [j for j, name in numbered if name == "tortuosity"], [j for j, name in numbered if name in _LOGARITHMIC]


def _bins(steps: Floats, min_runs: int) -> Floats:
    """First step of each bin: steps are joined until a bin holds `min_runs` rows; a short rest joins the last."""
    values, counts = np.unique(steps, return_counts=True)
    starts, held = [1.0], 0
    for value, count in zip(values, counts, strict=True):
        if held >= min_runs:
            starts.append(float(value))
            held = 0
        held += int(count)
    if held < min_runs and len(starts) > 1:
        starts.pop()
    return np.array(starts)


def _bin_of(first_steps: Floats, steps: Floats) -> NDArray[np.int64]:
    return np.maximum(np.searchsorted(first_steps, steps, side="right") - 1, 0)
