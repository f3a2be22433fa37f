"""Data sets of Hugging Face, as TRL takes and logs them: `messages` that end with the model's turn, or `prompt` and
`completion`, and `images`; Parquet, JSONL, or a folder of `save_to_disk`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trajkit.aside import aside
from trajkit.errors import InputError
from trajkit.traces.importers.chat import split_message, targets_of
from trajkit.traces.importers.formats import read_head
from trajkit.traces.importers.parquet import arrow_rows, columns, parquet_rows, texts_of
from trajkit.traces.importers.prompts import prompt_of
from trajkit.traces.importers.reading import as_dict, as_list, as_text, read_json
from trajkit.traces.importers.records import first_record, records
from trajkit.traces.importers.run import SourceRun, Wanted
from trajkit.traces.importers.samples import score_of
from trajkit.traces.importers.source_log import Log, digest, opened_by_prompt, pieces_of

_STATE = "state.json"
_FORMS = ({"messages"}, {"prompt", "completion"})
_IDS = ("id", "question_id", "task_id", "uid")
_SCORES = ("score", "success", "correct", "reward")
"""Columns that say what a run was worth, and ends of the names of TRL's columns of rewards."""


class Dataset:
    name = "dataset"
    keeps = (
        "A data set keeps what was put into it: the model's turn needs its reasoning, in `reasoning_content` or in "
        "<think> tags; TRL logs completions with log_completions=True."
    )

    def recognises(self, path: Path, head: bytes) -> bool:
        if path.is_dir() or path.name == _STATE:
            return _saved(path) is not None
        keys = columns(path, head) or set(first_record(path, head))
        return any(keys >= form for form in _FORMS)

    def read(self, path: Path, wanted: Wanted) -> Iterator[SourceRun]:
        path = _saved(path) or path
        log = Log(path if path.is_dir() else path.parent, wanted, opened_by_prompt(_texts(path)))
        for number, row in enumerate(_rows(path, wanted), 1):
            given = next((text for key in _IDS if (text := as_text(row.get(key)))), None)
            with aside(given or f"row {number}", wanted.set_aside):
                yield _run(row, given, log)


IMPORTER = Dataset()


def _saved(path: Path) -> Path | None:
    """The folder of `save_to_disk` that this is, or that this is the `state.json` of."""
    folder = path.parent if path.name == _STATE else path
    return folder if (folder / _STATE).is_file() and (folder / "dataset_info.json").is_file() else None


def _is_parquet(path: Path) -> bool:
    return read_head(path).startswith(b"PAR1")


def _rows(path: Path, wanted: Wanted) -> Iterator[dict[str, Any]]:
    if path.is_dir():
        for file in _files(path):
            yield from arrow_rows(file)
    elif _is_parquet(path):
        yield from parquet_rows(path)
    else:
        yield from (row for _, row in records(path, wanted))


def _texts(path: Path) -> Iterator[bytes | str]:
    """All that is written in a data set, or more."""
    if path.is_dir():
        for file in _files(path):
            yield from pieces_of(file)
    elif _is_parquet(path):
        yield from texts_of(path, "messages", "completion")
    else:
        yield from pieces_of(path)


def _files(folder: Path) -> list[Path]:
    named = as_list(as_dict(read_json(folder / _STATE)).get("_data_files"))
    return [folder / Path(as_text(as_dict(file).get("filename")) or "").name for file in named]


def _run(row: Mapping[str, Any], given: str | None, log: Log) -> SourceRun:
    turns, written = _turns(row)
    prompt = prompt_of(turns)
    task_id = log.task_id((given, digest(str(turns))))
    thinking, answer, closed = split_message(written, log)
    score, facts = score_of({name: value for name, value in row.items() if name.lower().endswith(_SCORES)})
    name, repeat = log.next_run(task_id)
    return SourceRun(
        id=name,
        model=as_text(row.get("model")) or "",
        question=prompt.question,
        thinking=thinking,
        answer=answer,
        closed=closed,
        cut=None if closed else "unfinished",
        images=log.pictures(task_id, _images(row, prompt.images)),
        messages=prompt.messages,
        system=prompt.system,
        task_set=as_text(row.get("task_set")) or "",
        task_id=task_id,
        repeat=repeat,
        form=as_text(row.get("form")) or "",
        targets=targets_of(row),
        score=score if len(facts.get("scores", ())) == 1 else None,
        facts=facts,
    )


def _turns(row: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """(the turns of the prompt, the model's turn). Raises InputError where the model's is not the last."""
    if as_list(row.get("messages")):
        *turns, last = row["messages"]
        if as_dict(last).get("role") != "assistant":
            raise InputError("its messages do not end with the model's turn, so there is no run in it.")
        return turns, as_dict(last)
    prompt, completion = row.get("prompt"), row.get("completion")
    turns = prompt if isinstance(prompt, list) else [{"role": "user", "content": as_text(prompt) or ""}]
    last = completion[-1] if isinstance(completion, list) and completion else {"content": as_text(completion)}
    if not as_dict(last).get("content"):
        raise InputError("its completion is empty; expected a text, or a list that ends with the model's turn.")
    return turns, as_dict(last)


def _images(row: Mapping[str, Any], named: tuple[str, ...]) -> list[str | bytes]:
    """Of the column `images` or `image`, each {"bytes", "path"} or a name, else as the messages name them."""
    column = row.get("images") if row.get("images") is not None else row.get("image")
    held = [one for one in (column if isinstance(column, list) else [column]) if one is not None]
    found: list[str | bytes] = []
    for one in held:
        data = as_dict(one).get("bytes")
        found.append(data if isinstance(data, bytes) else as_text(as_dict(one).get("path")) or as_text(one) or "")
    return found or list(named)
