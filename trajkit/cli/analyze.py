"""`trajkit analyze`: how the metrics of saved runs differ between outcomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trajkit.cli.options import AddressOption, EngineOption, TracesArgument, WorkersOption

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.cli.reading import Engine
    from trajkit.tables import Table

_SHOWN = ("metric", "n_a", "n_b", "delta", "delta_tested", "p_corrected", "verdict")


def analyze(
    traces: TracesArgument,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="OUT", help="Make every study of these runs and write them to this folder."),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="md|html|csv",
            show_default="md",
            help="What --report writes: pages with pictures, one page, or all numbers of all runs.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="STUDY", help="Make this study alone; may be given again.")
    ] = None,
    n_boot: Annotated[
        int | None,
        typer.Option(
            "--boot",
            metavar="N",
            min=100,
            max=100_000,
            show_default="1000",
            help="Draws of groups behind each interval of --report.",
        ),
    ] = None,
    most: Annotated[
        int | None,
        typer.Option(
            "--most",
            metavar="N",
            min=100,
            show_default="10000",
            help="Runs that --report studies at most: of a larger folder, some drawn at random.",
        ),
    ] = None,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    address: AddressOption = None,
) -> None:
    """Compare runs by how they ended: trajectory, concentration and uncertainty of successful runs, hallucinations and
    reasoning failures, with effect sizes and corrected p-values that respect groups of runs on one image.

    Metrics are read after the last thinking step. Many grow with the number of steps: read them beside those.
    Runs without effects are compared by length and uncertainty.

    With --report, five studies are written, each with tables, a picture and what they say in plain words: trajectories,
    metric_distributions, concentration, early_failure and outcomes, beside a page on how to read them.

    [bold]Examples[/bold]

      trajkit analyze traces

      trajkit analyze traces --report analysis --format html

      trajkit analyze traces --report analysis --only early_failure
    """
    from trajkit.cli.output import note, stdout
    from trajkit.cli.reading import Engine, read_runs
    from trajkit.errors import InputError
    from trajkit.judging.comparison import compare_runs, medians
    from trajkit.runs.kernel import Wanted
    from trajkit.runs.said import of_effects
    from trajkit.runs.units import of_units
    from trajkit.tables.names import outcome_name
    from trajkit.tables.render import show
    from trajkit.tables.words import count

    how = Engine.of(engine, workers, address)
    if report is not None:
        return _studies(traces, report, form, only, n_boot, most, how)
    if only or form or n_boot or most:
        raise InputError(
            "--only, --format, --boot and --most are about what --report writes; name a folder with --report too."
        )
    runs = read_runs(traces, Wanted(), how).usable()
    if runs.left_out:
        note(f"{count(runs.left_out, 'run')} without thinking steps left out.")
    for said in filter(None, (of_effects(runs), of_units(runs))):
        note(said)
    console = stdout()
    show(console, counts(runs.table), "Runs by outcome")
    show(console, medians(runs.table), "Metrics by outcome: median")
    try:
        found = compare_runs(runs)
    except InputError as why:
        console.print(str(why), markup=False)
        return
    for a, b in found.pairs:
        table = replace(found.table(pair=(a, b), shown=_SHOWN), note="")
        show(console, table, f"Differences: {outcome_name(a)} (a) against {outcome_name(b)} (b)")
    console.print(found.note(found.differences), markup=False, style="dim")


def counts(runs: pd.DataFrame) -> Table:
    """Runs and groups of each outcome, the most frequent first."""
    from trajkit.tables import Table, words
    from trajkit.tables.names import outcome_name

    table = runs.groupby("outcome").agg(runs=("transcript_id", "size"), groups=("group_id", "nunique"))
    table["share"] = table["runs"] / len(runs)
    frame = table.sort_values("runs", ascending=False).reset_index()
    return Table(frame, formats={"share": words.share}, names={"outcome": outcome_name})


def _studies(
    traces: Path, out: Path, form: str | None, only: list[str] | None, n_boot: int | None, most: int | None, how: Engine
) -> None:
    import shlex

    from trajkit.cli.output import note, stdout
    from trajkit.cli.reading import read_runs
    from trajkit.errors import InputError
    from trajkit.folders import check_own
    from trajkit.progress import progress
    from trajkit.runs.table import MOST_RUNS
    from trajkit.studies.make import N_BOOT, STUDIES, check_names, make_all
    from trajkit.studies.runs import WANTED
    from trajkit.studies.write import FORMATS, MARK, StudyFolder
    from trajkit.tables.words import sentence

    if form is not None and form not in FORMATS:
        raise InputError(f"--format must be one of {', '.join(FORMATS)}; got {form!r}.")
    names = check_names(only or STUDIES)
    check_own(out, MARK)
    every = read_runs(traces, WANTED, how).usable()
    runs = every.drawn(most or MOST_RUNS)
    command = ["trajkit", "analyze", str(traces), "--report", str(out)]
    command += [part for name in only or () for part in ("--only", name)]
    command += ["--format", form] if form else []
    command += ["--boot", str(n_boot)] if n_boot else []
    command += ["--most", str(most)] if most else []
    data = {"runs": every.table, "steps": every.frame} if form == "csv" else {}
    folder = StudyFolder(out, form or "md", shlex.join(command), runs.summary(), data)
    with progress("studies", total=len(names)) as bar:
        for name in names:
            bar.advance(STUDIES[name], 0)
            done, refused = make_all(runs, [name], n_boot or N_BOOT, lambda note: bar.advance(note, 0))
            folder.add(done, refused)  # each is kept as soon as it is made
            bar.advance(STUDIES[name])
    for title, why in folder.left_out.items():
        note(f"{title}: not made. {sentence(why)}")
    if not folder.studies:
        raise InputError("none of the studies could be made of these runs, so nothing was written.")
    stdout().print(f"Wrote {folder.first}", markup=False)
