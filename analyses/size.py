"""What size costs: from saved runs to prefix features and metrics, beside a bare read of the same columns; memory;
processes; and the same metrics by a loop over runs and by SQL.

    python -m analyses.many_runs /tmp/many --runs 1000000     # 9 GB, once
    python -m analyses.size --folder /tmp/many                # an hour on 2 cores; writes reports/size.md
    python -m analyses.size --runs 2000 --repeats 1           # a minute, on runs made for it

Every figure is of a process of its own. What is compared is run in turn (A B A B …); medians of repeats are shown, and
the ratio is the median of the ratios of neighbours. The row about SQL needs DuckDB, and is left out without it. On a
machine that does other work too, read CPU time.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analyses.many_runs import FILE, REGIONS, STEPS, write_many
from trajkit import trajectory as tj
from trajkit.files import write_text
from trajkit.progress import progress
from trajkit.runs.engines import Engine
from trajkit.runs.features import features
from trajkit.runs.kernel import Wanted, rows_of
from trajkit.runs.source import ROWS, parts_of_files
from trajkit.runs.table import RunTable, rows_of_part, run_table
from trajkit.tables import Table
from trajkit.tables.render import markdown
from trajkit.tables.words import count
from trajkit.traces.store import files_of
from trajkit.trajectory.concentration import MEASURES

PREFIXES = Wanted(metrics=False, hidden=True)
"""What `tk.features` reads and makes."""
READ_ROWS = (256, 512, 1024, 2048)
"""Runs in a batch that a bare read is tried with."""
LOOPED = 200
"""Runs that the loop over runs is timed on."""


@dataclass(frozen=True)
class Cost:
    """seconds: by the clock. cpu: seconds of all its processors, children included. peak: bytes of memory."""

    seconds: float
    cpu: float
    peak: int


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="runs of analyses.many_runs; made where none is given")
    parser.add_argument("--runs", type=int, default=FILE, help="runs that are compared several times")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--metric-steps", type=int, default=200_000, help="steps that metrics are timed on")
    parser.add_argument("--out", type=Path, default=Path("reports/size.md"))
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        few = write_many(Path(scratch) / "few", args.runs)
        many = args.folder or few
        text = (
            "# Size\n\n"
            f"Regenerate: {_commands(args)}.\n\n"
            f"Measured on {platform.machine()}, {os.cpu_count()} processors, with a load of "
            f"{os.getloadavg()[0]:.0f} when it began (1 is one processor that is busy), Arrow {pa.__version__}, NumPy "
            f"{np.__version__}. Made-up runs of {STEPS[0]} to {STEPS[1]} steps over {REGIONS[0]} to {REGIONS[1]} "
            "regions, each with a `meta` of its own.\n\n"
        )
        read = fastest_read(few, args.repeats)
        text += f"## Beside a bare read\n\n{beside_a_read(few, read, args.runs, args.repeats)}\n"
        text += f"## Memory\n\n{memory(many, read, Path(scratch))}\n"
        text += f"## Processes\n\n{processes(few, args.runs, args.repeats)}\n"
        text += f"## Other ways to the same metrics\n\n{other_ways(few, args.runs, args.repeats)}\n"
        text += f"## Metrics of runs in memory\n\n{in_memory(args.metric_steps, args.repeats)}"
    write_text(args.out, text)
    print(text)


def _commands(args: argparse.Namespace) -> str:
    again = f"`python -m analyses.size --runs {args.runs} --repeats {args.repeats} --metric-steps {args.metric_steps}"
    if not args.folder:
        return f"{again}`"
    n_all = sum(pq.read_metadata(file).num_rows for file in files_of(args.folder))
    return f"{again} --folder /tmp/many`, on runs by `python -m analyses.many_runs /tmp/many --runs {n_all}`"


def fastest_read(path: Path, repeats: int) -> int:
    """Of READ_ROWS, how many runs a batch a bare read takes the least CPU time with."""
    jobs = {str(rows): partial(bare_read, rows=rows) for rows in READ_ROWS}
    return READ_ROWS[int(in_turn("bare reads", jobs, path, repeats).frame["cpu"].argmin())]


def beside_a_read(path: Path, read: int, n_runs: int, repeats: int) -> str:
    """A table: to read, to check, to make features, metrics, and files of features. read: runs in a batch of the bare
    read."""
    jobs = {
        "bare read by pyarrow": partial(bare_read, rows=read),
        "prefix features": to_features,
        "prefix features and all run metrics": to_metrics,
        "prefix features, written to Parquet": to_files,
    }
    return markdown(in_turn(f"{count(n_runs, 'run')}, read", jobs, path, repeats)) + (
        f"\nAll read the same columns: the bare read in batches of {read:,} runs, which it is fastest with (of "
        f"{', '.join(f'{rows:,}' for rows in READ_ROWS)}), the others in batches of {ROWS:,}. The bare read does "
        "nothing with them, and does not check them, which all others do. What a new process costs at first is in "
        "every row, and makes ratios of so few runs\nsmaller than they are over many: for those see the next table.\n"
    )


def memory(many: Path, read_rows: int, scratch: Path) -> str:
    """A table: peak memory and time of `tk.features(path, out=)` over all runs, a tenth and a hundredth of them."""
    files = files_of(many)
    n_all = sum(pq.read_metadata(file).num_rows for file in files)
    sizes = sorted({max(n_all // part, 1) for part in (100, 10, 1)})
    rows: list[dict[str, Any]] = []
    with progress("memory", total=len(sizes)) as bar:
        for n in sizes:
            own = many if n == n_all else some_runs(files, n, scratch / f"some {n}")
            read, made = cost(partial(bare_read, rows=read_rows), own), cost(to_files, own)
            rows.append(
                {
                    "runs": n,
                    "peak": made.peak / 1e6,
                    "times": made.peak / (1e6 * rows[0]["peak"]) if rows else 1.0,
                    "minutes": made.seconds / 60,
                    "cpu": made.cpu / 60,
                    "ratio": made.seconds / read.seconds,
                    "cpu_ratio": made.cpu / read.cpu,
                }
            )
            bar.advance()
    headings = {
        "runs": "runs",
        "peak": "peak memory, MB",
        "times": "beside the fewest",
        "minutes": "minutes",
        "cpu": "CPU minutes",
        "ratio": "beside a bare read",
        "cpu_ratio": "in CPU time",
    }
    return (
        markdown(Table(pd.DataFrame(rows), headings, dict.fromkeys(("times", "ratio", "cpu_ratio"), "{:.2f}".format)))
        + "\n`tk.features(path, out=…)`: reading, checking, prefix features, and writing them to Parquet.\n"
    )


def processes(path: Path, n_runs: int, repeats: int) -> str:
    """A table: this process, a pool of one and of two, Ray with two."""
    jobs: dict[str, Callable[[Path], None]] = {
        "this process": to_table,
        "a pool of 1": partial(to_table, engine="pool", workers=1),
        "a pool of 2": partial(to_table, engine="pool", workers=2),
    }
    if importlib.util.find_spec("ray"):
        jobs["Ray, 2 workers"] = partial(to_table, engine="ray", workers=2)
    return markdown(in_turn("processes", jobs, path, repeats, cpu=False)) + (
        f"\n{count(n_runs, 'run')} to prefix features, the start of the processes included, which is most of it for so "
        "few.\n"
    )


def other_ways(path: Path, n_runs: int, repeats: int) -> str:
    """A table: four metrics of each run by the kernel (which makes all), by SQL, by a loop over runs."""
    jobs: dict[str, Callable[[Path], Any]] = {"all metrics by trajkit": by_kernel}
    note = "DuckDB is not installed here, and its row is left out."
    if importlib.util.find_spec("duckdb"):
        jobs["four metrics by DuckDB"] = by_sql
        check_alike(by_kernel(path), by_sql(path))
        note = "DuckDB has the same numbers to 9 digits."
    table = in_turn("other ways", jobs, path, repeats)
    looped, ours = cost(by_loop, path), table.frame.iloc[0]
    times = n_runs / min(LOOPED, n_runs)
    row = {
        "what": "four metrics by a loop over runs with pandas",
        "seconds": times * looped.seconds,
        "cpu": times * looped.cpu,
        "ratio": times * looped.seconds / ours.seconds,
        "cpu_ratio": times * looped.cpu / ours.cpu,
    }
    check_alike(by_kernel(path).head(LOOPED), by_loop(path))
    shown = Table(pd.concat([table.frame, pd.DataFrame([row])], ignore_index=True), table.headings, table.formats)
    return markdown(shown) + (
        "\nOf each run its number of thinking steps, path length, mean step and mean HHI, which SQL and a loop can "
        f"say in a few lines; trajkit makes its {len(tj.RUN_METRICS)} metrics and all prefix features meanwhile. "
        f"{note} The loop is timed on {count(min(LOOPED, n_runs), 'run')}.\n"
    )


def in_memory(steps: int, repeats: int, regions: int = 64, steps_a_run: int = 10) -> str:
    """A table: `run_metrics` of runs in memory beside one pass over their effects, in either precision."""
    rows = []
    for name in ("float64", "float32"):
        values = np.random.default_rng(0).standard_normal((steps, regions), np.float32).astype(name)
        offsets = np.arange(0, steps + 1, steps_a_run)
        pairs = [
            (seconds(lambda v=values: np.abs(v).sum()), seconds(lambda v=values, o=offsets: tj.run_metrics(v, o)))
            for _ in range(repeats + 1)
        ][1:]
        ratios = np.array([(ours[0] / one[0], ours[1] / one[1]) for one, ours in pairs])
        wall, cpu = np.median(ratios, 0)
        rows.append({"precision": name, "ratio": wall, "cpu_ratio": cpu})
    looped = _looped_once(values[: max(steps // 500, steps_a_run)], steps_a_run) * len(values)
    headings = {"precision": "precision", "ratio": "times one pass", "cpu_ratio": "in CPU time"}
    return markdown(Table(pd.DataFrame(rows), headings, dict.fromkeys(("ratio", "cpu_ratio"), "{:.1f}".format))) + (
        f"\n`run_metrics`, {len(tj.RUN_METRICS)} metrics of {steps:,} steps over {regions} regions in runs of "
        f"{steps_a_run}, beside one pass of `np.abs(x).sum()`, which has one thread where metrics have two or more. A "
        f"loop over the runs that calls the functions of one path takes {looped / pairs[-1][1][0]:,.0f} times as long "
        "(timed on one run in 500). Of arrays of half a gigabyte the one pass is slower a number, for fresh memory, "
        "and ratios come out smaller.\n"
    )


def in_turn(doing: str, jobs: dict[str, Callable[[Path], Any]], path: Path, repeats: int, cpu: bool = True) -> Table:
    """Costs of jobs, each beside the first, run one after another so many times."""
    costs: dict[str, list[Cost]] = {name: [] for name in jobs}
    with progress(doing, total=repeats * len(jobs)) as bar:
        for _ in range(repeats):
            for name, job in jobs.items():
                costs[name].append(cost(job, path))
                bar.advance(name)
    first = next(iter(costs.values()))

    def row(name: str, own: Sequence[Cost]) -> dict[str, Any]:
        return {
            "what": name,
            "seconds": np.median([one.seconds for one in own]),
            "cpu": np.median([one.cpu for one in own]),
            "ratio": np.median([one.seconds / beside.seconds for one, beside in zip(own, first, strict=True)]),
            "cpu_ratio": np.median([one.cpu / beside.cpu for one, beside in zip(own, first, strict=True)]),
        }

    headings = {"what": "", "seconds": "seconds", "ratio": "times the first"}
    if cpu:
        headings |= {"cpu": "CPU seconds", "cpu_ratio": "in CPU time"}
    frame = pd.DataFrame([row(name, own) for name, own in costs.items()])
    return Table(frame, headings, dict.fromkeys(("ratio", "cpu_ratio"), "{:.2f}".format))


def cost(job: Callable[[Path], Any], path: Path) -> Cost:
    """Of a job in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_cost, job, path).result()


def _cost(job: Callable[[Path], Any], path: Path) -> Cost:
    _warm(path)
    took = seconds(lambda: job(path))
    return Cost(*took, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _warm(path: Path) -> None:
    """Have everything loaded and started that a job needs, so that it counts for none."""
    rows = pq.ParquetFile(files_of(path)[0]).iter_batches(8, columns=list(PREFIXES.reads()))
    _ = RunTable(pa.Table.from_batches([rows_of(next(rows), PREFIXES)])).frame_table


def seconds(work: Callable[[], Any]) -> tuple[float, float]:
    """By the clock, and of all processors."""
    began = time.perf_counter(), _cpu()
    work()
    return time.perf_counter() - began[0], _cpu() - began[1]


def _cpu() -> float:
    """Seconds of this process and of its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def some_runs(files: Sequence[Path], n: int, out: Path) -> Path:
    """A folder of n runs: links to whole files where those are enough, else runs made anew."""
    if n % FILE:
        return write_many(out, n)
    out.mkdir()
    for file in files[: n // FILE]:
        (out / file.name).symlink_to(file.resolve())
    return out


def bare_read(path: Path, rows: int) -> None:
    for file in files_of(path):
        found = pq.ParquetFile(file)
        columns = [name for name in PREFIXES.reads() if name in found.schema_arrow.names]
        for _ in found.iter_batches(batch_size=rows, columns=columns):
            pass


def to_features(path: Path) -> None:
    for part in parts_of_files(path):
        _ = RunTable(rows_of_part(part, PREFIXES)).frame_table


def to_metrics(path: Path) -> None:
    for part in parts_of_files(path):
        _ = RunTable(rows_of_part(part, Wanted())).frame_table


def to_table(path: Path, engine: Engine = "local", workers: int | None = None) -> None:
    run_table(path, PREFIXES, engine=engine, workers=workers)


def to_files(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        features(path, out=Path(folder) / "features")


def by_kernel(path: Path) -> pd.DataFrame:
    table = run_table(path).table
    return table[["transcript_id", "n_steps", "path_length", "mean_step", "hhi_level"]]


def by_sql(path: Path) -> pd.DataFrame:
    """The columns of `by_kernel`, where a run's thinking steps are its first."""
    import duckdb

    return duckdb.sql(_SQL.format(files=path / "*.parquet")).df()


_SQL = """
WITH runs AS (
    SELECT transcript_id AS id, n_regions AS k, len(list_filter(steps, lambda step: step.kind = 'thinking')) AS t,
           effects AS e
    FROM read_parquet('{files}')
), cells AS (
    SELECT id, k, unnest(range(t * k)) AS i, unnest(e[1 : t * k]) AS v,
           unnest(list_concat(list_transform(range(k), lambda r: NULL::FLOAT), e[1 : (t - 1) * k])) AS before
    FROM runs
), of_step AS (
    SELECT id, any_value(k) AS k, i // k AS step, sqrt(sum((v::DOUBLE - before) ** 2)) AS move,
           sum(greatest(v, 0)::DOUBLE) AS total, sum(greatest(v, 0)::DOUBLE ** 2) AS squares
    FROM cells GROUP BY id, step
)
SELECT id AS transcript_id, count(*) AS n_steps, sum(move) AS path_length, sum(move) / (count(*) - 1) AS mean_step,
       avg(CASE WHEN total > 0 THEN (squares / total ** 2 - 1 / k) / (1 - 1 / k) END) AS hhi_level
FROM of_step GROUP BY id
"""


def by_loop(path: Path) -> pd.DataFrame:
    """The columns of `by_kernel` of the first LOOPED runs."""
    columns = ["transcript_id", "n_regions", "steps", "effects"]
    batch = next(pq.ParquetFile(files_of(path)[0]).iter_batches(LOOPED, columns=columns))
    rows = []
    for run in batch.to_pandas().itertuples():
        n = sum(step["kind"] == "thinking" for step in run.steps)
        x = pd.DataFrame(run.effects.reshape(-1, run.n_regions)[:n].astype(float))
        moves = (x.diff() ** 2).sum(axis=1).pow(0.5)[1:]
        share = x.clip(lower=0).pipe(lambda q: q.div(q.sum(axis=1), axis=0))
        hhi = ((share**2).sum(axis=1, min_count=1) - 1 / run.n_regions) / (1 - 1 / run.n_regions)
        rows.append((run.transcript_id, n, moves.sum(), moves.mean(), hhi.mean()))
    return pd.DataFrame(rows, columns=["transcript_id", "n_steps", "path_length", "mean_step", "hhi_level"])


def check_alike(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """Raise AssertionError where another way has other numbers."""
    one, other = (frame.set_index("transcript_id").sort_index().astype(float) for frame in (ours, theirs))
    pd.testing.assert_frame_equal(one, other, check_exact=False, rtol=1e-9)


def _looped_once(values: np.ndarray, steps_a_run: int) -> float:
    """Seconds a step of all metrics by a loop over runs."""
    alone = (
        tj.path_length,
        tj.net_displacement,
        tj.tortuosity,
        tj.straightness,
        tj.mean_step,
        tj.mean_cosine,
        tj.turning_entropy,
        tj.sinuosity,
        tj.e_max,
        tj.msd_exponent,
        tj.switch_rate,
        tj.revisit_rate,
        tj.dwell_time,
        tj.recurrence_rate,
        *(partial(tj.concentration, measure=measure) for measure in MEASURES),
    )
    frame = pd.DataFrame(values).assign(run=np.arange(len(values)) // steps_a_run)

    def loop() -> None:
        for _, run in frame.groupby("run"):
            path = run.drop(columns="run").to_numpy()
            for metric in alone:
                metric(path)

    return seconds(loop)[0] / len(values)


if __name__ == "__main__":
    main()
