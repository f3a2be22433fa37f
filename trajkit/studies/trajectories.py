"""The path of grounding: the paper's figure, and how far its numbers depend on the space they are measured in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trajkit.detection.splits import compared_outcomes
from trajkit.errors import InputError
from trajkit.plots.style import MUTED, OUTCOME_COLOURS, outcome_name
from trajkit.runs.table import RunTable
from trajkit.stats.resampling import (
    Draws,
    auc_within,
    group_draws,
    interval,
    numbered,
    weighted_mean,
    weighted_median,
)
from trajkit.studies.pictures import quiet_style, svg
from trajkit.studies.runs import metrics_of
from trajkit.studies.study import Advance, Study
from trajkit.studies.words import above, listed, spread
from trajkit.traces.forms import task_labels
from trajkit.trajectory import Space, on_grid

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("path_length", "mean_step", "tortuosity", "straightness", "mean_cosine", "turning_entropy", "msd_exponent")
PAPER = "top 32 regions, 3 axes of the run"
OWN = "effects"
ANGLES = ((20, -60), (20, 30), (20, 120), (85, -90), (5, -90))
"""Elevation and azimuth of the five views, degrees."""
SEEN = ("from the front", "from the right", "from behind", "from above", "from the side")
UNSEEN = {3: "PC 3", 4: "PC 2"}
"""The axis that a view looks along."""
SIGNS = {"above": 1, "below": -1, "not told from": 0, "no interval": None}
DRAWN = 8
"""Runs of each outcome in the picture."""
GRID_SHAPE = (8, 8)
PARTS = 5


def trajectories(runs: RunTable, n_boot: int, advance: Advance) -> Study:
    """The paper's table and figure, then the same metrics in other spaces."""
    import pandas as pd
    from scipy.stats import spearmanr

    known = runs.known()
    table = known.table
    failed, groups = table["failed"].to_numpy(float), table["group_id"].to_numpy(str)
    draws, task = group_draws(groups, n_boot, 0), task_labels(table)
    of_task, of_length = numbered(task), numbered(task, table["n_steps"])
    metrics, explained = {}, {}
    for name, paths, share in spaces_of(known):
        metrics[name], explained[name] = metrics_of(paths), share
        advance(name)
    rows, same_length = [], {}
    signs: dict[str, set[int | None]] = {metric: set() for metric in METRICS}  # of each space
    for metric in METRICS:
        own = metrics[OWN][metric]
        for name, found in metrics.items():
            value = found[metric]
            has = ~np.isnan(value)
            both = has & np.isfinite(value) & np.isfinite(own)
            like = spearmanr(value[both], own[both])[0] if both.sum() > 2 and np.ptp(value[both]) > 0 else np.nan
            area = interval(auc_within(failed[has], value[has], of_task[has], draws.of(has)))
            signs[metric].add(SIGNS[above(*area[1:], 0.5)])
            matched = interval(auc_within(failed[has], value[has], of_length[has], draws.of(has)))
            if name == OWN:
                same_length[metric] = above(*matched[1:], 0.5)
            rows.append({
                "metric": metric, "space": name, "Spearman with effects": f"{like:.2f}",
                "median, success": _median(value, failed == 0), "median, failure": _median(value, failed == 1),
                "AUC of failure, within family and form": spread(*area), "among runs of equal length": spread(*matched),
                "explained": explained[name],
            })  # fmt: skip
        advance(metric)
    dependence = pd.DataFrame(rows)
    paper = _paper_table(table, metrics[PAPER], draws)
    return Study(
        "trajectories",
        "The path of grounding",
        "Do failing runs walk longer and more winding paths, and does it depend on the space that is looked at?",
        {
            "The paper's figures, in its space: the 32 regions with the largest mean |effect|, three axes": paper,
            "What each metric depends on": dependence,
        },
        {
            f"Paths in the paper's space from five angles: the first {DRAWN} groups with a run of three steps or more, "
            "each run from its own start, light to dark, its end a dot; nats, one scale": _picture(known)
        },
        _reading(signs, same_length),
    )


def spaces_of(runs: RunTable) -> Iterator[tuple[str, Sequence[NDArray[np.floating[Any]]], str]]:
    """Each space by name, the paths in it, and what share of the variance it holds (median over runs), in words."""
    yield OWN, runs.paths, ""
    fitted = [Space.fit(path, top=32) for path in runs.paths]
    in_each = [space.transform(path) for space, path in zip(fitted, runs.paths, strict=True)]
    yield PAPER, in_each, f"{np.median([space.explained.sum() for space in fitted]):.0%} of a run"
    group = numbered(runs.table["group_id"])
    members: dict[tuple[int, int], list[NDArray[np.floating[Any]]]] = {}
    for g, path in zip(group.tolist(), runs.paths, strict=True):
        members.setdefault((g, path.shape[1]), []).append(path)
    shared = {key: Space.fit(np.concatenate(mine)) for key, mine in members.items()}
    in_shared = [shared[g, path.shape[1]].transform(path) for g, path in zip(group.tolist(), runs.paths, strict=True)]
    share = np.median([space.explained.sum() for space in shared.values()])
    yield "3 axes shared by the runs of a group", in_shared, f"{share:.0%} of a group's runs"
    if not all(labels.size for labels in runs.labels):
        return
    grids = [on_grid(path, label, GRID_SHAPE) for path, label in zip(runs.paths, runs.labels, strict=True)]
    yield f"grid of {GRID_SHAPE[0]} × {GRID_SHAPE[1]}", grids, ""
    part = group % PARTS  # by group, so that no basis has seen a run of the images that it is used on
    if part.max() > 0:
        beforehand = {
            p: Space.fit(np.concatenate([grid for grid, q in zip(grids, part, strict=True) if q != p]))
            for p in np.unique(part)
        }
        fixed = [beforehand[p].transform(grid) for grid, p in zip(grids, part, strict=True)]
        share = np.mean([space.explained.sum() for space in beforehand.values()])
        yield "3 axes of the grid, fitted on other groups", fixed, f"{share:.0%} of all runs"


def _paper_table(table: pd.DataFrame, metrics: dict[str, NDArray[np.float64]], draws: Draws) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for name in [name for name in OUTCOME_COLOURS if (table["outcome"] == name).any()]:
        mine = (table["outcome"] == name).to_numpy()
        row: dict[str, Any] = {"outcome": outcome_name(name), "runs": int(mine.sum())}
        row["steps, mean"] = f"{table['n_steps'][mine].mean():.1f}"
        for metric in ("path_length", "mean_step"):
            value = metrics[metric]
            has = mine & np.isfinite(value)
            row[f"{metric}, mean (nats)"] = spread(*interval(weighted_mean(value[has], draws.of(has))))
        value = metrics["tortuosity"]
        bounded, endless = mine & np.isfinite(value), mine & np.isinf(value)
        row["tortuosity, mean"] = spread(*interval(weighted_mean(value[bounded], draws.of(bounded))))
        has = mine & ~np.isnan(value)
        row["tortuosity, median"] = spread(*interval(weighted_median(value[has], draws.of(has))))
        row["tortuosity infinite"] = int(endless.sum())
        rows.append(row)
    return pd.DataFrame(rows)


def _median(value: NDArray[np.float64], mine: NDArray[np.bool_]) -> str:
    has = mine & ~np.isnan(value)
    return f"{np.median(value[has]):.3g}" if has.any() else "–"


def _reading(signs: dict[str, set[int | None]], same_length: dict[str, str]) -> tuple[str, ...]:
    turned = [name for name, found in signs.items() if {1, -1} <= found]
    lost = [name for name, found in signs.items() if 0 in found and len(found) > 1]
    firm = [name for name, found in signs.items() if found in ({1}, {-1})]
    silent = [name for name, found in signs.items() if found == {0}]
    few = [name for name, found in signs.items() if found <= {0, None} and None in found]
    said = [
        "Failing are all runs that did not succeed, of whatever kind. An AUC of 0.5 says that a metric does not tell "
        "them from successful ones; above it, failing runs have more of it. AUCs compare runs of one task family and "
        "question form (where forms are not known, of one family); means and medians are of all runs. Whole runs are "
        "read, so what grows with the number of steps is larger in the outcome that has more of them; the column "
        "beside compares runs of the same number of steps alone, of one family and form too. Intervals are not "
        "corrected for being many.",
        "Over runs of any length, the same sign with an interval clear of 0.5 in every space: "
        f"{listed(firm) or 'none'}; "
        f"in some spaces and not in others: {listed(lost) or 'none'}; opposite signs: {listed(turned) or 'none'}; told "
        f"apart in no space: {listed(silent) or 'none'}."
        + (f" Of too few groups to say, in some space: {listed(few)}." if few else ""),
        f"Among runs of equal length, by the effects themselves: {_sides(same_length)}.",
        "A basis fitted on a run sees its end, so nothing in the paper's space can be had while the run goes on; the "
        "effects themselves, the grid, and axes fitted on other groups can.",
    ]
    return tuple(said)


def _sides(found: dict[str, str]) -> str:
    parts = []
    for side, words in (("above", "failing runs have more"), ("below", "failing runs have less")):
        names = [name for name, what in found.items() if what == side]
        if names:
            parts.append(f"{words} {listed(names)}")
    rest = [name for name, what in found.items() if what == "not told from"]
    if rest:
        parts.append(f"{listed(rest)} {'does' if len(rest) == 1 else 'do'} not tell them apart")
    return "; ".join(parts)


def _picture(runs: RunTable) -> str:
    """Outcomes down, angles across."""
    from matplotlib.figure import Figure

    table = runs.table
    compared = set(compared_outcomes(table)["outcome"])
    present = [name for name in OUTCOME_COLOURS if name in compared]
    if not present:
        raise InputError("no run has a known outcome to draw.")
    with quiet_style():
        figure = Figure(figsize=(2.5 * len(ANGLES), 2.7 * len(present)), layout="constrained")
        chosen = {name: _drawn(runs, name) for name in present}
        paths = {name: [_from_start(runs.paths[i]) for i in at] for name, at in chosen.items()}
        if not any(paths.values()):
            raise InputError("no run of known outcome has three thinking steps, so there is no path to draw.")
        reach = float(np.quantile([np.abs(path).max() for some in paths.values() for path in some], 0.8))
        for i, name in enumerate(present):
            for j, (elevation, azimuth) in enumerate(ANGLES):
                ax = figure.add_subplot(
                    len(present), len(ANGLES), i * len(ANGLES) + j + 1, projection="3d", computed_zorder=False
                )
                for path in paths[name]:
                    _draw(ax, path, OUTCOME_COLOURS[name])
                ax.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach))
                ax.view_init(elevation, azimuth)
                ax.set_box_aspect((1, 1, 1), zoom=1.3)
                for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
                    axis.set_pane_color((1, 1, 1, 0))
                    axis.set_ticklabels([])
                for name_axis, label in ((ax.set_xlabel, "PC 1"), (ax.set_ylabel, "PC 2"), (ax.set_zlabel, "PC 3")):
                    if label != UNSEEN.get(j):
                        name_axis(label, fontsize=7, labelpad=-14)
                if i == 0:
                    ax.text2D(0.5, -0.13, SEEN[j], transform=ax.transAxes, ha="center", fontsize=8, color=MUTED)
                if j == 0:
                    ax.set_title(f"{outcome_name(name)} ({len(paths[name])} runs)", color=OUTCOME_COLOURS[name])
    return svg(figure)


def _drawn(runs: RunTable, outcome: str) -> NDArray[np.int64]:
    """DRAWN runs of an outcome, of three steps at least: in order, the first of each group before a second of any."""
    mine = runs.table[(runs.table["outcome"] == outcome) & (runs.table["n_steps"] >= 3)]
    order = mine.groupby("group_id").cumcount().sort_values(kind="stable").index
    return order.to_numpy()[:DRAWN]


def _from_start(path: NDArray[np.float64]) -> NDArray[np.float64]:
    points = Space.fit(path, top=32).transform(path)
    return points - points[0]


def _draw(ax: Any, path: NDArray[np.float64], colour: str) -> None:
    for t in range(len(path) - 1):
        fade = 0.25 + 0.65 * t / max(len(path) - 2, 1)
        ax.plot(*path[t : t + 2].T, color=colour, alpha=fade, lw=1.1)
    ax.plot(*path[-1:].T, "o", color=colour, ms=2.5)
