"""The path of grounding: the paper's figure, and how far its numbers depend on the space they are measured in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trajkit.detection.splits import compared_outcomes
from trajkit.errors import InputError
from trajkit.plots.style import MUTED, OUTCOME_COLOURS
from trajkit.runs.table import RunTable
from trajkit.stats.resampling import Draws, auc_within, group_draws, interval, numbered, weighted_mean, weighted_median
from trajkit.studies.pictures import quiet_style, svg
from trajkit.studies.runs import metrics_of
from trajkit.studies.study import Advance, Study
from trajkit.tables import Estimate, Table, words
from trajkit.tables.estimate import Side
from trajkit.tables.names import metric_name, outcome_name
from trajkit.tables.words import listed
from trajkit.traces.forms import task_labels
from trajkit.trajectory import Space, on_grid

METRICS = ("path_length", "mean_step", "tortuosity", "straightness", "mean_cosine", "turning_entropy", "msd_exponent")
PAPER = "top 32 regions, 3 axes of the run"
OWN = "effects"
ANGLES = ((20, -60), (20, 30), (20, 120), (85, -90), (5, -90))
"""Elevation and azimuth of the five views, degrees."""
SEEN = ("from the front", "from the right", "from behind", "from above", "from the side")
UNSEEN = {3: "PC 3", 4: "PC 2"}
"""The axis that a view looks along."""
DRAWN = 8
"""Runs of each outcome in the picture."""
GRID_SHAPE = (8, 8)
PARTS = 5


class InSpace(NamedTuple):
    """The runs in one space. name: of it. paths: (T, D) each, nats. explained: median share of the variance of what
    `of` says that the space holds; NaN where it holds all of it by what it is."""

    name: str
    paths: Sequence[NDArray[np.floating[Any]]]
    explained: float = np.nan
    of: str = ""


@dataclass(frozen=True)
class Dependence:
    """One metric in one space. spearman: with the same metric of the effects, over runs. success, failure: medians.
    area: AUC of failure within family and form. matched: the same among runs of equal length."""

    metric: str
    space: str
    spearman: float
    success: float
    failure: float
    area: Estimate
    matched: Estimate
    explained: float
    explained_of: str


def trajectories(runs: RunTable, n_boot: int, advance: Advance) -> Study:
    """The paper's table and figure, then the same metrics in other spaces."""
    known = runs.with_effects().known()
    draws = group_draws(known.table["group_id"].to_numpy(str), n_boot, 0)
    metrics: dict[str, Mapping[str, NDArray[np.float64]]] = {}
    spaces = []
    for space in spaces_of(known):
        metrics[space.name] = metrics_of(space.paths)
        spaces.append(space if space.name == PAPER else space._replace(paths=()))
        advance(space.name)
    found = _dependences(known, spaces, metrics, draws, advance)
    paper = _paper_table(known, metrics[PAPER], draws)
    in_paper = next(space.paths for space in spaces if space.name == PAPER)
    return Study(
        "trajectories",
        "The path of grounding",
        "Do failing runs walk longer and more winding paths, and does it depend on the space that is looked at?",
        {
            "The paper's figures, in its space: the 32 regions with the largest mean |effect|, three axes": paper,
            "What each metric depends on": _dependence_table(found),
        },
        {
            f"Paths in the paper's space from five angles: the first {DRAWN} groups with a run of three steps or more, "
            "each run from its own start, faint to strong, its end a dot; nats, one scale": _picture(known, in_paper)
        },
        _reading(found),
    )


def spaces_of(runs: RunTable) -> Iterator[InSpace]:
    """Each space, and the paths in it."""
    yield InSpace(OWN, runs.paths)
    fitted = [Space.fit(path, top=32) for path in runs.paths]
    in_each = [space.transform(path) for space, path in zip(fitted, runs.paths, strict=True)]
    yield InSpace(PAPER, in_each, float(np.median([space.explained.sum() for space in fitted])), "a run")
    group = numbered(runs.table["group_id"])
    members: dict[tuple[int, int], list[NDArray[np.floating[Any]]]] = {}
    for g, path in zip(group.tolist(), runs.paths, strict=True):
        members.setdefault((g, path.shape[1]), []).append(path)
    shared = {key: Space.fit(np.concatenate(mine)) for key, mine in members.items()}
    in_shared = [shared[g, path.shape[1]].transform(path) for g, path in zip(group.tolist(), runs.paths, strict=True)]
    share = float(np.median([space.explained.sum() for space in shared.values()]))
    yield InSpace("3 axes shared by the runs of a group", in_shared, share, "a group's runs")
    if not all(labels.size for labels in runs.labels):
        return
    grids = [on_grid(path, label, GRID_SHAPE) for path, label in zip(runs.paths, runs.labels, strict=True)]
    yield InSpace(f"grid of {GRID_SHAPE[0]} × {GRID_SHAPE[1]}", grids)
    part = group % PARTS  # by group, so that no basis has seen a run of the images that it is used on
    if part.max() > 0:
        beforehand = {
            p: Space.fit(np.concatenate([grid for grid, q in zip(grids, part, strict=True) if q != p]))
            for p in np.unique(part)
        }
        fixed = [beforehand[p].transform(grid) for grid, p in zip(grids, part, strict=True)]
        share = float(np.mean([space.explained.sum() for space in beforehand.values()]))
        yield InSpace("3 axes of the grid, fitted on other groups", fixed, share, "all runs")


def _dependences(
    known: RunTable,
    spaces: Sequence[InSpace],
    metrics: Mapping[str, Mapping[str, NDArray[np.float64]]],
    draws: Draws,
    advance: Advance,
) -> list[Dependence]:
    """Each metric in each space."""
    from scipy.stats import spearmanr

    table = known.table
    failed, task = table["failed"].to_numpy(float), task_labels(table)
    of_task, of_length = numbered(task), numbered(task, table["n_steps"])
    found = []
    for metric in METRICS:
        own = metrics[OWN][metric]
        for space in spaces:
            value = metrics[space.name][metric]
            has = ~np.isnan(value)
            both = has & np.isfinite(value) & np.isfinite(own)
            varies = both.sum() > 2 and np.ptp(value[both]) > 0
            area, matched = (
                Estimate(*interval(auc_within(failed[has], value[has], stratum[has], draws.of(has))))
                for stratum in (of_task, of_length)
            )
            found.append(
                Dependence(
                    metric,
                    space.name,
                    float(spearmanr(value[both], own[both])[0]) if varies else np.nan,
                    _median(value[has & (failed == 0)]),
                    _median(value[has & (failed == 1)]),
                    area,
                    matched,
                    space.explained,
                    space.of,
                )
            )
        advance(metric)
    return found


def _dependence_table(found: Sequence[Dependence]) -> Table:
    import pandas as pd

    return Table(
        pd.DataFrame(
            {
                "metric": [row.metric for row in found],
                "space": [row.space for row in found],
                "spearman": [row.spearman for row in found],
                "median_success": [row.success for row in found],
                "median_failure": [row.failure for row in found],
                "auc": [row.area for row in found],
                "auc_same_length": [row.matched for row in found],
                "explained": [row.explained for row in found],
                "explained_of": [row.explained_of for row in found],
            }
        ),
        {
            "metric": "metric",
            "space": "space",
            "spearman": "Spearman with effects",
            "median_success": "median, success",
            "median_failure": "median, failure",
            "auc": "AUC of failure, within family and form",
            "auc_same_length": "among runs of equal length",
            "explained": "variance explained",
            "explained_of": "of",
        },
        {"spearman": words.score, "auc": words.judged, "auc_same_length": words.judged, "explained": words.share},
        names={"metric": metric_name},
    )


def _paper_table(known: RunTable, metrics: Mapping[str, NDArray[np.float64]], draws: Draws) -> Table:
    import pandas as pd

    rows = []
    table, tortuosity = known.table, metrics["tortuosity"]
    for name in [name for name in OUTCOME_COLOURS if (table["outcome"] == name).any()]:
        mine = (table["outcome"] == name).to_numpy()
        bounded, defined = mine & np.isfinite(tortuosity), mine & ~np.isnan(tortuosity)
        rows.append(
            {"outcome": name, "runs": int(mine.sum()), "steps": float(table["n_steps"][mine].mean())}
            | {n: _mean(metrics[n], mine & np.isfinite(metrics[n]), draws) for n in ("path_length", "mean_step")}
            | {
                "tortuosity": _mean(tortuosity, bounded, draws),
                "tortuosity_median": Estimate(*interval(weighted_median(tortuosity[defined], draws.of(defined)))),
                "tortuosity_infinite": int((mine & np.isinf(tortuosity)).sum()),
            }
        )
    return Table(
        pd.DataFrame(rows),
        {
            "outcome": "outcome",
            "runs": "runs",
            "steps": "steps, mean",
            "path_length": "path length, mean (nats)",
            "mean_step": "mean step, mean (nats)",
            "tortuosity": "tortuosity, mean",
            "tortuosity_median": "tortuosity, median",
            "tortuosity_infinite": "tortuosity infinite",
        },
        names={"outcome": outcome_name},
    )


def _mean(value: NDArray[np.float64], mine: NDArray[np.bool_], draws: Draws) -> Estimate:
    return Estimate(*interval(weighted_mean(value[mine], draws.of(mine))))


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values)) if len(values) else np.nan


def _reading(dependences: Sequence[Dependence]) -> tuple[str, ...]:
    sides: dict[str, set[Side]] = {}  # of each space
    for row in dependences:
        sides.setdefault(metric_name(row.metric), set()).add(row.area.beside(0.5))
    turned = [name for name, found in sides.items() if {"above", "below"} <= found]
    lost = [name for name, found in sides.items() if "not told from" in found and len(found) > 1]
    firm = [name for name, found in sides.items() if found in ({"above"}, {"below"})]
    silent = [name for name, found in sides.items() if found == {"not told from"}]
    few = [
        name for name, found in sides.items() if "no interval" in found and found <= {"not told from", "no interval"}
    ]
    same_length = {metric_name(row.metric): row.matched.beside(0.5) for row in dependences if row.space == OWN}
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


def _sides(found: Mapping[str, Side]) -> str:
    parts = []
    for side, said in (("above", "failing runs have more"), ("below", "failing runs have less")):
        names = [name for name, what in found.items() if what == side]
        if names:
            parts.append(f"{said} {listed(names)}")
    rest = [name for name, what in found.items() if what == "not told from"]
    if rest:
        parts.append(f"{listed(rest)} {'does' if len(rest) == 1 else 'do'} not tell them apart")
    few = [name for name, what in found.items() if what == "no interval"]
    if few:
        parts.append(f"too few groups to say of {listed(few)}")
    return "; ".join(parts)


def _picture(runs: RunTable, in_paper: Sequence[NDArray[np.floating[Any]]]) -> str:
    """Outcomes down, angles across. in_paper: the path of each run in the paper's space."""
    from matplotlib.figure import Figure

    table = runs.table
    compared = set(compared_outcomes(table)["outcome"])
    present = [name for name in OUTCOME_COLOURS if name in compared]
    if not present:
        raise InputError("no run has a known outcome to draw.")
    with quiet_style():
        figure = Figure(figsize=(2.5 * len(ANGLES), 2.7 * len(present)), layout="constrained")
        chosen = {name: _drawn(runs, name) for name in present}
        paths = {name: [in_paper[i] - in_paper[i][0] for i in at] for name, at in chosen.items()}
        if not any(paths.values()):
            raise InputError("no run of known outcome has three thinking steps, so there is no path to draw.")
        reach = max(float(np.abs(path).max()) for some in paths.values() for path in some) or 1.0
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
                    ax.text2D(0.5, -0.19, SEEN[j], transform=ax.transAxes, ha="center", fontsize=8, color=MUTED)
                if j == 0:
                    ax.set_title(
                        f"{outcome_name(name)} ({words.count(len(paths[name]), 'run')})", color=OUTCOME_COLOURS[name]
                    )
    return svg(figure)


def _drawn(runs: RunTable, outcome: str) -> NDArray[np.int64]:
    """DRAWN runs of an outcome, of three steps at least: in order, the first of each group before a second of any."""
    mine = runs.table[(runs.table["outcome"] == outcome) & (runs.table["n_steps"] >= 3)]
    order = mine.groupby("group_id").cumcount().sort_values(kind="stable").index
    return order.to_numpy()[:DRAWN]


def _draw(ax: Any, path: NDArray[np.float64], colour: str) -> None:
    for t in range(len(path) - 1):
        fade = 0.25 + 0.65 * t / max(len(path) - 2, 1)
        ax.plot(*path[t : t + 2].T, color=colour, alpha=fade, lw=1.1)
    ax.plot(*path[-1:].T, "o", color=colour, ms=2.5)
