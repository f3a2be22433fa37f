"""`trajkit doctor`: whether this machine and the demo's data are fit for work."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

NEEDED = (
    "torch", "transformers", "scikit-learn", "scipy", "numpy", "pandas", "plotly", "statsmodels", "pyarrow", "pillow",
    "safetensors", "typer", "rich", "pydantic", "jinja2",
)  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One line. ok: None for a fact that is neither good nor bad. todo: what to do when it is not ok."""

    name: str
    ok: bool | None
    found: str
    todo: str = ""


def doctor() -> None:
    """Check the installation: libraries, GPU, and whether the demo's model, estimator, detectors and traces are there
    and belong together. The exit code is 1 when something is missing.

    [bold]Example[/bold]

      trajkit doctor
    """
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
    from trajkit.traces.store import read_traces

    vlm = None
    try:
        vlm = load_model(None)
        count = sum(p.numel() for p in vlm.model.parameters())
        yield Check("demo model", True, f"{_name(paths.MODEL)} ({count / 1e6:.1f} M weights, {vlm.fingerprint})")
    except TrajkitError as error:
        yield Check("demo model", False, _first(error), "python -m pipelines.train_demo_model")
    try:
        estimator = EffectEstimator.load(paths.ESTIMATOR)
        if vlm is not None:
            estimator.check(vlm.fingerprint, vlm.name)
        yield Check("estimator", True, f"{_name(paths.ESTIMATOR)} made for {estimator.binding.fingerprint}")
    except TrajkitError as error:
        yield Check("estimator", False, _first(error), "python -m pipelines.train_estimator")
    try:
        traces = read_traces(paths.TRACES)
        if not len(traces):
            raise InputError(f"no runs in {_name(paths.TRACES)}")
        first = traces[0].meta.get("fingerprint")
        if vlm is not None and first not in (None, vlm.fingerprint):
            yield Check("traces", False, f"made by another model ({first})", "python -m pipelines.collect_traces")
        else:
            yield Check("traces", True, f"{_name(paths.TRACES)} with {len(traces)} runs")
    except TrajkitError as error:
        yield Check("traces", False, _first(error), "python -m pipelines.collect_traces")
    try:
        if vlm is not None:
            load_detectors_for(str(paths.DETECTORS), vlm)
        found = paths.DETECTORS.is_dir()
        yield Check(
            "detectors", found, _name(paths.DETECTORS) if found else "no detectors", "python -m pipelines.fit_detectors"
        )
    except TrajkitError as error:
        yield Check("detectors", False, _first(error), "python -m pipelines.fit_detectors")


def _first(error: Exception) -> str:
    """What is wrong; what to do about it stands on the next line."""
    return re.split(r"[;:] |\. ", str(error))[0]


def _name(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
