"""`trajkit report`: a page to explore saved runs in, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trajkit.cli.options import AddressOption, EngineOption, TracesArgument, WorkersOption


def report(
    traces: TracesArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write index.html to.")],
    detectors: Annotated[
        Path | None,
        typer.Option("--detectors", metavar="DETECTORS", help="Folder that `fit` wrote; adds risk and alarms."),
    ] = None,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    address: AddressOption = None,
) -> None:
    """Write a page with a summary, single runs with the effects of each step over the image, trajectories in 3-D,
    metrics by outcome, and (with --detectors) how early failure is told. It opens from the file, offline.

    [bold]Examples[/bold]

      trajkit report traces --out report

      trajkit report traces --out report --detectors detectors
    """
    from trajkit.cli.monitor import check_runs
    from trajkit.cli.reading import Engine, read_runs
    from trajkit.detection.store import load_detectors
    from trajkit.folders import check_own
    from trajkit.report import write_report
    from trajkit.report.build import MARK
    from trajkit.runs.kernel import Wanted
    from trajkit.traces.store import read_traces

    how = Engine.of(engine, workers, address)
    check_own(out, MARK)
    saved = read_traces(traces)
    found = None if detectors is None else load_detectors(detectors)
    runs = read_runs(traces, Wanted(metrics=False, keys=found is not None), how)
    if found is not None:
        check_runs(found, runs)
    path = write_report(saved, out, detectors=found, runs=runs)
    typer.echo(f"Wrote {path}. Open it in a browser.")
