"""What lm-eval and lmms-eval, whose logs are of one descent, say of a task beside its samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trajkit.errors import InputError
from trajkit.traces.importers.reading import as_dict, as_number, as_text, read_json
from trajkit.traces.importers.run import SourceRun
from trajkit.traces.importers.source_log import Log, settings_of


@dataclass(frozen=True)
class Task:
    """name: of the task. model, tool: "" where they are not told. arguments: of the model. settings: of generation."""

    name: str
    model: str
    tool: str
    arguments: str
    settings: dict[str, Any]


def task_of(name: str, results: Path, tool: str) -> Task:
    """What the file of results that belongs to samples says of them; without it, the folder names the model.

    tool: the tool's name, whose version stands as `{tool}_version`.
    """
    try:
        told = as_dict(read_json(results)) if results.is_file() else {}
    except InputError:
        told = {}
    config = as_dict(told.get("config"))
    arguments = config.get("model_args")
    if isinstance(arguments, Mapping):
        arguments = ",".join(f"{key}={value}" for key, value in arguments.items())
    generation = as_dict(as_dict(as_dict(told.get("configs")).get(name)).get("generation_kwargs"))
    version = as_text(told.get(f"{tool}_version")) or ""
    return Task(
        name=name,
        model=as_text(told.get("model_name")) or results.parent.name.replace("__", "/"),
        tool=f"{tool} {version}".strip() if version and "unknown" not in version else tool,
        arguments=as_text(arguments) or "",
        settings=settings_of(generation | as_dict(config.get("gen_kwargs"))),
    )


def score_of(metrics: Mapping[str, Any]) -> tuple[float | None, dict[str, Any]]:
    """(the first of a sample's metrics that is a number, for `facts` all that are). A metric may be an object that
    holds its `score`."""
    found: dict[str, Any] = {}
    for name, value in metrics.items():
        number = as_number(as_dict(value).get("score", value))
        if number is not None:
            found[name] = number
    return next(iter(found.values()), None), {"scores": found} if found else {}


def answers_in(value: Any) -> list[str]:
    """The answers of a sample. Raises InputError where it holds no text."""
    found = _texts_in(value)
    answers = [text for text in found if text is not None]
    if not answers or len(answers) < len(found):
        raise InputError(
            "it holds likelihoods of given answers, no text; expected a task of output_type generate_until."
        )
    return answers


def runs_of(
    answers: Sequence[str],
    record: Mapping[str, Any],
    task: Task,
    log: Log,
    task_id: str,
    question: str,
    images: tuple[bytes, ...],
    score: float | None,
    facts: dict[str, Any],
) -> Iterator[SourceRun]:
    """The run of each answer of a sample. score, facts: of the sample, which say nothing of one of several answers."""
    alone = len(answers) == 1
    for answer in answers:
        thinking, said, closed = log.split(None, answer)
        name, repeat = log.next_run(task_id)
        yield SourceRun(
            id=name,
            model=task.model,
            question=question,
            thinking=thinking,
            answer=said,
            closed=closed,
            cut=None if closed else "unfinished",
            images=images,
            task_set=task.name,
            task_id=task_id,
            repeat=repeat,
            targets=tuple(filter(None, [as_text(record.get("target"))])),
            score=score if alone and not _was_scored_whole(record, thinking) else None,
            settings=task.settings,
            tool=task.tool,
            facts=facts if alone else {},
        )


def _was_scored_whole(record: Mapping[str, Any], thinking: str) -> bool:
    """Whether the metrics of a sample are of a text in which the thinking stands, so that they say little of the answer
    behind it."""
    scored = _texts_in(record.get("filtered_resps"))
    return bool(thinking.strip()) and any(thinking.strip() in text for text in scored if text)


def _texts_in(value: Any) -> list[str | None]:
    """The answers of a sample, however deep their lists are nested; None for what is no text."""
    if isinstance(value, list):
        return [text for one in value for text in _texts_in(one)]
    return [value if isinstance(value, str) else None]
