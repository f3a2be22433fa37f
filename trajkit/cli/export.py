"""`trajkit export`: saved runs taken to the files of other tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trajkit.cli.options import TracesArgument, WhereOption

if TYPE_CHECKING:
    from trajkit.detection.store import Detectors
    from trajkit.live.query import Query
    from trajkit.traces.labels import Label
    from trajkit.traces.store import Traces
    from trajkit.traces.trace import Trace


def export(
    traces: TracesArgument,
    out: Annotated[
        Path, typer.Option("--out", metavar="PATH", help="File (jsonl, inspect) or new folder (the others) to write.")
    ],
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="scout|inspect|hf|jsonl|csv",
            show_default="by the ending of PATH: .jsonl, .eval, .json",
            help="Whose files to write, as above.",
        ),
    ] = None,
    where: WhereOption = None,
    detectors: Annotated[
        Path | None,
        typer.Option(
            "--detectors",
            metavar="DETECTORS",
            help="Folder that `fit` wrote: its risks and alarms in place of those that were saved.",
        ),
    ] = None,
) -> None:
    """Take saved runs back to other tools.

    [bold]Formats[/bold]
      scout    transcripts of inspect_scout: messages, the strongest effects
      inspect  log for inspect view: messages, pictures, risk as a score
      hf       Hugging Face data set: pictures, all effects, a card
      jsonl    a JSON object a run: all effects, no pictures
      csv      runs.csv and steps.csv: the strongest effect of each step

    The traces themselves are Parquet, which pandas, polars and DuckDB read as they are (docs/columns.md). Labels that
    people gave in `trajkit view` take the place of outcomes.

    [bold]Examples[/bold]

      trajkit export traces --out runs.jsonl

      trajkit export traces --out logs/runs.eval --detectors detectors

      trajkit export traces --out transcripts --format scout --where outcome=hallucination
    """
    from trajkit.cli.output import note, stdout
    from trajkit.cli.reading import said_of_labels
    from trajkit.detection.store import load_detectors
    from trajkit.live.query import Query
    from trajkit.progress import progress
    from trajkit.tables.words import count
    from trajkit.traces.exporters import FORMATS, export_traces, format_of
    from trajkit.traces.labels import read_labels
    from trajkit.traces.store import read_traces

    name = format_of(out, form)
    FORMATS[name].check(out)
    asked = Query.where(where) if where else None
    labels = read_labels(traces)
    found = None if detectors is None else load_detectors(detectors)
    saved = read_traces(traces)
    risks = _Risks(saved, found) if found is not None else None
    chosen = saved if asked is None else _chosen(saved, asked, labels, risks)
    if labels:
        note(said_of_labels(len(labels.keys() & set(saved.ids)), len(labels)))

    def change(trace: Trace) -> Trace:
        return _labelled(trace if risks is None else risks.told(trace), labels.get(trace.transcript_id))

    with progress("exporting", len(chosen)) as bar:
        export_traces(chosen, out, format=name, change=change, advance=bar.advance)
    if not out.is_file() and not out.is_dir():  # a pipe: what stdout says may go through it
        return
    runs = count(len(saved), "run") if len(chosen) == len(saved) else f"{len(chosen):,} of {len(saved):,} runs"
    console = stdout()
    console.print(f"Wrote {runs} to {out} ({_size(out)}): {FORMATS[name].what}.", markup=False, soft_wrap=True)
    console.print(f"Open it with: {FORMATS[name].opened(out)}", markup=False, soft_wrap=True)


class _Risks:
    """What detectors say of runs, in place of what was saved.

    Raises EstimatorMismatchError where no run is of their model.
    """

    def __init__(self, traces: Traces, detectors: Detectors) -> None:
        from trajkit.live.verdicts import Judge
        from trajkit.runs.kernel import Wanted
        from trajkit.runs.table import run_table

        table, judge = run_table(traces, Wanted(metrics=False)), Judge(detectors)
        if table.models and not any(judge.fits(*model) for model in table.models):
            raise detectors.refuse(table.models[0])
        self._threshold = detectors.monitor.threshold
        self._risks, self.highest = judge.risks(table), judge.highest(table)

    def told(self, trace: Trace) -> Trace:
        """The run with a risk after each thinking step, and the alarm where it is raised; with neither where the
        detectors say nothing of it."""
        import numpy as np

        from trajkit.detection.alarm import alarm_rows

        risks = self._risks.get(trace.transcript_id)
        if risks is None or np.isnan(risks).all():
            return replace(trace, steps=tuple(replace(step, risk=None, alarm=None) for step in trace.steps))
        alarm = int(alarm_rows(risks, self._threshold)[0])
        said = iter([(None if np.isnan(risk) else risk, at == alarm) for at, risk in enumerate(risks.tolist())])
        told = [next(said) if step.kind == "thinking" else (None, None) for step in trace.steps]
        steps = [
            replace(step, risk=risk, alarm=alarmed) for step, (risk, alarmed) in zip(trace.steps, told, strict=True)
        ]
        return replace(trace, steps=tuple(steps))


def _chosen(traces: Traces, asked: Query, labels: Mapping[str, Label], risks: _Risks | None) -> Traces:
    """The runs that are asked for, as `trajkit report --where` finds them."""
    from trajkit.errors import InputError
    from trajkit.live.query import find
    from trajkit.live.saved_rows import COLUMNS, judge_row, rows_of
    from trajkit.live.verdicts import Highest
    from trajkit.runs.source import batches

    rows = [row for batch in batches(traces, COLUMNS) for row in rows_of(batch, labels)]
    if risks is not None:
        for row in rows:
            judge_row(row, risks.highest.get(row["id"], Highest()))
    if "alarmed" in asked.values and all(row["risk"] is None for row in rows):
        raise InputError("which runs alarmed is not known: no monitor watched them. Give detectors (--detectors).")
    found = {row["id"] for row in find(rows, asked).rows}
    if not found:
        raise InputError(f"none of {len(traces):,} runs is what was asked for; ask for others.")
    return traces.where([name in found for name in traces.ids])


def _labelled(trace: Trace, label: Label | None) -> Trace:
    """The run with a label in place of its outcome, and without the cause that was told of another."""
    if label is None:
        return trace
    meta = {name: value for name, value in trace.meta.items() if name != "detail" or label == trace.outcome}
    return replace(trace, outcome=label, success=label == "success", meta=meta | {"label": label})


def _size(path: Path) -> str:
    """Of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
