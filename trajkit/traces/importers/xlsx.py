"""The first sheet of an Excel workbook as rows of texts. Its XML is read without declarations of its own, in which a
small file could grow without end."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from trajkit.errors import InputError

MOST_BYTES = 2**29
"""Of a part of a workbook."""
LONGEST_CELL = 32_767
"""Characters that a cell of Excel can hold."""
_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_STRINGS, _SHEETS = "xl/sharedStrings.xml", re.compile(r"xl/worksheets/sheet(\d+)\.xml")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Its rows, each by the names in the first one; empty cells are left out.

    Raises InputError where it is no workbook that can be read.
    """
    try:
        with zipfile.ZipFile(path) as workbook:
            sheets = sorted((int(match[1]), name) for name in workbook.namelist() if (match := _SHEETS.fullmatch(name)))
            if not sheets:
                raise InputError(f"{path} is no Excel workbook: it holds no sheet.")
            texts = _shared(workbook) if _STRINGS in workbook.namelist() else []
            rows = [_cells(row, texts) for row in _part(workbook, sheets[0][1]).iter(f"{_MAIN}row")]
    except InputError:
        raise
    except (zipfile.BadZipFile, OSError, ElementTree.ParseError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{path} is no Excel workbook that can be read ({error}).") from error
    except (IndexError, ValueError) as error:
        raise InputError(f"{path}: a cell of the workbook cannot be read ({error}).") from error
    names = rows[0] if rows else {}
    return [{names[column]: text for column, text in row.items() if column in names} for row in rows[1:]]


def _part(workbook: zipfile.ZipFile, name: str) -> ElementTree.Element:
    with workbook.open(name) as stream:
        data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise InputError(f"{workbook.filename}: {name} has more than {MOST_BYTES >> 20} MiB.")
    if b"<!" in data.replace(b"<!--", b"") or b"\0" in data[:4]:
        raise InputError(f"{workbook.filename}: {name} has declarations of its own, which no program writes there.")
    return ElementTree.fromstring(data)


def _shared(workbook: zipfile.ZipFile) -> list[str]:
    return [_text(item) for item in _part(workbook, _STRINGS).iter(f"{_MAIN}si")]


def _text(element: ElementTree.Element) -> str:
    """The text of an element, without how it is to be pronounced."""
    spoken = {id(text) for part in element.iter(f"{_MAIN}rPh") for text in part.iter(f"{_MAIN}t")}
    written = "".join(text.text or "" for text in element.iter(f"{_MAIN}t") if id(text) not in spoken)
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), written)


def _cells(row: ElementTree.Element, texts: list[str]) -> dict[str, str]:
    """Column, such as AB → text of a row."""
    found: dict[str, str] = {}
    for cell in row.iter(f"{_MAIN}c"):
        column = (cell.get("r") or "").rstrip("0123456789")
        value = cell.findtext(f"{_MAIN}v") or ""
        kind = cell.get("t")
        text = texts[int(value)] if kind == "s" else _text(cell) if kind == "inlineStr" else value
        if text:
            found[column] = text
    return found
