"""`trajkit stream`: one run in the terminal, step by step."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain, islice
from pathlib import Path
from threading import Event as Flag
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajkit.cli.options import (
    DetectorsOption,
    EstimatorOption,
    ModelOption,
    SeedOption,
    SystemOption,
    TemperatureOption,
    TokensOption,
)
from trajkit.cli.policy import EXIT_STOPPED, Asked, EnoughOption, FromOption, HintOption, PolicyOption, TriesOption
from trajkit.errors import TrajkitError

if TYPE_CHECKING:
    from trajkit.attribution.estimator import EffectEstimator
    from trajkit.attribution.stream import LiveStep, Stream
    from trajkit.cli.terminal import RunView
    from trajkit.detection.monitor import Monitor
    from trajkit.events import StreamEnd, StreamStart
    from trajkit.live.beside import Beside
    from trajkit.vlm.model import VLM


def stream(
    image: Annotated[
        Path | None, typer.Argument(metavar="IMAGE", help="A PNG, JPEG, WebP, BMP, GIF or TIFF file.")
    ] = None,
    question: Annotated[str | None, typer.Argument(metavar="QUESTION", help="What to ask about it.")] = None,
    messages: Annotated[
        Path | None,
        typer.Option(
            "--messages",
            metavar="FILE.json",
            help="A chat in place of IMAGE and QUESTION: a list of turns with a role and content each, as servers take "
            'them, but an image is {"type": "image", "image": "PATH"}, from the folder of the file.',
        ),
    ] = None,
    model: ModelOption = None,
    system: SystemOption = None,
    estimator: EstimatorOption = None,
    detectors: DetectorsOption = None,
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
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p",
            metavar="P",
            min=0.0,
            max=1.0,
            show_default="the model's own",
            help="Draw from the likeliest tokens that together are so likely.",
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k",
            metavar="K",
            min=0,
            show_default="the model's own",
            help="Draw from so many of the likeliest tokens; 0 for all.",
        ),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(
            "--stop", metavar="TEXT", show_default="the model's own", help="End the run at this text; may be repeated."
        ),
    ] = None,
    policy: PolicyOption = None,
    tries: TriesOption = None,
    start: FromOption = None,
    hint: HintOption = None,
    enough: EnoughOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of pictures.")] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Show the run on a page for the browser too, which stays until Ctrl-C.")
    ] = False,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, show_default="any that is free", help="Of that page.")
    ] = None,
) -> int:
    """Ask about an image and watch the model think: each sentence as it is finished, the regions it rests on
    (red supports, blue opposes), how concentrated they are, and the risk that the run is failing. Behind the strongest
    effect stands ± half the width of an interval that holds about nine in ten measured effects, where the estimator
    gives one.

    [bold]Examples[/bold]

      trajkit stream photo.png "follow red from row 1 col 3. where is the 0?"

      trajkit stream photo.png "sort row 2 up." --temperature 0 --detectors none

      trajkit stream photo.png "sort row 2 up." --policy stop || echo "not to be trusted"

      trajkit stream --messages chat.json --top-p 0.9

      trajkit stream photo.png "sort row 2 up." --serve

      trajkit stream photo.png "sort row 2 up." --json | jq -r 'select(.event == "step").text'

    Plain text where the output is no terminal, or with NO_COLOR set: a line a sentence, with a pixel in the
    middle of its strongest region, counted from the top left (of several images, side by side).

    [bold]Exit codes[/bold]: 0 the run has ended, alarm or not; 3 its policy stopped it; 2 wrong usage; 1 any other
    error; 130 and 143 after Ctrl-C and SIGTERM, with the steps so far shown.
    """
    from trajkit.cli.loading import load_detectors_for, load_estimator, load_model
    from trajkit.cli.output import UsageError, stdout
    from trajkit.cli.terminal import RunView

    asked = Asked(policy, tries, start, hint, enough)
    asked.check()
    if port is not None and not serve:
        raise UsageError("--port is about the page; ask for it with --serve.")
    what = _asked(image, question, messages)
    vlm = load_model(model, system)
    estimate = load_estimator(estimator, vlm)
    found = load_detectors_for(detectors, vlm)
    monitor = found.monitor if found else None
    options = what | {
        "seed": seed,
        "temperature": temperature,
        "max_new_tokens": max_new_tokens,
        "top_p": top_p,
        "top_k": top_k,
        "stop_strings": stop or None,
        "task_set": task_set,
        "form": form,
        "policy": asked.policy_with(monitor, found.enough if found else None),
    }
    with _page_beside(vlm, monitor, port or 0) if serve else nullcontext(None) as page:
        begun: Callable[[Stream], object] = page.begun if page else lambda running: None
        if page is not None:
            options |= {"on_token": page.token, "on_step": page.step}
        if as_json:
            steps = _stream_json(vlm, estimate, monitor, options, begun)
        else:
            steps = watch(RunView(stdout(), monitor), vlm, estimate, monitor, options, vlm.name, begun)
    return EXIT_STOPPED if stopped_by_policy(steps) else 0


def watch(
    view: RunView,
    vlm: VLM,
    estimator: EffectEstimator,
    monitor: Monitor | None,
    options: dict[str, Any],
    about: str = "",
    begun: Callable[[Stream], object] = lambda running: None,
) -> list[LiveStep]:
    """Run the model on one question, show each step on `view` as it comes, and return them all. options: of
    `attribution.stream.stream`, what is asked too. begun: called with the run before its first step."""
    began = time.perf_counter()
    running = _begin(vlm, estimator, monitor, options)
    begun(running)
    steps: list[LiveStep] = []
    try:
        prompt = running.prompt
        view.start(prompt.canvas.picture, running.regions, prompt.question, about, intervals=estimator.has_intervals)
        spinning = view.rich and not view.console.record
        with view.console.status("thinking", spinner="dots") if spinning else nullcontext():
            tell_steps(running, view.step, steps)
    finally:
        running.close()
    view.end(len(running.tokens), time.perf_counter() - began, answered(running, steps), stopped_by_policy(steps))
    return steps


@contextmanager
def _page_beside(vlm: VLM, monitor: Monitor | None, port: int) -> Iterator[Beside]:
    """A page that shows the run of the block, and stays when that has ended well. Raises InputError where the port
    cannot be had, or a library is missing."""
    from trajkit.cli.output import note
    from trajkit.errors import InputError

    try:
        from trajkit.live.beside import Beside
    except ImportError as error:
        raise InputError(f"the page needs {error.name}: pip install 'trajkit[live]'.") from error
    with Beside(vlm, monitor, port) as page:
        note(f"this run at {page.address}")
        try:
            yield page
        except BaseException as error:
            page.over(error)
            raise
        page.over()
        note("the run is over, and its page stays until Ctrl-C")
        Flag().wait()


def _asked(image: Path | None, question: str | None, messages: Path | None) -> dict[str, Any]:
    """What is asked, as `attribution.stream.stream` takes it. Raises UsageError on both or neither form."""
    from trajkit.cli.messages import read_messages
    from trajkit.cli.output import UsageError
    from trajkit.traces.images import open_image

    if messages is not None and image is None and question is None:
        return {"messages": read_messages(messages)}
    if messages is not None or image is None or question is None:
        raise UsageError("Ask with IMAGE and QUESTION, or with --messages FILE.json in their place.")
    return {"image": open_image(image), "question": question}


def _begin(vlm: VLM, estimator: EffectEstimator, monitor: Monitor | None, options: dict[str, Any]) -> Stream:
    """Start the run, and say that the image is being read while it is."""
    from trajkit.attribution.stream import stream as start
    from trajkit.progress import status

    with status("reading the image"):
        return start(vlm, estimator=estimator, monitor=monitor, **options)


def tell_steps(running: Stream, tell: Callable[[LiveStep], None], told: list[LiveStep]) -> None:
    """Tell each step of a run as it comes, and add it to `told`. The first is waited for here, and said to be, since
    the prompt is read before it. An interrupt stops the run; what it had finished by then is told before it goes on."""
    from trajkit.progress import status

    def take(steps: Iterable[LiveStep]) -> None:
        for step in steps:
            told.append(step)
            tell(step)

    try:
        with status(f"reading {running.prompt.length:,} tokens of image and question, then the first step"):
            first = list(islice(running, 1))
        take(chain(first, running))
    except KeyboardInterrupt:
        running.close()
        take(running)
        raise


def answered(running: Stream, steps: list[LiveStep]) -> bool:
    """Whether the thinking was closed and an answer followed."""
    return running.closed and bool(steps) and steps[-1].kind == "answer"


def stopped_by_policy(steps: list[LiveStep]) -> bool:
    """Whether a policy stopped the run."""
    return any(step.decision is not None and step.decision.action == "stop" for step in steps)


def _stream_json(
    vlm: VLM,
    estimator: EffectEstimator,
    monitor: Monitor | None,
    options: dict[str, Any],
    begun: Callable[[Stream], object],
) -> list[LiveStep]:
    from trajkit.events import Failure, json_lines

    tell, whole = json_lines(sys.stdout), False
    steps: list[LiveStep] = []
    running = _begin(vlm, estimator, monitor, options)
    begun(running)
    try:
        tell(_start(vlm, running))
        tell_steps(running, tell, steps)
        whole = not stopped_by_policy(steps)
    except TrajkitError as error:
        tell(Failure(message=str(error)))
        raise
    finally:
        running.close()
        tell(_end(vlm, running, steps, stopped=not whole))
    return steps


def _end(vlm: VLM, running: Stream, steps: list[LiveStep], stopped: bool) -> StreamEnd:
    from trajkit.events import StreamEnd

    return StreamEnd(
        answered=answered(running, steps),
        stopped=stopped,
        n_steps=len(steps),
        n_tokens=max([len(running.tokens), *(step.token_end for step in steps[-1:])]),
        n_regions=running.regions.k,
        model=vlm.name,
    )


def _start(vlm: VLM, running: Stream) -> StreamStart:
    """What is asked, and where the regions lie whose effects follow, in the order of the effects."""
    from trajkit.events import StreamStart
    from trajkit.traces.boxes import areas_of

    labels, boxes = running.regions.labels, running.regions.boxes
    return StreamStart(
        question=running.prompt.question,
        model=vlm.name,
        fingerprint=vlm.fingerprint,
        height=labels.shape[0],
        width=labels.shape[1],
        region_method=running.regions.method,
        regions=[{"box": box, "area": area} for box, area in zip(boxes, areas_of(labels, len(boxes)), strict=True)],
    )
