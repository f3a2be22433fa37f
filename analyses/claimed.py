"""What vSTREAM (arXiv 2604.16587) reports of paths and concentration, put to runs: at shares of their length, among
runs of equal length, and after an absolute number of steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from trajkit.detection.splits import failures
from trajkit.judging.ranking import select_fractions, select_steps
from trajkit.judging.risks import Z
from trajkit.stats.correction import holm
from trajkit.stats.resampling import auc_within, group_draws, interval, numbered
from trajkit.tables import Estimate
from trajkit.tables.names import metric_name, outcome_name
from trajkit.tables.words import promise
from trajkit.traces.forms import task_labels

if TYPE_CHECKING:
    import pandas as pd

FAILING = "failing"
"""Runs of whatever failure."""
SHARES, STEPS = (1.0, 0.3, 0.1), (4, 8, 16)
SURE = 0.05
Test = Literal["share", "matched", "step", "length"]
Verdict = Literal[
    "holds",
    "holds, by length",
    "not at a step",
    "at a step alone",
    "differs by step",
    "turns round",
    "the other way round",
    "null",
    "too few runs",
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Claim:
    """Runs that ended as `more` have more of a prefix feature than those that ended as `less`.

    share: of a run's final length, that the paper reads it at. paper: what it says of it.
    """

    measure: str
    more: str
    less: str
    share: float
    paper: str

    @property
    def words(self) -> str:
        at = "" if self.share == 1 else f" at {promise(self.share)} of the run"
        return f"{metric_name(self.measure)}{at}: {outcome_name(self.more)} > {outcome_name(self.less)}"


_RIGHT, _SEEN, _LOST = "success", "hallucination", "reasoning_failure"
CLAIMS = (
    Claim("path_length", FAILING, _RIGHT, 1.0, "0.006 against 0.003 on average"),
    Claim("tortuosity", FAILING, _RIGHT, 1.0, "25.4 against 13.7 on average"),
    Claim("tortuosity", FAILING, _RIGHT, 0.3, "AUC 0.69"),
    Claim("path_length", _SEEN, _RIGHT, 1.0, "p < 0.001"),
    Claim("tortuosity", _SEEN, _RIGHT, 1.0, "p < 0.001"),
    Claim("path_length", _LOST, _RIGHT, 1.0, "p < 0.001"),
    Claim("tortuosity", _LOST, _RIGHT, 1.0, "p < 0.001"),
    Claim("concentration_mean", _SEEN, _RIGHT, 1.0, "fixation: high"),
    Claim("concentration_sd", _RIGHT, _SEEN, 1.0, "fixation: sustained"),
    Claim("concentration_mean", _RIGHT, _LOST, 1.0, "wandering: low"),
    Claim("concentration_sd", _LOST, _RIGHT, 1.0, "wandering: unstable"),
    Claim("concentration_mean", _SEEN, _LOST, 1.0, "fixation against wandering"),
    Claim("concentration_sd", _LOST, _SEEN, 1.0, "fixation against wandering"),
)


def put_to_runs(frame: pd.DataFrame, within_form: bool, n_boot: int) -> pd.DataFrame:
    """A row for each of CLAIMS and each test of it.

    frame: prefix features of runs, the steps of a run in order, as `RunTable.frame`. within_form: over pairs of one
    family and form of question alone.

    Columns: claim (its place in CLAIMS); test and at: "share" and "matched" (over pairs of runs of the same number of
    steps) at each of SHARES, "step" at each of STEPS, "length" (by the number of steps alone, at 1); n_more, n_less,
    runs with a value; median_more, median_less; auc, the chance that a run of `more` has the higher value, low, high
    (95 %, resampling groups); p, two-sided, below 0.05 where the interval is clear of 0.5; p_corrected, by Holm: over
    the claims at one share, and over claims and steps together.
    """
    import pandas as pd

    task = task_labels(frame) if within_form else np.zeros(len(frame))
    length = frame.groupby("transcript_id")["step"].transform("max").to_numpy(float)
    alike, of_length = numbered(task), numbered(task, length)
    draws = group_draws(frame["group_id"].to_numpy(str), n_boot, 0)
    at_shares, at_steps = select_fractions(frame, SHARES), select_steps(frame, STEPS)
    places: list[tuple[Test, float, NDArray[np.int64], NDArray[np.integer]]] = [
        *(("share", share, one.rows, alike) for share, one in zip(SHARES, at_shares, strict=True)),
        *(("matched", share, one.rows, of_length) for share, one in zip(SHARES, at_shares, strict=True)),
        *(("step", step, one.rows, alike) for step, one in zip(STEPS, at_steps, strict=True)),
        ("length", 1, at_shares[SHARES.index(1.0)].rows, alike),
    ]
    rows = []
    for number, claim in enumerate(CLAIMS):
        is_more, is_less = (_ended(frame, end) for end in (claim.more, claim.less))
        for test, at, chosen, stratum in places:
            value = length if test == "length" else frame[claim.measure].to_numpy(float)
            here = chosen[(is_more | is_less)[chosen] & ~np.isnan(value[chosen])]
            y = is_more[here]
            auc, low, high = interval(auc_within(y, value[here], stratum[here], draws.of(here)))
            rows.append(
                {"claim": number, "test": test, "at": at, "n_more": int(y.sum()), "n_less": int((~y).sum())}
                | {"median_more": _median(value[here][y]), "median_less": _median(value[here][~y])}
                | {"auc": auc, "low": low, "high": high, "p": _p_of(auc, low, high)}
            )
    found = pd.DataFrame(rows)
    together = found["at"].where(found["test"] != "step", 0)
    return found.assign(p_corrected=found.groupby(["test", together])["p"].transform(holm))


def _p_of(auc: float, low: float, high: float) -> float:
    """As if estimates were normal, with the spread that the interval has towards 0.5: draws alone know no p that is
    small enough to correct over so many. NaN without an interval."""
    from scipy.stats import norm

    return float(2 * norm.sf(Z * abs(auc - 0.5) / (auc - low if auc > 0.5 else high - auc)))


def _ended(frame: pd.DataFrame, end: str) -> NDArray[np.bool_]:
    """(n,) the rows of runs that ended so."""
    return failures(frame) == 1 if end == FAILING else (frame["outcome"] == end).to_numpy(bool)


def _median(values: NDArray[np.float64]) -> float:
    return float(np.quantile(values, 0.5, method="inverted_cdf")) if len(values) else float("nan")  # tortuosity: +inf


def verdict(found: pd.DataFrame, claim: Claim) -> Verdict:
    """found: the rows of `put_to_runs` about this claim. Told is what has a p_corrected below SURE:

    holds: told at the claim's share of the run and at one of STEPS or more. holds, by length: told at its share, at no
    step, and among runs of equal length the interval is not above 0.5, while the number of steps alone tells the two
    apart: too few pairs for a correction do not make length the reason. not at a step: told at its share and at no step
    otherwise. at a step alone: told at a step and not at its share. differs by step: told at one step, and its reverse
    at another. turns round: told at its share, and its reverse at a step. the other way round: its reverse is told at a
    step and it is not told at its share, or its reverse is told there and nothing at steps. null: none of these.
    """
    at = found.set_index(["test", "at"])
    share = _side(at.loc[("share", claim.share)])
    steps = {_side(row) for _, row in at.loc[["step"]].iterrows()}
    if np.isnan(at.loc[("share", claim.share), "p"]):
        return "too few runs"
    if {"above", "below"} <= steps:
        return "differs by step"
    if "below" in steps:
        return "turns round" if share == "above" else "the other way round"
    if share == "below" and "above" not in steps:
        return "the other way round"
    if "above" in steps:
        return "holds" if share == "above" else "at a step alone"
    if share != "above":
        return "null"
    by_length = estimate(at.loc[("length", 1.0)]).beside(0.5) in ("above", "below")
    beyond = estimate(at.loc[("matched", claim.share)]).beside(0.5) == "above"
    return "holds, by length" if by_length and not beyond else "not at a step"


def _side(row: Mapping[str, float]) -> str:
    if not row["p_corrected"] < SURE:
        return "not told"
    return "above" if row["auc"] > 0.5 else "below"


def estimate(row: Mapping[str, float]) -> Estimate:
    """The AUC of a row of `put_to_runs`."""
    return Estimate(float(row["auc"]), float(row["low"]), float(row["high"]))
