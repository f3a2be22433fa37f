"""How many runs an estimator needs: trained on the first n, tested on held-out runs, for each demo model.

python -m analyses.data_efficiency    # minutes after the runs are measured; writes reports/data_efficiency.md
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from analyses.common import HELD_OUT, arguments, difference, figures, lead, measured, score, subjects, table_of, write
from analyses.pictures import COLOURS, interval, panels, save
from trajkit.attribution.training import fit_estimator
from trajkit.progress import progress
from trajkit.tables import words

LESS = {figure: f"{figure}, less that of all" for figure in ("r²", "LDS")}
SIZES = (25, 50, 100, 200, 300)


def main(argv: list[str] | None = None) -> None:
    args = arguments(
        __doc__,
        "reports/data_efficiency.md",
        argv,
        train_runs=(300, "most training runs"),
        runs=(150, "test runs of each model"),
    )
    figure, axes = panels(2, 4.6)
    sizes = sorted({n for n in (*SIZES, args.train_runs) if n <= args.train_runs})
    rows: list[dict[str, Any]] = []
    for subject in subjects(args.models):
        train, test = measured(subject, "validation", args.train_runs), measured(subject, "test", args.runs)
        for kind in ("network", "linear"):
            scored = {}
            with progress(f"{subject.name}: {kind}", total=len(sizes)) as bar:
                for n in sizes:
                    fitted = fit_estimator(train[:n], subject.network.binding, subject.vlm.n_features, kind)  # type: ignore[arg-type]
                    scored[n] = score(kind, test, fitted.predict)
                    bar.advance(f"{n} runs")
            tables = [figures(scored[n], args.boot) for n in sizes]
            for n, table in zip(sizes, tables, strict=True):
                row = {"model": subject.name, "estimator": kind, "runs": n}
                row |= {"steps": sum(len(run.features) for run in train[:n])}
                row |= lead(scored[n], test, subject.vlm.n_features, args.boot)
                row |= {figure: table[figure] for figure in ("r²", "R²", "LDS")}
                if n != sizes[-1]:
                    whole = scored[sizes[-1]]
                    row |= {name: difference(scored[n], whole, figure, args.boot) for figure, name in LESS.items()}
                rows.append(row)
            for ax, name in zip(axes, ("r²", "LDS"), strict=True):
                line = pd.DataFrame([table[name] for table in tables])
                style = "-" if kind == "network" else "--"
                interval(ax, sizes, line, COLOURS[subject.name], f"{subject.name}, {kind}", style)
    for ax, name in zip(axes, ("r²", "LDS"), strict=True):
        ax.set(xscale="log", xlabel="training runs", ylabel=name, xticks=sizes, xticklabels=[str(n) for n in sizes])
        ax.minorticks_off()
    axes[1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    text = f"# Data efficiency\n\nRegenerate: `{args.command}`. {HELD_OUT}"
    page = table_of(rows, dict.fromkeys(LESS.values(), words.fine_difference))
    write(args.out, text, page, _READING, save(figure, args.out))


_READING = """\
The settings of training are those of `trajkit train-estimator` at every size. A run has about 28 steps, and a step
is one training example with the effects of 32 random masks and of every region alone. One order of runs and one start
of training: another would move the figures by about 0.01. Differences are paired over scenes."""


if __name__ == "__main__":
    main()
