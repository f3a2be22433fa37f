"""A kill, a failing disk or no memory at any step of writing leaves the old content or the new, whole; nothing that was
finished is lost; and the same command goes on."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import gc
import os
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from tests.faults import broken_disk, full_disk, kill, no_memory, order_of, run_with_fault
from tests.traces.factory import make_trace, png
from trajkit import folders
from trajkit.attribution.estimator import Binding
from trajkit.attribution.item import Item
from trajkit.attribution.linear import LinearEstimator
from trajkit.attribution.measure import MeasuredRun, MeasuredStore
from trajkit.cli.evaluated import write_tables
from trajkit.demo import paths
from trajkit.detection.store import load_detectors, save_detectors
from trajkit.errors import TrajkitError
from trajkit.files import replacing
from trajkit.report.build import write_report
from trajkit.studies.study import Study
from trajkit.studies.write import StudyFolder
from trajkit.tables import Table
from trajkit.traces.exporters import export_traces
from trajkit.traces.store import read_traces, write_traces
from trajkit.traces.trace import Trace
from trajkit.traces.writer import TraceWriter


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    """A sync is a step, and the disk is not waited for."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


@dataclass(frozen=True)
class Case:
    """Something that is written. old, new: write one content or the other. read: what a reader finds. exchange: what
    takes the place of the system's. acts, every: the faults, and at which of the steps, where one try takes long."""

    old: Callable[[Path], object]
    new: Callable[[Path], object]
    read: Callable[[Path], object]
    exchange: Callable[[Path, Path], bool] | None = None
    acts: tuple[Callable[[], None], ...] = (kill, full_disk, broken_disk, no_memory)
    every: int = 1


def estimator(value: float) -> Callable[[Path], object]:
    binding = Binding("0" * 16, "toy", None, "vision", "sum", "mean")
    made = LinearEstimator({"weights": np.full(4, value, np.float32)}, binding, {"value": value})
    return lambda folder: made.save(folder / "estimator")


def read_estimator(folder: Path) -> object:
    found = LinearEstimator.load(folder / "estimator")
    return float(found.arrays["weights"][0]), found.card["value"]


def studies(value: str) -> Callable[[Path], object]:
    table = Table(pd.DataFrame({"a": [value]}))
    made = [
        Study(name, name.title(), f"What of {value}?", {"table": table}, {value: f"<svg>{value}</svg>"}, (value,))
        for name in ("first", "second")
    ]
    return lambda folder: StudyFolder(folder / "out", "md", value, value).add(made, {})


def read_studies(folder: Path) -> object:
    """The words of all files: one kind of them, where nothing is mixed."""
    pages = [path.read_text() for path in sorted((folder / "out").glob("*.*")) if path.name != "how_to_read.md"]
    return len(pages), {word for page in pages for word in ("before", "after") if word in page}


RELIABILITY = pd.DataFrame({"metric": ["path length"], "runs": [4]})


def table(value: int) -> Callable[[Path], object]:
    return lambda folder: write_tables(pd.DataFrame({"value": [value] * 50}), {}, RELIABILITY, folder / "table.csv")


def detectors(value: int) -> Callable[[Path], object]:
    made = replace(load_detectors(paths.DETECTORS), card={"value": value})
    return lambda folder: save_detectors(folder / "detectors", made)


def report(value: str) -> Callable[[Path], object]:
    return lambda folder: write_report([make_trace(0)], folder / "report", title=value, max_runs=1)


def read_report(folder: Path) -> object:
    return [(path.name, path.read_bytes()) for path in sorted((folder / "report").iterdir())]


def exported(n: int) -> Callable[[Path], object]:
    return lambda folder: export_traces([make_trace(i) for i in range(n)], folder / "tables", format="csv")


def read_exported(folder: Path) -> object:
    return [(path.name, path.read_bytes()) for path in sorted((folder / "tables").iterdir())]


def never(one: Path, other: Path) -> bool:
    """A system that cannot exchange two names."""
    return False


def mounted(one: Path, other: Path) -> bool:
    """A folder that cannot get another name."""
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def traces_file(n: int) -> Callable[[Path], object]:
    return lambda folder: write_traces([make_trace(i) for i in range(n)], folder / "runs.parquet")


WHOLE = {
    "estimator": Case(estimator(1.0), estimator(2.0), read_estimator),
    "estimator, two renames": Case(estimator(1.0), estimator(2.0), read_estimator, never),
    "estimator, mounted": Case(estimator(1.0), estimator(2.0), read_estimator, mounted),
    "detectors": Case(detectors(1), detectors(2), lambda folder: load_detectors(folder / "detectors").card["value"]),
    "report": Case(report("one"), report("two"), read_report, acts=(kill,), every=5),
    "export": Case(exported(1), exported(2), read_exported, every=3),
    "studies": Case(studies("before"), studies("after"), read_studies),
    "table": Case(table(1), table(2), lambda folder: (folder / "table.csv").read_bytes()),
    "traces": Case(traces_file(2), traces_file(5), lambda folder: read_traces(folder / "runs.parquet").ids),
}


def tidy(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith((".tmp", ".old"))]


@pytest.mark.parametrize(("name", "act"), [(name, act) for name, case in WHOLE.items() for act in case.acts])
def test_a_fault_at_any_step_leaves_the_old_content_or_the_new(tmp_path, monkeypatch, name, act):
    case = WHOLE[name]
    monkeypatch.setattr("trajkit.folders._exchange", case.exchange or folders._exchange)
    found: list[object] = []
    for make in (case.old, case.new):
        make(tmp_path / "reference")
        found.append(case.read(tmp_path / "reference"))
    case.old(tmp_path / "old")
    shutil.copytree(tmp_path / "old", tmp_path / "count")
    steps = run_with_fault(lambda: case.new(tmp_path / "count"), 0, no_memory)
    assert steps >= 5
    for n in range(1, steps + 1, case.every):
        folder = tmp_path / str(n)
        shutil.copytree(tmp_path / "old", folder)
        with contextlib.suppress(TrajkitError, MemoryError):
            run_with_fault(lambda folder=folder: case.new(folder), n, act)
        assert case.read(folder) in found, f"step {n}"
        case.new(folder)
        assert case.read(folder) == found[1], f"step {n}"
        assert not tidy(folder), f"step {n}"


@pytest.mark.parametrize("act", [kill, full_disk, broken_disk, no_memory])
def test_a_fault_at_any_step_of_a_collection_loses_no_run_that_was_written(tmp_path, act):
    def collect(folder: Path) -> None:
        with TraceWriter(folder, part_size=2) as writer:
            for i in range(3):
                if make_trace(i).transcript_id not in writer.ids:
                    writer.add(make_trace(i))

    steps = run_with_fault(lambda: collect(tmp_path / "count"), 0, no_memory)
    before: list[str] = []
    for n in range(1, steps + 1):
        folder = tmp_path / str(n)
        with contextlib.suppress(TrajkitError, MemoryError):
            run_with_fault(lambda folder=folder: collect(folder), n, act)
        kept = read_traces(folder).ids if any(folder.glob("*.parquet")) else []
        assert kept == [f"run-{i:04d}" for i in range(len(kept))]
        if act is kill:
            assert len(kept) >= len(before)  # a later kill finds no fewer on the disk
            before = kept
        collect(folder)
        assert read_traces(folder).ids == [f"run-{i:04d}" for i in range(3)]
        assert not tidy(folder)


@pytest.mark.parametrize("act", [kill, full_disk, broken_disk, no_memory])
def test_a_fault_at_any_step_of_measuring_leaves_each_run_whole_or_to_be_measured(tmp_path, act):
    run = MeasuredRun(
        "g", "", np.ones((2, 3, 4), np.float32), np.ones((5, 3), bool), np.ones((5, 2)), np.ones((3, 2)), np.arange(7)
    )
    image = Image.new("RGB", (16, 16))
    items = [Item(str(i), image, "how many?", "g") for i in range(2)]

    def measure(folder: Path) -> None:
        store = MeasuredStore(folder, {"ablation": "mean"})
        for i, item in enumerate(items):
            if not store.has(item):
                store.write(item, replace(run, seconds=float(i)))
        store.close()

    steps = run_with_fault(lambda: measure(tmp_path / "count"), 0, no_memory)
    for n in range(1, steps + 1):
        folder = tmp_path / str(n)
        with contextlib.suppress(TrajkitError, MemoryError):
            run_with_fault(lambda folder=folder: measure(folder), n, act)
        store = MeasuredStore(folder, {"ablation": "mean"})
        for i, item in enumerate(items):
            assert not store.has(item) or store.read(item).seconds == i
        measure(folder)
        assert [store.read(item).seconds for item in items] == [0, 1]
        assert not tidy(folder)


def test_a_file_is_on_the_disk_before_it_gets_its_name_and_the_name_after(tmp_path):
    def write(path: Path) -> None:
        with replacing(path) as stream:
            stream.write(b"content")

    assert order_of(lambda: write(tmp_path / "new" / "a")) == [
        ("mkdir", tmp_path / "new"),
        ("fsync", tmp_path),
        ("fsync", tmp_path / "new" / ".a.*.tmp"),
        ("replace", tmp_path / "new" / "a"),
        ("fsync", tmp_path / "new"),
    ]


@pytest.mark.parametrize("exchange", [folders._exchange, never, mounted])
def test_all_files_of_a_folder_are_on_the_disk_before_it_gets_its_name_and_the_name_after(
    tmp_path, monkeypatch, exchange
):
    monkeypatch.setattr(folders, "_exchange", exchange)
    folder, half = tmp_path / "folder", tmp_path / ".folder.*.tmp"

    def write() -> None:
        with folders.replacing_folder(folder) as new, replacing(new / "a") as stream:
            stream.write(b"content")

    within = [("mkdir", half)]
    file = [("fsync", half / ".a.*.tmp"), ("replace", half / "a"), ("fsync", half), ("fsync", half)]
    assert order_of(write) == [*within, *file, ("rename", folder), ("fsync", tmp_path)]
    within.append(("link", half / "a"))
    inner, ready = folder / ".folder.*.tmp", folder / ".folder.*.new"
    assert (
        order_of(write)
        == [*within, *file]
        + {
            folders._exchange: [("exchange", folder), ("fsync", tmp_path)],
            never: [
                ("exchange", folder),
                ("rename", tmp_path / ".folder.*.old"),
                ("rename", folder),
                ("fsync", tmp_path),
            ],
            mounted: [
                ("mkdir", inner),
                ("link", inner / "a"),
                ("fsync", inner),
                ("rename", ready),
                ("fsync", folder),
                ("link", folder / ".a.*.tmp"),
                ("replace", folder / "a"),
                ("fsync", folder),
                ("rename", inner),
            ],
        }[exchange]
    )


def short_of_memory(work: Callable[[], object], spare: int) -> str:
    """What `work` raises, as text, in a process that may take `spare` bytes more than it has; "" for nothing. Libraries
    in C++ end the process where they find no memory in a thread of theirs, which is like a kill."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        try:
            gc.collect()
            pa.set_memory_pool(pa.system_memory_pool())  # others keep addresses in reserve that no limit counts again
            ctypes.CDLL(None).malloc_trim(0)  # what was freed here must not pass for spare memory
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + spare, resource.RLIM_INFINITY))
            work()
        except BaseException as error:
            os.write(send, f"{type(error).__name__}: {error}".encode()[:2000])
        finally:
            os._exit(0)
    os.close(send)
    with open(receive, "rb") as stream:
        said = stream.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGABRT), said
    return said if code == 0 else "MemoryError: in a thread"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_memory_that_runs_out_loses_nothing_and_is_not_taken_for_damage(tmp_path):
    """Runs with images of megabytes, made in another process, so that there is no memory here that was freed again."""
    item = Item("a", Image.new("RGB", (16, 16)), "how many?", "g")

    def many() -> list[Trace]:
        images = [png(0) + np.random.default_rng(i).bytes(2**23) for i in range(4)]
        return [make_trace(i, image=images[i], image_sha256="") for i in range(4)]

    def prepare() -> None:
        write_traces(many(), tmp_path / "many.parquet")
        store = MeasuredStore(tmp_path / "measured", {})
        features = np.ones((2, 3, 2**21), np.float32)
        arrays = np.ones((5, 3), bool), np.ones((5, 2)), np.ones((3, 2)), np.arange(7)
        store.write(item, MeasuredRun("g", "", features, *arrays))

    def add(folder: Path) -> None:
        with TraceWriter(folder) as writer:
            for trace in many()[1:]:
                writer.add(trace)

    assert short_of_memory(prepare, 2**33) == ""
    assert short_of_memory(lambda: bytearray(2**32), 2**24) == "MemoryError: "
    works: dict[str, Callable[[Path], object]] = {
        "read": lambda folder: list(read_traces(tmp_path / "many.parquet")),
        "measured": lambda folder: MeasuredStore(tmp_path / "measured", {}).read(item),
        "write": lambda folder: write_traces(many(), folder / "runs.parquet"),
        "add": add,
    }
    for name, work in works.items():
        found = []
        for spare in (0, 2**24, 2**33):
            folder = tmp_path / f"{name} {spare}"
            with TraceWriter(folder) as writer:
                writer.add(make_trace(0))
            if name != "add":
                (folder / "part-00000.parquet").rename(folder / "runs.parquet")
            found.append(short_of_memory(lambda work=work, folder=folder: work(folder), spare))
            assert "Write it again" not in found[-1]
            assert "is damaged (" not in found[-1]
            assert read_traces(folder).ids in (["run-0000"], [f"run-{i:04d}" for i in range(4)])
        assert found[-1] == "", name
