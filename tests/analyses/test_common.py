"""Pages of analyses: their tables hold numbers, and a page and its picture are written whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import analyses
from analyses.common import arguments, table_of, write
from analyses.coverage import table_of_held
from analyses.pictures import save
from analyses.simulated import share_held
from trajkit.errors import WriteError
from trajkit.stats.resampling import wilson
from trajkit.tables import Estimate, words
from trajkit.tables.render import markdown


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_full_disk_leaves_the_page_and_the_picture_that_were_there(tmp_path, monkeypatch, suffix):
    page, figure = tmp_path / "new" / "page.md", plt.figure()
    picture = save(figure, page, suffix)
    write(page, "before", table_of([{"a": 1}]), "reading", picture)
    kept = {path: path.read_bytes() for path in page.parent.iterdir()}
    assert set(kept) == {page, picture}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trajkit.files.os.fsync", full)
    figure.text(0, 0, "after")
    with pytest.raises(WriteError, match="No space left on device"):
        save(figure, page, suffix)
    with pytest.raises(WriteError, match="No space left on device"):
        write(page, "after", table_of([{"a": 2}]), "reading", picture)
    assert {path: path.read_bytes() for path in page.parent.iterdir()} == kept
    plt.close(figure)


def test_rows_of_figures_become_a_table_of_numbers_with_a_dash_where_a_row_has_none():
    rows = [
        {"model": "a_b", "runs": 1491, "r²": Estimate(0.80312345, 0.79, 0.81), "r², less": Estimate(-0.1, -0.2, 0.01)},
        {"model": "c", "runs": 3, "r²": Estimate(1.0)},
    ]
    table = table_of(rows, {"r², less": words.fine_difference})
    assert markdown(table).splitlines() == [
        "| model | runs | r² | r², less |",
        "| --- | --- | --- | --- |",
        "| a_b | 1,491 | 0.803 (0.790–0.810) | −0.100 (−0.200 to +0.010) |",
        "| c | 3 | 1.000 | – |",
    ]
    assert table.plain()["r²"].tolist() == [0.80312345, 1.0]


def test_a_page_says_the_command_that_makes_it_again_with_the_options_that_are_not_as_by_default():
    def command(*typed: str) -> str:
        return arguments("", "reports/page.md", list(typed), ("quick", ""), train_runs=(600, "")).command

    assert command("--out", "elsewhere.md", "--train-runs", "600") == "python -m analyses.page"
    assert command("--models", "glm4v", "qwen3_vl", "--quick", "--train-runs", "5") == (
        "python -m analyses.page --train-runs 5 --quick --models glm4v qwen3_vl"
    )


def test_coverage_stands_by_number_of_groups_and_says_where_not_all_data_sets_had_an_interval():
    one = {"interval": "mean", "of": "rows", "truth": -1.2061}
    rows = [
        one | {"groups": 10} | share_held([], 4),
        one | {"groups": 20} | share_held([True, False, True], 4),
        one | {"groups": 50} | share_held([True] * 4, 4),
    ]
    low, high = (f"{end:.3f}" for end in wilson(2, 3))
    assert markdown(table_of_held(rows)).splitlines()[::2] == [
        "| interval | of | truth | 10 groups | 20 groups | 50 groups |",
        f"| mean | rows | −1.206 | – | 0.667 ({low}–{high}) of 3 | 1.000 (0.510–1.000) |",
    ]


def test_no_analysis_writes_a_page_in_place():
    for path in Path(analyses.__file__).parent.glob("*.py"):
        assert ".write_text(" not in path.read_text(encoding="utf-8"), path.name
