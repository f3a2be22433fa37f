"""Nothing already written is lost: not by a full disk, not by a kill, not by a second writer."""

from __future__ import annotations

import builtins
import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from trajkit.errors import InputError, TraceFormatError
from trajkit.traces.store import TraceWriter, read_traces, write_traces

from .factory import assert_same, make_trace

WORKER = Path(__file__).parent / "collect_worker.py"


class FullDisk:
    """A file that takes `room` bytes."""

    def __init__(self, file: IO[bytes], room: int) -> None:
        self._file, self._room = file, room

    def write(self, data: bytes) -> int:
        self._room -= memoryview(data).nbytes
        if self._room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._file.write(data)

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def fill_disk(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    def opened(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        file = real(path, mode, *args, **options)
        return FullDisk(file, room) if str(path).endswith(".tmp") else file

    real = builtins.open
    monkeypatch.setattr(builtins, "open", opened)


def collect(folder: Path, n: int, *when: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(WORKER), str(folder), str(n), *when], stdout=subprocess.PIPE, text=True
    )


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize("room", [0, 100, 4000])
def test_a_full_disk_is_an_error_that_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    path = write_traces([make_trace(0)], tmp_path / "runs.parquet")
    fill_disk(monkeypatch, room)
    with pytest.raises(
        InputError, match=r"runs\.parquet could not be written: No space left on device.*free some space"
    ):
        write_traces([make_trace(i) for i in range(100)], path)
    assert [file.name for file in tmp_path.iterdir()] == ["runs.parquet"]
    assert_same(read_traces(path)[0], make_trace(0))


def test_a_collection_goes_on_after_the_disk_was_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TraceWriter(tmp_path, part_size=2) as writer:
        writer.add(make_trace(0))
        writer.add(make_trace(1))
        writer.add(make_trace(2))
        with monkeypatch.context() as patch:
            fill_disk(patch, 100)
            with pytest.raises(InputError, match="No space left on device"):
                writer.add(make_trace(3))
        assert visible(tmp_path) == ["part-00000.parquet"]
    assert read_traces(tmp_path).ids == [f"run-{i:04d}" for i in range(4)]


def test_a_file_size_limit_of_the_system_is_an_error_too(tmp_path: Path) -> None:
    """A real failing write, not a pretended one."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "sys.path.insert(0, sys.argv[1]); from factory import make_trace\n"
        "from trajkit.traces.store import write_traces; from trajkit.errors import InputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "try: write_traces([make_trace(i) for i in range(300)], sys.argv[2])\n"
        "except InputError as error: print(error)"
    )
    path = tmp_path / "runs.parquet"
    done = subprocess.run([sys.executable, "-c", script, str(WORKER.parent), str(path)], capture_output=True, text=True)
    assert f"{path} could not be written: File too large" in done.stdout
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_an_error_half_way_leaves_no_file(tmp_path: Path) -> None:
    def runs() -> Any:
        yield from (make_trace(i) for i in range(100))
        raise RuntimeError("the model stopped")

    with pytest.raises(RuntimeError, match="the model stopped"):
        write_traces(runs(), tmp_path / "runs.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("when", ["half", "rename"])
def test_a_kill_in_the_middle_of_writing_leaves_every_finished_part_readable(tmp_path: Path, when: str) -> None:
    worker = collect(tmp_path, 12, when)
    assert worker.wait(timeout=60) == -9
    assert any(path.name.endswith(".tmp") for path in tmp_path.iterdir())  # it did die while writing
    assert visible(tmp_path) == ["part-00000.parquet", "part-00001.parquet"]
    assert read_traces(tmp_path).ids == [f"run-{i:04d}" for i in range(6)]

    assert collect(tmp_path, 12).wait(timeout=60) == 0
    assert sorted(read_traces(tmp_path).ids) == [f"run-{i:04d}" for i in range(12)]
    assert not any(path.name.endswith(".tmp") for path in tmp_path.iterdir())


def test_kills_at_random_moments_lose_and_double_no_run(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n, kept = 80, 0
    for _ in range(3):
        worker = collect(tmp_path, n)
        assert worker.stdout is not None
        for _ in range(rng.integers(4, 20)):
            worker.stdout.readline()
        time.sleep(rng.uniform(0, 0.01))
        worker.kill()
        worker.wait(timeout=60)
        assert kept < (kept := len(read_traces(tmp_path).ids))
    assert collect(tmp_path, n).wait(timeout=60) == 0
    back = read_traces(tmp_path)
    assert sorted(back.ids) == [f"run-{i:04d}" for i in range(n)]
    for run in back:
        assert_same(run, make_trace(int(run.transcript_id[-4:])))


def test_runs_that_wait_are_written_when_the_block_ends_by_an_error(tmp_path: Path) -> None:
    def interrupted() -> None:
        with TraceWriter(tmp_path) as writer:
            writer.add(make_trace(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read_traces(tmp_path).ids == ["run-0000"]


def test_a_run_is_taken_once(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        writer.add(make_trace(0))
        with pytest.raises(InputError, match="'run-0000' is already in"):
            writer.add(make_trace(0))
    with TraceWriter(tmp_path) as writer:
        assert writer.ids == {"run-0000"}
        with pytest.raises(InputError, match="'run-0000' is already in"):
            writer.add(make_trace(0))
    with pytest.raises(InputError, match="'run-0001' came twice"):
        write_traces([make_trace(1), make_trace(1)], tmp_path / "runs.parquet")


def test_a_collection_goes_on_only_with_the_settings_it_began_with(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        writer.add(make_trace(0, meta={"temperature": 1.0, "estimator": "abc"}))
    with TraceWriter(tmp_path) as writer:
        writer.require({"temperature": 1.0, "estimator": "abc", "revision": "a setting that the run does not name"})
        with pytest.raises(InputError, match=r"made with estimator 'abc'.*to be made with 'xyz'"):
            writer.require({"temperature": 1.0, "estimator": "xyz"})


def test_a_run_that_cannot_be_stored_does_not_spoil_the_others(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as writer:
        writer.add(make_trace(0))
        for bad in ({"question": "\ud800"}, {"meta": {"x": object()}}, {"task_repeat": "two"}):
            with pytest.raises(InputError, match="run-0001"):
                writer.add(make_trace(1, **bad))
        writer.add(make_trace(1))
    assert read_traces(tmp_path).ids == ["run-0000", "run-0001"]


def test_only_one_writer_at_a_time_holds_a_folder(tmp_path: Path) -> None:
    with TraceWriter(tmp_path), pytest.raises(InputError, match="another process is writing to"):
        TraceWriter(tmp_path)
    with TraceWriter(tmp_path):
        pass


def test_a_part_that_is_damaged_is_named_when_a_collection_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "part-00000.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(TraceFormatError, match=r"part-00000\.parquet: not a Parquet file"):
        TraceWriter(tmp_path)


def test_a_folder_that_holds_runs_is_not_written_over(tmp_path: Path) -> None:
    write_traces([make_trace(0)], tmp_path / "runs")
    with pytest.raises(InputError, match="already holds traces; write to a new folder"):
        write_traces([make_trace(1)], tmp_path / "runs")
    assert read_traces(tmp_path / "runs").ids == ["run-0000"]


def test_a_path_that_cannot_be_a_folder_or_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(InputError, match="file cannot be written to"):
        TraceWriter(tmp_path / "file")
    with pytest.raises(InputError, match=r"runs\.parquet could not be written: Not a directory|File exists"):
        write_traces([make_trace()], tmp_path / "file" / "runs.parquet")
    with pytest.raises(InputError, match="is a folder; expected the name of a file"):
        write_traces([make_trace()], tmp_path / "folder.parquet")


def test_a_part_is_written_again_until_it_is_full_so_that_flushing_often_makes_no_more_files(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, part_size=3) as writer:
        for i in range(5):
            writer.add(make_trace(i))
            writer.flush()
            assert read_traces(tmp_path).ids == [f"run-{j:04d}" for j in range(i + 1)]
    assert visible(tmp_path) == ["part-00000.parquet", "part-00001.parquet"]


def test_what_waits_is_written_in_time_without_another_run(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, flush_seconds=0.2) as writer:
        writer.add(make_trace(0))
        began = time.monotonic()
        while not visible(tmp_path) and time.monotonic() - began < 5:
            time.sleep(0.02)
        assert read_traces(tmp_path).ids == ["run-0000"]
        writer.add(make_trace(1))
    assert read_traces(tmp_path).ids == ["run-0000", "run-0001"]


def test_a_full_disk_met_by_the_clock_is_told_by_the_next_run_and_loses_none(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, TraceWriter(tmp_path, flush_seconds=0.05) as writer:
        fill_disk(patch, 100)
        writer.add(make_trace(0))
        time.sleep(0.5)
        with pytest.raises(InputError, match="No space left on device"):
            writer.add(make_trace(1))
        patch.undo()
    assert read_traces(tmp_path).ids == ["run-0000", "run-0001"]


def test_a_signal_while_the_last_runs_are_written_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.fsync, []

    def interrupted(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 1:
            raise KeyboardInterrupt
        real(handle)

    writer = TraceWriter(tmp_path / "traces")
    writer.add(make_trace(0))
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt), writer:
        pass
    assert read_traces(tmp_path / "traces").ids == ["run-0000"]
