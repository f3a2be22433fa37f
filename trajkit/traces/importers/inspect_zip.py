"""The members of an inspect `.eval` log, a zip whose members are stored, deflated, or zstandard (method 93), which
Python's `zipfile` does not read before 3.14."""

from __future__ import annotations

import re
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from trajkit.errors import InputError
from trajkit.traces.importers.ranges import items_at
from trajkit.traces.importers.reading import as_list, lenient_json

MOST_BYTES = 2**29
"""Of a member, or of what is read of a sample's chunks of one kind, unpacked; more is refused before it is."""
_ZSTD = 93
_LOCAL_HEADER = 30
_PIECE = 2**20


class EvalZip:
    """Reads members by name, each checked against its size and checksum. Raises InputError on a damaged log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._stream = path.open("rb")
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error
        try:
            with zipfile.ZipFile(self._stream) as zip:
                self._members = {info.filename: info for info in zip.infolist()}  # of two of one name, the later one
        except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError, UnicodeDecodeError) as error:
            self._stream.close()
            raise InputError(f"{path} is no whole zip ({error}); it may have been cut off. Copy it again.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def size(self, name: str) -> int:
        """Bytes of a member, unpacked."""
        return self._members[name].file_size

    def json(self, name: str) -> Any:
        """The value of a member that is JSON. Raises InputError, naming it."""
        try:
            return lenient_json(self.read(name))
        except InputError as error:
            raise InputError(f"member {name!r}: {error}") from error

    def read(self, name: str) -> bytes:
        """The bytes of a member."""
        info = self._members.get(name)
        if info is None:
            raise InputError("it is not in the log.")
        if info.flag_bits & 1:
            raise InputError("it is encrypted.")
        if info.file_size > MOST_BYTES:
            raise InputError(f"it has {info.file_size / 1e6:,.0f} MB, and {MOST_BYTES / 1e6:,.0f} MB are the most.")
        data = self._unpacked(info, self._packed(info))
        if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
            raise InputError("it is damaged: its size or checksum is wrong. Copy the log again.")
        return data

    def _packed(self, info: zipfile.ZipInfo) -> bytes:
        """What stands behind the local header of a member."""
        self._stream.seek(info.header_offset)
        header = self._stream.read(_LOCAL_HEADER)
        if header[:4] != b"PK\x03\x04" or len(header) < _LOCAL_HEADER:
            raise InputError("it is not where the log's directory says. Copy the log again.")
        self._stream.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
        packed = self._stream.read(min(info.compress_size, self._path.stat().st_size))
        if len(packed) != info.compress_size:
            raise InputError("it is cut off. Copy the log again.")
        return packed

    def _unpacked(self, info: zipfile.ZipInfo, packed: bytes) -> bytes:
        """At most one byte more than the directory says."""
        most = info.file_size + 1
        if info.compress_type == zipfile.ZIP_STORED:
            return packed[:most]
        if info.compress_type not in (zipfile.ZIP_DEFLATED, _ZSTD):
            raise InputError(f"it is packed by method {info.compress_type}; expected stored, deflated or zstandard.")
        try:
            if info.compress_type == zipfile.ZIP_DEFLATED:
                return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, most)
            with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
                return _read(stream, most)
        except (zlib.error, pa.ArrowException, OSError, EOFError) as error:
            raise InputError(f"it is damaged and cannot be unpacked ({error}). Copy the log again.") from error


def _read(stream: Any, most: int) -> bytes:
    pieces, total = [], 0
    while total < most and (piece := stream.read(min(_PIECE, most - total))):
        pieces.append(piece)
        total += len(piece)
    return b"".join(pieces)


class Chunks:
    """A sequence of a chunked sample, in members `{prefix}/{index of the first item}.json`; a chunk is read once, when
    one of its items is asked for."""

    def __init__(self, zip: EvalZip, prefix: str) -> None:
        self._zip, self._prefix = zip, prefix
        self._kept: dict[int, list[Any]] = {}
        self._bytes = 0

    @cached_property
    def _starts(self) -> list[int]:
        inside = (name.removeprefix(f"{self._prefix}/") for name in self._zip if name.startswith(f"{self._prefix}/"))
        return sorted(int(name[:-5]) for name in inside if re.fullmatch(r"\d{1,12}\.json", name, re.ASCII))

    def get(self, index: str) -> Any:
        """The item of an index in digits; None where there is none."""
        if not re.fullmatch(r"\d{1,12}", index, re.ASCII):
            return None
        return next(iter(self.at([[int(index), int(index) + 1]])), None)

    def at(self, ranges: Any) -> list[Any]:
        """The items of [[start, end], …]."""
        return items_at(ranges, self._between)

    def _between(self, first: int, last: int) -> list[Any]:
        found: list[Any] = []
        for start in self._starts[max(bisect_right(self._starts, first) - 1, 0) :]:
            if start >= last:
                break
            found += self._chunk(start)[max(first - start, 0) : last - start]
        return found

    def all(self) -> Iterator[Any]:
        """Every item, the last one first."""
        for start in reversed(self._starts):
            yield from reversed(self._chunk(start))

    def _chunk(self, start: int) -> list[Any]:
        if start not in self._kept:
            name = f"{self._prefix}/{start}.json"
            self._bytes += self._zip.size(name)
            if self._bytes > MOST_BYTES:
                raise InputError(f"its {self._prefix.rsplit('/', 1)[-1]} have more than {MOST_BYTES / 1e6:,.0f} MB.")
            self._kept[start] = as_list(self._zip.json(name))
        return self._kept[start]
