"""The runs of a calibration: one drawn from each group, and what else a monitor must remember of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np

from trajkit.detection.sources import require_runs
from trajkit.detection.state import HUGE, read, read_array, read_number
from trajkit.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

Watches = Literal["failure", "success"]
WATCHES: tuple[Watches, ...] = get_args(Watches)
SPARED: Mapping[str, float] = {"failure": 0.0, "success": 1.0}
"""`failure` of the runs that a monitor promises to spare: one that watches failure the successful ones, one that
watches success the failing ones."""
SPARED_WORD: Mapping[str, str] = {"failure": "successful", "success": "failing"}


@dataclass(frozen=True)
class Calibration:
    """What the runs were like that a monitor was calibrated on; beyond it the promise is untried.

    steps: thinking steps of the longest. regions: fewest and most image regions, None where the source did not say.
    maxima: of the score over every run drawn, whatever came of it, ascending. spared: those of the runs that count
    (`spared`), ascending, from which the threshold of any alpha follows; None where an older trajkit did not save them.
    """

    steps: int
    regions: tuple[int, int] | None
    maxima: tuple[float, ...]
    spared: tuple[float, ...] | None = None

    def to_state(self) -> dict[str, Any]:
        """JSON-ready."""
        regions = None if self.regions is None else list(self.regions)
        own = None if self.spared is None else list(self.spared)
        return {"steps": self.steps, "regions": regions, "maxima": list(self.maxima), "spared": own}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Raises InputError on a part that is missing or out of its range."""
        steps = int(read_number({"steps": read(state, "steps", int)}, "steps", 0, HUGE))
        regions = read(state, "regions", (list, type(None)))
        if regions is not None:
            few, many = read_array(state, "regions", (2,), 1)
            if few > many:
                raise InputError(f"a saved monitor must hold 'regions' that rise; found {regions}. Fit again.")
            regions = (int(few), int(many))
        none = read({"spared": None} | dict(state), "spared", (list, type(None))) is None
        return cls(steps, regions, _ascending(state, "maxima"), None if none else _ascending(state, "spared"))


def _ascending(state: Mapping[str, Any], key: str) -> tuple[float, ...]:
    """Numbers, or none. Raises InputError."""
    numbers = read_array(state, key, (None,)) if read(state, key, list) else np.zeros(0)
    return tuple(np.sort(numbers).tolist())


def run_maxima(frame: pd.DataFrame, scores: ArrayLike) -> pd.DataFrame:
    """A row per run, sorted by transcript_id: group_id, failure (1, 0, NaN), n_steps and the largest of its scores.

    frame: a row a step, with transcript_id, group_id and success or outcome. scores: (n,) of its rows. Columns:
    transcript_id group_id failure n_steps max_score. Raises InputError where the frame lacks transcript_id or group_id,
    or a run is of no group or of two.
    """
    import pandas as pd

    from trajkit.detection.splits import failures

    require_runs(frame, "run_maxima")
    rows = pd.DataFrame(
        {
            "transcript_id": frame["transcript_id"].astype(str).to_numpy(),
            "group_id": frame["group_id"].astype(str).to_numpy(),
            "failure": failures(frame),
            "n_steps": 1,
            "max_score": np.asarray(scores, float),
        }
    )
    kept = {"group_id": "first", "failure": "first", "n_steps": "sum", "max_score": "max"}
    return rows.groupby("transcript_id").agg(kept).reset_index()


def drawn_runs(runs: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Of runs as `run_maxima` gives them, one drawn from each group, whatever came of it."""
    return runs.iloc[np.random.default_rng(seed).permutation(len(runs))].drop_duplicates("group_id")


def spared(drawn: pd.DataFrame, watches: Watches = "failure") -> pd.DataFrame:
    """The drawn runs that count: those that succeeded, or, for a monitor that watches success, those that failed.

    A new run of a new group, given that it succeeds, comes from an easy group more often than from a hard one. So the
    run is drawn first, among all of its group, and kept if it succeeded: drawing among the successes would count a
    group that fails nine times in ten as much as one that never does (tests/judging/test_promise.py). A drawn run of
    unknown outcome is left out too; the promise is then for runs whose outcome is found out.
    """
    return drawn[drawn["failure"] == SPARED[watches]]
