"""How concentrated grounding is, step by step and by outcome, and whether the four measures say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trajkit.detection.splits import compared_outcomes
from trajkit.plots.style import OUTCOME_COLOURS, outcome_name
from trajkit.runs.table import RunTable
from trajkit.stats.resampling import auc_within, group_draws, interval, numbered, weighted_mean
from trajkit.studies.pictures import panels, quiet_style, svg
from trajkit.studies.study import Advance, Study
from trajkit.studies.words import above, listed, spread
from trajkit.traces.forms import task_labels
from trajkit.traces.trace import FAILURES
from trajkit.trajectory.concentration import MEASURES

if TYPE_CHECKING:
    import pandas as pd

ALL = "all families"
MIN_RUNS = 20
"""Runs of an outcome that must have reached a step for it to be drawn."""
SUMMARIES = {"level": "level", "slope": "trend", "spread": "spread"}


def concentration(runs: RunTable, n_boot: int, advance: Advance) -> Study:
    """Levels by step and outcome; level, trend and spread by outcome in each measure; their signs by family."""
    known = compared_outcomes(runs.table)
    if known.empty:
        known = runs.table
    by_step = _by_step(runs.frame[runs.frame["transcript_id"].isin(set(known["transcript_id"]))], n_boot)
    advance("by step")
    undefined = float(runs.frame["concentration"].isna().mean())
    tables: dict[str, Any] = {"Level, trend and spread over the run, mean by outcome": _summaries(known, n_boot)}
    advance("summaries")
    signs = None
    if (known["outcome"] == "success").any() and known["outcome"].nunique() > 1:
        found = _signs(known, n_boot)
        signs = found if len(found) else None
    if signs is not None:
        tables[
            "AUC of each failure against success, by task family, within form: above 0.5, failing runs have more of it"
        ] = _signs_shown(signs)
    tables["Spearman correlation of the measures' levels over runs"] = _agreement(known)
    tables["Level (HHI) at absolute steps, among the runs that have reached them"] = _by_step_shown(by_step)
    return Study(
        "concentration",
        "Concentration",
        "Do a few regions carry a step, does it change along the run, and does it differ by how the run ends?",
        tables,
        {"Concentration (HHI) by step and outcome, and its level over the run": _picture(by_step, known)},
        _reading(known, signs, undefined),
    )


def _by_step(frame: pd.DataFrame, n_boot: int) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for (outcome, step), mine in frame[frame["concentration"].notna()].groupby(["outcome", "step"]):
        if len(mine) < MIN_RUNS:
            continue
        draws = group_draws(mine["group_id"], n_boot, 0)
        value, low, high = interval(weighted_mean(mine["concentration"], draws))
        rows.append({"outcome": outcome, "step": step, "runs": len(mine), "value": value, "low": low, "high": high})
    return pd.DataFrame(rows, columns=["outcome", "step", "runs", "value", "low", "high"])


def _by_step_shown(by_step: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    steps = sorted(by_step["step"].unique())[:12]
    rows = []
    for outcome in [name for name in OUTCOME_COLOURS if name in set(by_step["outcome"])]:
        mine = by_step[by_step["outcome"] == outcome].set_index("step")
        cells = {
            f"step {s:g}": spread(*mine.loc[s, ["value", "low", "high"]]) if s in mine.index else "–" for s in steps
        }
        rows.append({"outcome": outcome_name(outcome)} | cells)
    return pd.DataFrame(rows)


def _summaries(known: pd.DataFrame, n_boot: int) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for measure in MEASURES:
        for summary, word in SUMMARIES.items():
            row: dict[str, Any] = {"measure": measure, "of the run": word}
            for outcome in [name for name in OUTCOME_COLOURS if (known["outcome"] == name).any()]:
                mine = known[(known["outcome"] == outcome) & known[f"{measure}_{summary}"].notna()]
                draws = weighted_mean(mine[f"{measure}_{summary}"], group_draws(mine["group_id"], n_boot, 0))
                row[outcome_name(outcome)] = spread(*interval(draws), "+.3f" if summary == "slope" else ".3f")
            rows.append(row)
    return pd.DataFrame(rows)


def _signs(known: pd.DataFrame, n_boot: int) -> pd.DataFrame:
    import pandas as pd

    rows = []
    families = sorted(known["task_set"].astype(str).unique())
    for family in [*families, ALL] if len(families) > 1 else [ALL]:
        part = known if family == ALL else known[known["task_set"].astype(str) == family]
        for outcome in FAILURES:
            for column, word in (("hhi_level", "level"), ("hhi_spread", "spread")):
                pair = part[part["outcome"].isin(["success", outcome]) & part[column].notna()]
                y = (pair["outcome"] == outcome).to_numpy().astype(np.float64)
                if not 0 < y.sum() < len(y):
                    continue
                draws, metric, task = (
                    group_draws(pair["group_id"], n_boot, 0),
                    pair[column].to_numpy(float),
                    task_labels(pair),
                )
                value, low, high = interval(auc_within(y, metric, numbered(task), draws))
                same = interval(auc_within(y, metric, numbered(task, pair["n_steps"]), draws))
                rows.append({
                    "family": family, "outcome": outcome, "of": word, "n": int(y.sum()), "auc": value, "low": low,
                    "high": high, "same": spread(*same),
                })  # fmt: skip
    return pd.DataFrame(rows)


def _signs_shown(signs: pd.DataFrame) -> pd.DataFrame:
    shown = signs.assign(cell=[spread(*v) for v in signs[["auc", "low", "high"]].to_numpy()])
    shown["what"] = [f"{outcome_name(o)}, {w}" for o, w in zip(shown["outcome"], shown["of"], strict=True)]
    order = list(dict.fromkeys(shown["what"]))
    table = shown.pivot(index="family", columns="what", values="cell")[order].fillna("–")
    return table.loc[list(dict.fromkeys(shown["family"]))].rename_axis(columns=None).reset_index()


def _agreement(known: pd.DataFrame) -> pd.DataFrame:
    levels = known[[f"{measure}_level" for measure in MEASURES]].rename(
        columns=lambda name: name.removesuffix("_level")
    )
    return levels.corr("spearman").rename_axis("measure").reset_index()


def _reading(known: pd.DataFrame, signs: pd.DataFrame | None, undefined: float) -> tuple[str, ...]:
    said = []
    if signs is not None:
        for outcome in signs["outcome"].unique():
            row = signs[(signs["family"] == ALL) & (signs["outcome"] == outcome)].set_index("of")
            parts = [
                f"{word} {_side(above(row.loc[word, 'low'], row.loc[word, 'high'], 0.5))} (AUC "
                f"{spread(*row.loc[word, ['auc', 'low', 'high']])}; among runs of equal length {row.loc[word, 'same']})"
                for word in row.index
            ]
            said.append(
                f"{outcome_name(outcome).capitalize()} beside success, within task family and question form: "
                f"{listed(parts)}."
            )
        mine = signs[signs["family"] != ALL]
        turned = [
            f"{outcome_name(str(outcome))}, {word}"
            for (outcome, word), part in mine.groupby(["outcome", "of"], sort=False)
            if (part["low"] > 0.5).any() and (part["high"] < 0.5).any()
        ]
        if turned:
            said.append(
                f"The sign turns round between task families, each within its forms, for {listed(turned)} (by single "
                "intervals, not corrected)."
            )
    said.append("Means by step and outcome are of all runs, families and forms mixed; the AUCs are not.")
    said.append(
        "The paper reads hallucination as fixation (level high, spread low) and lost reasoning as wandering (level "
        "low, spread high). Other evidence has the signs the other way round, so they are measured, never assumed."
    )
    said.append(f"{undefined:.1%} of the steps have no concentration, as no region supports them; they are left out.")
    return tuple(said)


def _side(found: str) -> str:
    return {"above": "higher", "below": "lower", "not told from": "not told apart"}.get(
        found, "of too few groups to say"
    )


def _picture(by_step: pd.DataFrame, known: pd.DataFrame) -> str:
    with quiet_style():
        figure, (left, right) = panels(2, 5.0, 3.8)
        for outcome, colour in OUTCOME_COLOURS.items():
            mine = by_step[by_step["outcome"] == outcome]
            if len(mine):
                left.plot(mine["step"], mine["value"], "-o", ms=3, color=colour, label=outcome_name(outcome))
                left.fill_between(mine["step"], mine["low"], mine["high"], color=colour, alpha=0.12, lw=0)
            level = known.loc[known["outcome"] == outcome, "hhi_level"].dropna()
            if len(level) >= MIN_RUNS:
                counts, edges = np.histogram(level, 25, (0, 1), density=True)
                right.stairs(counts, edges, color=colour, lw=1.5, label=outcome_name(outcome))
        left.set(title="Mean by step", xlabel="step", ylabel="concentration (HHI)")
        right.set(title="Level of the run", xlabel="mean concentration over the run", ylabel="density")
        if left.has_data():
            left.legend(fontsize=9)
    return svg(figure)
