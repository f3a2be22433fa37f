"""`trajkit stream`: one run in the terminal, step by step."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajkit.cli.options import EstimatorOption, ModelOption, SeedOption, SystemOption, TemperatureOption, TokensOption

if TYPE_CHECKING:
    from PIL import Image

    from trajkit.attribution.estimator import EffectEstimator
    from trajkit.attribution.stream import LiveStep, Stream
    from trajkit.cli.terminal import RunView
    from trajkit.detection.monitor import Monitor
    from trajkit.vlm.canvas import Images
    from trajkit.vlm.model import VLM


def stream(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A PNG, JPEG, WebP, BMP, GIF or TIFF file.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to ask about it.")],
    model: ModelOption = None,
    system: SystemOption = None,
    estimator: EstimatorOption = None,
    detectors: Annotated[
        str | None,
        typer.Option(
            "--detectors",
            metavar="FOLDER|none",
            show_default="the demo's, on the demo model",
            help="What watches the run; `none` for no risk and no alarm.",
        ),
    ] = None,
    task_set: Annotated[
        str,
        typer.Option(
            "--task-set",
            metavar="NAME",
            show_default="unknown",
            help="The question's family, for detectors that read the task (most do not).",
        ),
    ] = "",
    form: Annotated[
        str, typer.Option("--form", metavar="NAME", show_default="unknown", help="Its form in the family, likewise.")
    ] = "",
    seed: SeedOption = 0,
    temperature: TemperatureOption = None,
    max_new_tokens: TokensOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of pictures.")] = False,
) -> None:
    """Ask about an image and watch the model think: each sentence as it is finished, the regions it rests on
    (red supports, blue opposes), how concentrated they are, and the risk that the run is failing. Behind the strongest
    effect stands ± half the width of an interval that holds about nine in ten measured effects, where the estimator
    gives one.

    [bold]Examples[/bold]

      trajkit stream photo.png "is there a red 7?"

      trajkit stream photo.png "read row 2." --temperature 0 --detectors none

      trajkit stream photo.png "read row 2." --json | jq -r 'select(.event == "step").text'

    Plain text where the output is no terminal, or with NO_COLOR set.
    """
    from trajkit.cli.loading import load_detectors_for, load_estimator, load_model
    from trajkit.cli.output import stdout
    from trajkit.cli.terminal import RunView
    from trajkit.traces.images import open_image

    picture = open_image(image)
    vlm = load_model(model, system)
    estimate = load_estimator(estimator, vlm)
    found = load_detectors_for(detectors, vlm)
    monitor = found.monitor if found else None
    options = {
        "seed": seed,
        "temperature": temperature,
        "max_new_tokens": max_new_tokens,
        "task_set": task_set,
        "form": form,
    }
    if as_json:
        _stream_json(vlm, picture, question, estimate, monitor, options)
        return
    view = RunView(stdout(), monitor)
    watch(view, vlm, picture, question, estimate, monitor, options, about=vlm.name)


def watch(
    view: RunView,
    vlm: VLM,
    image: Images,
    question: str,
    estimator: EffectEstimator,
    monitor: Monitor | None,
    options: dict[str, Any],
    about: str = "",
) -> list[LiveStep]:
    """Run the model on one question, show each step on `view` as it comes, and return them all. options: of
    `attribution.stream.stream`."""
    from contextlib import nullcontext

    began = time.perf_counter()
    running = _begin(vlm, image, question, estimator, monitor, options)
    steps: list[LiveStep] = []
    try:
        view.start(running.prompt.canvas.picture, running.regions, question, about, intervals=estimator.has_intervals)
        waiting = first_step(running)
        spinning = view.rich and not view.console.record
        with view.console.status("thinking", spinner="dots") if spinning else nullcontext():
            for step in waiting:
                steps.append(step)
                view.step(step)
    finally:
        running.close()
    view.end(len(running.tokens), time.perf_counter() - began, answered(running, steps))
    return steps


def _begin(
    vlm: VLM, image: Images, question: str, estimator: EffectEstimator, monitor: Monitor | None, options: dict[str, Any]
) -> Stream:
    """Start the run, and say that the image is being read while it is."""
    from trajkit.attribution.stream import stream as start
    from trajkit.progress import status

    with status("reading the image"):
        return start(vlm, image, question, estimator=estimator, monitor=monitor, **options)


def first_step(running: Stream) -> Iterator[LiveStep]:
    """The steps of a run; the first is waited for here, and said to be, since the prompt is read before it."""
    from trajkit.progress import status

    with status(f"reading {running.prompt.length:,} tokens of image and question, then the first step"):
        first = list(islice(running, 1))
    return chain(first, running)


def answered(running: Stream, steps: list[LiveStep]) -> bool:
    """Whether the thinking was closed and an answer followed."""
    return running.closed and any(step.kind == "answer" for step in steps)


def _stream_json(
    vlm: VLM,
    image: Image.Image,
    question: str,
    estimator: EffectEstimator,
    monitor: Monitor | None,
    options: dict[str, Any],
) -> None:
    running = _begin(vlm, image, question, estimator, monitor, options)
    steps: list[LiveStep] = []
    try:
        typer.echo(json.dumps(_start(vlm, running)))
        for step in first_step(running):
            steps.append(step)
            typer.echo(json.dumps({"event": "step"} | step.to_dict()))
    finally:
        running.close()
    last = {
        "event": "end",
        "answered": answered(running, steps),
        "n_steps": len(steps),
        "n_tokens": len(running.tokens),
        "n_regions": running.regions.k,
        "model": vlm.name,
    }
    typer.echo(json.dumps(last))


def _start(vlm: VLM, running: Stream) -> dict[str, Any]:
    """What is asked, and where the regions lie whose effects follow, in the order of the effects."""
    import numpy as np

    labels = running.regions.labels
    boxes = []
    for region in range(running.regions.k):
        ys, xs = np.nonzero(labels == region)
        box = [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]
        boxes.append({"box": box, "area": round(len(xs) / labels.size, 4)})
    return {
        "event": "start",
        "question": running.prompt.question,
        "model": vlm.name,
        "height": labels.shape[0],
        "width": labels.shape[1],
        "region_method": running.regions.method,
        "regions": boxes,
    }
