"""How every metric differs between outcomes: effect sizes, corrected tests, and what length and task leave of them."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from trajkit.detection.splits import compared_outcomes
from trajkit.errors import InputError
from trajkit.plots.style import OUTCOME_COLOURS, outcome_name
from trajkit.runs.table import RunTable
from trajkit.studies.pictures import quiet_style, svg
from trajkit.studies.runs import records
from trajkit.studies.study import Advance, Study
from trajkit.tables import Estimate, Table
from trajkit.tables.words import difference, listed
from trajkit.traces.forms import task_labels

if TYPE_CHECKING:
    import pandas as pd

METRICS = (
    "n_steps", "n_tokens", "path_length", "mean_step", "tortuosity", "straightness", "mean_cosine", "turning_entropy",
    "sinuosity", "msd_exponent", "switch_rate", "revisit_rate", "dwell_time", "recurrence_rate", "hhi_level",
    "hhi_slope", "hhi_spread", "logprob_mean", "entropy_mean",
)  # fmt: skip
LENGTH = ("n_steps", "n_tokens")
TASK = ("task_set", "form")
LEVEL = 0.05


def metric_distributions(runs: RunTable, n_boot: int, advance: Advance) -> Study:
    """Every pair of outcomes on every metric; p-values are Holm-corrected over all of them."""
    import pandas as pd

    from trajkit.stats import compare, regress
    from trajkit.stats.compare import PERMUTATIONS
    from trajkit.stats.correction import holm

    known = compared_outcomes(runs.table)
    if known["outcome"].nunique() < 2:
        raise InputError("This compares outcomes, and fewer than two known ones are there.")
    defined = {metric: known[np.isfinite(known[metric].to_numpy(float))] for metric in METRICS}
    metrics = [name for name, some in defined.items() if some["outcome"].nunique() > 1 and some[name].nunique() > 1]
    if not metrics:
        raise InputError("no metric is defined and varies in runs of two outcomes.")
    advance("shuffling labels")
    pairs = compare(known, metrics, strata=TASK, n_resamples=PERMUTATIONS, n_boot=n_boot)
    adjusted, not_fitted = [], []
    for metric in metrics:
        advance(metric)
        some = defined[metric]
        covariates = ("task",) if metric in LENGTH else ("n_tokens", "task")
        try:
            adjusted.append(regress(some.assign(task=task_labels(some)), metric, covariates=covariates))
        except InputError as error:
            not_fitted.append(f"{metric}: {error}")
    tables = {
        "Runs": _medians(known),
        "Differences between outcomes, among runs of one family and form: Cliff's δ > 0 where a is larger; p by "
        "permutation, corrected by Holm over all of the table": _shown(pairs),
    }
    held = pd.DataFrame()
    if adjusted:
        held = pd.concat(adjusted, ignore_index=True)
        held["p_corrected"] = holm(held["p"])
        tables[
            "What is left with length and task (family and form) held fixed, of lengths with task (cluster-robust "
            "regression)"
        ] = _held(held)
    return Study(
        "metric_distributions",
        "Metrics by outcome",
        "Which metrics differ between outcomes, by how much, and is it more than that longer runs fail more?",
        {title: Table(frame) for title, frame in tables.items()},
        {
            "Cliff's δ against success among runs of one family and form, and what is left with length and task held "
            "fixed (* of the two lengths, the task alone); intervals are not corrected for being many": _picture(
                pairs, held
            )
        },
        _reading(pairs, held, not_fitted, len(known)),
    )


def _medians(known: pd.DataFrame) -> pd.DataFrame:
    table = known.groupby("outcome").agg(runs=("transcript_id", "size"), groups=("group_id", "nunique")).astype(str)
    for metric in METRICS:
        table[metric] = [f"{median:.3g}" for median in known.groupby("outcome")[metric].median()]
    return table.T.rename(columns=outcome_name).rename_axis("runs, groups, and median of").reset_index()


def _shown(pairs: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({
        "metric": pairs["metric"],
        "a – b": [f"{outcome_name(a)} – {outcome_name(b)}" for a, b in zip(pairs["a"], pairs["b"], strict=True)],
        "runs": [f"{a} – {b}" for a, b in zip(pairs["n_a"], pairs["n_b"], strict=True)],
        "median a": [f"{v:.3g}" for v in pairs["median_a"]],
        "median b": [f"{v:.3g}" for v in pairs["median_b"]],
        "Cliff's δ (95 %)": [
            difference(Estimate(row.cliffs_delta, row.delta_low, row.delta_high)) for row in records(pairs)
        ],
        "δ tested": ["–" if np.isnan(v) else f"{v:+.2f}" for v in pairs["delta_tested"]],
        "p, Mann-Whitney": [_p(v) for v in pairs["p_mannwhitney"]],
        "p, permutation": [_p(v) for v in pairs["p_permutation"]],
        "p, corrected": [_p(v) for v in pairs["p_corrected"]],
    })  # fmt: skip


def _held(held: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({
        "metric": held["metric"],
        "a – b": [
            f"{outcome_name(a)} – {outcome_name(b)}" for a, b in zip(held["level"], held["reference"], strict=True)
        ],
        "runs": held["n"], "groups": held["groups"],
        "difference (sd)": [
            difference(Estimate(row.effect, row.effect_low, row.effect_high)) for row in records(held)
        ],
        "p": [_p(v) for v in held["p"]], "p, corrected": [_p(v) for v in held["p_corrected"]],
    })  # fmt: skip


def _p(value: float) -> str:
    return "–" if np.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _reading(pairs: pd.DataFrame, held: pd.DataFrame, not_fitted: list[str], n: int) -> tuple[str, ...]:
    small = pairs[pairs["p_corrected"] < LEVEL]
    said = []
    for a, b in combinations(sorted(set(pairs["a"]) | set(pairs["b"])), 2):
        mine = small[(small["a"] == a) & (small["b"] == b)]
        larger = [f"{row.metric} (δ {row.cliffs_delta:+.2f}{_turned(row)})" for row in records(mine)]
        said.append(
            f"{outcome_name(a).capitalize()} against {outcome_name(b)}: "
            + (f"{listed(larger)} differ." if larger else "nothing differs after correction.")
        )
        of_pair = pairs[(pairs["a"] == a) & (pairs["b"] == b)]
        untested = of_pair["metric"][of_pair["p_corrected"].isna()].tolist()
        if untested:
            said[-1] += f" Could not be tested: {listed(untested)}; no labels could be exchanged within task."
    if len(held):
        left = held[held["p_corrected"] < LEVEL]
        names = [f"{row.metric} of {outcome_name(row.level)} ({row.effect:+.2f} sd)" for row in records(left)]
        said.append(
            "With length and task held fixed (for the lengths themselves, task alone): "
            + (f"{listed(names)} still differ." if names else "nothing differs.")
        )
    if not_fitted:
        said.append(f"No regression: {'; '.join(not_fitted)}")
    said.append(
        "δ and the permutation compare runs of one task family and question form (where forms are not known, of one "
        "family); medians are of all runs. Mann-Whitney compares all runs, forms mixed, and takes them as independent, "
        "which runs on one image are not; it is shown because papers show it. "
        "The permutation shuffles whole groups of one size and within groups; what it tests, δ less what follows from "
        "the sizes of groups, is beside δ. A difference says nothing on what can be told while "
        "a run goes on, nor that the metric causes anything."
    )
    return tuple(said)


def _turned(row: Any) -> str:
    """Where the part of δ that the permutation tests has another sign: that part."""
    return f", but {row.delta_tested:+.2f} among groups of one size" if row.cliffs_delta * row.delta_tested < 0 else ""


def _picture(pairs: pd.DataFrame, held: pd.DataFrame) -> str:
    from trajkit.studies.pictures import panels

    metrics = [name for name in METRICS if name in set(pairs["metric"])]
    place = {name: len(metrics) - i for i, name in enumerate(metrics)}
    with quiet_style():
        figure, (left, right) = panels(2, 5.0, 0.8 + 0.32 * len(metrics), sharey=True)
        others = [name for name in OUTCOME_COLOURS if name in set(pairs["a"]) | set(pairs["b"]) and name != "success"]
        for i, name in enumerate(others):
            shift, colour = 0.3 * (i - (len(others) - 1) / 2), OUTCOME_COLOURS[name]
            for row in records(pairs):
                if {row.a, row.b} != {name, "success"}:
                    continue
                sign = 1 if row.a == name else -1
                ends = sorted((sign * row.delta_low, sign * row.delta_high))
                _bar(left, sign * row.cliffs_delta, ends, place[row.metric] - shift, colour)
            for row in records(held[held["level"] == name]) if len(held) else ():
                _bar(right, row.effect, [row.effect_low, row.effect_high], place[row.metric] - shift, colour)
            left.plot([], [], "o", color=colour, label=f"{outcome_name(name)} against success")
        for ax, title in ((left, "Cliff's δ"), (right, "difference in sd, length and task held fixed*")):
            ax.axvline(0, color="#66717f", lw=1)
            ax.set_title(title)
        left.set_yticks(list(place.values()), [name.replace("_", " ") for name in place])
        if others:
            figure.legend(loc="outside lower center", ncols=len(others))
    return svg(figure)


def _bar(ax: Any, value: float, ends: list[float], y: float, colour: str) -> None:
    ax.plot(ends, [y, y], color=colour, lw=1.6, alpha=0.7)
    ax.plot([value], [y], "o", color=colour, ms=4)
