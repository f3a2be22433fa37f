"""Predicted against measured effects: every region of every step of held-out runs, for each demo model.

python -m analyses.scatter    # minutes; writes reports/scatter.md and its picture
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyses.common import HELD_OUT, arguments, cells, lead, measured, score, subjects, table_of, write
from analyses.pictures import COUNTS, panels, save
from trajkit.attribution.measure import MeasuredRun
from trajkit.attribution.network import COVERAGE, NetworkEstimator
from trajkit.stats.resampling import group_draws, interval, weighted_mean
from trajkit.tables import Estimate, words
from trajkit.tables.render import markdown

SIZES = (0, 0.05, 0.2, 0.5, 1, 2)
"""Bands of the size of an estimate, nats."""
SLOPE = "slope of measured on predicted"


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, "reports/scatter.md", argv, runs=(100, "test runs of each model"))
    figure, axes = panels(len(args.models), 4.0, 4.0)
    rows: list[dict[str, Any]] = []
    kept: list[dict[str, Any]] = []
    for subject, ax in zip(subjects(args.models), axes, strict=True):
        runs = measured(subject, "test", args.runs)
        predicted = np.concatenate([subject.network.predict(run.features).ravel() for run in runs])
        actual = np.concatenate([run.single.T.ravel() for run in runs])
        slope = np.polyfit(predicted, actual, 1)[0]
        row: dict[str, Any] = {"model": subject.name, "regions × steps": len(actual)}
        scored = score("network", runs, subject.network.predict)
        row |= lead(scored, runs, subject.vlm.n_features, args.boot)
        row |= cells(scored, args.boot, ("r² within steps", "R²", "r²"))
        rows.append(row | {SLOPE: slope})
        if isinstance(subject.network, NetworkEstimator):
            kept.append({"model": subject.name} | coverage(subject.network, runs, args.boot))
        low, high = np.quantile(np.concatenate([predicted, actual]), (0.0005, 0.9995))
        bins = ax.hexbin(
            predicted, actual, gridsize=48, extent=(low, high, low, high), bins="log", cmap=COUNTS, mincnt=1
        )
        ax.axline((0, 0), slope=1, color="#b2182b", lw=1)
        ax.set(title=subject.name, xlabel="predicted effect, nats", aspect="equal")
        bar = figure.colorbar(bins, ax=ax, shrink=0.7)
    axes[0].set_ylabel("measured effect, nats")
    bar.set_label("regions × steps")
    text = f"# Predicted against measured effects\n\nRegenerate: `{args.command}`. {HELD_OUT}"
    within = table_of(kept, dict.fromkeys((name for row in kept for name in row), words.shares))
    reading = f"{_READING}\n\n## Intervals\n\n{markdown(within)}\n{_INTERVALS}"
    write(args.out, text, table_of(rows, {SLOPE: words.score}), reading, save(figure, args.out))


def coverage(network: NetworkEstimator, runs: Sequence[MeasuredRun], n_boot: int) -> dict[str, Estimate]:
    """Share of measured effects within the half width: of all, by size of the estimate, of each step's largest."""
    inside: dict[str, list[NDArray[np.bool_]]] = {}  # for each run: of each effect, whether it lies within
    for run in runs:
        estimate, width = network.predict_interval(run.features)
        within, size = np.abs(run.single.T - estimate) <= width, np.abs(estimate)
        top = np.eye(size.shape[1], dtype=bool)[estimate.argmax(1)]
        chosen = {"all": size >= 0}
        chosen |= {f"{low} to {high}": (size >= low) & (size < high) for low, high in pairwise(SIZES)}
        chosen |= {f"over {SIZES[-1]}": size >= SIZES[-1], "the step's largest": top}
        for name, which in chosen.items():
            inside.setdefault(name, []).append(within[which])
    draws = group_draws([run.group_id for run in runs], n_boot, 0)
    shares = {}
    for name, each in inside.items():
        of_run = np.repeat(np.arange(len(runs)), [len(within) for within in each])
        found = interval(weighted_mean(np.concatenate(each), draws.of(of_run))) if len(of_run) else (np.nan,) * 3
        shares[name] = Estimate.of(found)
    return shares


_READING = """\
A point is the effect of one region on one step; colour is the logarithm of how many points fall there; the red line is
where they would all lie. Most regions have next to no effect on most steps, and the corner at 0 holds them. A slope
above 1 says that large effects are predicted too small. Grounded steps are those whose log-probability falls by at
least 0.5 nats when some region is hidden; top-1 is the share of them whose top region is the one that costs them most,
never one that a step is likelier without. r² over all steps is about the few large effects (see
[faithfulness](faithfulness.md))."""

_INTERVALS = f"""\
Share of measured effects that lie within `half_width` of the estimate, promised {words.promise(COVERAGE)}: over all, by
the size of the estimate in nats, and for the region of each step with the largest one, which is what a terminal shows.
A run is one scene."""


if __name__ == "__main__":
    main()
