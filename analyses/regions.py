"""How to cut an image into regions: strategies and numbers of regions, for each demo model; and what it costs.

    python -m analyses.regions    # most of an hour; resumes; writes reports/regions.md and its picture

For every strategy an estimator is trained on the same runs, with effects measured over its own regions.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import trajkit as tk
from analyses.common import HELD_OUT, Subject, arguments, figures, lead, score, subjects, table_of, write
from analyses.pictures import COLOURS, interval, panels, save
from trajkit.attribution.measure import Generation, MeasuredRun, MeasuredStore, generations, measure
from trajkit.attribution.training import fit_estimator
from trajkit.demo.items import demo_items
from trajkit.demo.measured import SAMPLING, TEST_SEED, TRAIN_SEED, WORK
from trajkit.progress import progress
from trajkit.tables import Estimate, words
from trajkit.tables.render import markdown

COUNTS = (9, 16, 36)
AUTOMATIC = (9, 36)
STRATEGIES: list[tuple[str, tuple[int, int]]] = [
    *(("blocks", (k, k)) for k in COUNTS),
    *(("voronoi", (k, k)) for k in COUNTS),
    *(("vision", (k, k)) for k in COUNTS),
    ("vision", AUTOMATIC),
]
GENERATED = 400


def main(argv: list[str] | None = None) -> None:
    args = arguments(
        __doc__,
        "reports/regions.md",
        argv,
        train_runs=(60, "training runs of each model"),
        runs=(30, "test runs of each model"),
    )
    rows: list[dict[str, Any]] = []
    times: list[dict[str, Any]] = []
    figure, axes = panels(len(args.models), 4.0, sharey=True)
    for subject, ax in zip(subjects(args.models), axes, strict=True):
        train, test = (_generated(subject, s, n) for s, n in (("validation", args.train_runs), ("test", args.runs)))
        lines: dict[str, list[tuple[float, Estimate]]] = {}
        for method, k in STRATEGIES:
            label = f"{method}, K = {k[0]}" if k[0] == k[1] else f"{method}, automatic K"
            a, b = (_measured(subject, runs, method, k, label) for runs in (train, test))
            fitted = fit_estimator(a, subject.network.binding, subject.vlm.n_features)
            table = figures(score("network", b, fitted.predict), args.boot)
            count = np.mean([run.features.shape[1] for run in b])
            reference = figures([s for r in b for s in score("loo", [r], lambda f, r=r: r.single.T)], 2)
            rows.append(
                {"model": subject.name, "regions": label, "mean K": count}
                | lead(score("network", b, fitted.predict), b, subject.vlm.n_features, args.boot)
                | {figure: table[figure] for figure in ("r²", "r² within steps", "LDS")}
                | {"leave-one-out, LDS": reference["LDS"].value}
            )
            lines.setdefault(label.split(", K")[0], []).append((count, table["LDS"]))
        for (name, found), colour in zip(lines.items(), COLOURS.values(), strict=False):
            counts, values = zip(*found, strict=True)
            interval(ax, counts, pd.DataFrame(values), colour, name)
        ax.set(title=subject.name, xlabel="regions (mean K)", ylim=(0, 1))
        times.append(_seconds(subject, test[0]))
    axes[0].set_ylabel("LDS")
    axes[-1].legend(fontsize=8)
    trained = f"Each row is trained on {args.train_runs} runs."
    text = f"# Regions\n\nRegenerate: `{args.command}`. {trained} {HELD_OUT}"
    reading = f"{_READING}\n\n## Time\n\n{markdown(table_of(times))}\n{_TIME}"
    page = table_of(rows, {"leave-one-out, LDS": words.figure})
    write(args.out, text, page, reading, save(figure, args.out))


def _generated(subject: Subject, split: Any, n: int) -> list[Generation]:
    seed = TEST_SEED if split == "test" else TRAIN_SEED
    runs = generations(subject.vlm, demo_items(split, n, seed), SAMPLING, "blocks")
    return [run for run in runs if run.spans]


def _measured(
    subject: Subject, runs: Sequence[Generation], method: str, k: tuple[int, int], label: str
) -> list[MeasuredRun]:
    """Runs measured over other regions; those measured before are read again."""
    how = replace(subject.how, region_method=method)
    about = asdict(how) | {"k": k, "fingerprint": subject.vlm.fingerprint}
    store = MeasuredStore(WORK / f"{subject.vlm.fingerprint}-regions-{method}-{k[0]}-{k[1]}", about)
    found = []
    with progress(f"{subject.name}: {label}", total=len(runs)) as bar:
        for i, run in enumerate(runs):
            one = store.read(run.item)
            if one is None or not np.array_equal(one.tokens, run.tokens):
                regions = tk.segment(run.prompt.canvas.images, method, k, vlm=subject.vlm, seed=i)
                one = measure(subject.vlm, replace(run, regions=regions), how)
                store.write(run.item, one)
            found.append(one)
            bar.advance()
    return found


def _seconds(subject: Subject, run: Generation) -> dict[str, Any]:
    """Median time of segmenting one image, and of generating 400 tokens about it, in turn."""
    taken: dict[str, list[float]] = {"vision tower": [], "of it the clustering": [], "generation": []}
    for _ in range(5):
        taken["vision tower"].append(_timed(lambda: tk.segment(run.prompt.canvas.images, vlm=subject.vlm)))
        features = subject.vlm.image_features(run.prompt.canvas.images)[0][0].float().cpu().numpy()
        taken["of it the clustering"].append(_timed(lambda f=features: _cluster(f, run.prompt.grids[0])))
        taken["generation"].append(_timed(lambda: _generate(subject, run)))
    median = {name: float(np.median(seconds)) for name, seconds in taken.items()}
    return {
        "model": subject.name,
        "segmenting, ms": 1000 * median["vision tower"],
        "of it clustering, ms": 1000 * median["of it the clustering"],
        f"generating {GENERATED} tokens, ms": 1000 * median["generation"],
        "generation / segmenting": median["generation"] / median["vision tower"],
    }


def _cluster(features: NDArray[np.float32], grid: tuple[int, int]) -> None:
    from trajkit.attribution.regions import cluster

    cluster(features, grid, AUTOMATIC)


def _generate(subject: Subject, run: Generation) -> None:
    import torch

    with torch.inference_mode():
        subject.vlm.model.generate(**run.prompt.inputs, min_new_tokens=GENERATED, max_new_tokens=GENERATED)


def _timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


_READING = """\
The demo's images have 36 image tokens, one a cell, so 36 is the most regions that attention can tell apart. A strategy
is scored over its own regions: LDS of different rows answers different questions, as it does in vSTREAM's table (random
blocks .28/.32/.35/.33 and Voronoi .37/.45/.46/.44 at K = 16/32/64/128, semantic about .70). 36 blocks are the demo's
cells by construction; no real image has a grid that fits so well. DINOv3, vSTREAM's choice, has no row: its
weights are given out only to those who accept a licence, and were not at hand."""
_TIME = """\
vSTREAM's DINOv3-Large takes about a hundredth of the time of inference; this is the model's own vision tower, which
runs anyway, run once more. Models here are a thousand times smaller than theirs, and clustering does not shrink with
them."""


if __name__ == "__main__":
    main()
