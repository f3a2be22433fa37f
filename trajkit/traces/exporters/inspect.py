"""An inspect log (version 2, of a whole eval): messages with the reasoning as a part of its own, the picture attached,
and what trajkit says of each run as scores that `inspect view` shows.

Path.eval is a zip as inspect writes it, its members deflated; Path.json one text; any other path a folder with a log
for each model. The log's own times are those of the export; prompt tokens, and times of runs that were not kept, are
left out.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import Any, Protocol
from zipfile import ZIP_DEFLATED, ZipFile

from trajkit.errors import InputError
from trajkit.files import check_file, replacing
from trajkit.traces.exporters.export import Export
from trajkit.traces.exporters.folder import check_ours, filling
from trajkit.traces.exporters.said import (
    began,
    chat_of,
    facts_of,
    json_text,
    n_tokens,
    seconds,
    settings_of,
    stop_reason,
)
from trajkit.traces.exporters.scores import MEANINGS, Totals, scores_of
from trajkit.traces.trace import Trace

VERSION = 2


def check(path: Path) -> None:
    """Raise InputError or WriteError where `write` could not write to that path."""
    check_file(path) if _is_file(path) else check_ours(path)


def _is_file(path: Path) -> bool:
    return path.suffix in (".eval", ".json")


def write(export: Export, path: Path) -> None:
    """To a file, or a folder of them. Raises InputError where one file is to hold several models, or the folder holds
    other files; WriteError where it cannot be written."""
    models = sorted(set(export.traces.column("model")))
    if not _is_file(path):
        with filling(path) as new:
            for name, model in zip(_names(models), models, strict=True):
                some = replace(export, traces=export.traces.filter(model=model))
                _log(some, model, new / f"{name}.eval")
        return
    if len(models) > 1:
        raise InputError(
            f"an inspect log is of one model, and these runs are of {len(models)}: {', '.join(models)}. Choose one, or "
            "export into a folder, a path without .eval or .json."
        )
    _log(export, models[0], path)


def _names(models: list[str]) -> list[str]:
    """A file name for each model."""
    slugs = [re.sub(r"[^A-Za-z0-9.-]+", "-", model).strip("-.")[-80:] or "model" for model in models]
    twice = {slug for slug, n in Counter(slug.casefold() for slug in slugs).items() if n > 1}
    return [f"{s}-{_hash(m)[:8]}" if s.casefold() in twice else s for s, m in zip(slugs, models, strict=True)]


def _log(export: Export, model: str, path: Path) -> None:
    ids, totals, header = _sample_ids(export), Totals(), _Header.of(export, model)
    with replacing(path) as file, _Zipped(file) if path.suffix == ".eval" else _Text(file) as log:
        log.begin(header.start(ids))
        for trace in export.runs(images=True):
            scores = scores_of(trace)
            totals.add(scores)
            log.add(sample_of(trace, *ids[trace.transcript_id], scores))
        log.end(header.whole(ids, totals))


def _sample_ids(export: Export) -> dict[str, tuple[str, int]]:
    """transcript_id → (id, epoch): the task and its repetition where every task has as many, else the run's own."""
    names, tasks, repeats = (export.traces.column(name) for name in ("transcript_id", "task_id", "task_repeat"))
    pairs = [(task, repeat + 1) for task, repeat in zip(tasks, repeats, strict=True)]
    grid = {(task, epoch) for task in {*tasks} for epoch in range(1, len(tasks) // len({*tasks}) + 1)}
    if "" in tasks or len(pairs) != len(grid) or {*pairs} != grid:
        pairs = [(name, 1) for name in names]
    return dict(zip(names, pairs, strict=True))


@dataclass(frozen=True)
class _Header:
    """What a log says of all runs."""

    model: str
    task: str
    settings: dict[str, Any]
    created: str

    @classmethod
    def of(cls, export: Export, model: str) -> _Header:
        """The settings that all runs have in common."""
        told = [settings_of(json.loads(text)) for text in sorted(set(export.traces.column("meta")))]
        common = {key: value for key, value in told[0].items() if all(t.get(key) == value for t in told)}
        sets = set(export.traces.column("task_set"))
        task = sets.pop() if len(sets) == 1 else ""
        return cls(model, task or "runs", common, datetime.now(UTC).isoformat(timespec="seconds"))

    def start(self, ids: dict[str, tuple[str, int]]) -> dict[str, Any]:
        """What stands first in a log."""
        import trajkit

        name = _hash("\n".join(sorted(ids)))[:22]
        samples = list(dict.fromkeys(sample for sample, _ in ids.values()))
        scorers = [
            {"name": score, "options": {}, "metrics": [], "metadata": {"meaning": said}}
            for score, said in MEANINGS.items()
        ]
        spec = {
            "eval_id": name,
            "run_id": name,
            "created": self.created,
            "task": self.task,
            "task_id": name,
            "task_version": 0,
            "dataset": {"samples": len(samples), "sample_ids": samples, "shuffled": False},
            "model": self.model,
            "config": {"epochs": max(epoch for _, epoch in ids.values())},
            "packages": {"trajkit": trajkit.__version__},
            "scorers": scorers,
            "metadata": {"exported_by": "trajkit"},
        }
        plan = {"name": "plan", "steps": [{"solver": "generate", "params": {}}], "config": self.settings}
        return {"version": VERSION, "eval": spec, "plan": plan}

    def whole(self, ids: dict[str, tuple[str, int]], totals: Totals) -> dict[str, Any]:
        """All that a log says but its samples."""
        stats = {"started_at": self.created, "completed_at": self.created}
        return self.start(ids) | {"status": "success", "results": totals.results(), "stats": stats}


def sample_of(trace: Trace, id_: str, epoch: int, scores: dict[str, Any]) -> dict[str, Any]:
    """A run as a sample of a log."""
    key = trace.image_sha256[:32]
    attached = {key: _data_url(trace.image)} if trace.image is not None else {}
    part = {"type": "image", "image": f"attachment://{key}"} if attached else None
    messages = chat_of(trace, part)
    timed = {"total_time": seconds(trace)} if seconds(trace) is not None else {}
    started = {"started_at": began(trace)} if began(trace) else {}
    facts = {name: getattr(trace, name) for name in ("task_set", "group_id", "n_regions", "effects_kind")}
    facts |= {"n_tokens": n_tokens(trace), "settings": settings_of(trace.meta), "meta": facts_of(trace)}
    stop = stop_reason(trace)
    return {
        "id": id_,
        "epoch": epoch,
        "input": messages[:-1],
        "target": trace.target,
        "messages": messages,
        "output": {
            "model": trace.model,
            "choices": [{"message": messages[-1], "stop_reason": stop}],
            "completion": trace.answer,
        },
        "scores": scores,
        "metadata": facts,
        "store": {},
        "events": [],
        "uuid": trace.transcript_id,
        "attachments": attached,
        **timed,
        **started,
    }


def _summary(sample: dict[str, Any]) -> dict[str, Any]:
    """What inspect lists of a sample without opening it."""
    question = " ".join(_texts(sample["input"]))
    told = ("value", "answer")
    scores = {name: {key: score[key] for key in told if key in score} for name, score in sample["scores"].items()}
    return {
        "id": sample["id"],
        "epoch": sample["epoch"],
        "input": question,
        "target": sample["target"],
        "metadata": {"task_set": sample["metadata"]["task_set"]},
        "scores": scores,
        "uuid": sample["uuid"],
        "completed": True,
        "message_count": len(sample["messages"]),
    }


def _texts(messages: list[dict[str, Any]]) -> Iterator[str]:
    for message in messages:
        content = message["content"]
        if message["role"] == "user" and isinstance(content, list):
            yield from (part["text"] for part in content if part["type"] == "text")


class _Writer(Protocol):
    """Writes a log piece by piece."""

    def begin(self, start: dict[str, Any]) -> None: ...
    def add(self, sample: dict[str, Any]) -> None: ...
    def end(self, whole: dict[str, Any]) -> None: ...


class _Zipped:
    """A .eval file."""

    def __init__(self, file: Any) -> None:
        self._zip = ZipFile(file, "w", ZIP_DEFLATED, compresslevel=1)
        self._summaries: list[dict[str, Any]] = []

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()

    def begin(self, start: dict[str, Any]) -> None:
        self._zip.writestr("_journal/start.json", json_text(start))

    def add(self, sample: dict[str, Any]) -> None:
        self._zip.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json_text(sample))
        self._summaries.append(_summary(sample))

    def end(self, whole: dict[str, Any]) -> None:
        self._zip.writestr("summaries.json", json_text(self._summaries))
        self._zip.writestr("header.json", json_text(whole))


class _Text:
    """A .json file. Samples wait in a temporary file, as what is said of all runs comes first and is known last."""

    def __init__(self, file: Any) -> None:
        self._file, self._samples = file, TemporaryFile()  # noqa: SIM115  closed below

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._samples.close()

    def begin(self, start: dict[str, Any]) -> None: ...

    def add(self, sample: dict[str, Any]) -> None:
        self._samples.write((b",\n" if self._samples.tell() else b"\n") + json_text(sample).encode())

    def end(self, whole: dict[str, Any]) -> None:
        self._file.write(json_text(whole).encode()[:-1] + b', "samples": [')
        self._samples.seek(0)
        copyfileobj(self._samples, self._file)
        self._file.write(b"\n]}\n")


def _data_url(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
