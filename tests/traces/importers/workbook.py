"""Small Excel workbooks, part by part."""

from __future__ import annotations

import zipfile
from pathlib import Path

NAMESPACE = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def write_workbook(path: Path, rows: str, strings: str = "", before: str = "") -> Path:
    """rows: XML within sheetData. strings: that within sst. before: what stands before the sheet's first element."""
    with zipfile.ZipFile(path, "w") as workbook:
        workbook.writestr("[Content_Types].xml", "<Types/>")
        sheet = f'<?xml version="1.0"?>{before}<worksheet {NAMESPACE}><sheetData>{rows}</sheetData></worksheet>'
        workbook.writestr("xl/worksheets/sheet1.xml", sheet)
        if strings:
            workbook.writestr("xl/sharedStrings.xml", f'<?xml version="1.0"?><sst {NAMESPACE}>{strings}</sst>')
    return path
