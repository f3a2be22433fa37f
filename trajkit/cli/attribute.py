"""`trajkit attribute`: effects for saved runs that another tool has written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajkit.cli.collect import FLUSH_SECONDS
from trajkit.cli.options import AddressOption, EstimatorOption, ModelOption, SystemOption, TracesArgument, one_of
from trajkit.fingerprints import ModelId

if TYPE_CHECKING:
    from trajkit.attribution.estimator import EffectEstimator
    from trajkit.errors import InputError
    from trajkit.traces.store import Traces
    from trajkit.traces.trace import Trace
    from trajkit.traces.writer import TraceWriter

ENGINES = ("local", "ray")
ABLATIONS = ("mean", "blur", "gray", "tokens")
SOURCES = {
    "told": "told by the log",
    "made": "made of the text and counted",
    "unchecked": "made of the text, with no count to hold them against",
}
"""What `token_ids` in the `meta` of a run says, in words."""
MOST_TOLD = 3
"""Doubts that are written out."""


def attribute(
    traces: TracesArgument,
    out: Annotated[Path, typer.Option("--out", metavar="OUT", help="Folder to write to, or to go on with.")],
    model: ModelOption = None,
    system: SystemOption = None,
    estimator: EstimatorOption = None,
    measured: Annotated[
        bool, typer.Option("--measured", help="Measure effects by hiding each region in turn: one pass a region.")
    ] = False,
    ablation: Annotated[
        str | None,
        typer.Option(
            "--ablation", metavar="mean|blur|gray|tokens", show_default="mean", help="How --measured hides a region."
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            "--engine", metavar="local|ray", help="Who reads the runs: this process, or replicas on a Ray cluster."
        ),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            min=1,
            max=4096,
            show_default="as many as GPUs, or else one",
            help="Replicas of --engine ray.",
        ),
    ] = None,
    address: AddressOption = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, max=4096, help="Runs that are read in one pass, at most.")
    ] = 32,
) -> None:
    """Give saved runs their effects, by reading them again with the model that wrote them.

    TRACES are runs as `trajkit import` makes them of another tool's log, or any others. OUT gets all of them, with
    steps, effects and uncertainty of the model here; ids, answers, scores, outcomes and labels stay as they are. Runs
    that have effects already are done again, as with another estimator; TRACES itself is not changed.

    [bold]Examples[/bold]

      trajkit attribute imported --out traces --model Qwen/Qwen3-VL-8B-Thinking --estimator estimator

      trajkit attribute imported --out measured --measured

    Token ids are those that the log tells, or are made of its text again and counted; log-probabilities that it tells
    are held against those here. What does not fit is told run by run.

    Stop it at any moment and run it again: it goes on where it was, and no run is done twice.
    A run that cannot be read again is reported and left out, and the exit code is then 1.
    """
    from trajkit.cli.output import Interrupted, UsageError
    from trajkit.traces.labels import copy_labels
    from trajkit.traces.store import read_traces
    from trajkit.traces.writer import TraceWriter, check_writer

    one_of("--engine", engine, ENGINES)
    if ablation is not None:
        one_of("--ablation", ablation, ABLATIONS)
        if not measured:
            raise UsageError("--ablation is about --measured; give both, or neither.")
    if engine != "ray" and not (workers is None and address is None):
        raise UsageError(f"{'--address' if workers is None else '--workers'} is about --engine ray; give that too.")
    saved = read_traces(traces)
    _check_apart(traces, out)
    check_writer(out)
    told = Told()
    hides = (ablation or ABLATIONS[0]) if measured else None
    try:
        with (
            _work(engine, model, system, estimator, hides, workers, address, batch_size) as work,
            TraceWriter(out, flush_seconds=FLUSH_SECONDS) as writer,
        ):
            writer.require(work.made_by)
            copy_labels(traces, out)
            _attribute(work, saved, writer, told)
    except KeyboardInterrupt:
        kept = len(read_traces(out)) if any(out.glob("*.parquet")) else 0
        raise Interrupted.keeping(kept, out) from None
    _summarise(out, len(saved), told)


@dataclass(frozen=True)
class Work:
    """made_by: what `meta` of the runs will say. read: gives runs their effects."""

    made_by: Mapping[str, Any]
    read: Callable[..., Iterator[Trace]]


@contextmanager
def _work(
    engine: str,
    model: str | None,
    system: str | None,
    estimator: Path | None,
    ablation: Any,
    workers: int | None,
    address: str | None,
    batch_size: int,
) -> Iterator[Work]:
    """Whoever reads the runs: the model here, or replicas of it, let go at the end."""
    from trajkit.cli.loading import load_libraries, load_model, model_name
    from trajkit.progress import status

    load_libraries()
    if engine == "ray":
        from trajkit.attribution.replicas import Replicas

        name = model_name(model)
        with status(f"loading {name} on the workers"):
            replicas = Replicas(name, system=system, workers=workers, address=address)
        with replicas:
            estimate = _estimator(estimator, replicas.model, ablation)
            read = partial(replicas.attribute, estimator=estimate, ablation=ablation, batch_size=batch_size)
            yield Work(replicas.made_by(estimate, ablation), read)
        return
    from trajkit.attribution.attribute import attribute, how_to

    vlm = load_model(model, system)
    estimate = _estimator(estimator, ModelId(vlm.name, vlm.fingerprint), ablation)
    options = {"measured": True, "ablation": ablation} if ablation else {}
    read = partial(attribute, vlm, estimator=estimate, batch_size=batch_size, **options)
    yield Work(how_to(vlm, estimate, ablation).made_by, read)


def _estimator(folder: Path | None, model: ModelId, ablation: str | None) -> EffectEstimator | None:
    """The estimator, whose regions are measured too; where effects are measured, none is needed."""
    from trajkit.cli.loading import load_estimator

    return None if ablation and folder is None else load_estimator(folder, model)


class Told:
    """What is said of runs on the way, and how many there were of each kind."""

    def __init__(self) -> None:
        self.new = self.left_out = self.doubtful = 0
        self.token_ids = Counter[str]()

    def leave_out(self, trace: Trace, error: InputError) -> None:
        """Say above a progress bar that a run is left out, and why."""
        from trajkit.cli.output import note

        self.left_out += 1
        note(f"trajkit: left out run {trace.transcript_id}: {error}")

    def take(self, trace: Trace) -> None:
        """Count a run, and say what of it is in doubt: of the first few, as it is mostly the same of all."""
        from trajkit.cli.output import note

        self.new += 1
        self.token_ids[trace.meta["token_ids"]] += 1
        said = trace.meta.get("doubt")
        self.doubtful += bool(said)
        if said and self.doubtful <= MOST_TOLD:
            note(f"trajkit: run {trace.transcript_id}: {said}.")


def _attribute(work: Work, saved: Traces, writer: TraceWriter, told: Told) -> None:
    """Read the runs that are not there yet."""
    from trajkit.progress import progress

    missing = [i for i, name in enumerate(saved.ids) if name not in writer.ids]
    there = len(saved) - len(missing)
    with progress("attributing", total=len(saved), completed=there) as bar:

        def set_aside(trace: Trace, error: InputError) -> None:
            told.leave_out(trace, error)
            bar.advance("left out")

        for trace in work.read((saved[i] for i in missing), set_aside=set_aside):
            writer.add(trace)
            told.take(trace)
            bar.advance(trace.task_set)


def _check_apart(traces: Path, out: Path) -> None:
    """Raise InputError where OUT is what is read."""
    from trajkit.errors import InputError

    source = traces if traces.is_dir() else traces.parent
    if out.resolve() == source.resolve():
        raise InputError(f"--out {out} holds the runs that are read; give another folder, they are not changed there.")


def _summarise(out: Path, n: int, told: Told) -> None:
    """Say what there is, and leave with 1 when runs were left out."""
    from trajkit.tables.words import count
    from trajkit.traces.store import read_traces

    there = len(read_traces(out)) if any(out.glob("*.parquet")) else 0
    line = f"{there:,} of {count(n, 'run')} with effects in {out} ({told.new:,} new)."
    if told.new:
        kinds = {key: many for key in SOURCES if (many := told.token_ids[key])}
        known = ", ".join(f"{many:,} {SOURCES[key]}" for key, many in kinds.items())
        line += f" Token ids: {known}; {told.doubtful:,} in doubt."
    typer.echo(line)
    if there:
        typer.echo(f"Next: trajkit report {out} --out report")
    if told.left_out:
        typer.echo(f"trajkit: {told.left_out:,} of {count(n, 'run')} could not be read again; see above.", err=True)
        raise typer.Exit(1)
