"""Can failure be told early, without looking ahead, and does the path of grounding add to what is known without it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trajkit.detection.splits import failures
from trajkit.errors import InputError
from trajkit.judging.cross_validation import DEALS, HIDDEN, cross_validated, hidden_columns
from trajkit.judging.ranking import Selection, select_fractions, select_steps
from trajkit.judging.risks import (
    BASE_RATE,
    calibration,
    calibration_slope,
    gains,
    matched_auc,
    probability_scores,
)
from trajkit.plots.detection import auc_range
from trajkit.plots.style import ACCENT, MUTED
from trajkit.runs.table import RunTable
from trajkit.stats.resampling import numbered
from trajkit.studies.pictures import panels, quiet_style, svg
from trajkit.studies.runs import records
from trajkit.studies.study import Advance, Study
from trajkit.tables import Across, Estimate, Table, joined, words
from trajkit.tables.table import Format
from trajkit.tables.words import listed
from trajkit.traces.forms import task_labels

if TYPE_CHECKING:
    import pandas as pd

WITHOUT = "uncertainty+length+task"
WITH = "trajectory+concentration+uncertainty+length+task"
PATH = "trajectory+concentration"
PROBED, PROBED_PATH = f"{HIDDEN}+{WITHOUT}", f"{HIDDEN}+{WITH}"
SETS = (PATH, "trajectory", "concentration", "uncertainty", "length", "task", "length+task", WITHOUT, WITH)
TORTUOSITY = "tortuosity alone"
SHORT = {
    WITH: "all features", WITHOUT: "uncertainty + length + task", HIDDEN: "probe on hidden states",
    PROBED: "probe + uncertainty + length + task", PROBED_PATH: "probe + all features",
}  # fmt: skip
STEPS = (1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 50, 75, 100)
FRACTIONS = tuple(i / 10 for i in range(1, 11))
FOLDS = 5
MIN_RUNS = 100
"""Runs that must have reached a step for it to be shown, where there is such a step."""
CALIBRATED = (1, 3, 8)
At = Literal["step", "fraction"]
ONE_SIDED = "–: all runs that came so far failed, or none did, so there is nothing to tell apart."


@dataclass(frozen=True, eq=False)
class Found:
    """What was measured; frames have the columns of the functions of `judging.risks` that they are named after.

    by_step, by_fraction: AUC of every method, within folds. matched, matched_steps: of some, among runs of equal final
    length. quality: `probability_scores`. gained: `gains` of trajectory and concentration over WITHOUT; probed: title →
    the gains that set features beside a probe on hidden states, none where those were not kept, in the order of
    PROBES. curve, slopes: calibration of the risk of all features. first, second: shares of the runs that are at their
    first and their second step at 30 % of the final length.
    """

    by_step: pd.DataFrame
    by_fraction: pd.DataFrame
    matched: pd.DataFrame
    matched_steps: pd.DataFrame
    quality: pd.DataFrame
    gained: pd.DataFrame
    probed: Mapping[str, pd.DataFrame]
    curve: pd.DataFrame
    slopes: pd.DataFrame
    first: float
    second: float


PROBES = {
    "AUC of all features less that of a linear probe on hidden states (paired)": (WITH, HIDDEN),
    "AUC of trajectory and concentration less that of the probe (paired)": (PATH, HIDDEN),
    "Gain in AUC of trajectory and concentration over the probe, uncertainty, length and task (paired)":
    (PROBED_PATH, PROBED),
}  # fmt: skip


def early_failure(runs: RunTable, n_boot: int, advance: Advance) -> Study:
    """AUC, precision, calibration and gain at absolute steps; the same at fractions of the final length, an oracle."""
    found = _found(runs.known().frame, n_boot, advance)
    return Study(
        "early_failure",
        "Failure, early",
        "After each step, how well can it be told that a run will fail, and does the path of grounding add anything?",
        _tables(found),
        {
            "AUC at absolute steps (left; the numbers are runs still thinking); at fractions of the final length, an "
            "oracle (middle); calibration (right). Bands, on two lines, and bars are 95 % intervals": _picture(found)
        },
        _reading(found),
    )


def _sets(frame: pd.DataFrame) -> tuple[str, ...]:
    """The feature sets to fit: those of the task alone where there are tasks, those of hidden states where there are
    some."""
    one_task = len(set(task_labels(frame))) == 1
    sets = tuple(name for name in SETS if not (one_task and name in ("task", "length+task")))
    return (*sets, HIDDEN, PROBED, PROBED_PATH) if hidden_columns(frame) else sets


def _found(frame: pd.DataFrame, n_boot: int, advance: Advance) -> Found:
    """frame: prefix features of runs that are known to have failed or succeeded."""
    at_risk = select_steps(frame)
    steps = [point for point in at_risk if point.step in STEPS and len(point.rows) >= MIN_RUNS] or at_risk
    if not steps:
        raise InputError("no step is reached by 20 runs of known outcome; collect more runs.")
    risks, fold = held_out = cross_validated(frame, _sets(frame), FOLDS, advance=advance)
    single = {TORTUOSITY: frame["tortuosity"].to_numpy(float), "random": np.random.default_rng(0).random(len(frame))}
    length = frame.groupby("transcript_id")["step"].transform("max").to_numpy()
    of_length = np.stack([numbered(length, deal) for deal in fold])
    advance("intervals")
    fraction = select_fractions(frame, FRACTIONS)
    asked: dict[str, Any] = {"n_boot": n_boot, "n_folds": held_out.n_folds}
    some = {name: risks[name] for name in (PATH, WITHOUT, WITH)}
    judged = _two_sided(frame, steps)
    calibrated = [point for point in judged if point.step in CALIBRATED] or judged[:1]
    at_30 = np.maximum(1, np.ceil(0.3 * frame.groupby("transcript_id")["step"].max() - 1e-9))
    return Found(
        by_step=matched_auc(frame, risks | single, steps, fold, **asked),
        by_fraction=matched_auc(frame, risks | single, fraction, fold, **asked),
        matched=matched_auc(
            frame, {TORTUOSITY: single[TORTUOSITY], PATH: risks[PATH]}, fraction, of_length, **asked
        ),
        matched_steps=matched_auc(frame, some, steps, of_length, **asked),
        quality=probability_scores(frame, risks, steps, fold, **asked),
        gained=gains(frame, risks[WITH], risks[WITHOUT], steps, fold, **asked),
        probed={
            title: gains(frame, risks[better], risks[than], steps, fold, **asked)
            for title, (better, than) in PROBES.items()
            if better in risks and than in risks
        },
        curve=calibration(frame, risks[WITH][0], calibrated, n_boot=n_boot),
        slopes=calibration_slope(frame, risks[WITH], steps, **asked),
        first=float((at_30 == 1).mean()),
        second=float((at_30 == 2).mean()),
    )  # fmt: skip


def _two_sided(frame: pd.DataFrame, steps: list[Selection]) -> list[Selection]:
    """The steps that some failing and some successful runs have reached."""
    failed = failures(frame)
    return [point for point in steps if 0 < failed[point.rows].mean() < 1]


def _tables(found: Found) -> dict[str, Table]:
    tables = {
        "AUC at absolute steps, by what was known then": _wide(found.by_step, "step"),
        "Average precision at absolute steps (the base rate is the share that failed)": _wide(
            _told(found.quality), "step", "average_precision", words.estimate
        ),
        "Brier score at absolute steps (lower is better; the base rate knows only the share)": _wide(
            _told(found.quality), "step", "brier", words.fine
        ),
        "Gain in AUC of trajectory and concentration over uncertainty, length and task (paired)": _gain(found.gained),
    }
    tables |= {title: _gain(table) for title, table in found.probed.items()}
    return tables | {
        "Calibration of the risk of all features: slope, 1 at best, and mean risk less the share that failed": _slopes(
            found.slopes
        ),
        "Calibration of the risk of all features: runs in bins by their risk": _curve(found.curve),
        "Matched on the final number of steps (an oracle): AUC over pairs of runs of equal length": _wide(
            found.matched_steps, "step"
        ),
        "ORACLE: AUC at fractions of the final length, which is not known while a run goes on": _wide(
            found.by_fraction, "fraction"
        ),
        "ORACLE, matched on the final number of steps": _wide(found.matched, "fraction"),
    }


def _curve(curve: pd.DataFrame) -> Table:
    return Table(
        joined(joined(curve, "failed"), "off", "off_low", "off_high"),
        {
            "step": "step", "n_runs": "runs", "risk": "mean risk given", "failed": "share that failed",
            "off": "risk less share",
        },
        {"risk": words.fine, "off": words.fine_difference},
    )  # fmt: skip


_COUNTED = {"step": "step", "n_runs": "runs", "n_failures": "failing"}


def _slopes(slopes: pd.DataFrame) -> Table:
    return Table(
        joined(joined(slopes, "slope"), "off", "off_low", "off_high"),
        _COUNTED | {"slope": "slope", "off": "mean risk less share"},
        {"slope": words.slope, "off": words.fine_difference},
    )  # fmt: skip


def _gain(table: pd.DataFrame) -> Table:
    return Table(
        joined(table, "gain"),
        _COUNTED | {"auc": "AUC", "auc_than": "AUC without", "gain": "gain (95 %)", "p_corrected": "p, corrected"},
        {
            "auc": words.fine, "auc_than": words.fine, "gain": words.fine_difference,
            "p_corrected": words.p_value,
        },
        "p is corrected by Holm over the steps." + _note_on_sides(table),
    )  # fmt: skip


def _told(quality: pd.DataFrame) -> pd.DataFrame:
    """Without scores where all runs failed, or none did: there is nothing to rank, and to know the share is to know
    all."""
    scores = [f"{name}{end}" for name in ("average_precision", "brier") for end in ("", "_low", "_high")]
    one_sided = quality["n_failures"].isin([0]) | (quality["n_failures"] == quality["n_runs"])
    return quality.assign(**{name: quality[name].mask(one_sided) for name in scores})


def _note_on_sides(table: pd.DataFrame) -> str:
    one_sided = (table["n_failures"] == 0) | (table["n_failures"] == table["n_runs"])
    return f" {ONE_SIDED}" if one_sided.any() else ""


def _wide(table: pd.DataFrame, at: At, name: str = "auc", form: Format = words.judged) -> Table:
    """A row a method, a column a point, and the runs behind each below."""
    low, high = (f"{name}_{end}" if f"{name}_{end}" in table else end for end in ("low", "high"))
    others = [other for other in ("average_precision", "brier") if other in table and other != name]
    frame = table.drop(columns=[f"{other}{end}" for other in others for end in ("", "_low", "_high")])
    frame = joined(frame, name, low, high).sort_values([at, "method"], kind="stable", ignore_index=True)
    return Table(
        frame,
        {"method": "method"},
        {name: form},
        (_note_on_scores(table, at) + _note_on_sides(table)).strip(),
        Across(at, name, lambda value: _point(at, value), ("runs (failing)", _failing)),
        {"method": method_name},
    )


def _failing(rows: pd.DataFrame) -> str:
    return words.failing(int(rows["n_runs"].iloc[0]), int(rows["n_failures"].iloc[0]))


def _note_on_scores(table: pd.DataFrame, at: At) -> str:
    """Of how many runs a method has a score where it is not all: a tortuosity at step 1 is not defined."""
    if "n_scored" not in table:
        return ""
    part = table[(table["n_scored"] > 0) & (table["n_scored"] < table["n_runs"])]
    said = []
    for method, mine in part.groupby("method"):
        counts = [f"{words.count(row.n_scored, 'run')} at {_point(at, getattr(row, at))}" for row in records(mine)]
        said.append(f"{words.sentence(method_name(str(method)))} has a value of {listed(counts)} only.")
    return " ".join(said)


def method_name(method: str) -> str:
    """Feature sets as people call them."""
    return SHORT.get(method, method.replace("+", " + "))


def _point(at: At, value: float) -> str:
    return f"step {value:g}" if at == "step" else words.promise(value)


def _reading(found: Found) -> tuple[str, ...]:
    said = [f"Trajectory and concentration {_gained(found.gained, 'uncertainty, length and task')}."]
    said += [_of_probe(*found.probed.values())] if found.probed else []
    said += [_of_tortuosity(found), _of_calibration(found)]
    best = found.by_step[found.by_step["method"] == WITH].dropna(subset="auc").sort_values("auc")
    if len(best):
        said.append(
            f"All features together reach at most {words.judged(_area(best))}, at step {int(best.iloc[-1]['step'])}."
        )
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
            f"{words.fine_difference(off)}, {_missed(found.curve[found.curve['step'] == step])}, and the Brier score "
            f"is {words.fine(skill[WITH, step])} where the share that failed, given to every run, has "
            f"{words.fine(skill[BASE_RATE, step])}"
        )
    return f"Calibration of all features (a slope below 1 says that risks lie too far apart): {'; '.join(gaps)}."


def _missed(bins: pd.DataFrame) -> str:
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


_DRAWN = {
    WITH: ("all features", ACCENT, "-"),
    WITHOUT: ("uncertainty + length + task", "#8e5ea2", "-"),
    PATH: ("trajectory + concentration", "#1b8a6b", "-"),
    "length+task": ("length + task", "#b07d2b", "--"),
    TORTUOSITY: ("tortuosity alone", "#3f8f9b", "--"),
    HIDDEN: ("probe on hidden states", "#b2182b", ":"),
}


def _picture(found: Found) -> str:
    by_step, by_fraction, curve = found.by_step, found.by_fraction, found.curve
    methods = set(by_step["method"])
    drawn: Mapping[str, tuple[str, str, str]] = {name: how for name, how in _DRAWN.items() if name in methods}
    with quiet_style():
        figure, (left, middle, right) = panels(3, 4.3, 4.4)
        counts = by_step.drop_duplicates("step").sort_values("step")
        place = {step: i for i, step in enumerate(counts["step"])}
        for name, (label, colour, style) in drawn.items():
            for ax, table, at in ((left, by_step, "step"), (middle, by_fraction, "fraction")):
                mine = table[table["method"] == name]
                x = mine[at] if at == "fraction" else mine[at].map(place)
                ax.plot(x, mine["auc"], style, color=colour, marker="o", ms=3, label=label)
                if name in (WITH, PATH):
                    ax.fill_between(x, mine["low"], mine["high"], color=colour, alpha=0.12, lw=0)
        same = found.matched[found.matched["method"] == TORTUOSITY]
        middle.plot(same["fraction"], same["auc"], ":", color="#3f8f9b", label="tortuosity, matched on length")
        for ax in (left, middle):
            ax.axhline(0.5, color=MUTED, lw=1, ls=":")
            ax.set_ylim(auc_range(by_step, by_fraction, same))
        ticks = [f"{s}\n{n}" for s, n in counts[["step", "n_runs"]].to_numpy()]
        left.set_xticks(list(place.values()), ticks, fontsize=8)
        left.set(title="AUC of failure", xlabel="step, and runs still thinking")
        middle.set(title="ORACLE: share of the final length", xlabel="share of the final length")
        figure.legend(*middle.get_legend_handles_labels(), fontsize=9, loc="outside lower center", ncols=4)
        right.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=":")
        for (step, mine), colour in zip(curve.groupby("step"), ("#9fb8d1", ACCENT, "#b07d2b"), strict=False):
            ends = [mine["failed"] - mine["low"], mine["high"] - mine["failed"]]
            right.errorbar(
                mine["risk"], mine["failed"], ends, fmt="o", color=colour, ms=4, lw=1.2, label=f"step {step}"
            )
        right.legend(fontsize=9, loc="upper left")
        top = float(np.nanmax([curve["risk"].max(), curve["high"].max(), curve["failed"].max(), 0.2])) * 1.08
        right.set(title="Calibration, all features", xlabel="risk given", ylabel="share that failed")
        right.set(xlim=(-0.02 * top, top), ylim=(-0.02 * top, top))  # markers at 0 are whole
    return svg(figure)
