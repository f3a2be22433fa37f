"""A page of an analysis and its picture are written whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import analyses
from analyses.common import write
from analyses.pictures import save
from trajkit.errors import WriteError


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_full_disk_leaves_the_page_and_the_picture_that_were_there(tmp_path, monkeypatch, suffix):
    page, figure = tmp_path / "new" / "page.md", plt.figure()
    picture = save(figure, page, suffix)
    write(page, "before", [{"a": 1}], "reading", picture)
    kept = {path: path.read_bytes() for path in page.parent.iterdir()}
    assert set(kept) == {page, picture}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trajkit.files.os.fsync", full)
    figure.text(0, 0, "after")
    with pytest.raises(WriteError, match="No space left on device"):
        save(figure, page, suffix)
    with pytest.raises(WriteError, match="No space left on device"):
        write(page, "after", [{"a": 2}], "reading", picture)
    assert {path: path.read_bytes() for path in page.parent.iterdir()} == kept
    plt.close(figure)


def test_no_analysis_writes_a_page_in_place():
    for path in Path(analyses.__file__).parent.glob("*.py"):
        assert ".write_text(" not in path.read_text(encoding="utf-8"), path.name
