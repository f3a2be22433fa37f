"""`trajkit demo`: everything at once, on the built-in model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from trajkit.cli.demo_runs import Demonstrated, Rates
    from trajkit.runs.table import RunTable

SEED = 2026
"""Not the seed of the shipped traces, so these scenes are in none of them."""


def demo(
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", show_default="reports/demo", help="Where to write the report."),
    ] = None,
    runs: Annotated[
        int, typer.Option("--runs", metavar="N", min=0, max=500, help="Scenes to show first, whatever they show.")
    ] = 0,
    most: Annotated[
        int,
        typer.Option(
            "--most", metavar="N", min=0, max=500, help="Scenes to go through for the runs that are looked for."
        ),
    ] = 200,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, max=2**31 - 1, help="Draws the scenes and the runs.")
    ] = SEED,
) -> None:
    """Watch the built-in model reason about scenes that it has never seen, then analyse the runs shipped with trajkit
    and write a report. Takes under 3 minutes on two cores, needs no network, writes only the report.

    The scenes are those that the seed gives, in their order: one of each task family in turn, smudged as those of the
    shipped runs are, digits that training never showed. Of each ending the first run is shown, its remarkable sentences
    and a line for what lies between: one that gets lost and is caught, one that hallucinates with confidence, one that
    recovers, and what the monitor misses or alarms at falsely on the way. It ends when the first three have come. How
    often the monitor is right is said before.

    [bold]Examples[/bold]

      trajkit demo

      trajkit demo --runs 5 --most 0 --seed 7
    """
    from trajkit.cli.demo_runs import Demonstrated, show_runs
    from trajkit.cli.output import stdout
    from trajkit.folders import check_own
    from trajkit.report.build import MARK

    out = Path("reports", "demo") if out is None else out
    check_own(out, MARK)
    console = stdout()
    table = _read()
    shown = show_runs(console, runs, seed, most, _rates(table)) if max(runs, most) else Demonstrated([])
    _analyse(console, out, table, shown)


def _read() -> RunTable:
    """The shipped runs."""
    from trajkit.demo import paths
    from trajkit.progress import status
    from trajkit.runs.kernel import Wanted
    from trajkit.runs.table import run_table

    with status("reading the shipped runs"):
        return run_table(paths.TRACES, Wanted(keys=True))


def _rates(table: RunTable) -> Rates | None:
    """How often the shipped monitor alarms on the scenes that it has not seen."""
    from trajkit.cli.demo_runs import Rates
    from trajkit.demo import paths
    from trajkit.demo.runs import held_out
    from trajkit.detection.store import load_detectors
    from trajkit.judging.alarms import replay

    if not paths.DETECTORS.is_dir():
        return None
    frame = table.frame
    unseen = frame[frame["group_id"].isin(held_out(table.values("group_id")))]
    return Rates.of(replay(load_detectors(paths.DETECTORS).monitor, unseen))


def _analyse(console: Console, out: Path, table: RunTable, shown: Demonstrated) -> None:
    from trajkit.cli.fit import show_monitor
    from trajkit.demo import paths
    from trajkit.demo.runs import fit_demo_detectors
    from trajkit.report import write_report
    from trajkit.tables.words import count
    from trajkit.traces.store import read_traces

    scenes = len(table.values("group_id"))
    if console.is_terminal:
        console.rule(style="grey30")
    console.print(
        f"The shipped traces: {count(len(table), 'run')} of {count(scenes, 'scene')}. Detectors are fitted "
        "again beside their baselines, and tried on scenes of digits that nothing has seen.",
        markup=False,
    )
    detectors, evaluation = fit_demo_detectors(table)
    runs, groups = (detectors.card[unit]["test"] for unit in ("runs", "groups"))
    tried = f"Tried on {count(runs, 'run')} of {count(groups, 'scene')}:"
    console.print(f"{detectors.monitor.message}\n{tried}\n", markup=False)
    show_monitor(console, evaluation)
    path = write_report(
        read_traces(paths.TRACES),
        out,
        detectors,
        evaluation,
        title="trajkit demo",
        table=table,
        others=shown.traces,
        said_of_others=shown.said,
    )
    console.print(f"Report: {path}", markup=False, soft_wrap=True)
