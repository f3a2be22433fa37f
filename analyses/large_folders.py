"""What each command costs on folders of many runs: minutes, and the most memory it held.

    python -m analyses.large_folders               # 10,000, 31,000 and 100,000 runs; writes reports/large_folders.md
    python -m analyses.large_folders --runs 10000 --only fit monitor
    python -m analyses.large_folders --keep big    # the folders and what was measured stay; a later call goes on

The demo's saved runs are repeated under new ids: every copy has groups and questions of its own, other effects
(each times a number near 1), and in a quarter of its runs one step less, so that no two runs are alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trajkit.demo.paths import TRACES
from trajkit.errors import InputError
from trajkit.files import write_text
from trajkit.runs.table import MOST_RUNS
from trajkit.tables import Table
from trajkit.tables.render import markdown
from trajkit.traces.atomic import write_tables
from trajkit.traces.schema import SCHEMA
from trajkit.traces.store import files_of

COMMANDS = {
    "fit": ("fit", "{traces}", "--out", "{work}/detectors"),
    "monitor": ("monitor", "{traces}", "--detectors", "{work}/detectors"),
    "analyze": ("analyze", "{traces}"),
    "analyze --report": ("analyze", "{traces}", "--report", "{work}/studies"),
    "report": ("report", "{traces}", "--out", "{work}/report"),
    "report --detectors": ("report", "{traces}", "--out", "{work}/judged", "--detectors", "{work}/detectors"),
}
"""In this order: `fit` writes the detectors that others read."""


@dataclass(frozen=True)
class Cost:
    """Of one command, in a process of its own. minutes: by the clock; of_cpu: that its threads worked. gigabytes: the
    largest resident set."""

    command: str
    runs: int
    minutes: float
    of_cpu: float
    gigabytes: float


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", type=Path, nargs="?", default=TRACES, help="saved runs to repeat")
    parser.add_argument("--runs", type=int, nargs="+", default=[10_000, 31_000, 100_000])
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--keep", type=Path, help="keep folders and costs here, and take those that are there")
    parser.add_argument("--out", type=Path, default=Path("reports/large_folders.md"))
    args = parser.parse_args(argv)
    costs = []
    with tempfile.TemporaryDirectory() as temporary:
        for runs in args.runs:
            work = (args.keep or Path(temporary)) / str(runs)
            if not (work / "traces").is_dir():
                write_copies(args.traces, work / "traces", runs)
            costs += [measured(name, runs, work) for name in COMMANDS if name in args.only]
    text = _page(costs, args)
    write_text(args.out, text)
    print(text)


def write_copies(source: Path, folder: Path, runs: int) -> None:
    """Write `runs` runs to a new folder, a file for each copy of the runs of `source`."""
    columns = pa.concat_tables([_whole(path) for path in files_of(source)])
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number, first in enumerate(range(0, runs, len(columns))):
        copy = copied(columns.slice(0, min(len(columns), runs - first)), number, rng)
        write_tables([copy], folder / f"copy-{number:03d}.parquet")


def _whole(path: Path) -> pa.Table:
    """A file with the columns that it may lack, as nulls."""
    table = pq.read_table(path)
    for field in SCHEMA:
        if field.name not in table.schema.names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    steps = table["steps"].combine_chunks()
    said = [
        steps.values.field(f.name) if f.name in _names(steps) else pa.nulls(len(steps.values), f.type) for f in _STEP
    ]
    whole = pa.ListArray.from_arrays(steps.offsets, pa.StructArray.from_arrays(said, fields=list(_STEP)))
    return table.set_column(table.schema.names.index("steps"), "steps", whole).select(SCHEMA.names)


_STEP = SCHEMA.field("steps").type.value_type


def _names(steps: pa.ListArray) -> set[str]:
    return {field.name for field in steps.type.value_type}


def copied(table: pa.Table, number: int, rng: np.random.Generator) -> pa.Table:
    """The runs of `table` as others: new ids, groups and questions; perturbed effects; in a quarter of them, those of
    three steps or more, the last but one left out."""
    named = {
        name: pc.binary_join_element_wise(table[name], pa.scalar(f"copy {number}"), " ")
        for name in ("transcript_id", "group_id", "task_id", "question")
    }
    n_steps, width = (table[name].to_numpy().astype(np.int64) for name in ("n_steps", "n_regions"))
    shorter = (rng.random(len(table)) < 0.25) & (n_steps > 2)
    ends = np.cumsum(n_steps)
    keep = np.ones(ends[-1], bool)
    keep[ends[shorter] - 2] = False
    left = n_steps - shorter
    effects = _kept(table["effects"], keep, n_steps)
    values = effects.values.to_numpy() * np.exp(rng.normal(0, 0.1, len(effects.values))).astype(np.float32)
    changed: dict[str, Any] = named | {
        "n_steps": pa.array(left, pa.int32()),
        "steps": _kept(table["steps"], keep, n_steps),
        "effects": pa.ListArray.from_arrays(effects.offsets, pa.array(values)),
    }
    for name in ("half_widths", "hidden"):
        if table[name].null_count < len(table):
            changed[name] = _kept(table[name], keep, n_steps)
    assert (np.diff(effects.offsets.to_numpy()) == left * width).all()
    return pa.table([changed.get(name, table[name]) for name in SCHEMA.names], schema=SCHEMA)


def _kept(column: pa.ChunkedArray, keep: np.ndarray, n_steps: np.ndarray) -> pa.ListArray:
    """Lists of as many values a step, of the steps that are kept alone."""
    lists = column.combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    width = np.repeat(lengths // np.maximum(n_steps, 1), n_steps)  # values of each step
    of_step = np.repeat(np.arange(len(n_steps)), n_steps)
    sizes = np.bincount(of_step, width * keep, len(n_steps)).astype(np.int64)
    values = lists.flatten().filter(pa.array(np.repeat(keep, width)))
    return pa.ListArray.from_arrays(pa.array(np.cumsum([0, *sizes]), pa.int32()), values, mask=lists.is_null())


def measured(name: str, runs: int, work: Path) -> Cost:
    """What `trajkit` with the arguments of COMMANDS costs, or did when it was last measured in `work`.

    Raises InputError where it fails.
    """
    kept = work / f"{name.replace(' ', '_')}.json"
    if kept.is_file():
        return Cost(**json.loads(kept.read_text()))
    arguments = [part.format(traces=work / "traces", work=work) for part in COMMANDS[name]]
    began = time.perf_counter()
    with (work / "said").open("w") as said:
        process = subprocess.Popen([sys.executable, "-m", "trajkit", *arguments], stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)  # of this child alone
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise InputError(f"`trajkit {' '.join(arguments)}` failed: {(work / 'said').read_text()[-500:]}")
    minutes, of_cpu = (time.perf_counter() - began) / 60, (used.ru_utime + used.ru_stime) / 60
    cost = Cost(name, runs, minutes, of_cpu, used.ru_maxrss * 1024 / 1e9)
    write_text(kept, json.dumps(asdict(cost)))
    print(cost, file=sys.stderr, flush=True)
    return cost


def _page(costs: list[Cost], args: argparse.Namespace) -> str:
    order = sorted(costs, key=lambda cost: (list(COMMANDS).index(cost.command), cost.runs))
    rows = pd.DataFrame([vars(cost) for cost in order])
    headings = {
        "command": "command",
        "runs": "runs",
        "minutes": "minutes",
        "of_cpu": "minutes of CPU",
        "gigabytes": "peak GB",
    }
    table = Table(rows, headings, {"minutes": "{:.1f}".format, "of_cpu": "{:.2f}".format, "gigabytes": "{:.2f}".format})
    sizes = " ".join(map(str, args.runs))
    return (
        "# Large folders\n\n"
        f"Regenerate: `python -m analyses.large_folders --runs {sizes}`. Each command in a process of its own, one "
        f"after another, on {platform.machine()} with {os.cpu_count()} cores; peak: the largest resident set. Minutes "
        "by the clock hang on what else the machine does, those of CPU hardly. The demo's saved runs are repeated with "
        "groups and questions of their own, so that groups grow with the runs. "
        "`analyze --report`, and the comparisons by shuffling of `analyze` and `report`, are of "
        f"{MOST_RUNS:,} runs of a larger folder, whole groups drawn at random, and say so; all else is of all runs.\n\n"
        f"{markdown(table)}"
    )


if __name__ == "__main__":
    main()
