"""A number with its interval, and a count with what it is a part of."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

Side = str
"""above, below, not told from, no interval."""


class Estimate(NamedTuple):
    """value: NaN where there is none. low, high: its 95 % interval, NaN where there is none.

    See also: `joined`, `Table`.

    >>> from trajkit.tables import Estimate
    >>> gain = Estimate(0.016, -0.001, 0.033)
    >>> gain.has_interval, gain.beside(0.0)
    (True, 'not told from')
    """

    value: float
    low: float = math.nan
    high: float = math.nan

    @classmethod
    def of(cls, numbers: Iterable[float]) -> Estimate:
        """From value, low and high, of any kind of number."""
        return cls(*map(float, numbers))

    def _repr_html_(self) -> str:
        from trajkit.notebook.tables import estimate_html

        return estimate_html(self)

    @property
    def has_interval(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    def beside(self, null: float) -> Side:
        """What the interval says of a null value: above, below, or not told from it; `no interval` without one."""
        if not self.has_interval:
            return "no interval"
        return "above" if self.low > null else "below" if self.high < null else "not told from"

    def __neg__(self) -> Estimate:
        return Estimate(-self.value, -self.high, -self.low)


class Part(NamedTuple):
    """How many, of how many.

    See also: `Estimate`.

    >>> from trajkit.tables import Part
    >>> part = Part(12, 208)
    >>> part.n / part.of < 0.1
    True
    """

    n: int
    of: int


def joined(frame: pd.DataFrame, name: str, low: str = "low", high: str = "high") -> pd.DataFrame:
    """`frame` with the columns `name`, `low` and `high` as one of estimates, in the place of the first.

    See also: `Estimate`, `Table`.

    >>> from trajkit.tables import joined
    >>> table = tk.judging.power(watched, n_boot=200)[["outcome", "rate", "low", "high"]].head(1)
    >>> joined(table, "rate")["rate"][0].has_interval
    True
    """
    ends = frame[[name, low, high]].to_numpy(float)
    made = frame.assign(**{name: None}).drop(columns=[low, high]).astype({name: object})
    made[name] = [Estimate.of(row) for row in ends]
    return made
