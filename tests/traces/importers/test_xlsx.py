"""Excel workbooks, read without a package for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.traces.importers.logs import GOLDEN
from tests.traces.importers.workbook import write_workbook
from trajkit.errors import InputError
from trajkit.traces.importers.xlsx import read_rows

HEAD = '<row r="1"><c r="A1" t="inlineStr"><is><t>index</t></is></c><c r="C1" t="s"><v>0</v></c></row>'
STRINGS = "<si><t>prediction</t></si><si><r><t>two </t></r><r><t>parts_x000D_\nof it</t></r><rPh><t>no</t></rPh></si>"


def test_rows_are_by_the_names_in_the_first_one() -> None:
    rows = read_rows(GOLDEN / "vlmevalkit" / "demo_Digits.xlsx")

    assert [row["index"] for row in rows] == ["0", "1", "2", "3"]
    assert rows[0]["prediction"] == "0 empty 8 empty"
    assert rows[0]["thinking"].startswith("row 4 col 4")


def test_texts_of_each_kind_are_read_and_empty_cells_left_out(tmp_path: Path) -> None:
    row = '<row r="2"><c r="A2"><v>7</v></c><c r="B2" t="str"><v>x</v></c><c r="C2" t="s"><v>1</v></c></row>'
    rows = read_rows(
        write_workbook(tmp_path / "a.xlsx", f'{HEAD}{row}<row r="3"><c r="A3"><v>8</v></c></row>', STRINGS)
    )

    assert rows == [{"index": "7", "prediction": "two parts\r\nof it"}, {"index": "8"}]


@pytest.mark.parametrize(
    ("rows", "before", "reason"),
    [
        (HEAD, '<!DOCTYPE a [<!ENTITY b "bbbbbbbb">]>', r"^\S+a\.xlsx: xl/\S+ has declarations of its own"),
        ("<row>", "", "no Excel workbook that can be read"),
        ('<row r="1"><c r="A1" t="s"><v>99</v></c></row>', "", "cannot be read"),
    ],
    ids=["entities", "broken", "no such string"],
)
def test_what_is_no_workbook_of_rows_is_refused(rows: str, before: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason):
        read_rows(write_workbook(tmp_path / "a.xlsx", rows, STRINGS, before))


def test_a_part_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trajkit.traces.importers.xlsx.MOST_BYTES", 2**20)
    with pytest.raises(InputError, match="more than 1 MiB"):
        read_rows(write_workbook(tmp_path / "a.xlsx", HEAD + " " * 2**21))


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match="no Excel workbook"):
        read_rows(tmp_path / "a.xlsx")
