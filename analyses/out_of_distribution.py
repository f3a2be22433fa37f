"""Out of distribution: estimators as they are, on kinds of scenes that neither they nor the models ever saw.

    python -m analyses.out_of_distribution    # minutes; writes reports/out_of_distribution.md and its picture

Photographs shine through the scene (the two sample photographs of scikit-learn); digits are printed, not written by
hand (the DejaVu, STIX and Computer Modern fonts that come with matplotlib); the grid has 6 × 6 cells, not 4 × 4.
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
from trajkit.demo.digits import GLYPH_PX, Glyphs
from trajkit.demo.measured import SAMPLING, WORK
from trajkit.demo.runs import MIX
from trajkit.demo.scene import CELL_PX, IMAGE_PX, draw_scene
from trajkit.demo.tasks import FAMILIES, draw_task
from trajkit.progress import progress
from trajkit.tables import words

SEED = 211
LARGER = 6
RIGHT, RATIO = "answers right", "LDS / leave-one-out's"
Draw = Callable[[np.random.Generator, float], tuple[Any, NDArray[np.uint8]]]


def as_trained(rng: np.random.Generator, difficulty: float) -> tuple[Any, NDArray[np.uint8]]:
    """A scene of test digits, as in the shipped mix."""
    return draw_scene(rng, "test", difficulty)


def photographs(rng: np.random.Generator, difficulty: float) -> tuple[Any, NDArray[np.uint8]]:
    """The scene as if printed on a photograph, lightened so that digits can be seen."""
    scene, picture = draw_scene(rng, "test", difficulty)
    photo = _photos()[rng.integers(len(_photos()))]
    top, left = (rng.integers(side - IMAGE_PX) for side in photo.shape[:2])
    crop = photo[top : top + IMAGE_PX, left : left + IMAGE_PX] / 255
    return scene, (picture * (0.55 + 0.45 * crop)).astype(np.uint8)


def printed(rng: np.random.Generator, difficulty: float) -> tuple[Any, NDArray[np.uint8]]:
    """A scene of printed digits."""
    return draw_scene(rng, "test", difficulty, source=_printed_glyphs())


def larger_grid(rng: np.random.Generator, difficulty: float) -> tuple[Any, NDArray[np.uint8]]:
    """6 × 6 cells; the scene that is asked about is their upper left part."""
    scene, picture = draw_scene(rng, "test", difficulty)
    side = LARGER * CELL_PX
    whole = np.tile(draw_scene(rng, "test", difficulty)[1], (2, 2, 1))[:side, :side]
    whole[:IMAGE_PX, :IMAGE_PX] = picture
    return scene, whole


WORLDS: dict[str, Draw] = {
    "as trained": as_trained,
    "photographs": photographs,
    "printed digits": printed,
    "6 × 6 cells": larger_grid,
}


def items(world: str, n: int) -> Iterator[Item]:
    """`n` questions about scenes of a kind."""
    for i in range(n):
        rng = np.random.default_rng([SEED, i])
        hard = float(rng.uniform(*MIX))
        scene, image = WORLDS[world](rng, hard)
        task = draw_task(rng, scene, FAMILIES[i % len(FAMILIES)])
        name = f"{world}-{SEED}-{i:05d}"
        facts = {"kind": task.kind, "cells": scene.cells}
        yield Item(name, Image.fromarray(image), task.question, name, task.truth(scene), task.family, facts)


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
    if world == "6 × 6 cells":
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
