"""How the judging of sentences is laid out for people: the tables that the terminal and the report show."""

from __future__ import annotations

import pandas as pd

from trajkit.judging.held_out_sentences import ALL
from trajkit.tables import Across, Table, joined, words
from trajkit.tables.table import Format


def areas(areas: pd.DataFrame) -> Table:
    """Methods down; targets across, among all sentences, and of false ones in each selection.

    areas: as `step_areas`.
    """
    return _across(areas[(areas["sentences"] == ALL) | (areas["target"] == "false")])


def areas_in(areas: pd.DataFrame, selection: str) -> Table:
    """Methods down; targets across, among the sentences of one selection. areas: as `step_areas`."""
    return _across(areas[areas["sentences"] == selection])


def _across(areas: pd.DataFrame) -> Table:
    told = joined(areas[areas["n_wrong"] > 0], "auc").assign(place=lambda own: own["target"] + ", " + own["sentences"])
    across = Across("place", "auc", str, ("sentences (wrong)", _counted))
    return Table(told, {"method": "by"}, {"auc": words.auc}, across=across)


def _counted(rows: pd.DataFrame) -> str:
    return words.failing(int(rows["n_steps"].max()), int(rows["n_wrong"].max()))


def gains(gains: pd.DataFrame) -> Table:
    """A row a target and selection. gains: as `step_gains`."""
    told = joined(gains[gains["n_wrong"] > 0], "gain")
    headings = {
        "target": "told",
        "sentences": "among",
        "n_steps": "sentences",
        "n_wrong": "wrong",
        "auc_than": "AUC by uncertainty",
        "auc": "by both",
        "gain": "gain, paired",
        "p_corrected": "p (Holm)",
    }
    formats: dict[str, Format] = {
        "auc": words.score,
        "auc_than": words.score,
        "gain": words.fine_difference,
        "p_corrected": words.p_value,
    }
    return Table(told, headings, formats)


def probabilities(found: pd.DataFrame) -> Table:
    """A row a target and method. found: as `step_probabilities`."""
    for name in ("average_precision", "brier", "ece"):
        found = joined(found, name, f"{name}_low", f"{name}_high")
    headings = {
        "target": "told",
        "method": "by",
        "average_precision": "average precision",
        "brier": "Brier",
        "ece": "calibration error",
        "ece_noise": "chance alone",
    }
    formats: dict[str, Format] = dict.fromkeys(("brier", "ece", "ece_noise"), words.fine)
    return Table(found, headings, formats | {"average_precision": words.estimate})


def firsts(found: pd.DataFrame) -> Table:
    """Methods down, how many of the likeliest across. found: as `first_wrong`."""
    across = Across("top", "found", "among the {} likeliest".format, ("runs", lambda own: f"{own['n_runs'].max():,}"))
    return Table(joined(found, "found"), {"method": "by"}, {"found": words.shares}, across=across)
