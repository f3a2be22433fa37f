"""Have the scores drifted since the calibration? A test martingale over the runs a monitor has watched."""

from __future__ import annotations

import math
import warnings
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from trajkit.detection.state import HUGE, read, read_array, read_number
from trajkit.errors import InputError
from trajkit.tables.words import count, p_value

_TILTS = (-1.0, 0.0, 1.0)
"""Bets that later maxima are larger, that they are like the others, and that they are smaller."""
_JUMP = 0.01
"""The part of the wealth that is dealt anew among the bets before each run."""
WARN_AT = 100.0
"""Wealth at which drift is told: exchangeable runs ever come to it with probability 1/100 at most."""


@dataclass(frozen=True)
class DriftState:
    """What is known after n runs.

    log_wealth: natural logarithm of what a bettor has who began with 1 and bets against the runs being like those of
    the calibration. p_value: 1 over the largest wealth so far, at most 1: it holds at any n, however often one looks.
    warned: whether the wealth has come to the threshold. Only that threshold and the p-value carry a guarantee; the
    wealth now may have fallen since.

    See also: `Drift`.

    >>> drift = tk.detection.Drift(np.random.default_rng(0).uniform(size=100))
    >>> print(drift.update(0.5).message)
    No drift of the scores is told over 1 run (p = 1.000, at any time).
    """

    n: int = 0
    log_wealth: float = 0.0
    p_value: float = 1.0
    warned: bool = False

    @property
    def message(self) -> str:
        """One sentence for a person."""
        if self.warned:
            return (
                f"THE SCORES HAVE DRIFTED: after {count(self.n, 'run')} their maxima are not like those of the "
                f"calibration (p {_p(self.p_value)}). The promise does not hold for such runs; collect some, and fit "
                "again."
            )
        return f"No drift of the scores is told over {count(self.n, 'run')} (p {_p(self.p_value)}, at any time)."


class Drift:
    """Watches the maxima of all runs, successful or not, one a group, in the order in which they came.

    Each maximum is ranked among those of the calibration and of the runs before it (a conformal p-value, ties broken at
    random), and the Simple Jumper of Vovk, Petej, Nouretdinov, Ahlberg, Carlsson & Gammerman (2021, Retrain or not
    retrain, Algorithm 1) bets on the rank. If all runs are exchangeable, those of the calibration too, the ranks are
    independent and uniform, the wealth is a martingale, and P(it ever comes to `threshold`) ≤ 1/threshold (Ville). So
    which runs are given, and in what order, must not depend on how they went: several runs of one image or question are
    not exchangeable, nor is the first of them to end, which is a short one (`watched.FirstRuns`).

    Memory: 8 bytes a run, and the same for each of the calibration.

    See also: `Monitor.watchdog`, `DriftState`.

    >>> drift = tk.detection.Drift(np.random.default_rng(0).uniform(size=100), seed=1)
    >>> for run_max in np.random.default_rng(1).uniform(0.4, 1.0, size=10):
    ...     now = drift.update(run_max)
    >>> drift.state.n, drift.state.warned
    (10, False)
    """

    def __init__(
        self, maxima: Iterable[float], threshold: float = WARN_AT, seed: int = 0, cap: float = math.inf
    ) -> None:
        """maxima: of every run drawn for the calibration. cap: larger ones count as this, where runs that come to it
        are ended before one knows how far they would have gone. Raises InputError on no maxima, or a threshold of 1 or
        less."""
        self.cap = cap
        self._maxima = array("d", sorted(min(most, cap) for most in maxima))
        if not self._maxima:
            raise InputError("drift is told against the maxima of calibration runs; there are none.")
        if not threshold > 1:
            raise InputError(f"The 'threshold' parameter of Drift must be above 1. Got {threshold!r} instead.")
        self.threshold, self.seed = threshold, seed
        self._bets = np.full(len(_TILTS), 1 / len(_TILTS))  # shares of the wealth
        self._state = DriftState()

    @property
    def state(self) -> DriftState:
        """After the last run."""
        return self._state

    def update(self, run_max: float) -> DriftState:
        """Take the maximum over a run that has ended. Warns once, when the wealth comes to the threshold.

        Raises InputError on NaN.
        """
        if math.isnan(run_max):
            raise InputError("the maximum over a run must be a number; got NaN.")
        last = self._state
        rank = self._rank(min(float(run_max), self.cap), last.n)
        bets = (1 - _JUMP) * self._bets + _JUMP / len(_TILTS)
        bets *= 1 + np.array(_TILTS) * (rank - 0.5)
        gain = float(bets.sum())
        self._bets = bets / gain
        wealth = last.log_wealth + math.log(gain)
        p = min(last.p_value, math.exp(-max(wealth, 0.0)))
        warned = last.warned or wealth >= math.log(self.threshold)
        self._state = DriftState(last.n + 1, wealth, p, warned)
        if warned and not last.warned:
            warnings.warn(self._state.message, stacklevel=2)
        return self._state

    def _rank(self, value: float, n: int) -> float:
        """Share of the runs so far, this one included, that are larger; uniform on [0, 1]."""
        below, upto = bisect_left(self._maxima, value), bisect_right(self._maxima, value)
        size = len(self._maxima)
        insort(self._maxima, value)
        at_random = np.random.default_rng([self.seed, n]).random()  # of the seed and n alone, to be gone on with
        return float(size - upto + at_random * (upto - below + 1)) / (size + 1)

    def to_state(self) -> dict[str, Any]:
        """JSON-ready; `from_state` goes on from there with equal bits."""
        return {
            **vars(self._state),
            "maxima": list(self._maxima),
            "bets": self._bets.tolist(),
            "threshold": self.threshold,
            "seed": self.seed,
            "cap": self.cap if math.isfinite(self.cap) else None,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """What `to_state` described. Raises InputError on a part that is missing or out of its range."""
        maxima = read_array(state, "maxima", (None,))
        cap = read_number({"cap": None} | dict(state), "cap", -HUGE, HUGE, null=math.inf)
        drift = cls(maxima.tolist(), read_number(state, "threshold", 1, HUGE), int(read(state, "seed", int)), cap)
        drift._bets = read_array(state, "bets", (len(_TILTS),), 0, 1)
        drift._state = DriftState(
            int(read(state, "n", int)),
            read_number(state, "log_wealth", -HUGE, HUGE),
            read_number(state, "p_value", 0, 1),
            bool(read(state, "warned", bool)),
        )
        return drift


def _p(p: float) -> str:
    said = p_value(p)
    return said if said.startswith("<") else f"= {said}"
