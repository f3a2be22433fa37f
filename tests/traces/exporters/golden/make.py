"""Writes the golden files of exports: `python -m tests.traces.exporters.golden.make`.

Run only when a format is to change. Then have the tools themselves read them again:
`python -m analyses.exporting --tools PYTHON`, PYTHON being that of an environment with inspect-ai, inspect-scout,
datasets and pillow.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.traces.exporters.samples import samples
from trajkit.traces.exporters import export_traces

HERE = Path(__file__).parent

if __name__ == "__main__":
    export_traces(samples(), HERE / "runs.jsonl")
    with tempfile.TemporaryDirectory() as folder:
        export_traces(samples(), Path(folder) / "tables", format="csv")
        for name in ("runs.csv", "steps.csv"):
            (HERE / name).write_bytes((Path(folder) / "tables" / name).read_bytes())
        export_traces(samples(), Path(folder) / "data set", format="hf")
        (HERE / "card.md").write_bytes((Path(folder) / "data set" / "README.md").read_bytes())
