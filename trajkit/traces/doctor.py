"""A file or folder of traces, examined: which runs are damaged and how; and repaired, bad runs set aside."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trajkit.errors import TraceFormatError
from trajkit.files import hold, make_folder, replacing
from trajkit.traces.atomic import write_tables
from trajkit.traces.faults import Fault, faults
from trajkit.traces.file import TraceFile
from trajkit.traces.rows import decode_labels
from trajkit.traces.store import files_of

WHY = "why.txt"


@dataclass(frozen=True)
class BadRun:
    """A run that cannot be read as it should be. name: its transcript_id, or which of its file it is."""

    file: Path
    name: str
    why: str


@dataclass(frozen=True)
class Examined:
    """What was found. runs: that can be read. bad: what cannot. files: that cannot be read at all, and why. no_image:
    good runs whose image is in none of their folder's files, which is allowed."""

    runs: int
    bad: tuple[BadRun, ...]
    files: tuple[tuple[Path, str], ...]
    no_image: int

    @property
    def healthy(self) -> bool:
        """Whether all runs can be read."""
        return not self.bad and not self.files


@dataclass(eq=False)
class _Seen:
    """What files before have: ids, and images by their hash."""

    ids: dict[str, Path] = field(default_factory=dict)
    images: set[str] = field(default_factory=set)
    wanted: dict[str, int] = field(default_factory=dict)


def examine(path: str | Path) -> Examined:
    """Look at every run of a file or folder, a row group at a time. Raises InputError where nothing is there."""
    seen, good, bad, files = _Seen(), 0, [], []
    for file in files_of(path):
        try:
            for group in _groups(TraceFile(file), seen):
                good += len(group.good)
                bad += group.bad
        except TraceFormatError as error:
            files.append((file, str(error).removeprefix(f"{file}: ")))
    missing = sum(count for sha, count in seen.wanted.items() if sha not in seen.images)
    return Examined(good, tuple(bad), tuple(files), missing)


def repair(path: str | Path) -> tuple[Examined, Path | None]:
    """Examine, and set aside what is bad: bad runs and whole files go to a folder beside the good ones, with a sentence
    on each. Returns what was found, and that folder, or None where all is well.

    Every file is replaced whole or not at all, after its bad runs are safe in the other folder. Raises InputError where
    nothing is there, WriteError when it cannot be written.
    """
    path = Path(path)
    found = examine(path)
    if found.healthy:
        return found, None
    aside = path / "set_aside" if path.is_dir() else path.with_name(f"{path.stem}.set_aside")
    lock = hold(path) if path.is_dir() else None
    try:
        make_folder(aside)
        seen, unreadable = _Seen(), {file for file, _ in found.files}
        touched = {run.file for run in found.bad}
        for file in files_of(path):
            if file in unreadable:
                os.replace(file, _free(aside / file.name))
                continue
            parts = _groups(TraceFile(file), seen)
            if file in touched:
                _rewrite(file, list(parts), aside)
            else:
                for _ in parts:  # its ids and images count
                    pass
        said = [f"{run.file.name}: run {run.name!r}: {run.why}" for run in found.bad]
        said += [f"{file.name}: {why}" for file, why in found.files]
        about = aside / WHY
        before = about.read_text(encoding="utf-8") if about.is_file() else ""
        with replacing(about) as stream:
            stream.write((before + "".join(f"{line}\n" for line in said)).encode("utf-8", errors="replace"))
    finally:
        if lock is not None:
            lock.close()
    return found, aside


@dataclass(frozen=True, eq=False)
class _Group:
    """A row group: the runs that are good, those that are bad, and why."""

    good: pa.Table
    damaged: pa.Table
    bad: list[BadRun]


def _groups(file: TraceFile, seen: _Seen) -> Iterator[_Group]:
    for number, count in enumerate(file.group_sizes):
        try:
            batch = file.group(number)
        except TraceFormatError as error:
            said = str(error).removeprefix(f"{file.path}: ")
            bad = [BadRun(file.path, f"of row group {number + 1}, run {i + 1}", said) for i in range(count)]
            yield _Group(pa.table({}), pa.table({}), bad)
            continue
        why: dict[int, str] = {}
        for fault in (*faults(batch), *_of_pictures(batch), *_of_ids(batch, seen, file.path)):
            why.setdefault(fault.row, fault.why)
        ok = np.ones(len(batch), bool)
        ok[list(why)] = False
        table = pa.Table.from_batches([batch])
        good = table.filter(pa.array(ok))
        for name in good["transcript_id"].to_pylist():
            seen.ids[name] = file.path
        seen.images |= set(table.filter(table["image"].is_valid())["image_sha256"].to_pylist())
        for sha in good["image_sha256"].to_pylist():
            if sha:
                seen.wanted[sha] = seen.wanted.get(sha, 0) + 1
        names = batch["transcript_id"].to_pylist()
        bad = [
            BadRun(file.path, names[row] or f"of row group {number + 1}, run {row + 1}", said)
            for row, said in sorted(why.items())
        ]
        yield _Group(good, table.filter(pa.array(~ok)), bad)


def _of_pictures(batch: pa.RecordBatch) -> Iterator[Fault]:
    """Images that are not those that their hashes say, region maps that do not open."""
    columns = (batch[name].to_pylist() for name in ("image", "image_sha256", "regions", "n_regions"))
    for row, (image, sha, png, k) in enumerate(zip(*columns, strict=True)):
        if image is not None and hashlib.sha256(image).hexdigest() != sha:
            yield Fault(row, "image_sha256 is not the hash of image")
        try:
            decode_labels(png or b"", k or 0, "")
        except TraceFormatError as error:
            yield Fault(row, str(error).removeprefix(": "))


def _of_ids(batch: pa.RecordBatch, seen: _Seen, path: Path) -> Iterator[Fault]:
    here: set[str] = set()
    for row, name in enumerate(batch["transcript_id"].to_pylist()):
        if not name:
            yield Fault(row, "it has no transcript_id")
        elif name in seen.ids or name in here:
            where = seen.ids.get(name, path)
            yield Fault(row, f"transcript_id must be unique; {name!r} is in {where.name} before")
        here.add(name)


def _rewrite(file: Path, parts: list[_Group], aside: Path) -> None:
    """The good runs under the file's name, the others under it in `aside`; an image that only a bad run carried goes to
    the first good run that has it."""
    damaged = [part.damaged for part in parts if len(part.damaged)]
    if damaged:
        with replacing(_free(aside / file.name)) as stream:
            pq.write_table(pa.concat_tables(damaged), stream, compression="zstd")
    good = [part.good for part in parts if len(part.good)]
    if not good:
        file.unlink()
        return
    carried = {
        sha: image
        for table in damaged
        for sha, image in zip(table["image_sha256"].to_pylist(), table["image"].to_pylist(), strict=True)
        if image is not None and hashlib.sha256(image).hexdigest() == sha
    }
    write_tables((_with_images(table, carried) for table in good), file)


def _with_images(table: pa.Table, carried: dict[str, bytes]) -> pa.Table:
    """`table` with each carried image on the first of its runs; what was given away is taken from `carried`."""
    if not carried or not pc.any(pc.is_in(table["image_sha256"], pa.array(list(carried), pa.string()))).as_py():
        return table
    images = table["image"].to_pylist()
    for row, sha in enumerate(table["image_sha256"].to_pylist()):
        if images[row] is None and sha in carried:
            images[row] = carried.pop(sha)
    return table.set_column(
        table.column_names.index("image"), table.schema.field("image"), pa.array(images, pa.binary())
    )


def _free(path: Path) -> Path:
    """`path`, or with a number where something has that name."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free
