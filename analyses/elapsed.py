"""Faithfulness as a run goes on, for runs that end right and runs that end wrong, for each demo model.

python -m analyses.elapsed    # minutes; writes reports/elapsed.md and its picture
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analyses.common import HELD_OUT, Subject, arguments, cell, figures, generated, only, right, score, subjects, write
from analyses.pictures import interval, panels, save
from trajkit.attribution.measure import MeasuredRun
from trajkit.plots.style import OUTCOME_COLOURS

N_SHARES = 5


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, "reports/elapsed.md", argv, runs=(200, "test runs of each model"))
    figure, axes = panels(len(args.models), 4.0, sharey=True)
    rows: list[dict[str, Any]] = []
    for subject, ax in zip(subjects(args.models), axes, strict=True):
        runs = [(measured, right(run)) for run, measured in generated(subject, args.runs)]
        for end, colour in (("right", "success"), ("wrong", "failure")):
            tables = []
            for part in range(N_SHARES):
                pieces = []
                for run, success in runs:
                    n = len(run.features)
                    steps = np.flatnonzero(np.arange(n) * N_SHARES // n == part)  # share elapsed before the step
                    if success == (end == "right") and len(steps):
                        pieces.append(only(run, steps))
                row = {
                    "model": subject.name,
                    "ends": end,
                    "elapsed": f"{part / N_SHARES:.0%} to {(part + 1) / N_SHARES:.0%}",
                }
                if not pieces:
                    continue
                table = figures(score("network", pieces, subject.network.predict), args.boot)
                tables.append(table.loc["R²"].rename((part + 0.5) / N_SHARES))
                rows.append(
                    row | {"runs": len(pieces), "steps": sum(len(p.features) for p in pieces)}
                    | {f: cell(table.loc[f]) for f in ("R²", "r²", "LDS")} | _spread(subject, pieces)
                )  # fmt: skip
            if tables:
                line = pd.DataFrame(tables)
                interval(ax, line.index, line, OUTCOME_COLOURS[colour], f"{end} answer")
        ax.set(title=subject.name, xlabel="share of steps elapsed", ylim=(-0.5, 1), xlim=(0, 1))
    axes[0].set_ylabel("R² of predicted effects")
    axes[-1].legend(fontsize=8)
    text = f"# Faithfulness as a run goes on\n\nRegenerate: `python -m analyses.elapsed`. {HELD_OUT}"
    write(args.out, text, rows, _READING, save(figure, args.out))


def _spread(subject: Subject, runs: Sequence[MeasuredRun]) -> dict[str, str]:
    """Standard deviation of measured effects and root mean squared error of predicted ones, nats."""
    actual = np.concatenate([run.single.T.ravel() for run in runs])
    error = actual - np.concatenate([subject.network.predict(run.features).ravel() for run in runs])
    return {"SD of effects, nats": f"{actual.std():.2f}", "RMSE, nats": f"{np.sqrt((error**2).mean()):.2f}"}


_READING = """\
The share elapsed is known only when a run has ended: this is for reading, not for detection. vSTREAM reports that R² of
runs that end wrong starts to fall at about 20 %. The estimator was trained on right and wrong runs alike.

R² is a share of the variance of the effects in its own fifth. The last fifth is mostly the answer, which is read off
the text: hardly any region matters to it by itself, so that R² falls while the error in nats falls, too."""


if __name__ == "__main__":
    main()
