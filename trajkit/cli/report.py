"""`trajkit report`: a page to explore saved runs in, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trajkit.cli.options import AddressOption, EngineOption, TracesArgument, WhereOption, WorkersOption


def report(
    traces: TracesArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write index.html to.")],
    detectors: Annotated[
        Path | None,
        typer.Option("--detectors", metavar="DETECTORS", help="Folder that `fit` wrote; adds risk and alarms."),
    ] = None,
    runs: Annotated[
        list[str] | None, typer.Option("--runs", metavar="ID", help="Show this run; repeat it for others.")
    ] = None,
    where: WhereOption = None,
    most: Annotated[int | None, typer.Option("--most", metavar="N", min=1, help="Show at most so many.")] = None,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    address: AddressOption = None,
) -> None:
    """Write the page of `trajkit view` to a file, with single runs in it, a summary of all runs, metrics by outcome,
    and (with --detectors) how early failure is told. It opens from the file, offline.

    By default it shows 24 runs, some of each outcome, in the order of the file.

    [bold]Examples[/bold]

      trajkit report traces --out report

      trajkit report traces --out report --detectors detectors

      trajkit report traces --out report --where outcome=hallucination --where alarmed=no
    """
    from trajkit.cli.monitor import check_runs
    from trajkit.cli.reading import Engine, read_runs
    from trajkit.detection.store import load_detectors
    from trajkit.folders import check_own
    from trajkit.live.query import Query
    from trajkit.report import write_report
    from trajkit.report.build import MARK
    from trajkit.report.collection import wanted
    from trajkit.traces.store import read_traces

    how = Engine.of(engine, workers, address)
    asked = Query.where(where) if where else None
    check_own(out, MARK)
    saved = read_traces(traces)
    found = None if detectors is None else load_detectors(detectors)
    table = read_runs(traces, wanted(found), how)
    if found is not None:
        check_runs(found, table)
    path = write_report(saved, out, found, table=table, ids=runs or (), where=asked, max_runs=most)
    typer.echo(f"Wrote {path}. Open it in a browser.")
