"""Faithfulness by length of the run: fifths of the number of generated tokens, for each demo model.

python -m analyses.length    # a minute after the runs are measured; writes reports/length.md and its picture
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analyses.common import HELD_OUT, arguments, difference, figures, lead, measured, score, subjects, table_of, write
from analyses.pictures import COLOURS, interval, panels, save
from trajkit.tables import words
from trajkit.tables.render import markdown


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, "reports/length.md", argv, runs=(150, "test runs of each model"))
    figure, axes = panels(2, 4.6)
    rows: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    for subject in subjects(args.models):
        runs = measured(subject, "test", args.runs)
        tokens = np.array([run.features[:, 0, -1].sum() for run in runs])  # the last feature of a step is its tokens
        fifth = np.searchsorted(np.quantile(tokens, (0.2, 0.4, 0.6, 0.8)), tokens)
        tables, middles, ends = [], [], []
        for part in np.unique(fifth):
            inside = np.flatnonzero(fifth == part)
            ends.append(score("network", [runs[i] for i in inside], subject.network.predict))
            table = figures(ends[-1], args.boot)
            middles.append(np.median(tokens[inside]))
            tables.append(table)
            span = f"{tokens[inside].min():.0f} to {tokens[inside].max():.0f}"
            rows.append(
                {"model": subject.name, "tokens": span, "runs": len(inside)}
                | lead(ends[-1], [runs[i] for i in inside], subject.vlm.n_features, args.boot)
                | {figure: table[figure] for figure in ("r²", "R²", "LDS")}
            )
        differences.append(
            {"model": subject.name} | {f: difference(ends[-1], ends[0], f, args.boot) for f in ("r²", "LDS")}
        )
        for ax, name in zip(axes, ("R²", "LDS"), strict=True):
            line = pd.DataFrame([table[name] for table in tables])
            interval(ax, middles, line, COLOURS[subject.name], subject.name)
            ax.set(xlabel="generated tokens (median of a fifth)", ylabel=name, ylim=(0, 1))
    axes[1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    text = f"# Faithfulness by length of the run\n\nRegenerate: `{args.command}`. {HELD_OUT}"
    less = markdown(table_of(differences, dict.fromkeys(("r²", "LDS"), words.fine_difference)))
    reading = f"The longest fifth less the shortest:\n\n{less}\n{_READING}"
    write(args.out, text, table_of(rows), reading, save(figure, args.out))


_READING = """\
vSTREAM sees no systematic fall from 30 to 2,048 tokens. No run here has more than some hundreds of tokens, so this says
nothing of thousands. Fifths hold other kinds of questions, too: long runs are searches, and those that got lost."""


if __name__ == "__main__":
    main()
