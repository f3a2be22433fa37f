"""What the study of early failure says in words: of methods, points, and what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from trajkit.judging.cross_validation import DEALS, HIDDEN
from trajkit.judging.risks import BASE_RATE
from trajkit.studies.early_measures import PROBED, PROBED_PATH, PROBES, TORTUOSITY, WITH, WITHOUT, Found
from trajkit.studies.runs import records
from trajkit.tables import Estimate, words
from trajkit.tables.names import feature_sets
from trajkit.tables.words import listed

if TYPE_CHECKING:
    import pandas as pd

SHORT = {
    WITH: "all features",
    WITHOUT: "uncertainty + length + task",
    HIDDEN: "probe on hidden states",
    PROBED: "probe + uncertainty + length + task",
    PROBED_PATH: "probe + all features",
}
At = Literal["step", "fraction"]


def method_name(method: str) -> str:
    """Feature sets as people call them."""
    return SHORT.get(method, feature_sets(method))


def point_name(at: At, value: float) -> str:
    return f"step {value:g}" if at == "step" else words.promise(value)


def reading(found: Found) -> tuple[str, ...]:
    said = [found.note] if found.note else []
    if found.gained is not None:
        over = listed(found.without.split("+"))
        said.append(f"Trajectory and concentration {_gained(found.gained, over)}.")
        said += [_of_probe(*found.probed.values())] if len(found.probed) == len(PROBES) else []
        said.append(_of_tortuosity(found))
    said.append(_of_calibration(found))
    best = found.by_step[found.by_step["method"] == found.every].dropna(subset="auc").sort_values("auc")
    if len(best):
        step = int(best.iloc[-1]["step"])
        said.append(f"{_all_features(found)} together reach at most {words.judged(_area(best))}, at step {step}.")
    said.append(
        "Failing are all runs that did not succeed, of whatever kind. Later steps hold fewer and longer runs, another "
        "population than the early ones. Models are fitted on other groups than they are read on; AUCs compare runs of "
        f"one fold. Figures of fitted models are means over {DEALS} deals of the groups to folds; intervals and p "
        "resample groups and allow for models that differ in another sample. Bins of risk are of the first deal, and "
        "their intervals take its models as given."
    )
    return tuple(said)


def _area(rows: pd.DataFrame) -> Estimate:
    """The AUC of the last of some rows."""
    return Estimate.of(rows[["auc", "low", "high"]].to_numpy(float)[-1])


def _of_probe(all_features: pd.DataFrame, path: pd.DataFrame, path_over: pd.DataFrame) -> str:
    return (
        f"A linear probe on hidden states beats trajectory and concentration at {_where(path, -1)}, and is beaten "
        f"by them at {_where(path, 1)}; it beats all features together, which hold uncertainty and the task, at "
        f"{_where(all_features, -1)}, and is beaten by them at {_where(all_features, 1)}. To the probe with "
        f"uncertainty, length and task, trajectory and concentration {_gained(path_over, 'it')}."
    )


def _of_tortuosity(found: Found) -> str:
    here, same = (
        words.judged(_area(table[(table["method"] == TORTUOSITY) & np.isclose(table["fraction"], 0.3)]))
        for table in (found.by_fraction, found.matched)
    )
    return (
        f"Tortuosity alone at 30 % of the final length, the paper's figure (0.69 there): {here} here, {same} among "
        f"runs of equal length. {words.share(found.first)} of these runs are at their first step by then and have no "
        f"tortuosity, so they are left out, and {words.share(found.second)} are at their second, where it is 1 "
        "whatever the run does. It is an oracle in any case: the fraction asks for a length that is known only at the "
        "end."
    )


def _of_calibration(found: Found) -> str:
    skill = {(row.method, int(row.step)): float(row.brier) for row in records(found.quality)}
    slopes = {int(row.step): row for row in records(found.slopes)}
    gaps = []
    for step in sorted(set(found.curve["step"].astype(int))):
        row = slopes[step]
        slope, off = Estimate(row.slope, row.low, row.high), Estimate(row.off, row.off_low, row.off_high)
        gaps.append(
            f"at step {step} the slope is {words.slope(slope)}, the mean risk is off by "
            f"{words.fine_difference(off)}, {missed(found.curve[found.curve['step'] == step])}, and the Brier score "
            f"is {words.fine(skill[found.every, step])} where the share that failed, given to every run, has "
            f"{words.fine(skill[BASE_RATE, step])}"
        )
    of = _all_features(found).lower()
    return f"Calibration of {of} (a slope below 1 says that risks lie too far apart): {'; '.join(gaps)}."


def _all_features(found: Found) -> str:
    return "All features" if found.every == WITH else listed(found.every.split("+")).capitalize()


def missed(bins: pd.DataFrame) -> str:
    """How many bins miss what happened, of those that have an interval and so could."""
    judged = bins[bins["off_low"].notna()]
    if judged.empty:
        return "no bin has an interval"
    missed = int(((judged["off_low"] > 0) | (judged["off_high"] < 0)).sum())
    noun = ("bin" if len(judged) == 1 else "bins") + (" that have an interval" if len(judged) < len(bins) else "")
    return f"{missed} of {len(judged)} {noun} {'misses' if missed == 1 else 'miss'} what happened"


LEVEL = 0.05


def _sides(table: pd.DataFrame) -> dict[int | None, list[int]]:
    """Steps by the sign of their gain, 0 where it cannot be told after correction, None without an interval."""
    sides: dict[int | None, list[int]] = {}
    for row in records(table):
        told = row.p_corrected < LEVEL
        side = None if np.isnan(row.p_corrected) else int(np.sign(row.gain)) if told else 0
        sides.setdefault(side, []).append(int(row.step))
    return sides


def _where(table: pd.DataFrame, side: int) -> str:
    steps = _sides(table).get(side)
    return f"step {_steps(steps)}" if steps else "no step"


def _gained(table: pd.DataFrame, to: str) -> str:
    """What adding does at which steps, by p-values corrected over them."""
    sides = _sides(table)
    does: dict[int | None, str] = {
        1: f"add to {to} at step",
        -1: f"make {'them' if to != 'it' else 'it'} worse at step",
        0: "change nothing that can be told at step",
        None: "cannot be judged, with too few groups, at step",
    }
    gain = {int(row.step): f" ({words.fine_difference(Estimate(row.gain))})" for row in records(table)}
    parts = []
    for side in [side for side in does if side in sides]:
        named = [f"{step}{gain[step]}" if side else str(step) for step in sides[side]]
        parts.append(f"{does[side]} {listed(named)}")
    return f"{listed(parts)} (at 5 %, corrected for {len(table)} steps)"


def _steps(steps: list[int]) -> str:
    return listed([str(step) for step in steps])
