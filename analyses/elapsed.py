"""Faithfulness as a run goes on, for runs that end right and runs that end wrong, for each demo model.

python -m analyses.elapsed    # minutes; writes reports/elapsed.md and its picture
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analyses.common import (
    HELD_OUT,
    Subject,
    arguments,
    difference,
    figures,
    generated,
    lead,
    only,
    right,
    score,
    subjects,
    table_of,
    write,
)
from analyses.pictures import interval, panels, save
from trajkit.attribution.measure import Generation, MeasuredRun
from trajkit.plots.style import OUTCOME_COLOURS
from trajkit.tables import words
from trajkit.tables.render import markdown

N_SHARES = 5
ANSWER = 2.0
"""Stands for the answer, which comes after everything has elapsed."""
SPREAD = ("SD of effects, nats", "RMSE, nats")


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, "reports/elapsed.md", argv, runs=(200, "test runs of each model"))
    figure, axes = panels(len(args.models), 4.0, sharey=True)
    rows: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    for subject, ax in zip(subjects(args.models), axes, strict=True):
        runs = [(measured, share_elapsed(run), right(run)) for run, measured in generated(subject, args.runs)]
        lines: dict[str, dict[float, Any]] = {"right": {}, "wrong": {}}
        for low in (*np.arange(N_SHARES) / N_SHARES, ANSWER):
            label = "the answer" if low == ANSWER else f"{100 * low:.0f} to {100 * (low + 1 / N_SHARES):.0f} %"
            both = []
            for end in lines:
                inside = [
                    (run, (low <= share) & (share < low + 1 / N_SHARES))
                    for run, share, ok in runs
                    if ok == (end == "right")
                ]
                pieces = [only(run, steps) for run, steps in inside if steps.any()]
                both.append(score("network", pieces, subject.network.predict))
                if not pieces:
                    continue
                table = figures(both[-1], args.boot)
                if low != ANSWER:
                    lines[end][low + 0.5 / N_SHARES] = table["R²"]
                row = {"model": subject.name, "ends": end, "elapsed": label, "runs": len(pieces)}
                rows.append(
                    row
                    | {"steps": sum(len(p.features) for p in pieces)}
                    | lead(both[-1], pieces, subject.vlm.n_features, args.boot)
                    | {figure: table[figure] for figure in ("R²", "r²", "LDS")}
                    | _spread(subject, pieces)
                )
            if all(both):
                found = {f: difference(both[1], both[0], f, args.boot) for f in ("r²", "LDS")}
                differences.append({"model": subject.name, "elapsed": label} | found)
        for end, colour in (("right", "success"), ("wrong", "failure")):
            if lines[end]:
                line = pd.DataFrame(list(lines[end].values()))
                interval(ax, list(lines[end]), line, OUTCOME_COLOURS[colour], f"{end} answer")
        ax.set(title=subject.name, xlabel="share of steps elapsed", ylim=(0, 1), xlim=(0, 1))
    axes[0].set_ylabel("R² of predicted effects")
    axes[-1].legend(fontsize=8)
    text = f"# Faithfulness as a run goes on\n\nRegenerate: `{args.command}`. {HELD_OUT}"
    less = markdown(table_of(differences, dict.fromkeys(("r²", "LDS"), words.fine_difference)))
    reading = f"Wrong runs less right ones:\n\n{less}\n{_READING}"
    page = table_of(rows, dict.fromkeys(SPREAD, words.score))
    write(args.out, text, page, reading, save(figure, args.out))


def share_elapsed(run: Generation) -> Any:
    """(T,) share of the thinking steps that lie before the middle of each; ANSWER for the answer."""
    thinking = np.array([span.kind == "thinking" for span in run.spans])
    middle = (np.cumsum(thinking) - 0.5) / max(thinking.sum(), 1)
    return np.where(thinking, middle, ANSWER)


def _spread(subject: Subject, runs: Sequence[MeasuredRun]) -> dict[str, float]:
    """Standard deviation of measured effects and root mean squared error of predicted ones, nats."""
    actual = np.concatenate([run.single.T.ravel() for run in runs])
    error = actual - np.concatenate([subject.network.predict(run.features).ravel() for run in runs])
    return dict(zip(SPREAD, (float(actual.std()), float(np.sqrt((error**2).mean()))), strict=True))


_READING = """\
The share elapsed is known only when a run has ended: this is for reading, not for detection. vSTREAM reports that R² of
runs that end wrong starts to fall at about 20 %. The estimator was trained on right and wrong runs alike.

R² is a share of the variance of the effects in its own part: the table of differences compares right and wrong runs
within a part and not parts with each other. Wrong runs are about harder scenes. The answer stands apart: it is read off
the text, and hardly any region matters to it by itself."""


if __name__ == "__main__":
    main()
