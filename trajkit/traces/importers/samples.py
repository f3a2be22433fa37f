"""What lm-eval and lmms-eval, whose logs are of one descent, say of a task beside its samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trajkit.errors import InputError
from trajkit.traces.importers.reading import as_dict, as_number, as_text, read_json
from trajkit.traces.importers.source_log import settings_of


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


def was_scored_whole(record: Mapping[str, Any], thinking: str) -> bool:
    """Whether the metrics of a sample are of a text in which the thinking stands, so that they say little of the answer
    behind it."""
    scored = texts_in(record.get("filtered_resps"))
    return bool(thinking.strip()) and any(thinking.strip() in text for text in scored if text)


def texts_in(value: Any) -> list[str | None]:
    """The answers of a sample, however deep their lists are nested; None for what is no text."""
    if isinstance(value, list):
        return [text for one in value for text in texts_in(one)]
    return [value if isinstance(value, str) else None]
