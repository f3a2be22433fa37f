"""The page on sentences that are told to be wrong."""

from __future__ import annotations

from functools import partial

from analyses import step_detection as page
from tests.analyses.test_reports import committed, headings, tables
from trajkit.detection import StepPredictor
from trajkit.judging import held_out_steps


def test_the_page_stands_beside_its_picture_and_has_the_committed_tables(tmp_path, capsys, monkeypatch) -> None:
    few = StepPredictor(max_iter=5)
    monkeypatch.setattr(page, "held_out_steps", partial(held_out_steps, n_splits=3, model=few))
    page.main(["--runs", "300", "--deals", "1", "--boot", "20", "--out", str(tmp_path / "page.md")])
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == text.strip()
    assert "`python -m analyses.step_detection --runs 300 --deals 1 --boot 20`" in text
    assert (tmp_path / "page.svg").stat().st_size > 5000
    assert headings(text) == committed("step_detection")
    areas = [line.strip("|").split(" | ")[0].strip() for line in tables(text)[1]]
    assert areas[2:5] == ["effects", "uncertainty", "both"]
    assert areas[-1] == "sentences (wrong)"
