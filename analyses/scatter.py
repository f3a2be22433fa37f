"""Predicted against measured effects: every region of every step of held-out runs, for each demo model.

python -m analyses.scatter    # minutes; writes reports/scatter.md and its picture
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analyses.common import HELD_OUT, arguments, cells, measured, score, subjects, write
from analyses.pictures import COUNTS, panels, save
from trajkit.attribution.network import COVERAGE, NetworkEstimator


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, "reports/scatter.md", argv, runs=(100, "test runs of each model"))
    figure, axes = panels(len(args.models), 4.0, 4.0)
    rows: list[dict[str, Any]] = []
    for subject, ax in zip(subjects(args.models), axes, strict=True):
        runs = measured(subject, "test", args.runs)
        predicted = np.concatenate([subject.network.predict(run.features).ravel() for run in runs])
        actual = np.concatenate([run.single.T.ravel() for run in runs])
        slope = np.polyfit(predicted, actual, 1)[0]
        row = {"model": subject.name, "regions × steps": len(actual)}
        row |= cells(score("network", runs, subject.network.predict), args.boot, ("r²", "R²", "r² within steps"))
        row |= {"slope of measured on predicted": f"{slope:.2f}"}
        if isinstance(subject.network, NetworkEstimator):
            width = np.concatenate([subject.network.half_width(run.features).ravel() for run in runs])
            row[f"within half width (promised {COVERAGE:.0%})"] = f"{(np.abs(actual - predicted) <= width).mean():.1%}"
        rows.append(row)
        low, high = np.quantile(np.concatenate([predicted, actual]), (0.0005, 0.9995))
        bins = ax.hexbin(
            predicted, actual, gridsize=48, extent=(low, high, low, high), bins="log", cmap=COUNTS, mincnt=1
        )
        ax.axline((0, 0), slope=1, color="#b2182b", lw=1)
        ax.set(title=subject.name, xlabel="predicted effect, nats", ylabel="measured effect, nats", aspect="equal")
        figure.colorbar(bins, ax=ax, shrink=0.7, label="regions × steps")
    write(
        args.out,
        f"# Predicted against measured effects\n\nRegenerate: `python -m analyses.scatter`. {HELD_OUT}",
        rows,
        _READING,
        save(figure, args.out),
    )


_READING = """\
A point is the effect of one region on one step; colour is the logarithm of how many points fall there; the red line is
where they would all lie. Most regions have next to no effect on most steps, and the corner at 0 holds them. A slope
above 1 says that large effects are predicted too small."""


if __name__ == "__main__":
    main()
