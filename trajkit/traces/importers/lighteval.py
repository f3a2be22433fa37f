"""Details of lighteval (`--save-details`): `details_TASK_DATE.parquet`, with the settings in `results_DATE.json`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trajkit.aside import aside
from trajkit.errors import InputError
from trajkit.traces.importers.parquet import columns, parquet_rows, texts_of
from trajkit.traces.importers.prompts import prompt_of
from trajkit.traces.importers.reading import as_dict, as_list, as_text, read_json
from trajkit.traces.importers.run import SourceRun, Wanted
from trajkit.traces.importers.samples import score_of
from trajkit.traces.importers.source_log import Log, opened_by_prompt, settings_of

_KEYS = {"doc", "model_response", "metric"}
_FILE = re.compile(r"details_.+_(\d{4}-\d\d-\d\dT[\d.\-]+)\.parquet")


class Lighteval:
    name = "lighteval"
    keeps = (
        "lighteval keeps the reasoning that servers tell apart with `endpoint litellm` alone; with its other engines "
        "start the server without --reasoning-parser, so that the text holds the <think> tags."
    )

    def recognises(self, path: Path, head: bytes) -> bool:
        return columns(path, head) >= _KEYS

    def read(self, path: Path, wanted: Wanted) -> Iterator[SourceRun]:
        model, settings = _about(path)
        log = Log(path.parent, wanted, opened_by_prompt(texts_of(path, "model_response")))
        for number, row in enumerate(parquet_rows(path), 1):
            doc = as_dict(row.get("doc"))
            with aside(as_text(doc.get("id")) or f"row {number}", wanted.set_aside):
                for run in _runs(doc, row, log):
                    yield SourceRun(**run, model=model, settings=settings, tool="lighteval")


IMPORTER = Lighteval()


def _about(path: Path) -> tuple[str, dict[str, Any]]:
    """(model, settings), of the results that belong to details: OUT/details/MODEL/DATE/ and OUT/results/MODEL/."""
    named = _FILE.fullmatch(path.name)
    folders = list(path.resolve().parents)
    out = next((folder.parent for folder in folders if folder.name == "details"), None)
    if out is None or named is None:
        return "", {}
    model = path.resolve().parent.parent.relative_to(out / "details").as_posix()
    try:
        told = as_dict(read_json(out / "results" / model / f"results_{named[1]}.json"))
    except InputError:
        return model, {}
    config = as_dict(as_dict(told.get("config_general")).get("model_config"))
    return as_text(config.get("model_name")) or model, settings_of(as_dict(config.get("generation_parameters")))


def _runs(doc: Mapping[str, Any], row: Mapping[str, Any], log: Log) -> Iterator[dict[str, Any]]:
    response = as_dict(row.get("model_response"))
    texts = as_list(response.get("text"))
    if not texts:
        raise InputError("it holds likelihoods of given answers, no text; expected a task with a generative metric.")
    asked = response.get("input")
    prompt = prompt_of(asked if isinstance(asked, list) else [{"role": "user", "content": as_text(asked) or ""}])
    task_id = log.task_id((as_text(as_dict(doc.get("specific")).get("id")), as_text(doc.get("id"))))
    question = log.question(task_id, prompt.question or as_text(doc.get("query")) or "")
    images = log.pictures(task_id, [_image(image) for image in as_list(doc.get("images"))])
    reasonings, tokens = as_list(response.get("reasonings")), as_list(response.get("output_tokens"))
    score, facts = score_of(as_dict(row.get("metric")))
    for at, text in enumerate(texts):
        thinking, answer, closed = log.split(as_text(reasonings[at]) if at < len(reasonings) else None, as_text(text))
        ids = as_list(tokens[at]) if at < len(tokens) else []
        name, repeat = log.next_run(task_id)
        yield {
            "id": name,
            "question": question,
            "thinking": thinking,
            "answer": answer,
            "closed": closed,
            "cut": None if closed else "unfinished",
            "images": images,
            "messages": prompt.messages,
            "system": prompt.system,
            "tokens": tuple(ids) if ids and all(type(one) is int for one in ids) else None,
            "task_set": (as_text(doc.get("task_name")) or "").split("|")[0],
            "task_id": task_id,
            "repeat": repeat,
            "targets": _targets(doc),
            "score": score if len(texts) == 1 else None,
            "facts": facts if len(texts) == 1 else {},
        }


def _image(image: Any) -> str | bytes:
    record = as_dict(image)
    held = record.get("bytes")
    return held if isinstance(held, bytes) else as_text(record.get("path")) or ""


def _targets(doc: Mapping[str, Any]) -> tuple[str, ...]:
    choices, gold = as_list(doc.get("choices")), doc.get("gold_index")
    right = [one for one in (gold if isinstance(gold, list) else [gold]) if isinstance(one, int)]
    return tuple(text for one in right if 0 <= one < len(choices) and (text := as_text(choices[one])))
