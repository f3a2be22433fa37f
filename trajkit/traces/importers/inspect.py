"""inspect's logs, version 2 and what came before and beside it: `.eval`, a zip of JSON, and `.json`.

A sample of an `.eval` is one member, or a folder of members: a shell, and its messages, events and attachments in
chunks. A log that was not finished has no header, but `_journal/start.json`. Ids are read from the JSON, as names of
members hold whatever an id does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trajkit.aside import aside
from trajkit.errors import InputError
from trajkit.traces.importers.inspect_sample import Log, Sample, run_of
from trajkit.traces.importers.inspect_zip import Chunks, EvalZip
from trajkit.traces.importers.reading import as_dict, as_list, as_text, read_json
from trajkit.traces.importers.run import SourceRun, Wanted

VERSIONS = (1, 2, 3)
"""The tool writes 2. Logs of 3, with the pool of messages in another place, are among its own test data."""
_SHELL = re.compile(r"(samples/.+_epoch_\d+)/sample\.json", re.DOTALL)
_WHOLE = re.compile(r"samples/.+_epoch_\d+\.json", re.DOTALL)
_JSON_HEAD = re.compile(rb'\s*\{\s*"version"\s*:\s*\d+\s*,\s*"status"\s*:.*?"eval"\s*:\s*\{', re.DOTALL)
_NO_SAMPLES = "it holds no samples; run inspect without --no-log-samples."


class Inspect:
    name = "inspect"
    keeps = (
        "inspect logs what the server tells: start vLLM with --reasoning-parser, and run models that hide their "
        "reasoning with --reasoning-summary."
    )

    def recognises(self, path: Path, head: bytes) -> bool:
        if head.startswith(b"PK\x03\x04"):
            return path.suffix == ".eval" or any(mark in head for mark in (b"_journal/start.json", b"samples/"))
        return _JSON_HEAD.match(head) is not None

    def read(self, path: Path, wanted: Wanted) -> Iterator[SourceRun]:
        with path.open("rb") as stream:
            zipped = stream.read(2) == b"PK"
        return _read_eval(path, wanted) if zipped or path.suffix == ".eval" else _read_json(path, wanted)


IMPORTER = Inspect()


def _read_json(path: Path, wanted: Wanted) -> Iterator[SourceRun]:
    record = read_json(path)
    log = _log(record, path)
    samples = as_list(record.get("samples"))
    if not samples:
        raise InputError(f"{path}: {_NO_SAMPLES}")
    wanted.expect(len(samples))
    for number, sample in enumerate(samples, 1):
        one = Sample(as_dict(sample))
        with aside(one.id or f"sample {number}", wanted.set_aside):
            yield run_of(one, log, wanted)


def _read_eval(path: Path, wanted: Wanted) -> Iterator[SourceRun]:
    with EvalZip(path) as zip:
        try:
            header = "header.json" if "header.json" in zip else "_journal/start.json"
            log = _log(zip.json(header), path)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        shells = {match[0]: match[1] for name in zip if (match := _SHELL.fullmatch(name))}
        inside = tuple(f"{prefix}/" for prefix in shells.values())
        whole = [name for name in zip if _WHOLE.fullmatch(name) and not name.startswith(inside)]
        if not shells and not whole:
            raise InputError(f"{path}: {_NO_SAMPLES}")
        wanted.expect(len(shells) + len(whole))
        for name in (*whole, *shells):
            sample = None
            with aside(name, wanted.set_aside):
                sample = _chunked(zip, shells[name]) if name in shells else Sample(as_dict(zip.json(name)))
            if sample is not None:
                with aside(sample.id or name, wanted.set_aside):
                    yield run_of(sample, log, wanted)


def _chunked(zip: EvalZip, prefix: str) -> Sample:
    """A sample from its shell and its chunks, which are read as they are needed."""
    record = as_dict(zip.json(f"{prefix}/sample.json"))
    messages = Chunks(zip, f"{prefix}/messages")
    metadata = f"{prefix}/metadata.json"
    record["messages"] = messages.at(record.get("message_refs"))
    record["metadata"] = zip.json(metadata) if metadata in zip else {}
    return Sample(record, Chunks(zip, f"{prefix}/attachments"), messages, Chunks(zip, f"{prefix}/events"))


def _log(header: Any, path: Path) -> Log:
    """What a log says of all its runs. Raises InputError where it is no log, or of a version that is not known."""
    header = as_dict(header)
    evaluation, version = as_dict(header.get("eval")), header.get("version")
    if not evaluation:
        raise InputError(f"{path} is no log of inspect: it does not say what was evaluated.")
    if version not in VERSIONS:
        raise InputError(f"{path} is a log of version {version!r}, and up to {max(VERSIONS)} is known; update trajkit.")
    plan = as_dict(as_dict(header.get("plan")).get("config"))
    version_of_tool = as_text(as_dict(evaluation.get("packages")).get("inspect_ai")) or ""
    return Log(
        model=as_text(evaluation.get("model")) or "",
        task=as_text(evaluation.get("task")) or "",
        id=as_text(evaluation.get("run_id")) or as_text(evaluation.get("created")) or "",
        tool=f"inspect_ai {version_of_tool}".strip(),
        config=as_dict(evaluation.get("model_generate_config")) | plan,
        folder=path.parent,
    )
