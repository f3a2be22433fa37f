"""Can failure be told early, without looking ahead, and does the path of grounding add to what is known without it?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from trajkit.judging.cross_validation import HIDDEN
from trajkit.plots.detection import auc_range
from trajkit.plots.style import ACCENT, MUTED
from trajkit.runs.table import RunTable
from trajkit.studies.early_measures import PATH, TORTUOSITY, WITH, WITHOUT, Found, measure
from trajkit.studies.early_words import At, method_name, point_name, reading
from trajkit.studies.pictures import panels, quiet_style, svg
from trajkit.studies.runs import records
from trajkit.studies.study import Advance, Study
from trajkit.tables import Across, Table, joined, words
from trajkit.tables.table import Format
from trajkit.tables.words import listed

if TYPE_CHECKING:
    import pandas as pd

ONE_SIDED = "–: all runs that came so far failed, or none did, so there is nothing to tell apart."


def early_failure(runs: RunTable, n_boot: int, advance: Advance) -> Study:
    """AUC, precision, calibration and gain at absolute steps; the same at fractions of the final length, an oracle."""
    found = measure(runs.known().frame, n_boot, advance)
    return Study(
        "early_failure",
        "Failure, early",
        "After each step, how well can it be told that a run will fail, and does the path of grounding add anything?",
        _tables(found),
        {
            "AUC at absolute steps (left; the numbers are runs still thinking); at fractions of the final length, an "
            "oracle (middle); calibration (right). Bands, on two lines, and bars are 95 % intervals": _picture(found)
        },
        reading(found),
    )


def _tables(found: Found) -> dict[str, Table]:
    tables = {
        "AUC at absolute steps, by what was known then": _wide(found.by_step, "step"),
        "Average precision at absolute steps (the base rate is the share that failed)": _wide(
            _told(found.quality), "step", "average_precision", words.estimate
        ),
        "Brier score at absolute steps (lower is better; the base rate knows only the share)": _wide(
            _told(found.quality), "step", "brier", words.fine
        ),
    }
    if found.gained is not None:
        over = listed(found.without.split("+"))
        tables[f"Gain in AUC of trajectory and concentration over {over} (paired)"] = _gain(found.gained)
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
            "step": "step",
            "n_runs": "runs",
            "risk": "mean risk given",
            "failed": "share that failed",
            "off": "risk less share",
        },
        {"risk": words.fine, "off": words.fine_difference},
    )


_COUNTED = {"step": "step", "n_runs": "runs", "n_failures": "failing"}


def _slopes(slopes: pd.DataFrame) -> Table:
    return Table(
        joined(joined(slopes, "slope"), "off", "off_low", "off_high"),
        _COUNTED | {"slope": "slope", "off": "mean risk less share"},
        {"slope": words.slope, "off": words.fine_difference},
    )


def _gain(table: pd.DataFrame) -> Table:
    return Table(
        joined(table, "gain"),
        _COUNTED | {"auc": "AUC", "auc_than": "AUC without", "gain": "gain (95 %)", "p_corrected": "p, corrected"},
        {"auc": words.fine, "auc_than": words.fine, "gain": words.fine_difference, "p_corrected": words.p_value},
        "p is corrected by Holm over the steps." + _note_on_sides(table),
    )


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
        Across(at, name, lambda value: point_name(at, value), ("runs (failing)", _failing)),
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
        counts = [f"{words.count(row.n_scored, 'run')} at {point_name(at, getattr(row, at))}" for row in records(mine)]
        said.append(f"{words.sentence(method_name(str(method)))} has a value of {listed(counts)} only.")
    return " ".join(said)


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
    same = found.matched[found.matched["method"] == TORTUOSITY]
    with quiet_style():
        figure, (left, middle, right) = panels(3, 4.3, 4.4)
        counts = by_step.drop_duplicates("step").sort_values("step")
        place = {step: i for i, step in enumerate(counts["step"])}
        for name, (label, colour, style) in drawn.items():
            for ax, table, at in ((left, by_step, "step"), (middle, by_fraction, "fraction")):
                mine = table[table["method"] == name]
                x = mine[at] if at == "fraction" else mine[at].map(place)
                ax.plot(x, mine["auc"], style, color=colour, marker="o", ms=3, label=label)
                if name in (found.every, PATH):
                    ax.fill_between(x, mine["low"], mine["high"], color=colour, alpha=0.12, lw=0)
        if len(same):
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
