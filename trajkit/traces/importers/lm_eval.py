"""Samples of lm-eval (`--log_samples`): `samples_TASK_DATE.jsonl`, with settings in `results_DATE.json` beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trajkit.aside import aside
from trajkit.errors import InputError
from trajkit.traces.importers.prompts import Prompt, prompt_of
from trajkit.traces.importers.reading import as_dict, as_list, as_text, lenient_json
from trajkit.traces.importers.records import first_record, records
from trajkit.traces.importers.run import SourceRun, Wanted
from trajkit.traces.importers.samples import Task, answers_in, runs_of, score_of, task_of
from trajkit.traces.importers.source_log import Log, opened_by_prompt, pieces_of, settings_of

_FILE = re.compile(r"samples_(?P<task>.+?)_(?P<date>\d{4}-\d\d-\d\dT[\d.\-]+)\.jsonl")
_KEYS = {"doc_id", "doc", "arguments", "resps", "filtered_resps"}
_PLACE = "<image>"
"""Where lm-eval writes that an image belongs into a prompt."""


class LmEval:
    name = "lm-eval"
    keeps = (
        "lm-eval logs the text of the message alone: leave out think_end_token of --model_args, and start the server "
        "without --reasoning-parser, so that the text holds the <think> tags."
    )

    def recognises(self, path: Path, head: bytes) -> bool:
        return first_record(path, head).keys() >= _KEYS

    def read(self, path: Path, wanted: Wanted) -> Iterator[SourceRun]:
        task = _task(path)
        log = Log(path.parent, wanted, opened_by_prompt(pieces_of(path)))
        kept_by: Any = None
        for number, record in records(path, wanted):
            kept_by = record.get("filter") if number == 1 else kept_by
            if record.get("filter") != kept_by:
                wanted.note(f"samples stand in {path.name} once for each filter; those of {kept_by!r} are taken.")
                continue
            with aside(as_text(record.get("doc_id")) or f"line {number}", wanted.set_aside):
                yield from _runs(record, task, log)


IMPORTER = LmEval()


def _task(path: Path) -> Task:
    """Raises InputError where the tool has taken the thinking out of its answers."""
    named = _FILE.fullmatch(path.name)
    name = named["task"] if named else path.stem.removeprefix("samples_")
    task = task_of(name, path.with_name(f"results_{named['date']}.json" if named else "results.json"), "lm_eval")
    if end := re.search(r"\bthink_end_token=([^,]+)", task.arguments):
        raise InputError(
            f"{path}: lm-eval was run with think_end_token={end[1]}, which takes the reasoning out of the log; run it "
            "without that setting."
        )
    return task


def _runs(record: Mapping[str, Any], task: Task, log: Log) -> Iterator[SourceRun]:
    answers = answers_in(record.get("resps"))
    doc = as_dict(record.get("doc"))
    asked = _asked(record.get("arguments"))
    pictured = bool(as_dict(asked.get("arg_2")).get("visual"))
    prompt = _prompt(asked.get("arg_0"), pictured)
    task_id = log.task_id((as_text(doc.get("id")), as_text(record.get("doc_id"))))
    question = log.question(task_id, prompt.question)
    images = log.pictures(task_id, _named(doc, log.wanted))
    if pictured and not images and task_id not in log.wanted.questions:
        log.wanted.note(
            "lm-eval logs no images, so runs have none; give --questions with the ids of the documents (their `id`, "
            "else doc_id), or --images where documents name a file."
        )
    score, facts = score_of({name: record.get(name) for name in map(str, as_list(record.get("metrics")))})
    settings = settings_of(as_dict(asked.get("arg_1")))
    for run in runs_of(answers, record, task, log, task_id, question, images, score, facts):
        yield replace(run, messages=prompt.messages, system=prompt.system, settings=run.settings | settings)


def _asked(arguments: Any) -> dict[str, Any]:
    """The first request of a sample: {"arg_0": the prompt, "arg_1": settings, "arg_2": images}, which older versions of
    the tool write as a list."""
    first = next(iter(as_list(arguments)), None)
    listed = {f"arg_{number}": value for number, value in enumerate(as_list(first))}
    return listed or as_dict(as_dict(arguments).get("gen_args_0"))


def _prompt(asked: Any, pictured: bool) -> Prompt:
    """The prompt of a request: a text, or, with a chat template on the server, a list of one text of JSON."""
    text = as_list(asked)[0] if as_list(asked) else asked
    try:
        turns = lenient_json(text) if isinstance(text, str) and text.lstrip().startswith("[") else text
    except InputError:
        turns = text
    turns = turns if isinstance(turns, list) else [{"role": "user", "content": as_text(text) or ""}]
    return prompt_of([_with_images(as_dict(turn)) for turn in turns] if pictured else turns)


def _with_images(turn: dict[str, Any]) -> dict[str, Any]:
    """A turn in whose text there are places of images, as its parts."""
    content = turn.get("content")
    if not isinstance(content, str):
        return turn
    parts = [part for text in content.split(_PLACE) for part in ({"type": "image"}, {"type": "text", "text": text})]
    return turn | {"content": [part for part in parts[1:] if part.get("text") != ""]}


def _named(doc: Mapping[str, Any], wanted: Wanted) -> tuple[str, ...]:
    """Files that a document names as its images, where it is said which folder they are in."""
    if wanted.images is None:
        return ()
    return tuple(doc[key] for key in ("image", "image_path", "file_name") if isinstance(doc.get(key), str))[:1]
