"""The top of the page: how many runs of what, and how they ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajkit.plots.style import OUTCOME_COLOURS, outcome_name
from trajkit.report.collection import Collection
from trajkit.report.panels import Table, percent
from trajkit.stats.resampling import group_draws, interval, weighted_mean

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Share:
    """One outcome's part of the bar."""

    name: str
    runs: int
    share: float
    colour: str


@dataclass(frozen=True)
class Summary:
    """facts: (label, value, note) in the order of the page."""

    facts: tuple[tuple[str, str, str], ...]
    outcomes: tuple[Share, ...]
    families: Table


def summarise(collection: Collection) -> Summary:
    """Counts over all runs, not only those shown one by one."""
    runs = collection.runs
    images = {sha for sha in runs["image_sha256"] if sha}
    steps = runs["n_steps"].to_numpy(int)
    low, middle, high = np.percentile(steps, (5, 50, 95)).round().astype(int)
    kinds = runs["effects_kind"].fillna("none").value_counts()
    regions = runs["n_regions"].to_numpy(int)
    failed = runs["failed"].to_numpy(float)
    known = failed[~np.isnan(failed)]
    facts = (
        ("runs", f"{len(runs):,}", ""),
        ("images", f"{len(images):,}" if images else "–", "" if images else "not saved"),
        ("groups", f"{runs['group_id'].nunique():,}", ""),
        ("failing", percent(float(known.mean())) if len(known) else "–", "" if len(known) else "not known"),
        ("thinking steps", f"{middle}", f"median; {low} to {high} in 90 % of runs"),
        ("regions", f"{regions.min()}–{regions.max()}" if regions.min() < regions.max() else f"{regions.max()}", ""),
        ("effects", ", ".join(map(str, kinds.index)), _mixed(kinds)),
        ("model", ", ".join(sorted(set(runs["model"]))), ""),
    )
    counts = runs["outcome"].value_counts()
    outcomes = tuple(
        Share(outcome_name(name), int(counts[name]), float(counts[name] / len(runs)), colour)
        for name, colour in OUTCOME_COLOURS.items()
        if name in counts
    )
    return Summary(facts, outcomes, _families(runs))


def _mixed(kinds: pd.Series[int]) -> str:
    return ", ".join(f"{n:,} {kind}" for kind, n in kinds.items()) if len(kinds) > 1 else ""


def _families(runs: pd.DataFrame) -> Table:
    """A row per task family; the interval of the failure rate resamples groups."""
    present = [name for name in OUTCOME_COLOURS if (runs["outcome"] == name).any()]
    rows = []
    for family, part in [*runs.groupby("task_set"), ("all", runs)]:
        known = part[part["failed"].notna()]
        rate = "–"
        if len(known):
            value, low, high = interval(weighted_mean(known["failed"], group_draws(known["group_id"], 400, 0)))
            rate = f"{percent(value)} [{100 * low:.0f}, {100 * high:.0f}]" if np.isfinite(low) else percent(value)
        counts = [f"{int((part['outcome'] == name).sum()):,}" for name in present]
        rows.append((str(family) or "(none)", f"{len(part):,}", *counts, rate, f"{part['n_steps'].median():.0f}"))
    if len(rows) == 2:  # one family: the total says the same
        rows = rows[:1]
    columns = ("task family", "runs", *map(outcome_name, present), "failing [95 %]", "median steps")
    return Table(columns, tuple(rows))
