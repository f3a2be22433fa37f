"""Out of distribution: estimators as they are, on kinds of scenes that neither they nor the models ever saw.

    python -m analyses.out_of_distribution    # minutes; writes reports/out_of_distribution.md and its picture

Photographs shine through the scene (the two sample photographs of scikit-learn); digits are printed, not written by
hand (the DejaVu, STIX and Computer Modern fonts that come with matplotlib); the grid has 8 × 8 cells, not 6 × 6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from analyses.common import Subject, arguments, cells, figures, lead, right, score, subjects, table_of, write
from analyses.pictures import panels, save
from trajkit.attribution.evaluation import score_measured
from trajkit.attribution.features import raw_attention
from trajkit.attribution.item import Item
from trajkit.attribution.measure import MeasuredRun, MeasuredStore, generation_of, measure_runs
from trajkit.demo.cells import CELL_PX
from trajkit.demo.digits import GLYPH_PX, Glyphs
from trajkit.demo.grid import draw_scene
from trajkit.demo.items import demo_items, scene_of
from trajkit.demo.measured import SAMPLING, WORK
from trajkit.demo.picture import IMAGE_PX, paint
from trajkit.progress import progress
from trajkit.tables import words

SEED = 211
LARGER = 8
RIGHT, RATIO = "answers right", "LDS / leave-one-out's"
Pixels = NDArray[np.uint8]
Show = Callable[[np.random.Generator, Item], Pixels]


def as_trained(rng: np.random.Generator, item: Item) -> Pixels:
    """A scene of test digits, as in the shipped mix."""
    return np.asarray(item.image)


def photographs(rng: np.random.Generator, item: Item) -> Pixels:
    """The scene as if printed on a photograph, lightened so that digits can be seen."""
    photo = _photos()[rng.integers(len(_photos()))]
    top, left = (rng.integers(side - IMAGE_PX) for side in photo.shape[:2])
    crop = photo[top : top + IMAGE_PX, left : left + IMAGE_PX] / 255
    return (np.asarray(item.image) * (0.55 + 0.45 * crop)).astype(np.uint8)


def printed(rng: np.random.Generator, item: Item) -> Pixels:
    """The scene in printed digits, as hard to read."""
    return paint(rng, scene_of(item.meta["cells"]), "test", np.array(item.meta["hardness"]), _printed_glyphs())


def larger_grid(rng: np.random.Generator, item: Item) -> Pixels:
    """8 × 8 cells; the scene that is asked about is their upper left part, and what lies around it another one."""
    other = paint(rng, draw_scene(rng), "test", np.array(item.meta["hardness"]))
    whole = np.tile(other, (2, 2, 1))[: LARGER * CELL_PX, : LARGER * CELL_PX].copy()
    whole[:IMAGE_PX, :IMAGE_PX] = np.asarray(item.image)
    return whole


WORLDS: dict[str, Show] = {
    "as trained": as_trained,
    "photographs": photographs,
    "printed digits": printed,
    "8 × 8 cells": larger_grid,
}


def items(world: str, n: int) -> Iterator[Item]:
    """`n` questions about scenes of a kind; they are the same in each, and only what is seen differs."""
    for i, item in enumerate(demo_items("test", n, SEED)):
        image = Image.fromarray(WORLDS[world](np.random.default_rng([SEED, i]), item))
        name = f"{world}-{SEED}-{i:05d}"
        yield Item(name, image, item.question, name, item.target, item.task_set, item.meta)


def main(argv: list[str] | None = None) -> None:
    args = arguments(__doc__, "reports/out_of_distribution.md", argv, runs=(60, "runs of each kind of scene and model"))
    rows: list[dict[str, Any]] = []
    for subject in subjects(args.models):
        for world in WORLDS:
            runs = _measured(subject, world, args.runs)
            methods = {
                "": subject.network.predict,
                "linear, ": subject.linear.predict,
                "raw attention, ": lambda f, n=subject.vlm.n_features: raw_attention(f, n),
            }
            found = {
                prefix + name: value
                for prefix, predict in methods.items()
                for name, value in cells(score("m", runs, predict), args.boot, ("r²", "LDS")).items()
            }
            network, reference = (
                figures(scored, 2)["LDS"].value
                for scored in (
                    score("network", runs, subject.network.predict),
                    [score_measured("leave-one-out", run, run.single.T) for run in runs],
                )
            )
            rows.append(
                {"model": subject.name, "scenes": world, RIGHT: _right(subject, world, runs, args.runs)}
                | lead(score("m", runs, subject.network.predict), runs, subject.vlm.n_features, args.boot)
                | found
                | {"leave-one-out, LDS": reference, RATIO: network / reference}
            )
    figure, axes = panels(len(WORLDS), 2.2, 2.5)
    for ax, world in zip(axes, WORLDS, strict=True):
        ax.imshow(next(items(world, 1)).image)
        ax.set_title(world)
        ax.axis("off")
    text = f"# Out of distribution\n\nRegenerate: `{args.command}`. {_ABOUT}"
    table = table_of(rows, {RIGHT: words.share, "leave-one-out, LDS": words.figure, RATIO: words.score})
    write(args.out, text, table, _READING, save(figure, args.out, ".png"))


def _measured(subject: Subject, world: str, n: int) -> list[MeasuredRun]:
    folder: Path = WORK / f"{subject.vlm.fingerprint}-{world.replace(' ', '-')}"
    store = MeasuredStore(folder, asdict(subject.how) | {"fingerprint": subject.vlm.fingerprint, "seed": SEED})
    with progress(f"{subject.name}: {world}", total=n) as bar:
        return list(
            measure_runs(
                subject.vlm,
                items(world, n),
                subject.how,
                sampling=SAMPLING,
                mask_seed=SEED,
                store=store,
                advance=bar.advance,
            )
        )


def _right(subject: Subject, world: str, runs: list[MeasuredRun], n: int) -> float:
    """The share of right answers; NaN of a larger grid, of which the scene that was asked about is only a part."""
    if WORLDS[world] is larger_grid:
        return np.nan
    found = {run.group_id: run for run in runs}
    asked = [item for item in items(world, n) if item.group_id in found]
    return float(np.mean([right(generation_of(subject.vlm, i, found[i.group_id], "blocks")) for i in asked]))


@cache
def _photos() -> list[NDArray[np.uint8]]:
    from sklearn.datasets import load_sample_images

    return list(load_sample_images().images)


@cache
def _printed_glyphs() -> Glyphs:
    import matplotlib as mpl

    fonts = Path(mpl.get_data_path()) / "fonts" / "ttf"
    names = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral", "cmr10")
    images, labels = [], []
    for name in names:
        font = ImageFont.truetype(fonts / f"{name}.ttf", 29)
        for digit in range(10):
            page = Image.new("L", (GLYPH_PX, GLYPH_PX))
            ImageDraw.Draw(page).text((GLYPH_PX / 2, GLYPH_PX / 2), str(digit), fill=255, font=font, anchor="mm")
            images.append(np.asarray(page, np.float32) / 255)
            labels.append(digit)
    found = np.array(labels)
    return Glyphs(np.stack(images), found, tuple(np.flatnonzero(found == d) for d in range(10)))


_ABOUT = "No digit in these scenes was seen in training; 95 % intervals resample scenes."
_READING = """\
Nothing was trained again: not the models, not the estimators. `answers right` tells how far a kind of scene is from
what a model knows; an estimator that follows its model there should follow it when it is wrong, too."""


if __name__ == "__main__":
    main()
