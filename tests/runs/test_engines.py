"""All engines give the same numbers to the last bit, in order, also when a worker dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from tests.runs.test_kernel import ALL, TRACES
from trajkit.errors import InputError
from trajkit.runs.engines import work_through
from trajkit.runs.source import Part, parts_of_files
from trajkit.runs.table import rows_of_part, run_table
from trajkit.traces.store import write_traces
from trajkit.traces.writer import TraceWriter


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Some files of a few runs each."""
    path = tmp_path_factory.mktemp("traces")
    with TraceWriter(path, part_size=9) as writer:
        for trace in TRACES:
            writer.add(trace)
    return path


def dies_once(part: Part, marks: Path) -> pa.Table:
    """`rows_of_part`, in a worker that is killed the first time that it comes to the second part."""
    mark = marks / "died"
    if part.path.name.endswith("1.parquet") and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return rows_of_part(part, ALL)


def written(table):
    return repr(table.to_pylist())


def test_a_pool_gives_what_this_process_gives(folder):
    assert written(run_table(folder, ALL, engine="pool", workers=2).rows) == written(run_table(folder, ALL).rows)


@pytest.mark.slow
def test_ray_gives_what_this_process_gives_also_when_a_worker_is_killed(folder, tmp_path):
    pytest.importorskip("ray", reason="needs trajkit[ray]")
    done = work_through(partial(dies_once, marks=tmp_path), parts_of_files(folder, 1), "ray", 2)
    assert written(pa.concat_tables(done)) == written(run_table(folder, ALL).rows)
    assert (tmp_path / "died").exists()


def test_a_worker_of_a_pool_that_is_killed_ends_in_words(folder, tmp_path):
    with pytest.raises(InputError, match="a worker process ended before its work: killed"):
        list(work_through(partial(dies_once, marks=tmp_path), parts_of_files(folder, 1), "pool", 2))


def test_a_script_that_a_worker_would_run_again_is_told_what_it_lacks(folder, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"import trajkit\ntrajkit.run_table({str(folder)!r}, engine='pool', workers=2)\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode
    assert "not below `if __name__ == '__main__':`" in done.stderr


@pytest.mark.parametrize("engine", ["local", "pool"])
def test_what_is_wrong_with_a_file_is_told_by_every_engine(tmp_path, engine):
    path = write_traces(TRACES[:3], tmp_path / "runs.parquet")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(Exception, match=r"runs\.parquet: not a Parquet file, or cut short"):
        run_table(path, engine=engine)


def test_another_engine_and_traces_in_memory_are_refused_by_name(folder):
    with pytest.raises(InputError, match=r"must be one of local, pool, ray\. Got 'dask' instead"):
        run_table(folder, engine="dask")
    with pytest.raises(InputError, match="engine 'pool' reads files; give the path"):
        run_table(TRACES, engine="pool")
