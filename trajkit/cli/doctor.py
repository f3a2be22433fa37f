"""`trajkit doctor`: whether this machine and the demo's data are fit for work."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

NEEDED = (
    "torch",
    "transformers",
    "scikit-learn",
    "scipy",
    "numpy",
    "pandas",
    "plotly",
    "statsmodels",
    "pyarrow",
    "pillow",
    "safetensors",
    "typer",
    "rich",
    "jinja2",
    "matplotlib",
)

_LISTED = 20
"""Bad runs that are named."""


@dataclass(frozen=True)
class Check:
    """One line. ok: None for a fact that is neither good nor bad. todo: what to do when it is not ok."""

    name: str
    ok: bool | None
    found: str
    todo: str = ""


def doctor(
    traces: Annotated[
        Path | None,
        typer.Argument(metavar="TRACES", show_default=False, help="Examine these traces instead, a file or folder."),
    ] = None,
    mend: Annotated[
        bool, typer.Option("--repair", help="Set bad runs aside, in a folder beside the good ones, and keep the rest.")
    ] = False,
) -> None:
    """Check the installation: libraries, GPU, and whether the demo's model, estimator, detectors and traces are there
    and belong together. The exit code is 1 when something is missing.

    With TRACES, examine saved runs: columns and their types, numbers that are none, counts that disagree, ids that come
    twice, images and region maps that do not open, files cut short: which run, and what is wrong with it. The exit code
    is 1 when a run cannot be read.

    [bold]Examples[/bold]

      trajkit doctor

      trajkit doctor traces

      trajkit doctor traces --repair
    """
    from trajkit.errors import InputError

    if traces is not None:
        _examine(traces, mend)
        return
    if mend:
        raise InputError("--repair is about traces; name a file or folder of them.")
    from rich.text import Text

    from trajkit.cli.output import one_line, stdout

    console, bad = stdout(), 0
    for check in _checks():
        word, style = {True: ("ok", "green"), False: ("missing", "bold red"), None: ("–", "dim")}[check.ok]
        line = Text.assemble((f"{word:<8}", style), (f"{check.name:<14}", "bold"), one_line(check.found))
        console.print(line, soft_wrap=True)
        if check.ok is False:
            bad += 1
            console.print(Text(f"{'':22}→ {one_line(check.todo)}", "yellow"), soft_wrap=True)
    console.print(
        "Everything is in place." if not bad else f"{bad} {'thing is' if bad == 1 else 'things are'} missing."
    )
    if bad:
        raise typer.Exit(1)


def _examine(traces: Path, mend: bool) -> None:
    from trajkit.cli.output import one_line, stdout
    from trajkit.tables.words import count
    from trajkit.traces.doctor import WHY, examine, repair

    console = stdout()

    def line(text: str) -> None:
        console.print(one_line(text), markup=False, soft_wrap=True)

    found, aside = repair(traces) if mend else (examine(traces), None)
    for file, why in found.files:
        line(f"{file.name}: {why}")
    for bad in found.bad[:_LISTED]:
        line(f"{bad.file.name}: run {bad.name!r}: {bad.why}")
    if len(found.bad) > _LISTED:
        line(f"… and {count(len(found.bad) - _LISTED, 'run')} more.")
    line(f"{count(found.runs, 'run')} can be read{'' if found.healthy else f', {len(found.bad)} cannot'}.")
    if found.files:
        line(f"{count(len(found.files), 'file')} cannot be read at all.")
    if found.no_image:
        line(f"{count(found.no_image, 'run')} came without an image: their effects cannot be drawn over it.")
    if aside is not None:
        line(f"Set aside in {aside}, with the reasons in {WHY}; the rest was kept.")
    elif not found.healthy:
        line(f"Set bad runs aside with: trajkit doctor {traces} --repair")
        raise typer.Exit(1)


def _checks() -> Iterator[Check]:
    from importlib.metadata import PackageNotFoundError, version

    yield Check("python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in NEEDED:
        try:
            yield Check(name, True, version(name))
        except PackageNotFoundError:
            yield Check(name, False, "not installed", f"pip install {name}")
    yield _device()
    yield from _demo()


def _device() -> Check:
    try:
        import torch
    except ImportError as error:
        return Check("device", False, f"torch does not load: {error}", "pip install --force-reinstall torch")
    if not torch.cuda.is_available():
        return Check("device", None, f"CPU, {os.cpu_count()} cores; enough for the demo, a large model wants a GPU")
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    return Check("device", None, f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB")


def _demo() -> Iterator[Check]:
    from trajkit.attribution.estimator import EffectEstimator
    from trajkit.cli.loading import load_detectors_for, load_model
    from trajkit.demo import paths
    from trajkit.errors import InputError, TrajkitError
    from trajkit.fingerprints import ModelId
    from trajkit.tables import words
    from trajkit.traces.store import read_traces

    vlm = None
    try:
        vlm = load_model(None)
        count = sum(p.numel() for p in vlm.model.parameters())
        yield Check("demo model", True, f"{_name(paths.MODEL)} ({count / 1e6:.1f} M weights, {vlm.fingerprint})")
    except TrajkitError as error:
        yield Check("demo model", False, _first(error), paths.restore("train_demo_model"))
    try:
        estimator = EffectEstimator.load(paths.ESTIMATOR)
        if vlm is not None:
            estimator.check(vlm.fingerprint, vlm.name)
        yield Check("estimator", True, f"{_name(paths.ESTIMATOR)} made for {estimator.binding.fingerprint}")
    except TrajkitError as error:
        yield Check("estimator", False, _first(error), paths.restore("train_estimator"))
    try:
        traces = read_traces(paths.TRACES)
        if not len(traces):
            raise InputError(f"no runs in {_name(paths.TRACES)}")
        made_by = ModelId(traces[0].model, str(traces[0].meta.get("fingerprint") or ""))
        if vlm is not None and not made_by.is_same(ModelId(vlm.name, vlm.fingerprint)):
            theirs = made_by.fingerprint or made_by.name
            yield Check("traces", False, f"made by another model ({theirs})", paths.restore("collect_traces"))
        else:
            yield Check("traces", True, f"{_name(paths.TRACES)} with {words.count(len(traces), 'run')}")
    except TrajkitError as error:
        yield Check("traces", False, _first(error), paths.restore("collect_traces"))
    try:
        if vlm is not None:
            load_detectors_for(str(paths.DETECTORS), vlm)
        found = paths.DETECTORS.is_dir()
        yield Check(
            "detectors", found, _name(paths.DETECTORS) if found else "no detectors", paths.restore("fit_detectors")
        )
    except TrajkitError as error:
        yield Check("detectors", False, _first(error), paths.restore("fit_detectors"))


def _first(error: Exception) -> str:
    """What is wrong; what to do about it stands on the next line."""
    return re.split(r"[;:] |\. ", str(error))[0]


def _name(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
