"""Samples of lmms-eval (`--log_samples`): `DATE_samples_TASK.jsonl`, with settings in `DATE_results.json` beside it.

`resps`, what the model wrote, is left out where the filters left it as it was. Documents and prompts are not kept, but
the prompt's text and the names of up to four images.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trajkit.aside import aside
from trajkit.errors import InputError
from trajkit.traces.importers.reading import as_dict, as_list, as_text
from trajkit.traces.importers.records import first_record, records
from trajkit.traces.importers.run import SourceRun, Wanted
from trajkit.traces.importers.samples import Task, answers_in, runs_of, score_of, task_of
from trajkit.traces.importers.source_log import Log, opened_by_prompt, pieces_of

_FILE = re.compile(r"(?P<date>\d{8}_\d{6})_samples_(?P<task>.+)\.jsonl")
_KEYS = {"doc_id", "filtered_resps", "doc_hash"}
_NO_METRIC = _KEYS | {"resps", "target", "token_counts", "input", "input_media"}
_FAILED = "[LMMS_EVAL_REQUEST_FAILED"
_MOST_MEDIA = 4
"""Images of a sample that lmms-eval names; there may have been more."""


class LmmsEval:
    name = "lmms-eval"
    keeps = (
        "lmms-eval logs the text of the message alone: start the server without --reasoning-parser, so that the text "
        "holds the <think> tags, and give lmms-eval --log_samples; its --reasoning_tags keep them out of the scoring."
    )

    def recognises(self, path: Path, head: bytes) -> bool:
        keys = first_record(path, head).keys()
        return keys >= _KEYS and "arguments" not in keys

    def read(self, path: Path, wanted: Wanted) -> Iterator[SourceRun]:
        named = _FILE.fullmatch(path.name)
        results = path.with_name(f"{named['date']}_results.json" if named else "results.json")
        task = task_of(named["task"] if named else path.stem, results, "lmms_eval")
        log = Log(path.parent, wanted, opened_by_prompt(pieces_of(path)))
        for number, record in records(path, wanted):
            with aside(as_text(record.get("doc_id")) or f"line {number}", wanted.set_aside):
                yield from _runs(record, task, log)


IMPORTER = LmmsEval()


def _runs(record: Mapping[str, Any], task: Task, log: Log) -> Iterator[SourceRun]:
    answers = answers_in(record.get("resps", record.get("filtered_resps")))
    number = as_text(record.get("doc_id"))
    task_id = log.task_id((number, f"{task.name}/{number}"))
    question = log.question(task_id, as_text(record.get("input")) or "")
    images = _images(record, task_id, log)
    score, facts = score_of({name: value for name, value in record.items() if name not in _NO_METRIC})
    runs = runs_of(answers, record, task, log, task_id, question, images, score, facts | _counted(record))
    for answer in answers:
        if answer.startswith(_FAILED):
            raise InputError(f"its request failed: {answer.strip()[:300]}")
        yield next(runs)


def _counted(record: Mapping[str, Any]) -> dict[str, int]:
    """Tokens of the prompt and of the answer, as the server counted them."""
    counts = as_dict(next(iter(as_list(record.get("token_counts"))), None))
    found = {"prompt_tokens": counts.get("input_tokens"), "completion_tokens": counts.get("output_tokens")}
    return {name: count for name, count in found.items() if type(count) is int and count > 0}


def _images(record: Mapping[str, Any], task_id: str, log: Log) -> tuple[bytes, ...]:
    """Those that a sample names, where it is said which folder they are in."""
    if task_id in log.wanted.questions:
        return ()
    named = [name for name in as_list(record.get("input_media")) if isinstance(name, str)]
    if log.wanted.images is not None and 0 < len(named) < _MOST_MEDIA:
        return log.pictures(task_id, named)
    log.wanted.note(
        "lmms-eval logs no images, so runs have none; give --questions with the doc_ids as ids, or with TASK/doc_id "
        "for several tasks, or give --images where the samples name files (input_media; up to three)."
    )
    return ()
