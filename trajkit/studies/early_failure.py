"""Can failure be told early, without looking ahead, and does the path of grounding add to what is known without it?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trajkit.errors import InputError
from trajkit.judging.cross_validation import DEALS, HIDDEN, cross_validated, hidden_columns
from trajkit.judging.ranking import select_fractions, select_steps
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
from trajkit.studies.study import Advance, Study
from trajkit.studies.words import cell, listed, records

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


def early_failure(runs: RunTable, n_boot: int, advance: Advance) -> Study:
    """AUC, precision, calibration and gain at absolute steps; the same at fractions of the final length, an oracle."""
    known = runs.known()
    frame = known.frame
    has_hidden = bool(hidden_columns(frame))
    sets = (*SETS, HIDDEN, PROBED, PROBED_PATH) if has_hidden else SETS
    risks, fold = held_out = cross_validated(frame, sets, FOLDS, advance=advance)
    single = {TORTUOSITY: frame["tortuosity"].to_numpy(float), "random": np.random.default_rng(0).random(len(frame))}
    scores = risks | single
    at_risk = select_steps(frame)
    steps = [point for point in at_risk if point.step in STEPS and len(point.rows) >= MIN_RUNS] or at_risk
    if not steps:
        raise InputError("no step is reached by 20 runs of known outcome; collect more runs.")
    length = frame.groupby("transcript_id")["step"].transform("max")
    final = np.stack([numbered(length, deal) for deal in fold])
    advance("intervals")
    fraction = select_fractions(frame, FRACTIONS)
    asked: dict[str, Any] = {"n_boot": n_boot, "n_folds": held_out.n_folds}
    by_step = matched_auc(frame, scores, steps, fold, **asked)
    by_fraction = matched_auc(frame, scores, fraction, fold, **asked)
    quality = probability_scores(frame, risks, steps, fold, **asked)
    gained = gains(frame, risks[WITH], risks[WITHOUT], steps, fold, **asked)
    probed = {}
    if has_hidden:
        for name, better, than in (
            ("AUC of all features less that of a linear probe on hidden states (paired)", WITH, HIDDEN),
            ("AUC of trajectory and concentration less that of the probe (paired)", PATH, HIDDEN),
            (
                "Gain in AUC of trajectory and concentration over the probe, uncertainty, length and task (paired)",
                PROBED_PATH, PROBED,
            ),
        ):  # fmt: skip
            probed[name] = gains(frame, risks[better], risks[than], steps, fold, **asked)
    matched = matched_auc(frame, {TORTUOSITY: single[TORTUOSITY], PATH: risks[PATH]}, fraction, final, **asked)
    matched_steps = matched_auc(frame, {name: risks[name] for name in (PATH, WITHOUT, WITH)}, steps, final, **asked)
    shown = [point for point in steps if point.step in CALIBRATED] or steps[:1]
    curve = calibration(frame, risks[WITH][0], shown, n_boot=n_boot)
    slopes = calibration_slope(frame, risks[WITH], steps, **asked)
    tables = {
        "AUC at absolute steps, by what was known then": _wide(by_step, "step"),
        "Average precision at absolute steps (the base rate is the share that failed)": _wide(
            quality, "step", "average_precision"
        ),
        "Brier score at absolute steps (lower is better; the base rate knows only the share)": _wide(
            quality, "step", "brier", ".3f"
        ),
        "Gain in AUC of trajectory and concentration over uncertainty, length and task (paired)": _gain(gained),
    }  # fmt: skip
    tables |= {name: _gain(table) for name, table in probed.items()}
    tables |= {
        "Calibration of the risk of all features: slope, 1 at best, and mean risk less the share that failed": _slopes(
            slopes
        ),
        "Calibration of the risk of all features: runs in bins by their risk": _curve(curve),
        "Matched on the final number of steps (an oracle): AUC over pairs of runs of equal length": _wide(
            matched_steps, "step"
        ),
        "ORACLE: AUC at fractions of the final length, which is not known while a run goes on": _wide(
            by_fraction, "fraction"
        ),
        "ORACLE, matched on the final number of steps": _wide(matched, "fraction"),
    }
    return Study(
        "early_failure",
        "Failure, early",
        "After each step, how well can it be told that a run will fail, and does the path of grounding add anything?",
        tables,
        {
            "AUC at absolute steps (left; the numbers are runs still thinking); at fractions of the final length, an "
            "oracle (middle); calibration (right). Bands, on two lines, and bars are 95 % intervals":
            _picture(by_step, by_fraction, matched, curve, has_hidden)
        },
        _reading(frame, by_step, gained, list(probed.values()), by_fraction, matched, quality, curve, slopes),
    )  # fmt: skip


def _curve(curve: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({
        "step": curve["step"], "runs": curve["n_runs"], "mean risk given": curve["risk"].round(3),
        "share that failed": [cell(row, "failed") for _, row in curve.iterrows()],
        "risk less share": [cell(row, "off", "+.3f") for _, row in curve.iterrows()],
    })  # fmt: skip


def _slopes(slopes: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({
        "step": slopes["step"], "runs (failing)": _counts(slopes),
        "slope": [cell(row, "slope") for _, row in slopes.iterrows()],
        "mean risk less share": [cell(row, "off", "+.3f") for _, row in slopes.iterrows()],
    })  # fmt: skip


def _counts(table: pd.DataFrame) -> list[str]:
    return [f"{n} ({k})" for n, k in table[["n_runs", "n_failures"]].to_numpy()]


def _wide(table: pd.DataFrame, at: str, name: str = "auc", form: str = ".2f") -> pd.DataFrame:
    """A row a method, a column a point, and the runs behind each below."""
    import pandas as pd

    points = sorted(table[at].unique())
    rows = []
    for method in table["method"].unique():
        mine = table[table["method"] == method].set_index(at)
        cells = {_point(at, p): cell(mine.loc[p], name, form) if p in mine.index else "–" for p in points}
        if "n_scored" in mine:  # a tortuosity at step 1 is not defined
            cells = {
                _point(at, p): cells[_point(at, p)] + (f", n = {n}" if 0 < n < mine.loc[p, "n_runs"] else "")
                for p, n in mine["n_scored"].items()
            }
        rows.append({"method": SHORT.get(method, method.replace("+", " + "))} | cells)
    first = table.drop_duplicates(at).set_index(at)
    counts = dict(zip([_point(at, p) for p in points], _counts(first.loc[points]), strict=True))
    rows.append({"method": "runs (failing)"} | counts)
    return pd.DataFrame(rows)


def _point(at: str, value: float) -> str:
    return f"step {value:g}" if at == "step" else f"{value:.0%}"


def _gain(table: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({
        "step": table["step"], "runs (failing)": _counts(table),
        "AUC": table["auc"].round(3), "AUC without": table["auc_than"].round(3),
        "gain (95 %)": [cell(row, "gain", "+.3f") for _, row in table.iterrows()],
        "p, corrected": ["–" if np.isnan(p) else f"{p:.3f}" for p in table["p_corrected"]],
    })  # fmt: skip


def _reading(
    frame: pd.DataFrame, by_step: pd.DataFrame, gained: pd.DataFrame, probed: list[pd.DataFrame],
    by_fraction: pd.DataFrame, matched: pd.DataFrame, quality: pd.DataFrame, curve: pd.DataFrame, slopes: pd.DataFrame,
) -> tuple[str, ...]:  # fmt: skip
    said = [f"Trajectory and concentration {_gained(gained, 'uncertainty, length and task')}."]
    if probed:
        all_features, path, path_over = probed
        said.append(
            f"A linear probe on hidden states beats trajectory and concentration at {_where(path, -1)}, and is beaten "
            f"by them at {_where(path, 1)}; it beats all features together, which hold uncertainty and the task, at "
            f"{_where(all_features, -1)}, and is beaten by them at {_where(all_features, 1)}. To the probe with "
            "uncertainty, length and task, trajectory and concentration "
            f"{_gained(path_over, 'it')}."
        )
    at = by_fraction[(by_fraction["method"] == TORTUOSITY) & np.isclose(by_fraction["fraction"], 0.3)].iloc[0]
    same = matched[(matched["method"] == TORTUOSITY) & np.isclose(matched["fraction"], 0.3)].iloc[0]
    final = frame.groupby("transcript_id")["step"].max()
    reached = np.maximum(1, np.ceil(0.3 * final - 1e-9))
    said.append(
        f"Tortuosity alone at 30 % of the final length, the paper's figure (0.69 there): {cell(at)} here, "
        f"{cell(same)} among runs of equal length. {float((reached == 1).mean()):.0%} of these runs are at their first "
        "step by then and have no tortuosity, so they are left out, and "
        f"{float((reached == 2).mean()):.0%} are at their second, where it is 1 whatever the run does. It is an oracle "
        "in any case: the fraction asks for a length that is known only at the end."
    )
    skill = {(row.method, int(row.step)): row for row in records(quality)}
    gaps = []
    for step in sorted(set(curve["step"].astype(int))):
        mine = curve[curve["step"] == step]
        slope = slopes[slopes["step"] == step].iloc[0]
        ours, base = skill[WITH, step], skill[BASE_RATE, step]
        gaps.append(
            f"at step {step} the slope is {cell(slope, 'slope')}, the mean risk is off by "
            f"{cell(slope, 'off', '+.3f')}, {_missed(mine)}, and the Brier score is "
            f"{ours.brier:.3f} where the share that failed, given to every run, has {base.brier:.3f}"
        )
    said.append(f"Calibration of all features (a slope below 1 says that risks lie too far apart): {'; '.join(gaps)}.")
    best = by_step[by_step["method"] == WITH].dropna(subset="auc").sort_values("auc")
    if len(best):
        said.append(f"All features together reach at most {cell(best.iloc[-1])}, at step {int(best.iloc[-1]['step'])}.")
    said.append(
        "Failing are all runs that did not succeed, of whatever kind. Later steps hold fewer and longer runs, another "
        "population than the early ones. Models are fitted on other groups than they are read on; AUCs compare runs of "
        f"one fold. Figures of fitted models are means over {DEALS} deals of the groups to folds; intervals and p "
        "resample groups and allow for models that differ in another sample. Bins of risk are of the first deal, and "
        "their intervals take its models as given."
    )
    return tuple(said)


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
    words: dict[int | None, str] = {
        1: f"add to {to} at step",
        -1: f"make {'them' if to != 'it' else 'it'} worse at step",
        0: "change nothing that can be told at step",
        None: "cannot be judged, with too few groups, at step",
    }
    gain = {int(row.step): f" ({row.gain:+.3f})" for row in records(table)}
    parts = []
    for side in [side for side in words if side in sides]:
        named = [f"{step}{gain[step]}" if side else str(step) for step in sides[side]]
        parts.append(f"{words[side]} {listed(named)}")
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


def _picture(
    by_step: pd.DataFrame, by_fraction: pd.DataFrame, matched: pd.DataFrame, curve: pd.DataFrame, has_hidden: bool
) -> str:
    drawn: Mapping[str, tuple[str, str, str]] = {n: v for n, v in _DRAWN.items() if n != HIDDEN or has_hidden}
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
        same = matched[matched["method"] == TORTUOSITY]
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
        right.set(title="Calibration, all features", xlabel="risk given", ylabel="share that failed", xlim=(0, top))
        right.set_ylim(0, top)
    return svg(figure)
