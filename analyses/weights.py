"""Where a model looks at the image: the linear estimator's weights by layer and head, for each demo model.

python -m analyses.weights    # a minute after the runs are measured; writes reports/weights.md and its picture
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analyses.common import arguments, measured, subjects, table_of, write
from analyses.pictures import panels, save
from trajkit.attribution.training import fit_estimator
from trajkit.tables import words

HALVES = "r between halves of the runs"
OBJECTIVES: dict[str, dict[str, Any]] = {"the papers'": {"scale_weight": 0.0}, "with squared error (shipped)": {}}


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, "reports/weights.md", argv, train_runs=(300, "training runs, for the two halves"))
    figure, axes = panels(len(args.models), 3.8, 3.4)
    rows: list[dict[str, Any]] = []
    for subject, ax in zip(subjects(args.models), axes, strict=True):
        n, heads = subject.vlm.n_features, subject.vlm.text_config.num_attention_heads
        runs = measured(subject, "validation", args.train_runs)
        spread = np.concatenate([run.features[..., :n].reshape(-1, n) for run in runs]).std(0)
        for name, fitting in OBJECTIVES.items():
            fitted = [
                fit_estimator(part, subject.linear.binding, n, "linear", seed=seed, **fitting).arrays["weights"]
                * spread
                for seed, part in enumerate((runs, runs[::2], runs[1::2]))
            ]
            share = np.abs(fitted[0]).reshape(-1, heads).sum(1) / np.abs(fitted[0]).sum()
            rows.append(
                {"model": subject.name, "objective": name}
                | {f"layer {i + 1}": value for i, value in enumerate(share)}
                | {HALVES: np.corrcoef(*fitted[1:])[0, 1]}
            )
        weights = (subject.linear.arrays["weights"] * spread).reshape(-1, heads)
        most = np.abs(weights).max()
        image = ax.imshow(weights, cmap="RdBu_r", vmin=-most, vmax=most)
        ax.set(title=subject.name, xlabel="head")
        ax.set_xticks(range(heads), [str(i + 1) for i in range(heads)])
        ax.set_yticks(range(len(weights)), [str(i + 1) for i in range(len(weights))])
        ax.grid(visible=False)
        bar = figure.colorbar(image, ax=ax, shrink=0.8)
    axes[0].set_ylabel("layer")
    bar.set_label("nats per SD of attention")
    about = (
        "Weights are times the standard deviation of the attention that they multiply: nats for a usual difference. "
        "Shares are of the sum of their sizes. The picture shows the shipped linear estimator."
    )
    text = f"# Weights of the linear estimator\n\nRegenerate: `{args.command}`. {about}"
    formats = {name: words.share for name in rows[0] if name.startswith("layer")} | {HALVES: words.score}
    write(args.out, text, table_of(rows, formats), _READING, save(figure, args.out))


_READING = """\
Layer 1 is nearest to the input. A weight says how many nats more a step would lose with a region when that head attends
to it by one standard deviation more, the others held fixed; heads that attend alike share their weight arbitrarily,
which is why the last column matters: it correlates the weights of two estimators trained on disjoint halves of the
runs. vSTREAM reports weights concentrated in early to middle layers."""


if __name__ == "__main__":
    main()
