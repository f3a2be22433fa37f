"""`trajkit import`: runs from the logs of other tools, saved as traces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trajkit.cli.collect import FLUSH_SECONDS
from trajkit.cli.options import one_of
from trajkit.traces.fields import JUDGES
from trajkit.traces.importers.formats import FORMATS

if TYPE_CHECKING:
    from trajkit.errors import InputError
    from trajkit.traces.importers.make import Said
    from trajkit.traces.store import Traces
    from trajkit.traces.writer import TraceWriter

FORMATS_AND_JUDGES = "\n".join(
    ["Formats:", ""]
    + [f"  {name:<15} {meaning}" for name, meaning in FORMATS.items()]
    + ["", "Judges, and when an answer is right by each:", ""]
    + [f"  {name:<15} {meaning}" for name, meaning in JUDGES.items()]
)
"""Below the help of the command."""


def import_(
    log: Annotated[Path, typer.Argument(metavar="PATH", help="A log, or a folder of them.")],
    out: Annotated[Path, typer.Option("--out", metavar="TRACES", help="Folder to write to, or to go on with.")],
    format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="FORMAT", show_default="told from the content", help="What the log is; see below."
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="DIR",
            exists=True,
            file_okay=False,
            show_default="the log's own folder",
            help="Where images are that the log, or QUESTIONS.jsonl, names.",
        ),
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(
            "--questions",
            metavar="QUESTIONS.jsonl",
            help="Images and targets by id, as for `trajkit collect`, for logs without them.",
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", metavar="FILE", help="Outcomes, JSONL or CSV: transcript_id, outcome.")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            metavar="JUDGE",
            show_default="the log's own scores",
            help="What makes an answer right: one of those listed below.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", show_default="as the log says", help="The model's name.")
    ] = None,
) -> None:
    """Bring runs that another tool logged: their steps, answers, outcomes and images, and uncertainty where the log has
    log-probabilities.

    [bold]Examples[/bold]

      trajkit import logs/run.eval --out traces

      trajkit import answers.jsonl --out traces --questions questions.jsonl --judge number:0.01

    Stop it at any moment and run it again: it goes on where it was. A run that cannot be used is reported and left out,
    and the exit code is then 1. What each step rests on is added by `trajkit attribute`.
    """
    from trajkit.cli.output import Interrupted
    from trajkit.tables.words import count
    from trajkit.traces.importers.imported import known, unmatched
    from trajkit.traces.store import read_traces
    from trajkit.traces.writer import TraceWriter, check_writer

    if format is not None:
        one_of("--format", format, tuple(FORMATS))
    said = known(questions, labels, judge, model, images)
    check_writer(out)
    try:
        with TraceWriter(out, flush_seconds=FLUSH_SECONDS) as writer:
            before = len(writer.ids)
            old = _stale(out, said)
            used, left_out = _import(log, format, images, said, writer, _done(out))
    except KeyboardInterrupt:
        kept = len(read_traces(out)) if any(out.glob("*.parquet")) else 0
        raise Interrupted.keeping(kept, out) from None
    traces = read_traces(out)
    for text in unmatched(said, traces):
        typer.echo(f"trajkit: {text}", err=True)
    _summarise(traces, out, before)
    kept = len(old & used)
    if kept:
        typer.echo(
            f"trajkit: {count(kept, 'run')} in {out} had been imported in another way, which is not changed; what "
            "--judge, --labels, --questions and --model say is for new runs: give another folder.",
            err=True,
        )
    if left_out:
        total = count(len(used) + left_out, "run")
        typer.echo(f"trajkit: {left_out:,} of {total} could not be used; see above.", err=True)
    if left_out or kept:
        raise typer.Exit(1)


def _import(
    log: Path, format: str | None, images: Path | None, said: Said, writer: TraceWriter, done: dict[str, str]
) -> tuple[set[str], int]:
    """Write what is not done yet; the runs that were used, those that are done included, and how many could not be."""
    from trajkit.aside import aside
    from trajkit.cli.output import note
    from trajkit.progress import progress
    from trajkit.traces.importers.imported import imported
    from trajkit.traces.importers.run import Wanted

    used: set[str] = set()
    left_out: list[str] = []
    expected = 0

    def tell(run: str, error: InputError) -> None:
        left_out.append(run)
        note(f"trajkit: left out run {run}: {error}")

    def use(run: str) -> None:
        used.add(run)
        advance(run)

    def set_aside(run: str, error: InputError) -> None:
        tell(run, error)
        advance(run)

    def expect(runs: int) -> None:
        nonlocal expected
        expected += runs
        bar.expect(runs)

    def advance(run: str) -> None:
        if len(used) + len(left_out) > expected:
            expect(1)
        bar.advance(run)

    with progress("importing", total=0) as bar:
        wanted = Wanted(images, set_aside=set_aside, note=lambda text: note(f"trajkit: {text}"), expect=expect)
        for trace in imported(log, format, wanted, said, done, use):
            with aside(trace.transcript_id, tell):
                writer.add(trace)
    return used - set(left_out), len(left_out)


def _done(out: Path) -> dict[str, str]:
    """transcript_id → the log that it is of, of the runs that are in `out`."""
    from trajkit.traces.importers.imported import source_of
    from trajkit.traces.store import read_traces

    if not any(out.glob("*.parquet")):
        return {}
    traces = read_traces(out)
    metas = map(json.loads, traces.column("meta"))
    return {run: source_of(meta.get("source") or {}) for run, meta in zip(traces.ids, metas, strict=True)}


def _stale(out: Path, said: Said) -> set[str]:
    """The runs in `out` of which other things are known now."""
    from trajkit.traces.importers.imported import stale
    from trajkit.traces.store import read_traces

    return stale(said, read_traces(out)) if any(out.glob("*.parquet")) else set()


def _summarise(traces: Traces, out: Path, before: int) -> None:
    from trajkit.tables.words import count

    told = sum(any(step["logprob"] is not None for step in steps) for steps in traces.column("steps"))
    pictured = sum(map(bool, traces.column("image_sha256")))
    outcomes = traces.column("outcome")
    known = [outcome for outcome in outcomes if outcome != "unknown"]
    ends = [outcome for outcome, meta in zip(outcomes, traces.column("meta"), strict=True) if "cut" in json.loads(meta)]
    cut, censored = len(ends), ends.count("unknown")
    typer.echo(
        f"{count(len(traces), 'run')} of {count(len(set(traces.column('task_id'))), 'question')} in {out} "
        f"({len(traces) - before:,} new): {told:,} with log-probabilities, {pictured:,} with an image, {cut:,} cut off."
    )
    typer.echo(
        f"{known.count('success'):,} of {len(known):,} with a known outcome succeeded."
        if known
        else "No outcome is known; import into another folder with --judge (where there are targets) or --labels."
    )
    if known and censored:
        typer.echo(
            f"That leaves out {censored:,} cut off of unknown outcome: the longer runs are, the more are missing, so "
            "the share may not be that of all runs."
        )
    if wrong := cut - censored - ends.count("success"):
        typer.echo(f"{wrong:,} of those cut off {'is' if wrong == 1 else 'are'} wrong by the log's score or a label.")
    typer.echo(f"Next: trajkit report {out} --out report")
    if pictured:
        typer.echo(f"What each step rests on: trajkit attribute {out} --out explained --model FOLDER|ID")
