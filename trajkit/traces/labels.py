"""Labels that people give to saved runs by hand, in a file beside them: what a run was takes the place of its outcome.

One small JSON file, read and written whole. A label is of a transcript_id; one of a run that is not there is kept, as
the run may come back.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from trajkit.errors import InputError
from trajkit.files import lock_file, read_plain, replacing, told
from trajkit.strict_json import parse_json

Label = Literal["success", "hallucination", "reasoning_failure"]
LABELS: tuple[Label, ...] = get_args(Label)
FORMAT = 1
_MOST_BYTES = 2**28
_PATIENCE = 10.0
"""Seconds to wait for another process that is writing labels, which takes it milliseconds."""


def labels_file(traces: str | Path) -> Path:
    """Where the labels of a folder of traces are, or of one file of them."""
    traces = Path(traces)
    return traces.with_name(f"{traces.stem}.labels.json") if traces.is_file() else traces / "labels.json"


def read_labels(traces: str | Path) -> dict[str, Label]:
    """transcript_id → label; empty where none was given. Raises InputError on a file that holds something else."""
    return {name: about["label"] for name, about in _read(labels_file(traces)).items()}


def set_label(traces: str | Path, transcript_id: str, label: Label | None) -> None:
    """Give a run a label, or take it away with None. Labels that other processes give meanwhile are kept.

    Raises InputError for another label, and on a file that holds something else, which is left as it is; WriteError
    where it cannot be written.
    """
    check_label(label)
    path = labels_file(traces)
    with _held(path):
        labels = _read(path)
        labels.pop(transcript_id, None)
        if label is not None:
            labels[transcript_id] = {"label": label, "at": round(time.time(), 3)}
        with replacing(path) as file:
            file.write(json.dumps({"format": FORMAT, "labels": labels}, indent=1).encode() + b"\n")


def copy_labels(traces: str | Path, to: str | Path) -> None:
    """Give the runs of a folder the labels that those of another have, but for what is labelled there already.

    Raises as `set_label` does.
    """
    given = _read(labels_file(traces))
    if not given:
        return
    path = labels_file(to)
    with _held(path):
        labels = {**given, **_read(path)}
        with replacing(path) as file:
            file.write(json.dumps({"format": FORMAT, "labels": labels}, indent=1).encode() + b"\n")


def check_label(label: Any) -> None:
    """Raises InputError for what is no label, nor None."""
    if label is not None and label not in LABELS:
        raise InputError(f"a label must be one of {', '.join(LABELS)}, or null to take it away; got {label!r}.")


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """One process at a time: the file itself is replaced, so another one beside it is locked."""
    with told(path), lock_file(path.with_name(f".{path.name}.lock"), _PATIENCE) as ours:
        if not ours:
            raise InputError(f"another process has been writing {path} for {_PATIENCE:g} s; stop it, and label again.")
        yield


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        found = parse_json(read_plain(path, _MOST_BYTES).decode())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); it should hold labels of runs."
        ) from error
    except ValueError as error:
        raise _refused(path, f"it is no JSON: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("labels"), dict):
        raise _refused(path, f'expected {{"format": {FORMAT}, "labels": {{…}}}}')
    labels = found["labels"]
    for name, about in labels.items():
        if not isinstance(about, Mapping) or about.get("label") not in LABELS:
            raise _refused(path, f"run {name!r}: its label must be one of {', '.join(LABELS)}")
    return labels


def _refused(path: Path, why: str) -> InputError:
    return InputError(f"{path} does not hold labels of runs ({why}). Correct it, or move it away to go on without.")
