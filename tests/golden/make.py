"""Writes events.jsonl, the lines that other programs read: `python -m tests.golden.make`.

Run only when a line is meant to change. A field may come; one that is there stays.
"""

from __future__ import annotations

from pathlib import Path

if __name__ == "__main__":
    from tests.test_events import TOLD
    from trajkit.events import as_line

    lines = "".join(f"{as_line(record, run='a')}\n" for record in TOLD.values())
    (Path(__file__).parent / "events.jsonl").write_text(lines, encoding="utf-8")
