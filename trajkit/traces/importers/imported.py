"""Runs of other tools' logs as Traces: `import_traces`, and what `trajkit import` goes through one by one."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trajkit.aside import aside
from trajkit.errors import InputError
from trajkit.traces.importers.formats import sources
from trajkit.traces.importers.make import Said, make_trace
from trajkit.traces.importers.parquet import count_rows
from trajkit.traces.importers.run import Importer, SourceRun, Wanted

if TYPE_CHECKING:
    from trajkit.traces.judges import Judge, OutcomeJudge
    from trajkit.traces.store import Traces
    from trajkit.traces.trace import Trace

MOST_HELD = 512
"""Runs without reasoning that are held back, with their images, until one with reasoning comes."""


def import_traces(
    path: str | Path,
    *,
    format: str | None = None,
    images: str | Path | None = None,
    questions: str | Path | None = None,
    labels: str | Path | None = None,
    judge: Judge | OutcomeJudge | str | None = None,
    model: str | None = None,
    set_aside: Callable[[str, InputError], None] | None = None,
) -> Traces:
    """The runs in a log of another tool, or in a folder of logs, as Traces: steps, answers, outcomes, images, and
    uncertainty where log-probabilities are told. They have no effects: `trajkit attribute` adds those.

    format: one of `importers.formats.FORMATS`, where it is not to be told from the content. images: the folder that
    names of images in the log, or in the questions, are in; by default their own. questions: a QUESTIONS.jsonl, joined
    by id, whose images, targets, task sets and forms go before the log's. labels: a file of outcomes (JSONL or CSV:
    transcript_id, outcome), which go before all else. judge: the name of a judge (`judges.judge_of`), or a function
    (answer, accepted targets) → whether it is right; its word goes before the log's scores. model: the model's name,
    instead of the log's. set_aside: told of each run that cannot be used, by its id, and why; without one, a single
    warning says how many.
    Raises InputError where the path holds no log that can be read, no run that can be used, or no reasoning in any.

    See also: `read_traces`, `write_traces`, `features`.

    >>> import trajkit as tk
    >>> traces = tk.import_traces("tests/traces/importers/golden/inspect/digits.eval")
    >>> len(traces), traces[0].answer, traces[0].outcome
    (2, 'yes', 'success')
    """
    from trajkit.traces.store import Traces

    if not isinstance(path, str | Path):
        raise InputError(f"import_traces takes the path of a log, or of a folder of them; got {type(path).__name__}.")
    failed: list[tuple[str, InputError]] = []
    wanted = Wanted(
        images=None if images is None else Path(images),
        set_aside=set_aside or (lambda run, error: failed.append((run, error))),
        note=lambda text: warnings.warn(text, stacklevel=2),
    )
    said = known(questions, labels, judge, model, images)
    found = Traces.of(list(imported(Path(path), format, wanted, said)))
    for text in unmatched(said, found):
        warnings.warn(text, stacklevel=2)
    if failed:
        warnings.warn(
            f"{len(failed):,} of {len(failed) + len(found):,} runs could not be used, such as {failed[0][0]}: "
            f"{failed[0][1]} Pass set_aside to be told of each.",
            stacklevel=2,
        )
    return found


def known(
    questions: str | Path | None,
    labels: str | Path | None,
    judge: Judge | OutcomeJudge | str | None,
    model: str | None,
    images: str | Path | None,
) -> Said:
    """What is known beside the log. Raises InputError where a file of it cannot be read, and for an unknown judge."""
    from trajkit.traces.judges import OutcomeJudge, judge_of, read_outcomes
    from trajkit.traces.questions import read_questions

    if isinstance(judge, str):
        judge = judge_of(judge)
    elif judge is not None and not isinstance(judge, OutcomeJudge):
        judge = OutcomeJudge(getattr(judge, "__name__", "judge"), judge)
    asked = [] if questions is None else read_questions(questions, images)
    outcomes = {} if labels is None else read_outcomes(labels)
    return Said(judge, outcomes, {one.id: one for one in asked}, model)


def unmatched(said: Said, traces: Traces) -> Iterator[str]:
    """What is said of labels, and of a questions file, that are of none of the runs."""
    strays = sorted(set(said.outcomes) - set(traces.ids))
    if strays:
        yield (
            f"{len(strays):,} of {len(said.outcomes):,} labels are of no run here, such as {strays[0]!r}; "
            f"ids here are like {traces.ids[0]!r}."
        )
    asked = traces.column("task_id")
    if said.questions and not set(said.questions) & set(asked):
        yield (
            f"no id of the questions file, such as {min(said.questions)!r}, is that of a question here, such as "
            f"{asked[0]!r}; so nothing of it is used. Runs are joined by `id`."
        )


def stale(said: Said, traces: Traces) -> set[str]:
    """Ids of saved runs that do not say what they would if they were imported anew: another judge, label, model or
    target is known of them."""
    columns = map(traces.column, ("meta", "outcome", "model", "task_id", "target"))
    found = set()
    for run, meta, outcome, model, asked, target in zip(traces.ids, *columns, strict=True):
        question = said.questions.get(asked)
        if (
            (said.judge is not None and json.loads(meta).get("judge") != said.judge.name)
            or said.outcomes.get(run, outcome) != outcome
            or (said.model or model) != model
            or (question is not None and question.targets and question.targets[0] != target)
        ):
            found.add(run)
    return found


def imported(
    path: Path,
    format: str | None,
    wanted: Wanted,
    said: Said,
    done: Mapping[str, str] | None = None,
    advance: Callable[[str], None] = lambda run: None,
) -> Iterator[Trace]:
    """The runs at `path`, as they are read. What cannot be used is told to `wanted.set_aside`.

    done: by transcript_id, the logs that runs are of which need not be made again. advance: called for each run that
    could be used. Runs that come before any with reasoning are held back until there is one; where they are many,
    what comes before it is read again.
    Raises InputError where there is no run that can be used, or no reasoning in any.
    """
    logs, noted = sources(path, format), set[str]()

    def note_once(text: str) -> None:
        if text not in noted:
            noted.add(text)
            wanted.note(text)

    reasons: list[str] = []
    told_of: Counter[str] = Counter()
    again: Counter[str] = Counter()

    def set_aside(run: str, error: InputError) -> None:
        if again[run]:
            again[run] -= 1
            return
        told_of[run] += 1
        reasons.extend([] if reasons else [f"; the first, {run}: {error}"])
        wanted.set_aside(run, error)

    told = replace(wanted, questions=said.questions, note=note_once, set_aside=set_aside)
    names = _names([file for _, file in logs], path)

    def read(told: Wanted) -> Iterator[tuple[SourceRun, dict[str, Any]]]:
        for importer, file in logs:
            about = {"format": importer.name, "file": file.name}
            yield from ((run, about) for run in _read(importer, file, told, names.get(file)))

    runs = read(told)
    held: list[tuple[SourceRun, dict[str, Any]]] = []
    n, thought = 0, False
    for n, (run, about) in enumerate(runs, 1):
        held = [*held, (run, about)] if n <= MOST_HELD else []
        if thought := bool(run.thinking.strip()):
            break
    if n and not thought:
        keeps = " ".join(dict.fromkeys(importer.keeps for importer, _ in logs))
        raise InputError(f"none of the {n:,} runs in {path} has any reasoning. {keeps}")
    if n > MOST_HELD:
        again = told_of.copy()
        runs = read(replace(told, expect=lambda runs: None))
    used, ids = 0, set[str]()
    for one, source in chain(held, runs):
        with aside(one.id, told.set_aside), _not_too_deep():
            if not _is_done(one, source, done or {}, ids):
                yield make_trace(one, said, source)
            used += 1
            advance(one.id)
    if not used:
        why = f" as {format}; leave the format out to have it told from the content." if format else "."
        raise InputError(f"{path} holds no run that can be used{''.join(reasons) or why}")


def _names(files: list[Path], path: Path) -> dict[Path, str]:
    """What the ids of each of several logs begin with: its name, with more of its path where that is another's too."""
    if len(files) == 1:
        return {}
    stems, names = Counter(file.stem for file in files), Counter(file.name for file in files)
    return {
        file: file.stem
        if stems[file.stem] == 1
        else file.name
        if names[file.name] == 1
        else "-".join(file.relative_to(path).parts)
        for file in files
    }


def _read(importer: Importer, file: Path, wanted: Wanted, name: str | None) -> Iterator[SourceRun]:
    """The runs of one log; among others, their ids begin with its name, and a log that cannot be read is set aside."""
    said: list[int] = []

    def expect(runs: int) -> None:
        said.append(runs)
        wanted.expect(runs)

    with aside(file.name, wanted.set_aside if name else None), _not_too_deep():
        for number, run in enumerate(importer.read(file, replace(wanted, expect=expect))):
            if not number and not said:
                wanted.expect(_records(file))
            yield replace(run, id=f"{name}-{run.id}") if name else run


def _records(file: Path) -> int:
    """Lines of a JSONL file or rows of a Parquet file: how many runs may be in it, where it does not say so itself."""
    if file.suffix == ".parquet":
        return count_rows(file)
    if file.suffix != ".jsonl":
        return 0
    with file.open("rb") as stream:
        return sum(piece.count(b"\n") for piece in iter(lambda: stream.read(2**20), b""))


@contextmanager
def _not_too_deep() -> Iterator[None]:
    """Values that are nested beyond what Python goes through are an InputError."""
    try:
        yield
    except RecursionError as error:
        raise InputError("it is nested too deeply to be read.") from error


def source_of(source: Mapping[str, Any]) -> str:
    """Of `meta["source"]`: which log a run is of."""
    return str(source.get("log") or source.get("file") or "")


def _is_done(run: SourceRun, source: Mapping[str, Any], done: Mapping[str, str], ids: set[str]) -> bool:
    """Whether a run is there already. Raises InputError where its id is that of another run."""
    if run.id in ids:
        raise InputError("a run of this id came before it in the log; the ids in a log must differ.")
    ids.add(run.id)
    if run.id not in done:
        return False
    if done[run.id] != source_of({**source, "log": run.log}):
        raise InputError(
            f"a run of this id is there from another log, {done[run.id]}; give each log a folder of its own, or "
            "import the folder that holds both."
        )
    return True
