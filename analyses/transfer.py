"""Transfer between task families: trained on one, tested on every other, for each demo model.

python -m analyses.transfer    # minutes after the runs are measured; writes reports/transfer.md and its picture
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analyses.common import HELD_OUT, arguments, cells, measured, score, subjects, table_of, write
from analyses.pictures import panels, save
from trajkit.attribution.training import fit_estimator
from trajkit.demo.questions import FAMILIES
from trajkit.progress import progress
from trajkit.tables import words

MIXTURE = "all five"


def main(argv: list[str] | None = None) -> None:
    args = arguments(
        __doc__,
        "reports/transfer.md",
        argv,
        train_runs=(300, "training runs of all families together"),
        runs=(150, "test runs of each model"),
    )
    figure, axes = panels(len(args.models), 4.6, 3.9)
    rows: list[dict[str, Any]] = []
    falls = []
    for subject, ax in zip(subjects(args.models), axes, strict=True):
        train, test = measured(subject, "validation", args.train_runs), measured(subject, "test", args.runs)
        n = args.train_runs // len(FAMILIES)
        matrix = np.full((len(FAMILIES) + 1, len(FAMILIES)), np.nan)
        with progress(f"{subject.name}: fitting", total=len(matrix)) as bar:
            for i, source in enumerate([*FAMILIES, MIXTURE]):
                part = [run for run in train if source in (run.task_set, MIXTURE)][:n]
                fitted = fit_estimator(part, subject.network.binding, subject.vlm.n_features)
                row: dict[str, Any] = {
                    "model": subject.name,
                    "trained on ↓, LDS on →": f"{source} ({words.count(len(part), 'run')})",
                }
                for j, target in enumerate(FAMILIES):
                    scored = score("n", [run for run in test if run.task_set == target], fitted.predict)
                    row[target] = cells(scored, args.boot, ("LDS",))["LDS"]
                    matrix[i, j] = row[target].value
                rows.append(row)
                bar.advance(source)
        own = np.diag(matrix)
        fall = (1 - matrix[:-1] / own)[~np.eye(len(own), dtype=bool)]
        mixed = 1 - matrix[-1] / own
        falls.append(
            f"{subject.name}: LDS falls by {words.share(np.nanmedian(fall))} of that of the family's own estimator "
            f"(median; {words.share(np.nanmin(fall))} to {words.share(np.nanmax(fall))}), with the mixture by "
            f"{words.share(np.nanmedian(mixed))}."
        )
        ax.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
        for i, j in np.ndindex(matrix.shape):
            ax.text(
                j,
                i,
                f"{matrix[i, j]:.2f}",
                ha="center",
                va="center",
                color="white" if matrix[i, j] > 0.6 else "#1f2933",
            )
        ax.set(title=subject.name, xlabel="tested on", ylabel="trained on")
        ax.set_xticks(range(len(FAMILIES)), FAMILIES, rotation=35, ha="right")
        ax.set_yticks(range(len(FAMILIES) + 1), [*FAMILIES, MIXTURE])
        ax.grid(visible=False)
    text = f"# Transfer between task families\n\nRegenerate: `{args.command}`. {HELD_OUT}"
    write(args.out, text, table_of(rows), f"{_READING}\n\n{' '.join(falls)}", save(figure, args.out))


_READING = """\
LDS of the network. Every row is trained on the same number of runs, so that the last one shows what a mixture is worth
and not what more data is worth."""


if __name__ == "__main__":
    main()
