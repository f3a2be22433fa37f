"""How concentrated grounding is, step by step and by outcome, and whether the four measures say the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from trajkit.detection.splits import compared_outcomes
from trajkit.plots.style import MUTED, OUTCOME_COLOURS
from trajkit.runs.table import RunTable
from trajkit.stats.resampling import auc_within, group_draws, interval, numbered, weighted_mean
from trajkit.studies.pictures import panels, quiet_style, svg
from trajkit.studies.study import Advance, Study
from trajkit.tables import Across, Estimate, Table, joined, words
from trajkit.tables.estimate import Side
from trajkit.tables.names import metric_name, outcome_name
from trajkit.tables.words import listed
from trajkit.traces.forms import task_labels
from trajkit.traces.trace import FAILURES
from trajkit.trajectory.concentration import MEASURES

if TYPE_CHECKING:
    import pandas as pd

ALL = "all families"
MIN_RUNS = 20
"""Runs of an outcome that must have reached a step for it to be drawn."""
SHOWN = 12
"""Steps that the table has."""
SUMMARIES = {"level": "level", "slope": "trend", "spread": "spread"}
Summary = Literal["level", "spread"]


@dataclass(frozen=True)
class Sign:
    """One failure against success by one summary of concentration. family: None for all. failing, successful: runs.
    area: AUC within family and form, above 0.5 where failing runs have more; matched: the same among runs of equal
    length."""

    family: str | None
    outcome: str
    summary: Summary
    failing: int
    successful: int
    area: Estimate
    matched: Estimate


def concentration(runs: RunTable, n_boot: int, advance: Advance) -> Study:
    """Levels by step and outcome; level, trend and spread by outcome in each measure; their signs by family."""
    runs = runs.with_effects()
    known = compared_outcomes(runs.table)
    if known.empty:
        known = runs.table
    by_step = _by_step(runs.frame[runs.frame["transcript_id"].isin(set(known["transcript_id"]))], n_boot)
    advance("by step")
    undefined = float(runs.frame["concentration"].isna().mean())
    tables = {"Level, trend and spread over the run, mean by outcome": _summaries(known, n_boot)}
    advance("summaries")
    signs = _signs(known, n_boot)
    if signs:
        tables[
            "AUC of each failure against success, by task family, within form: above 0.5, failing runs have more of it"
        ] = _sign_table(signs)
    tables["Spearman correlation of the measures' levels over runs"] = _agreement(known)
    if len(by_step):
        tables["Level (HHI) at absolute steps, among the runs that have reached them"] = _step_table(by_step)
    return Study(
        "concentration",
        "Concentration",
        "Do a few regions carry a step, does it change along the run, and does it differ by how the run ends?",
        tables,
        {"Concentration (HHI) by step and outcome, and its level over the run": _picture(by_step, known)},
        _reading(signs, undefined),
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


def _step_table(by_step: pd.DataFrame) -> Table:
    steps = sorted(by_step["step"].unique())
    order = {name: i for i, name in enumerate(OUTCOME_COLOURS)}
    shown = by_step[by_step["step"].isin(steps[:SHOWN])]
    shown = shown.sort_values(["step", "outcome"], key=lambda v: v.map(order) if v.name == "outcome" else v)
    return Table(
        joined(shown.rename(columns={"value": "concentration"}), "concentration"),
        {"outcome": "outcome"},
        note=f"Steps that at least {MIN_RUNS} runs of the outcome have reached"
        + (f"; those after the first {SHOWN} are in the picture." if len(steps) > SHOWN else "."),
        across=Across("step", "concentration", "step {:g}".format),
        names={"outcome": outcome_name},
    )


def _summaries(known: pd.DataFrame, n_boot: int) -> Table:
    import pandas as pd

    rows = []
    for measure in MEASURES:
        for summary in SUMMARIES:
            for outcome in [name for name in OUTCOME_COLOURS if (known["outcome"] == name).any()]:
                mine = known[(known["outcome"] == outcome) & known[f"{measure}_{summary}"].notna()]
                draws = weighted_mean(mine[f"{measure}_{summary}"], group_draws(mine["group_id"], n_boot, 0))
                mean = Estimate(*interval(draws))
                rows.append(
                    {"measure": measure, "summary": summary, "outcome": outcome, "runs": len(mine), "mean": mean}
                )
    return Table(
        pd.DataFrame(rows),
        {"measure": "measure", "summary": "of the run"},
        {"mean": words.fine},
        across=Across("outcome", "mean", outcome_name),
        names={"measure": metric_name, "summary": SUMMARIES.__getitem__},
    )


def _signs(known: pd.DataFrame, n_boot: int) -> list[Sign]:
    families = sorted(known["task_set"].astype(str).unique())
    rows = []
    for family in [*families, None] if len(families) > 1 else [None]:
        part = known if family is None else known[known["task_set"].astype(str) == family]
        for outcome in FAILURES:
            for summary in ("level", "spread"):
                found = _sign(part, family, outcome, summary, n_boot)
                if found is not None:
                    rows.append(found)
    return rows


def _sign(part: pd.DataFrame, family: str | None, outcome: str, summary: Summary, n_boot: int) -> Sign | None:
    """None where there are no runs of both."""
    column = f"hhi_{summary}"
    pair = part[part["outcome"].isin(["success", outcome]) & part[column].notna()]
    y = (pair["outcome"] == outcome).to_numpy().astype(np.float64)
    if not 0 < y.sum() < len(y):
        return None
    draws, metric, task = group_draws(pair["group_id"], n_boot, 0), pair[column].to_numpy(float), task_labels(pair)
    area, matched = (
        Estimate(*interval(auc_within(y, metric, stratum, draws)))
        for stratum in (numbered(task), numbered(task, pair["n_steps"]))
    )
    return Sign(family, outcome, summary, int(y.sum()), int((1 - y).sum()), area, matched)


def _sign_table(signs: Sequence[Sign]) -> Table:
    import pandas as pd

    return Table(
        pd.DataFrame(
            {
                "family": [ALL if row.family is None else row.family or "(none)" for row in signs],
                "outcome": [row.outcome for row in signs],
                "summary": [row.summary for row in signs],
                "failing": [row.failing for row in signs],
                "successful": [row.successful for row in signs],
                "auc": [row.area for row in signs],
                "auc_same_length": [row.matched for row in signs],
            }
        ),
        {
            "family": "family",
            "outcome": "outcome",
            "summary": "of the run",
            "failing": "failing runs",
            "successful": "successful runs",
            "auc": "AUC",
            "auc_same_length": "among runs of equal length",
        },
        {"auc": words.judged, "auc_same_length": words.judged},
        names={"outcome": outcome_name},
    )


def _agreement(known: pd.DataFrame) -> Table:
    levels = known[[f"{measure}_level" for measure in MEASURES]].set_axis(list(MEASURES), axis=1)
    pairs = levels.corr("spearman").rename_axis("measure").reset_index()
    return Table(
        pairs.melt("measure", var_name="other", value_name="spearman"),
        {"measure": "measure"},
        {"spearman": words.fine},
        across=Across("other", "spearman", metric_name),
        names={"measure": metric_name},
    )


def _reading(signs: Sequence[Sign], undefined: float) -> tuple[str, ...]:
    said = []
    for outcome in dict.fromkeys(row.outcome for row in signs):
        parts = [
            f"{row.summary} {_side(row.area.beside(0.5))} (AUC {words.judged(row.area)}; among runs of equal length "
            f"{words.judged(row.matched)})"
            for row in signs
            if row.family is None and row.outcome == outcome
        ]
        said.append(
            f"{outcome_name(outcome).capitalize()} beside success, within task family and question form: "
            f"{listed(parts)}."
        )
    sides: dict[tuple[str, str], set[Side]] = {}
    for row in signs:
        if row.family is not None:
            sides.setdefault((row.outcome, row.summary), set()).add(row.area.beside(0.5))
    turned = [f"{outcome_name(outcome)}, {of}" for (outcome, of), found in sides.items() if {"above", "below"} <= found]
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
    said.append(
        f"{words.share(undefined)} of the steps have no concentration, as no region supports them; they are left out."
    )
    return tuple(said)


def _side(found: Side) -> str:
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
        for ax in (left, right):
            if not ax.has_data():
                said = f"fewer than {MIN_RUNS} runs\nof every outcome"
                ax.text(0.5, 0.5, said, transform=ax.transAxes, ha="center", va="center", color=MUTED)
        right.set_xlim(0, 1)
        left.set(title="Mean by step", xlabel="step", ylabel="concentration (HHI)")
        right.set(title="Level of the run", xlabel="level of concentration (HHI)", ylabel="density")
        if left.has_data():
            left.legend(fontsize=9)
    return svg(figure)
