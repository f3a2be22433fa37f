"""Reading a folder of saved runs as one table, with the engine that was asked for and a bar where it takes long."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trajkit.errors import InputError

if TYPE_CHECKING:
    from trajkit.runs import engines
    from trajkit.runs.kernel import Wanted
    from trajkit.runs.table import RunTable


@dataclass(frozen=True)
class Engine:
    """Who reads the runs, as `runs.engines.work_through` takes it."""

    name: engines.Engine = "local"
    workers: int | None = None
    address: str | None = None

    @classmethod
    def of(cls, name: str, workers: int | None = None, address: str | None = None) -> Engine:
        """What --engine, --workers and --address say. Raises InputError on another engine, or an option that would do
        nothing."""
        from trajkit.runs.engines import ENGINES

        engine = next((known for known in ENGINES if known == name), None)
        if engine is None:
            raise InputError(f"--engine must be one of {', '.join(ENGINES)}; got {name!r}.")
        if workers is not None and engine == "local":
            raise InputError("--workers is about --engine pool or ray; name one of them too.")
        if address is not None and engine != "ray":
            raise InputError("--address is about --engine ray; name it too.")
        if address is not None and workers is not None:
            raise InputError("--workers is about a Ray of this machine; the cluster at --address has its own.")
        return cls(engine, workers, address)


def read_runs(traces: Path, wanted: Wanted, how: Engine) -> RunTable:
    """All runs of a file or folder, with a bar on a terminal where that takes long. Labels that people gave take the
    place of outcomes, and how many is said. Raises as `run_table`, and InputError on labels that are none."""
    from trajkit.cli.output import note
    from trajkit.progress import progress_if_slow
    from trajkit.runs.table import run_table
    from trajkit.traces.file import TraceFile
    from trajkit.traces.labels import read_labels
    from trajkit.traces.store import files_of

    labels = read_labels(traces)
    total = sum(sum(TraceFile(path).group_sizes) for path in files_of(traces))
    with progress_if_slow("reading runs", total) as bar:
        read = run_table(traces, wanted, engine=how.name, workers=how.workers, address=how.address, advance=bar.advance)
    runs = read.labelled(labels)
    if labels:
        note(said_of_labels(len(runs.by_hand), len(labels)))
    return runs


def said_of_labels(used: int, all_of_them: int) -> str:
    """How many labels there are, and how many of them are of other runs than those that are there."""
    from trajkit.tables.words import count

    said = f"{count(used, 'run')} labelled by hand, in place of {'its outcome' if used == 1 else 'their outcomes'}."
    more = all_of_them - used
    are = "is of a run that is" if more == 1 else "are of runs that are"
    return f"{said} {count(more, 'label')} more {are} not here, and kept." if more else said
