"""`trajkit collect`: runs of a model on a user's own questions, saved as traces."""

from __future__ import annotations

from collections.abc import Iterator, Set
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trajkit.cli.collect_server import (
    CONCURRENCY,
    STALL,
    ConcurrencyOption,
    Server,
    ServerKeyOption,
    ServerModelOption,
    ServerOption,
    StallOption,
    collect_from,
)
from trajkit.cli.options import (
    EstimatorOption,
    ImagesOption,
    ImagesRootOption,
    JudgeOption,
    ModelOption,
    SeedOption,
    SystemOption,
    TemperatureOption,
    TokensOption,
)
from trajkit.traces.fields import FIELDS, JUDGES

if TYPE_CHECKING:
    from trajkit.attribution.estimator import EffectEstimator
    from trajkit.cli.questions import Questions
    from trajkit.traces.judges import OutcomeJudge
    from trajkit.traces.questions import Question
    from trajkit.traces.store import Traces
    from trajkit.traces.trace import Trace
    from trajkit.traces.writer import TraceWriter
    from trajkit.vlm.generation import Sampling
    from trajkit.vlm.model import VLM

FLUSH_SECONDS = 2.0
"""Runs that wait longer than this are written, however few and whatever the model is doing: what a kill can lose."""

FIELDS_OF_A_LINE = "\n".join(
    ["What a line of QUESTIONS.jsonl may hold:", ""]
    + [f"  {name:<9} {meaning}" for name, meaning in FIELDS.items()]
    + ["", "Judges, and when an answer is right by each:", ""]
    + [f"  {name:<15} {meaning}" for name, meaning in JUDGES.items()]
)
"""Below the help of the command."""


def collect(
    questions: Annotated[Path, typer.Argument(metavar="QUESTIONS.jsonl", help="One question a line, as above.")],
    out: Annotated[Path, typer.Option("--out", metavar="TRACES", help="Folder to write to, or to go on with.")],
    images: ImagesOption = None,
    images_root: ImagesRootOption = None,
    model: ModelOption = None,
    system: SystemOption = None,
    estimator: EstimatorOption = None,
    samples: Annotated[
        int,
        typer.Option(
            "--samples",
            metavar="N",
            min=1,
            max=10_000,
            help="Runs of each question, made together: fewer need less memory.",
        ),
    ] = 4,
    temperature: TemperatureOption = None,
    max_new_tokens: TokensOption = None,
    seed: SeedOption = 0,
    judge: JudgeOption = "exact",
    keep_hidden: Annotated[
        bool,
        typer.Option(
            "--keep-hidden",
            help="Also keep the last layer's state at the end of each step (128 "
            "numbers at most), for the linear probe in `trajkit analyze`.",
        ),
    ] = False,
    server: ServerOption = None,
    server_model: ServerModelOption = None,
    server_key: ServerKeyOption = None,
    concurrency: ConcurrencyOption = CONCURRENCY,
    server_stall: StallOption = STALL,
) -> None:
    """Run a model on your questions and save every run: its steps, their effects on the image, its answer.

    QUESTIONS.jsonl has one JSON object a line; target is the right answer, where you know it:

      {"image": "dog.jpg", "question": "How many dogs are there?", "target": "2"}

    [bold]Examples[/bold]

      trajkit collect questions.jsonl --out traces

      trajkit collect questions.jsonl --out traces --images photos --samples 8

      trajkit collect questions.jsonl --out traces --judge number:0.01

      trajkit collect questions.jsonl --out traces --server http://localhost:8000/v1 --model Qwen/Qwen3-VL-8B-Thinking

    Stop it at any moment and run it again: it goes on where it was, and no run is made twice.
    A line, image or run that cannot be used is reported and left out, and the exit code is then 1.
    """
    from trajkit.cli.loading import load_estimator, load_libraries, load_model
    from trajkit.cli.output import Interrupted
    from trajkit.cli.questions import Questions
    from trajkit.traces.judges import judge_of
    from trajkit.traces.store import read_traces
    from trajkit.traces.writer import TraceWriter, check_writer

    judged_by = judge_of(judge)
    there = Server.of(server, server_model, server_key, concurrency, server_stall)
    asked = Questions(questions, images, images_root)
    check_writer(out)
    told = there.told if there else None
    load_libraries()
    from trajkit.attribution.assemble import settings
    from trajkit.attribution.item import judge_by
    from trajkit.vlm.generation import Sampling

    vlm = load_model(model, system)
    estimate = load_estimator(estimator, vlm)
    sampling = Sampling(temperature, max_new_tokens, seed)
    sampling.check(vlm, samples)
    try:
        with TraceWriter(out, flush_seconds=FLUSH_SECONDS) as writer:
            made_by = settings(vlm, estimate, sampling, keep_hidden, told)
            writer.require(made_by | {"judge": judge})
            before = len(writer.ids)
            if there is None:
                _collect(vlm, estimate, asked, samples, sampling, keep_hidden, judged_by, writer)
            else:
                collect_from(
                    there,
                    vlm,
                    asked,
                    samples,
                    sampling,
                    writer,
                    estimator=estimate,
                    made_by=made_by,
                    judge=judge_by(judged_by),
                    keep_hidden=keep_hidden,
                )
    except KeyboardInterrupt:
        kept = len(read_traces(out)) if any(out.glob("*.parquet")) else 0
        raise Interrupted.keeping(kept, out) from None
    _summarise(out, {question.id for question in asked.asked}, before)
    asked.exit_if_left_out()


def _collect(
    vlm: VLM,
    estimator: EffectEstimator,
    asked: Questions,
    samples: int,
    sampling: Sampling,
    keep_hidden: bool,
    judge: OutcomeJudge,
    writer: TraceWriter,
) -> None:
    """Collect what is missing."""
    from trajkit.aside import aside
    from trajkit.progress import progress

    there = {question.id for question in asked.asked if _is_there(question, samples, writer.ids)}
    with progress("collecting", total=len(asked), completed=len(there)) as bar:
        for question in asked.asked:
            done = frozenset(writer.ids)
            with aside(question, asked.set_aside):
                writer.require_same_question(question.id, question.question, question.target or "")
                for trace in _runs(
                    vlm, estimator, question, asked, samples, sampling, keep_hidden, judge, done, writer
                ):
                    writer.add(trace)
            bar.advance(question.image.name, int(question.id not in there))


def _runs(
    vlm: VLM,
    estimator: EffectEstimator,
    question: Question,
    asked: Questions,
    samples: int,
    sampling: Sampling,
    keep_hidden: bool,
    judge: OutcomeJudge,
    done: frozenset[str],
    writer: TraceWriter,
) -> Iterator[Trace]:
    """The runs of one question that are not there yet. Where all are, its image is not opened.

    Raises InputError when the image is another than that of the runs that are there.
    """
    from trajkit.attribution.collect import collect
    from trajkit.attribution.item import judge_by

    if _is_there(question, samples, done):
        return
    item = asked.item(question)
    writer.require_same_image(question.id, item.image)  # type: ignore[arg-type]  # a question is about one image
    yield from collect(
        vlm,
        [item],
        estimator=estimator,
        samples=samples,
        sampling=sampling,
        judge=judge_by(judge),
        done=done,
        keep_hidden=keep_hidden,
        set_aside=asked.set_aside_item,
    )


def _is_there(question: Question, samples: int, ids: Set[str]) -> bool:
    return all(f"{question.id}-{i}" in ids for i in range(samples))


def _summarise(out: Path, asked: set[str], before: int) -> None:
    from trajkit.tables.words import count
    from trajkit.traces.store import read_traces

    if not any(out.glob("*.parquet")):
        typer.echo(f"0 runs in {out}: none of the questions could be used.")
        return
    traces = read_traces(out)
    known = [bool(s) for s in traces.column("success") if s is not None]
    line = f"{count(len(traces), 'run')} of {count(len(set(traces.column('task_id')) & asked), 'question')} in {out}"
    line += f" ({len(traces) - before:,} new)"
    line += (
        f", {sum(known):,} of {len(known):,} with a target succeeded."
        if known
        else "; no targets, so no successes to count."
    )
    typer.echo(line)
    typer.echo(f"Next: {_next(traces, out)}")


def _next(traces: Traces, out: Path) -> str:
    """The command that can be run on these traces: fit where they can be split by group, analyze where outcomes differ,
    else report."""
    from trajkit.detection.splits import failures, split_by_group
    from trajkit.errors import InputError
    from trajkit.runs.features import features

    frame = features(traces)
    known = frame[failures(frame) >= 0]
    try:
        split_by_group(known)
    except InputError:
        usable = f"trajkit analyze {out}" if known["success"].nunique() > 1 else f"trajkit report {out} --out report"
        return f"{usable} (trajkit fit needs known outcomes, right and wrong, on more images)"
    return f"trajkit fit {out} --out detectors"
