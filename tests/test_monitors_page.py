"""The code on the page of monitors runs as it stands, block after block."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from trajkit.demo import paths

PAGE = Path(__file__).parents[1] / "docs" / "monitors.md"


def test_the_blocks_of_the_page_run_in_order(tmp_path, monkeypatch, capsys) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    shutil.copytree(paths.DETECTORS, tmp_path / "data/demo/detectors")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    said = capsys.readouterr().out
    assert "Alarms when the score first falls below" in said
    assert "\nTrue\n" in said
    assert re.search(
        r"Says that it is enough when the probability of success first exceeds 0\.\d\d: at most 10 %", said
    )
    assert "No drift of the scores is told over 1 run" in said
