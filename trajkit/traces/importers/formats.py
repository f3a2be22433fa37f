"""Which formats there are, and which one a file is of, by its content."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from trajkit.errors import InputError
from trajkit.traces.importers.records import first_record

if TYPE_CHECKING:
    from trajkit.traces.importers.run import Importer

HEAD = 65_536
"""Bytes of a file that tell its format."""

FORMATS = {
    "inspect": "inspect's logs, .eval and .json",
    "scout": "transcripts of inspect_scout, .parquet or a database of them",
    "batch": "answers of a batch (OpenAI, vllm run-batch), its requests beside them",
    "openai": "chat completions of OpenAI, vLLM, SGLang …: JSON, JSONL or server-sent events",
    "lmms-eval": "samples of lmms-eval, .jsonl",
    "lm-eval": "samples of lm-eval, .jsonl",
    "vlmevalkit": "predictions of VLMEvalKit, .xlsx, .tsv or .json",
    "lighteval": "details of lighteval, .parquet",
    "dataset": "a data set with messages or prompt and completion: .parquet, .jsonl or a saved folder",
}
"""Name of a format → what it is. The file of this folder with its name reads it, by what is `IMPORTER` there. Those
that are told by more come first."""
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"7z\xbc\xaf": "7z"}
_OURS = "holds traces already, which need no import: `trajkit report` and all other commands take them as they are."


def importer(name: str) -> Importer:
    """The importer of a format. Raises InputError where there is none of that name."""
    if name not in FORMATS:
        raise InputError(f"the format must be one of {', '.join(FORMATS)}; got {name!r}.")
    found: Importer = import_module(f"trajkit.traces.importers.{name.replace('-', '_')}").IMPORTER
    return found


def sources(path: Path, format: str | None) -> list[tuple[Importer, Path]]:
    """The logs at `path`, each with its importer: one file, a folder that is one log, or the logs in a folder.

    format: what they are, where that is insisted on. Raises InputError where nothing is recognised.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a log, or a folder of logs.")
    insisted = None if format is None else importer(format)
    if path.is_file() or _recognised(path, insisted):
        one = insisted or _recognised(path, None)
        if one is None:
            raise InputError(f"{path} {_instead(path)}")
        return [(one, path)]
    found = [(one, file) for file in _files(path) if (one := _recognised(file, insisted))]
    if not found:
        if any(_is_ours(file) for file in path.glob("*.parquet")):
            raise InputError(f"{path} {_OURS}")
        raise InputError(f"{path} holds no log of {format or 'a known format'} ({', '.join(FORMATS)}).")
    return found


def _instead(path: Path) -> str:
    """What a file is that is of no known format, and what to do with it."""
    head = read_head(path)
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)
    if packed:
        return f"is packed with {packed}; unpack it first."
    if _is_ours(path):
        return _OURS
    record = first_record(path, head)
    if "question" in record and "image" in record:
        return (
            "has questions and no answers. `trajkit collect` asks a model for them; beside a log of answers it is "
            "given as --questions."
        )
    return f"is of no known format ({', '.join(FORMATS)}); say which with --format."


def _is_ours(path: Path) -> bool:
    """Whether it is a file of traces."""
    from trajkit.traces.file import TraceFile

    try:
        return path.suffix == ".parquet" and len(TraceFile(path).read_ids()) >= 0
    except InputError:
        return False


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.startswith("."))


def _recognised(path: Path, insisted: Importer | None) -> Importer | None:
    head = read_head(path)
    among = [insisted] if insisted else [importer(name) for name in FORMATS]
    return next((one for one in among if one.recognises(path, head)), None)


def read_head(path: Path) -> bytes:
    """The first HEAD bytes of a file; b"" of a folder and of what is no plain file. Raises InputError where it cannot
    be read."""
    if not path.is_file():
        return b""
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
