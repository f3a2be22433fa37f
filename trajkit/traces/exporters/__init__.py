"""Taking runs to the files of other tools; a file here for each format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from trajkit.errors import InputError
from trajkit.files import check_file
from trajkit.traces.asking import nearest
from trajkit.traces.exporters import csv, huggingface, inspect, jsonl, scout
from trajkit.traces.exporters.export import Advance, Change, Export
from trajkit.traces.exporters.folder import check_ours
from trajkit.traces.store import Traces, read_traces
from trajkit.traces.trace import Trace


class Format(NamedTuple):
    """check: raises where a path cannot be written to. write: runs to it. what: it writes, in words. opened: how, in a
    shell or in Python."""

    check: Callable[[Path], None]
    write: Callable[[Export, Path], None]
    what: str
    opened: Callable[[Path], str]


def _in_python(call: str, *below: str) -> Callable[[Path], str]:
    return lambda path: f"{call}({str(path.joinpath(*below))!r})"


FORMATS: Mapping[str, Format] = {
    "scout": Format(
        check_ours,
        scout.write,
        "a transcripts database of inspect_scout",
        lambda path: f"scout scan SCANNER.py -T {quote(str(path))}",
    ),
    "inspect": Format(
        inspect.check,
        inspect.write,
        "an inspect log",
        lambda path: f"inspect view start --log-dir {quote(str(path if path.is_dir() else path.parent))}",
    ),
    "hf": Format(check_ours, huggingface.write, "a Hugging Face data set", _in_python("datasets.load_dataset")),
    "jsonl": Format(check_file, jsonl.write, "a JSON object a run", lambda path: f"jq . {quote(str(path))}"),
    "csv": Format(check_ours, csv.write, "two tables", _in_python("pandas.read_csv", "runs.csv")),
}
_ENDINGS = {".jsonl": "jsonl", ".eval": "inspect", ".json": "inspect"}
"""Formats that the ending of a path tells."""


def export_traces(
    traces: Traces | Iterable[Trace] | Trace | str | Path,
    path: str | Path,
    *,
    format: str | None = None,
    change: Change = lambda trace: trace,
    advance: Advance = lambda note, steps: None,
) -> Path:
    """Write runs for another tool, and return where. All is written, or nothing.

    traces: `read_traces`, a selection of them, one run or several in memory, or a file or folder of them.
    format: one of FORMATS;
    may be left out where `path` ends in .jsonl, .eval or .json. `scout`, `csv` and `hf` write a folder, which must be
    new, empty, or written by this before and not changed since; so does `inspect` where the path has no such ending, a
    log for each model. change: called with each run, gives what is written of it. advance: called with ("", 1) after
    each run. Raises InputError where there is no run, or it cannot be written.

    See also: `read_traces`, `write_traces`, `import_traces`.

    >>> import tempfile, trajkit as tk
    >>> traces = tk.read_traces("data/demo/traces")
    >>> path = tk.export_traces(traces.filter(outcome="hallucination")[:5], tempfile.mkdtemp() + "/runs.jsonl")
    >>> len(path.read_text().splitlines())
    5
    """
    if not isinstance(path, str | Path):
        raise InputError("export_traces takes runs, then a path: export_traces(traces, path).")
    path = Path(path)
    name = format_of(path, format)
    FORMATS[name].check(path)
    if isinstance(traces, str | Path):
        traces = read_traces(traces)
    chosen = traces if isinstance(traces, Traces) else Traces.of([traces] if isinstance(traces, Trace) else traces)
    if not len(chosen):
        raise InputError("there is no run to export; choose others, or collect some.")
    FORMATS[name].write(Export(chosen, change, advance), path)
    return path


def format_of(path: Path, name: str | None) -> str:
    """The format that is asked for, or that the ending of a path tells. Raises InputError where neither says."""
    if name is None and path.suffix in _ENDINGS:
        return _ENDINGS[path.suffix]
    if name is None:
        raise InputError(f"{path} does not tell its format; say format: {', '.join(FORMATS)}.")
    if name not in FORMATS:
        meant = nearest(name, FORMATS)
        raise InputError(
            f"format must be one of {', '.join(FORMATS)}; got {name!r}" + (f": {meant}" if meant[:3] == "did" else ".")
        )
    return name
