"""What plays of saved runs come to, and what the same tokens buy without a monitor; with 95 % intervals by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajkit.judging.policies import Play, SavedRuns
from trajkit.stats.resampling import Draws, Floats, group_draws, interval

if TYPE_CHECKING:
    import pandas as pd

MEASURES = (
    "tokens",
    "accuracy",
    "answered",
    "right_of_answered",
    "saved_failing",
    "saved_successful",
    "lost",
    "mended",
    "gain",
)
"""What `Worth` says of a play. tokens: a question, of all generations of it. accuracy: right answers a question.
right_of_answered: of the questions that were given an answer. saved_failing, saved_successful: share of the tokens
saved on runs that, left alone, fail or succeed, negative where more are used. lost, mended: successes that are none any
more, and failures that are successes, of the runs that, left alone, succeed or fail. gain: accuracy less that without a
monitor for as many tokens a question (`at_budget`)."""


@dataclass(frozen=True, eq=False)
class Worth:
    """Measures plays of the same runs on the same draws of groups. budgets: (B, 2) mean tokens and accuracy of each
    play without a monitor.

    See also: `SavedRuns`, `Policy`.

    >>> from trajkit.judging.policies import ends, stop, stops, whole
    >>> ids = set(frame["transcript_id"])
    >>> some = (traces[i] for i, name in enumerate(traces.column("transcript_id")) if name in ids)
    >>> saved = tk.judging.SavedRuns.of(frame, ends(some))
    >>> alarms = saved.alarms(detectors.predictor.risks(frame), monitor.threshold)
    >>> worth = tk.judging.Worth.of(saved, [whole(saved)], n_boot=200)
    >>> plays = {"whole": whole(saved), "stop": stop(saved, stops(saved, alarms))}
    >>> table = worth.table(plays).set_index(["policy", "measure"])
    >>> table.loc["stop"].loc[["saved_failing", "lost"]].round(2)
                   value   low  high
    measure
    saved_failing   0.17  0.09  0.24
    lost            0.06  0.03  0.10
    >>> lost = worth.differences(plays, [("stop", "whole")]).set_index("measure")
    >>> lost.loc[["accuracy"], ["value", "low", "high"]].round(2)
              value  low  high
    measure
    accuracy  -0.06 -0.1 -0.04
    """

    saved: SavedRuns
    draws: Draws
    budgets: list[Floats]

    @classmethod
    def of(cls, saved: SavedRuns, without: Sequence[Play], n_boot: int = 500, seed: int = 0) -> Worth:
        """without: what can be done without a monitor: `whole`, and plays that generate more."""
        draws = group_draws(saved.runs["group_id"], n_boot, seed)
        return cls(saved, draws, [_means(draws, np.stack([play.tokens, play.right], 1)) for play in without])

    def table(self, plays: Mapping[str, Play]) -> pd.DataFrame:
        """A row a play and measure: policy measure value low high, with 95 % intervals by group."""
        return self._told({name: self._figures(play) for name, play in plays.items()})

    def differences(self, plays: Mapping[str, Play], pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
        """The first of each pair of plays less the second, as `table`, where policy is "first less second"."""
        found = {name: self._figures(plays[name]) for name in dict.fromkeys(name for pair in pairs for name in pair)}
        return self._told(
            {f"{a} less {b}": {name: found[a][name] - found[b][name] for name in MEASURES} for a, b in pairs}
        )

    def _told(self, found: Mapping[str, Mapping[str, Floats]]) -> pd.DataFrame:
        import pandas as pd

        table = []
        for policy, figures in found.items():
            for measure in MEASURES:
                value, low, high = interval(self.draws.sample_if_few(figures[measure], self.draws.min_groups))
                table.append({"policy": policy, "measure": measure, "value": value, "low": low, "high": high})
        return pd.DataFrame(table)

    def _figures(self, play: Play) -> dict[str, Floats]:
        """(B,) of each measure."""
        good = self.saved.right == 1
        own = np.stack([play.tokens, play.right, play.answered, self.saved.tokens], 1)
        tokens, accuracy, answered, _ = _means(self.draws, own).T
        figures = {"tokens": tokens, "accuracy": accuracy, "answered": answered}
        figures["gain"] = accuracy - at_budget(tokens, self.budgets)
        with np.errstate(divide="ignore", invalid="ignore"):
            figures["right_of_answered"] = accuracy / answered
        for side, saved_on in ((good, "saved_successful"), (~good, "saved_failing")):
            used, right, _, before = _means(self.draws.of(side), own[side]).T
            figures[saved_on] = 1 - used / before
            figures["lost" if side is good else "mended"] = 1 - right if side is good else right
        return figures


def at_budget(tokens: Floats, budgets: Sequence[Floats]) -> Floats:
    """(B,) the accuracy that plays without a monitor come to for so many tokens a question, (B,).

    budgets: (B, 2) mean tokens and accuracy of each such play. Between two of them some questions are given to one and
    the others to the other; below the cheapest some are not asked, and count as wrong; more tokens than the dearest
    gain nothing, and a play that costs more and gives less is not used.
    """
    found = np.empty(len(tokens))
    for b, budget in enumerate(tokens):
        points = np.array([(0.0, 0.0), *(play[b] for play in budgets)])
        points = points[np.argsort(points[:, 0])]
        found[b] = np.interp(budget, points[:, 0], np.maximum.accumulate(points[:, 1]))
    return found


def _means(draws: Draws, values: Floats) -> Floats:
    """(B, m) means of (n, m) values; NaN where nothing was drawn."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return draws.sums(values) / draws.sums(np.ones(len(values)))[:, None]
