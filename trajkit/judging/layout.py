"""How an evaluation is laid out for people: the tables that the terminal and the report show."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from trajkit.detection.calibration import SPARED_WORD, Watches
from trajkit.judging.alarms import ALL_RUNS, NEW_GROUP
from trajkit.judging.ranking import MACRO
from trajkit.tables import Across, Table, joined
from trajkit.tables.names import feature_sets, outcome_name
from trajkit.tables.words import auc, failing, metric, promise, share, shares

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.judging.promise import PromiseCheck
    from trajkit.tables.table import Format


NO_INTERVAL = "–: no value, or too few groups of runs for an interval; an AUC is not to be read without one."


def areas_across(areas: pd.DataFrame, at: str, most: int) -> Table:
    """Methods down, `at` across, each cell an AUC as `words.auc` says it.

    At most `most` of the places are shown, in about even ratios: what is early is what is asked.

    areas: as `Evaluation.auc_by_step` or `auc_by_fraction`; at: `step` or `fraction`. A last row counts the runs and,
    of them, the failing ones; where a method has no score for some of the runs, its cell says for how many it has.
    """
    places = sorted(areas[at].unique())
    if len(places) > most:
        apart = np.subtract.outer(np.log(places), np.log(np.geomspace(places[0], places[-1], most)))
        places = [places[i] for i in np.unique(np.abs(apart).argmin(axis=0))]
    rows = joined(areas[areas[at].isin(places)], "auc").sort_values(at, kind="stable")
    across = Across(
        at,
        "auc",
        lambda place: f"{at} {place:g}",
        ("runs (failing)", lambda own: failing(int(own["n_runs"].max()), int(own["n_failures"].max()))),
        ("n_scored", "n_runs"),
    )
    said = [NO_INTERVAL] if _untold(rows) else []
    if (rows["n_scored"] < rows["n_runs"]).any():
        said.append("“of” says how many runs a method has a value for, where that is not all of them.")
    return Table(rows, {"method": "method"}, {"auc": auc}, " ".join(said), across, {"method": feature_sets})


def areas_by_outcome(areas: pd.DataFrame) -> Table:
    """Methods down, outcomes across, each cell an AUC as `words.auc` says it; the last row counts the runs. areas: as
    `Evaluation.outcome_auc`."""
    across = Across("outcome", "auc", outcome_name, ("runs", lambda own: f"{own['n_runs'].max():,}"))
    rows = joined(areas, "auc")
    note = NO_INTERVAL if _untold(rows) else ""
    return Table(rows, {"method": "method"}, {"auc": auc}, note, across, {"method": feature_sets})


def macro_areas(areas: pd.DataFrame) -> tuple[Table, str]:
    """The mean AUC over outcomes of each method, and in words the runs that they are of. areas: as
    `Evaluation.outcome_auc`."""
    of_each = areas[areas["outcome"] != MACRO].drop_duplicates("outcome")
    runs = ", ".join(
        f"{n:,} {outcome_name(name)}" for name, n in zip(of_each["outcome"], of_each["n_runs"], strict=True)
    )
    rows = joined(areas[areas["outcome"] == MACRO], "auc")
    headings = {"method": "method", "n_runs": "runs", "auc": "AUC (95 %)"}
    note = NO_INTERVAL if _untold(rows) else ""
    return Table(rows, headings, {"auc": auc}, note, names={"method": feature_sets}), runs


def _untold(rows: pd.DataFrame) -> bool:
    return not all(area.has_interval for area in rows["auc"])


def answered(abstention: pd.DataFrame) -> Table:
    """What the outcome classifier answered and how often it was wrong. abstention: as `Evaluation.abstention`."""
    headings = {"outcome": "outcome", "n_runs": "runs", "answered": "answered", "error": "wrong of the answered"}
    return Table(abstention, headings, dict.fromkeys(("answered", "error"), share), names={"outcome": outcome_name})


def false_alarm_rates(rates: pd.DataFrame, check: PromiseCheck) -> Table:
    """What was promised of successful runs and what was found. rates: as `Replay.false_alarms`."""
    promised = {NEW_GROUP: promise(check.alpha), ALL_RUNS: "not promised"}
    rows = joined(rates, "rate").assign(promised=rates["unit"].map(promised))
    headings = {"unit": "of", "n": "n", "rate": "alarmed (95 %)", "promised": "promised"}
    return Table(
        rows,
        headings,
        {"rate": partial(shares, null=check.alpha)},
        names={"unit": partial(_unit, watches=check.watches)},
    )


def _unit(name: str, watches: Watches) -> str:
    return {NEW_GROUP: "a new run of a new group", ALL_RUNS: f"all {SPARED_WORD[watches]} runs, pooled"}[name]


def caught(power: pd.DataFrame) -> Table:
    """Failing runs that were alarmed, by outcome. power: as `Replay.power`."""
    headings = {
        "outcome": "outcome",
        "n": "runs",
        "k": "alarmed",
        "rate": "share (95 %)",
        "median_alarm_step": "median step",
    }
    formats: dict[str, Format] = {"rate": shares, "median_alarm_step": metric}
    return Table(joined(power, "rate"), headings, formats, names={"outcome": outcome_name})


def saved(tokens: pd.DataFrame) -> Table:
    """Shares of thinking tokens that came after the alarm. tokens: as `Replay.tokens_saved`."""
    headings = {"runs": "runs", "n": "n", "median": "median (95 %)", "mean": "mean"}
    return Table(joined(tokens, "median"), headings, {"median": shares, "mean": share})
