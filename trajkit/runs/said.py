"""Which runs a table holds, and of how many of them what is said, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajkit.runs.units import of_units
from trajkit.tables.words import count
from trajkit.traces.trace import FAILURES

if TYPE_CHECKING:
    from trajkit.runs.table import RunTable

HOW_TO_GET_EFFECTS = "`trajkit attribute` gets them, with the model that made the runs"


def summary(runs: RunTable) -> str:
    """How many runs of what, in a few sentences. A question is a group's: the same words on two images are two."""
    table = runs.table
    counts = table["outcome"].value_counts()
    shares = ", ".join(f"{n:,} {str(outcome).replace('_', ' ')}" for outcome, n in counts.items())
    groups = table["group_id"].nunique()
    asked = table.loc[table["question"] != "", ["group_id", "question"]].drop_duplicates()
    of = f"{count(len(asked), 'question')} in " if len(asked) > groups else ""
    said = [f"{count(len(runs), 'run')} of {of}{count(groups, 'group')}: {shares}."]
    if "failure" in counts and counts.index.isin(FAILURES[1:]).any():
        said.append("A failure by that name is wrong and of no known kind.")
    if runs.by_hand:
        n = sum(name in runs.by_hand for name in runs.rows["transcript_id"].to_pylist())
        said.append(f"{count(n, 'outcome')} {_are(n)} from labels by hand.")
    if kinds := runs.values("effects_kind"):
        said.append(f"Effects: {', '.join(kinds)}.")
    said.append(of_effects(runs))
    said.append(of_units(runs))
    formless = int((table["form"] == "").sum())
    if formless:
        which = "No run has a" if formless == len(runs) else f"{count(formless, 'run')} {_has(formless)} no"
        said.append(f"{which} question form, without which runs are compared within their family alone.")
    if runs.left_out:
        said.append(f"{count(runs.left_out, 'run')} without thinking {_are(runs.left_out)} left out.")
    if runs.drawn_from:
        said.append(of_draw(runs))
    return " ".join(filter(None, said))


def of_effects(runs: RunTable) -> str:
    """How many runs have effects, and what follows, in a sentence; empty where all have."""
    has, n = int(runs.used.sum()), int(runs.told.sum())
    if has == n:
        return ""
    if not has:
        return f"No run has effects, so nothing is said of what runs look at: {HOW_TO_GET_EFFECTS}."
    return f"{has:,} of {count(n, 'run')} {_has(has)} effects; what is about effects is said of those alone."


def of_draw(runs: RunTable) -> str:
    """Of how many runs these were drawn, and how, in a sentence; empty where they are all."""
    if not runs.drawn_from:
        return ""
    how = "whole groups at random" if runs.whole else "at random from each group, as some are large"
    return f"These runs were drawn, {how}, from {count(runs.drawn_from, 'run')} (seed {runs.seed})."


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _has(n: int) -> str:
    return "has" if n == 1 else "have"
