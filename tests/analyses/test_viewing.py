"""What viewing costs, measured over the port of a real process."""

from __future__ import annotations

from analyses import viewing


def test_a_folder_is_viewed_and_each_cost_is_measured(tmp_path, capsys):
    viewing.main(["--runs", "40", "--out", str(tmp_path / "viewing.md")])
    said = (tmp_path / "viewing.md").read_text()
    assert "python -m analyses.viewing --runs 40" in said
    cells = [cell.strip() for cell in said.splitlines()[-1].strip("|").split("|")]
    assert cells[0] == "40"
    assert len(cells) == len(viewing.HEADINGS)
    assert all(float(cell) > 0 for cell in cells)
    assert float(cells[1]) < float(cells[8])  # the first list comes before all risks are known
