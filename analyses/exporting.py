"""What exports cost, and what the tools that they are for make of them.

    python -m analyses.exporting --tools PYTHON     # the demo's 3,600 runs; writes reports/exporting.md

PYTHON is that of an environment with inspect-ai, inspect-scout, datasets and pillow, which trajkit does not need:
`python -m venv tools && tools/bin/pip install inspect-ai inspect-scout datasets pillow`. Without it, costs alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

import trajkit as tk
from trajkit.demo.paths import TRACES
from trajkit.files import write_text
from trajkit.tables import Table
from trajkit.tables.render import markdown
from trajkit.tables.words import metric
from trajkit.traces.exporters import FORMATS

HEADINGS = {"format": "format", "seconds": "seconds", "per_second": "runs/s", "megabytes": "MB"}
NAMES = {"scout": "scout", "inspect": "runs.eval", "hf": "set", "jsonl": "runs.jsonl", "csv": "csv"}
READERS: Mapping[str, str] = {
    "scout db validate": """
import subprocess, sys
from pathlib import Path
tool = str(Path(sys.executable).with_name("scout"))
print(subprocess.run([tool, "db", "validate", "scout"], capture_output=True, text=True, check=True).stdout.strip())
""",
    "scout's Python API": """
import asyncio
from inspect_scout import TranscriptContent, transcripts_from, columns as c
async def main():
    async with transcripts_from("scout").where(c.outcome == "hallucination").reader() as reader:
        found = [info async for info in reader.index()]
        whole = [await reader.read(info, TranscriptContent(messages="all")) for info in found[:50]]
    kinds = {(m.role, *(part.type for part in m.content)) for one in whole for m in one.messages}
    print(f"{len(found)} hallucinations; messages of 50: {sorted(kinds)}; {len(found[0].metadata)} fields of metadata")
asyncio.run(main())
""",
    "inspect_ai.log.read_eval_log": """
from inspect_ai.log import read_eval_log, read_eval_log_sample_summaries
log = read_eval_log("runs.eval", resolve_attachments=True)
head, listed = read_eval_log("runs.eval", header_only=True), read_eval_log_sample_summaries("runs.eval")
image, text = log.samples[0].messages[0].content
scores = {s.name: {name: round(m.value, 3) for name, m in s.metrics.items()} for s in log.results.scores}
print(f"{log.status}, {len(log.samples)} samples, {len(listed)} summaries, image {image.image[:14]}…, "
      f"{[part.type for part in log.samples[0].messages[-1].content]}; results: {scores}")
assert head.results.total_samples == len(log.samples)
""",
    "datasets.load_dataset": """
import numpy as np
from datasets import load_dataset, disable_progress_bars
disable_progress_bars()
runs = load_dataset("set", split="train", cache_dir="cache")
run = runs[0]
assert np.array(run["effects"]).shape == (run["n_steps"], run["n_regions"])
print(f"{len(runs)} rows; image {run['image'].size} {run['image'].mode}, regions {np.array(run['regions']).shape}, "
      f"effects {np.array(run['effects']).shape}; features: {runs.features['image']}, {runs.features['effects']}")
""",
}
"""What is run in the tools' environment, in the folder of the exports."""
PACKAGES = ("inspect_ai", "inspect_scout", "datasets")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", type=Path, metavar="PYTHON", help="of an environment with the tools")
    parser.add_argument("--traces", type=Path, default=TRACES)
    parser.add_argument("--out", type=Path, default=Path("reports/exporting.md"))
    args = parser.parse_args(argv)
    traces = tk.read_traces(args.traces)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        costs = [cost(traces, format, folder) for format in FORMATS]
        said = {} if args.tools is None else answers(args.tools, folder)
    table = Table(pd.DataFrame(costs), HEADINGS, dict.fromkeys(list(HEADINGS)[1:], metric))
    tools = " --tools PYTHON" * (args.tools is not None)
    text = (
        "# Exporting\n\n"
        f"Regenerate: `python -m analyses.exporting{tools}`. {len(traces):,} runs of the demo, by `tk.export_traces`, "
        f"on {platform.machine()} with {os.cpu_count()} cores; seconds are those of its processor.\n\n"
        f"{markdown(table)}\n"
    )
    text += "".join(f"\n`{reader}`:\n\n```\n{answer}\n```\n" for reader, answer in said.items())
    write_text(args.out, text)
    print(text)


def cost(traces: tk.Traces, format: str, folder: Path) -> dict[str, str | float]:
    """Seconds and megabytes of one export."""
    began = time.process_time()
    path = tk.export_traces(traces, folder / NAMES[format], format=format)
    seconds = time.process_time() - began
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    return {"format": format, "seconds": seconds, "per_second": len(traces) / seconds, "megabytes": megabytes}


def answers(python: Path, folder: Path) -> dict[str, str]:
    """What each of READERS says; raises CalledProcessError where a tool does not take its files."""
    run = [str(python), "-c"]
    versions = subprocess.run(
        [*run, f"import importlib.metadata as m; print(', '.join(f'{{p}} {{m.version(p)}}' for p in {PACKAGES}))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    found = {"versions": versions}
    for reader, code in READERS.items():
        print(reader, file=sys.stderr, flush=True)
        done = subprocess.run([*run, code], cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
        found[reader] = done.stdout.strip()
    return found


if __name__ == "__main__":
    main()
