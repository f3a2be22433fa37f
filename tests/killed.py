"""Stop whole commands at each step of writing, and see that what was there is whole and that the command goes on.

    python -m tests.killed [--only collect] [--act kill]

Tries every step of every command and says how many there were. `tests/cli/test_killed.py` samples a few. Each try is a
process forked from one that has the libraries and the model loaded.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.faults import Faults, broken_disk, full_disk, no_memory
from tests.scenes import clean_scene
from trajkit.attribution.estimator import Binding, EffectEstimator
from trajkit.attribution.linear import LinearEstimator
from trajkit.cli import collect, loading
from trajkit.cli.main import main
from trajkit.detection.store import load_detectors
from trajkit.traces.store import read_traces, write_traces
from trajkit.traces.trace import Trace

KILLED = 137


def kill() -> None:
    os._exit(KILLED)


ACTS: dict[str, Callable[[], None]] = {
    "kill": kill,
    "full_disk": full_disk,
    "broken_disk": broken_disk,
    "no_memory": no_memory,
}


@dataclass(frozen=True)
class Command:
    """A command that writes to `out` of the current folder.

    before: made what it finds there. read: what a reader finds there, comparable. adds: whether it adds to what is
    there, one run at a time, instead of replacing it.
    """

    before: tuple[str, ...]
    line: tuple[str, ...]
    read: Callable[[Path], Any]
    adds: bool = False


def runs_of(folder: Path) -> dict[str, Any]:
    """transcript_id → all that a run holds."""
    return {t.transcript_id: (t.steps, t.effects.tobytes(), t.image, t.outcome, t.meta) for t in read_traces(folder)}


def estimator_of(folder: Path) -> str:
    for path in folder.with_name("out.measured").glob("*.npz"):
        with np.load(path, allow_pickle=False) as file:
            assert all(file[name].shape is not None for name in file.files)
    return EffectEstimator.load(folder).digest


def detectors_of(folder: Path) -> bytes:
    load_detectors(folder)
    return (folder / "detectors.json").read_bytes()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def table_of(path: Path) -> str:
    """The table, without what is a time."""
    table = pd.read_csv(path)
    return str(table[table["figure"] != "ms per token"].to_csv())


MODEL = ("--max-new-tokens", "16", "--seed", "1")
COMMANDS = {
    "collect": Command(
        ("collect", "{first}", "--out", "out", "--samples", "2", "--estimator", "{estimator}", *MODEL),
        ("collect", "{questions}", "--out", "out", "--samples", "2", "--estimator", "{estimator}", *MODEL),
        runs_of,
        True,
    ),
    "train-estimator": Command(
        ("train-estimator", "{questions}", "--out", "out", "--kind", "linear", "--masks", "8", "--work", "old", *MODEL),
        ("train-estimator", "{questions}", "--out", "out", "--kind", "linear", "--masks", "9", *MODEL),
        estimator_of,
    ),
    "evaluate": Command(
        ("evaluate", "{first}", "--out", "out", "--masks", "8", "--estimator", "{estimator}", *MODEL),
        ("evaluate", "{first}", "--out", "out", "--masks", "9", "--estimator", "{estimator}", *MODEL),
        table_of,
    ),
    "fit": Command(
        ("fit", "{traces}", "--out", "out", "--alpha", "0.2"), ("fit", "{traces}", "--out", "out"), detectors_of
    ),
    "report": Command(("report", "{one}", "--out", "out"), ("report", "{two}", "--out", "out"), files_of),
    "analyze": Command(
        ("analyze", "{traces}", "--report", "out", "--only", "concentration", "--boot", "101"),
        ("analyze", "{traces}", "--report", "out", "--only", "concentration", "--boot", "100"),
        files_of,
    ),
}


@dataclass
class Bench:
    """A folder with inputs, and what each command writes when nothing goes wrong."""

    folder: Path
    make_trace: Callable[..., Trace]
    vlm: Any = None
    _known: dict[str, tuple[Any, Any, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.vlm = self.vlm or loading.load_model(None)
        rng, rows = np.random.default_rng(0), []
        for i in range(3):
            clean_scene(rng)[1].save(self.folder / f"{i}.png")
            rows.append(json.dumps({"id": f"q{i}", "image": f"{i}.png", "question": f"sort row {i + 1} up."}) + "\n")
        (self.folder / "questions.jsonl").write_text("".join(rows))
        (self.folder / "first.jsonl").write_text(rows[0])
        n = self.vlm.n_features
        binding = Binding(self.vlm.fingerprint, self.vlm.name, None, "vision", "sum", "mean")
        LinearEstimator({"weights": np.full(n, 1 / n, np.float32)}, binding).save(self.folder / "estimator")
        runs = [self.make_trace(g, r, bool(rng.random() < 0.4), rng) for g in range(48) for r in range(2)]
        write_traces(runs, self.folder / "traces.parquet")
        for n_runs, few in enumerate(("one", "two"), 1):
            write_traces(runs[:n_runs], self.folder / f"{few}.parquet")
        self._inputs = {
            "questions": "questions.jsonl",
            "first": "first.jsonl",
            "estimator": "estimator",
            "traces": "traces.parquet",
            "one": "one.parquet",
            "two": "two.parquet",
        }

    def run(self, place: Path, line: tuple[str, ...], n: int = 0, act: Callable[[], None] = kill) -> tuple[int, int]:
        """(exit code, steps of writing) of a command in `place`, with a fault at step n; its words go to said.txt."""
        inputs = {name: self.folder / path for name, path in self._inputs.items()}
        arguments = [part.format(**inputs) for part in line]
        receive, send = os.pipe()
        child = os.fork()
        if not child:
            code = 70
            try:
                os.chdir(place)
                said = os.open(place.with_suffix(".said"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(said, 1)
                os.dup2(said, 2)
                faults = Faults(n, act)
                with pytest.MonkeyPatch.context() as patch, open(1, "w", closefd=False) as out:
                    patch.setattr(os, "fsync", lambda handle: None)  # a step, and the disk is not waited for
                    patch.setattr(loading, "load_model", lambda *_: self.vlm)
                    patch.setattr(collect, "FLUSH_SECONDS", 0.01)  # so that there are writes between runs
                    faults.install(patch)
                    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                        main(arguments)
            except SystemExit as done:
                code = int(done.code or 0)
            finally:
                os.write(send, str(faults.count).encode())
                os._exit(code)
        os.close(send)
        _, status = os.waitpid(child, 0)
        with open(receive) as stream:
            count = int(stream.read() or n)
        return os.waitstatus_to_exitcode(status), count

    def known(self, name: str) -> tuple[Any, Any, int]:
        """(what is found before, after, steps of writing) when nothing goes wrong."""
        if name not in self._known:
            command, place = COMMANDS[name], self.folder / name
            place.mkdir()
            self._well(place, command.before)
            shutil.copytree(place, self.folder / f"{name}.before", symlinks=True)
            before = command.read(place / "out")
            code, steps = self.run(place, command.line)
            assert code == 0, self.said(place)
            self._known[name] = before, command.read(place / "out"), steps
            assert before != self._known[name][1]
        return self._known[name]

    def attempt(self, name: str, n: int, act: Callable[[], None]) -> None:
        """Stop a command at step n of writing and run it again; AssertionError where anything is lost."""
        command, (before, after, _) = COMMANDS[name], self.known(name)
        place = self.folder / f"{name}-{act.__name__}-{n}"
        shutil.copytree(self.folder / f"{name}.before", place, symlinks=True)
        code, _ = self.run(place, command.line, n, act)
        assert code in ((KILLED, 0) if act is kill else (1, 0)), f"{code}: {self.said(place)}"
        assert "Traceback" not in self.said(place)
        found = command.read(place / "out")
        if command.adds:
            assert before.items() <= found.items() <= after.items()
        else:
            assert found in (before, after)
        self._well(place, command.line)
        assert command.read(place / "out") == after
        assert not [path for path in place.rglob("*") if path.name.endswith((".tmp", ".old"))]
        shutil.rmtree(place)

    def _well(self, place: Path, line: tuple[str, ...]) -> None:
        code, _ = self.run(place, line)
        assert code == 0, self.said(place)

    def said(self, place: Path) -> str:
        return place.with_suffix(".said").read_text()


def _all(only: str | None, act: str | None) -> None:
    from tests.cli.conftest import _trace

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), _trace)
        for name in [only] if only else COMMANDS:
            began, faults, steps = time.monotonic(), [], bench.known(name)[2]
            for how in [act] if act else ACTS:
                for n in range(1, steps + 1):
                    try:
                        bench.attempt(name, n, ACTS[how])
                    except (AssertionError, Exception) as error:  # whatever a reader raises is what is looked for
                        faults.append(f"{how} at {n}: {type(error).__name__}: {str(error)[:300]}")
            tried = f"{steps} steps x {1 if act else len(ACTS)}"
            print(f"{name}: {tried}, {len(faults)} faults, {time.monotonic() - began:.0f} s", flush=True)
            for fault in faults:
                print(f"  {fault}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", choices=COMMANDS)
    parser.add_argument("--act", choices=ACTS)
    chosen = parser.parse_args()
    _all(chosen.only, chosen.act)
