"""The top of the page: how many runs of what, and how they ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajkit.plots.style import OUTCOME_COLOURS
from trajkit.report.collection import Collection
from trajkit.stats.resampling import group_draws, interval, weighted_mean
from trajkit.tables import Estimate, Table, words
from trajkit.tables.names import outcome_name

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Share:
    """One outcome's part of the bar. share: in words."""

    name: str
    runs: int
    share: str
    colour: str


@dataclass(frozen=True)
class Summary:
    """facts: (label, value, note) in the order of the page. not_judged: why some runs are of unknown outcome, or ""."""

    facts: tuple[tuple[str, str, str], ...]
    outcomes: tuple[Share, ...]
    families: Table
    not_judged: str = ""


def summarise(collection: Collection) -> Summary:
    """Counts over all runs, not only those shown one by one."""
    runs = collection.runs
    images = {sha for sha in runs["image_sha256"] if sha}
    steps = runs["n_steps"].to_numpy(int)
    low, middle, high = np.percentile(steps, (5, 50, 95)).round().astype(int)
    kinds = runs["effects_kind"].fillna("none").value_counts()
    regions = runs["n_regions"].to_numpy(int)
    regions = regions[regions > 0]
    failed = runs["failed"].to_numpy(float)
    known = failed[~np.isnan(failed)]
    facts: tuple[tuple[str, str, str], ...] = (
        ("runs", f"{len(runs):,}", ""),
        ("images", f"{len(images):,}" if images else words.NONE, "" if images else "not saved"),
        ("groups", f"{runs['group_id'].nunique():,}", ""),
        ("failing", words.share(float(known.mean())) if len(known) else words.NONE, "" if len(known) else "not known"),
        ("thinking steps", f"{middle}", f"median; {low} to {high} in 90 % of runs"),
        *([("regions", _range(regions), "")] if len(regions) else []),
        ("effects", ", ".join(map(str, kinds.index)), _mixed(kinds)),
        ("model", ", ".join(sorted(set(runs["model"]))), ""),
    )
    by_hand = int(runs["transcript_id"].isin(list(collection.table.by_hand)).sum())
    if by_hand:
        facts = (*facts, ("labelled by hand", f"{by_hand:,}", "in place of their outcomes"))
    counts = runs["outcome"].value_counts()
    outcomes = tuple(
        Share(outcome_name(name), int(counts[name]), words.share(float(counts[name] / len(runs))), colour)
        for name, colour in OUTCOME_COLOURS.items()
        if name in counts
    )
    return Summary(facts, outcomes, _families(runs), _not_judged(runs))


def _range(counts: NDArray[np.int64]) -> str:
    return f"{counts.min()}–{counts.max()}" if counts.min() < counts.max() else f"{counts.max()}"


def _mixed(kinds: pd.Series[int]) -> str:
    return ", ".join(f"{n:,} {kind}" for kind, n in kinds.items()) if len(kinds) > 1 else ""


def _not_judged(runs: pd.DataFrame) -> str:
    """Runs without a right answer to compare with, counted apart from those that were judged."""
    unknown = runs["failed"].isna()
    if not unknown.any():
        return ""
    bare = int((unknown & ~runs["target"].astype(bool)).sum())
    n = int(unknown.sum())
    said = f"{words.count(n, 'run')} {'is' if n == 1 else 'are'} not judged"
    return f"{said}, {bare:,} of them for want of a target." if bare else f"{said}, though there is a target."


def _families(runs: pd.DataFrame) -> Table:
    """A row per task family, and all of them; the interval of the failure rate resamples groups."""
    import pandas as pd

    present = [name for name in OUTCOME_COLOURS if (runs["outcome"] == name).any()]
    parts = [*runs.groupby("task_set"), ("all", runs)]
    rows = [
        {"task_set": str(family) or "(none)", "n_runs": len(part)}
        | {name: int((part["outcome"] == name).sum()) for name in present}
        | {"failing": _rate(part), "median_steps": float(part["n_steps"].median())}
        for family, part in (parts if len(parts) > 2 else parts[:1])  # of one family the total says the same
    ]
    headings = {"task_set": "task family", "n_runs": "runs"} | {name: outcome_name(name) for name in present}
    headings |= {"failing": "failing (95 %)", "median_steps": "median steps"}
    return Table(pd.DataFrame(rows), headings, {"failing": words.shares})


def _rate(runs: pd.DataFrame) -> Estimate:
    """The share that failed of those that were judged."""
    known = runs[runs["failed"].notna()]
    if known.empty:
        return Estimate(np.nan)
    return Estimate(*interval(weighted_mean(known["failed"], group_draws(known["group_id"], 400, 0))))
