"""Prefix features: what can be said of a run after each of its steps, from that step and those before it alone.

Two forms that agree: `prefix_features` over a whole run, and `PrefixFeatures`, O(K) a step, for a run that is still
going on. Both sum in the same order and are equal to the last bit (a test holds them to that). Geometry is that of the
effect vectors themselves, in nats: a basis fitted on the run would look ahead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.errors import InputError
from trajkit.trajectory.concentration import concentration, step_hhi
from trajkit.trajectory.geometry import as_path, top_region

FEATURE_NAMES: tuple[str, ...] = (
    "step",
    "n_tokens",
    "path_length",
    "net_displacement",
    "tortuosity",
    "straightness",
    "mean_step",
    "switch_rate",
    "concentration",
    "concentration_mean",
    "concentration_slope",
    "concentration_sd",
    "logprob_mean",
    "entropy_mean",
    "logprob_low",
    "entropy_high",
)
"""step: 1-based. n_tokens: generated so far. path_length … switch_rate: as in `geometry`, of the steps so far;
tortuosity may be +inf. concentration: hhi of this step, NaN where no region supports it. concentration_mean, _sd
(population, divided by n; from running sums, good to 1e-7), _slope (least squares, per step): over the steps so far
where it is defined, NaN before the first (slope: before the second). logprob_mean, entropy_mean: mean over the
steps so far of the steps' means, nats. logprob_low, entropy_high: the lowest and the highest of those means so far,
which one doubtful step moves however long the run. All four are NaN from a step on that has none. Without effects
(K = 0) all but step, n_tokens and these four are NaN."""

Floats = NDArray[np.float64]
Columns = dict[str, Floats]


def prefix_features(effects: ArrayLike, *, n_tokens: ArrayLike, logprob: ArrayLike, entropy: ArrayLike) -> Columns:
    """All prefix features of a run, each (T,).

    effects: (T, K) nats, (T, 0) where there are none. n_tokens: (T,) generated up to and with each step. logprob,
    entropy: (T,) step means, nats, NaN where not known. Raises InputError when they differ in length.

    See also: `PrefixFeatures`, `features`, `FEATURE_NAMES`.

    >>> steps = [step for step in trace.steps if step.kind == "thinking"]
    >>> found = tk.trajectory.prefix_features(
    ...     path,
    ...     n_tokens=[step.token_end for step in steps],
    ...     logprob=[step.logprob for step in steps],
    ...     entropy=[step.entropy for step in steps],
    ... )
    >>> found["path_length"].round(1)[:4]  # after each step, of the steps so far
    array([ 0. , 11.9, 23.1, 34.3])
    """
    x = as_path(effects)
    tokens, logprobs, entropies = (np.asarray(column, dtype=np.float64) for column in (n_tokens, logprob, entropy))
    for name, column in (("n_tokens", tokens), ("logprob", logprobs), ("entropy", entropies)):
        if column.shape != (len(x),):
            raise InputError(f"{name} must hold one number for each of the {len(x)} steps; got shape {column.shape}.")
    steps = np.arange(1, len(x) + 1, dtype=np.float64)
    x = x if x.shape[1] else np.full((len(x), 1), np.nan)
    moves = np.diff(x, axis=0, prepend=x[:1])
    move = np.sqrt(np.einsum("tk,tk->t", moves, moves))
    offset = x - x[:1]
    net = np.sqrt(np.einsum("tk,tk->t", offset, offset))
    top = top_region(x)
    switched = np.where(top < 0, np.nan, np.diff(top, prepend=top[:1]) != 0)
    level = concentration(x)
    return columns_of_sums(
        steps, tokens, net, level, move, switched, logprobs, entropies, lambda how, terms: how.accumulate(terms, 1)
    )


def columns_of_sums(
    steps: Floats,
    n_tokens: Floats,
    net: Floats,
    level: Floats,
    move: Floats,
    switched: Floats,
    logprob: Floats,
    entropy: Floats,
    running: Callable[[np.ufunc, Floats], Floats],
) -> Columns:
    """FEATURE_NAMES from what each step adds, all (N,). running: of (m, N) the sums (np.add) or the least (np.minimum)
    over the steps of a run so far.

    steps: 1-based. net: distance from the run's first step. level: hhi, NaN where no region supports the step. move:
    distance from the step before. switched: 1 where the top region is another, NaN where there is none.
    """
    known = ~np.isnan(level)
    y, t = np.where(known, level, 0.0), np.where(known, steps, 0.0)
    length, switches, n, sy, st, syy, stt, sty, logprobs, entropies = running(
        np.add, np.stack([move, switched, known, y, t, y * y, t * t, t * y, logprob, entropy])
    )
    low, minus_high = running(np.minimum, np.stack([logprob, -entropy]))
    longest = np.maximum(length, net)  # a path is never shorter than its reach, whatever rounding says
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sy / n
        return {
            "step": steps,
            "n_tokens": n_tokens,
            "path_length": length,
            "net_displacement": net,
            "tortuosity": longest / net,
            "straightness": net / longest,
            "mean_step": length / (steps - 1),
            "switch_rate": switches / (steps - 1),
            "concentration": level,
            "concentration_mean": mean,
            "concentration_slope": np.where(n > 1, (sty - st * sy / n) / (stt - st * st / n), np.nan),
            "concentration_sd": np.sqrt(np.maximum(syy / n - mean * mean, 0)),
            "logprob_mean": logprobs / steps,
            "entropy_mean": entropies / steps,
            "logprob_low": low,
            "entropy_high": -minus_high,
        }


class PrefixFeatures:
    """Prefix features of a run in progress. Feed it every step in order; memory and time a step are O(K).

    See also: `prefix_features`, `MonitorRun`.

    >>> running = tk.trajectory.PrefixFeatures()
    >>> for step, effects in zip(trace.steps, path):
    ...     now = running.update(effects, n_tokens=step.token_end, logprob=step.logprob, entropy=step.entropy)
    >>> round(now["tortuosity"], 2) == round(tk.trajectory.tortuosity(path), 2)
    True
    >>> again = tk.trajectory.PrefixFeatures.from_state(running.to_state())  # to go on, in another process too
    """

    def __init__(self) -> None:
        self._first: NDArray[np.float64] | None = None
        self._last: NDArray[np.float64] | None = None
        self._steps = 0
        self._length = 0.0
        self._top: int | None = None
        self._switches = 0.0
        self._sums = (0.0,) * 6  # n, Σy, Σt, Σy², Σt², Σty over steps with a concentration
        self._logprob = 0.0
        self._entropy = 0.0
        self._low, self._high = math.inf, -math.inf  # step means of logprob and of entropy

    def update(self, effects: ArrayLike, *, n_tokens: int, logprob: float, entropy: float) -> dict[str, float]:
        """Take the next step, (K,) effects, (0,) where there are none; return its features. n_tokens: generated up to
        and with this step. logprob, entropy: NaN where not known.

        Raises InputError when effects are not one axis, or K is not that of the first step.
        """
        x = np.array(effects, dtype=np.float64, order="C")
        expected = (x.size,) if self._first is None else self._first.shape
        if x.shape != expected:
            raise InputError(f"step {self._steps + 1}: effects must have shape {expected}; got {x.shape}.")
        self._steps += 1
        step = float(self._steps)
        if self._first is None or self._last is None:
            self._first = self._last = x
        move, offset = (x - self._last, x - self._first) if x.size else (_UNKNOWN, _UNKNOWN)
        self._last = x
        self._length += math.sqrt(np.einsum("k,k->", move, move))
        net = math.sqrt(np.einsum("k,k->", offset, offset))
        longest = max(self._length, net)
        top = int(x.argmax()) if x.size else 0  # that of `top_region`
        largest = float(x[top]) if x.size else math.nan
        if math.isnan(largest):
            top = -1
        self._switches += math.nan if top < 0 else self._top not in (None, top)
        self._top = top
        level = step_hhi(x, largest)
        mean, slope, sd = self._concentration(step, level)
        self._logprob += logprob
        self._entropy += entropy
        self._low, self._high = lower(self._low, logprob), -lower(-self._high, -entropy)
        return {
            "step": step,
            "n_tokens": float(n_tokens),
            "path_length": self._length,
            "net_displacement": net,
            "tortuosity": _divide(longest, net),
            "straightness": _divide(net, longest),
            "mean_step": _divide(self._length, step - 1),
            "switch_rate": _divide(self._switches, step - 1),
            "concentration": level,
            "concentration_mean": mean,
            "concentration_slope": slope,
            "concentration_sd": sd,
            "logprob_mean": self._logprob / step,
            "entropy_mean": self._entropy / step,
            "logprob_low": self._low,
            "entropy_high": self._high,
        }

    def to_state(self) -> dict[str, Any]:
        """The run so far, JSON-ready; a number that is not finite is a text, as "inf"."""
        sums = (self._length, self._switches, self._logprob, self._entropy, *self._sums)
        extremes = (self._low, self._high)
        return {
            "first": None if self._first is None else self._first.tolist(),
            "last": None if self._last is None else self._last.tolist(),
            "steps": self._steps,
            "top": self._top,
            "sums": [value if math.isfinite(value) else str(value) for value in sums],
            "extremes": [value if math.isfinite(value) else str(value) for value in extremes],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The run that `to_state` described, to go on with equal bits. Raises InputError where it is damaged,
        or of a trajkit that kept less of a run."""
        run = cls()
        try:
            ends = [None if state[name] is None else np.array(state[name], np.float64) for name in ("first", "last")]
            run._first, run._last = ends
            run._steps, run._top = int(state["steps"]), state["top"]
            run._length, run._switches, run._logprob, run._entropy, *sums = map(float, state["sums"])
            n, sy, st, syy, stt, sty = sums
            run._sums = (n, sy, st, syy, stt, sty)
            run._low, run._high = map(float, state["extremes"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"the state of a run's prefix features is damaged, or of another version of trajkit: {error!r}."
            ) from error
        if len({end if end is None else end.shape for end in ends}) > 1:
            raise InputError("the state of a run's prefix features is damaged: its parts do not fit.")
        return run

    def _concentration(self, step: float, level: float) -> tuple[float, float, float]:
        if not math.isnan(level):
            n, sy, st, syy, stt, sty = self._sums
            self._sums = (n + 1.0, sy + level, st + step, syy + level * level, stt + step * step, sty + step * level)
        n, sy, st, syy, stt, sty = self._sums
        mean = _divide(sy, n)
        sd = math.sqrt(max(_divide(syy, n) - mean * mean, 0.0)) if n else math.nan
        slope = (sty - st * sy / n) / (stt - st * st / n) if n > 1 else math.nan
        return mean, slope, sd


_UNKNOWN = np.full(1, np.nan)


def lower(so_far: float, value: float) -> float:
    """The lower of the two, NaN where one is: `np.minimum` of two numbers, fast."""
    return so_far if so_far <= value or math.isnan(so_far) else value


def _divide(over: float, under: float) -> float:
    if under == 0:
        return math.inf if over > 0 else math.nan
    return over / under
