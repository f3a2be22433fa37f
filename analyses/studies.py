"""Run one study of `trajkit.studies` on a folder of traces and write its page to reports/."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import trajkit as tk
from trajkit.demo import paths
from trajkit.progress import progress
from trajkit.studies.make import N_BOOT, make
from trajkit.studies.runs import read_runs
from trajkit.studies.write import write_markdown


def run(name: str, about: str | None, argv: list[str] | None = None) -> None:
    """Parse arguments, make the study, write reports/NAME.md with its picture."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", type=Path, nargs="?", default=paths.TRACES, help="by default the demo's")
    parser.add_argument("--boot", type=int, default=N_BOOT, help="bootstrap draws of groups")
    parser.add_argument("--out", type=Path, default=Path(f"reports/{name}.md"))
    args = parser.parse_args(argv)
    typed = sys.argv[1:] if argv is None else argv
    runs = read_runs(tk.read_traces(args.traces))
    with progress(name, total=1) as bar:
        study = make(name)(runs, args.boot, lambda note: bar.advance(note, 0))
        bar.advance("")
    command = shlex.join(["python", "-m", f"analyses.{name}", *typed])
    print(write_markdown(study, args.out, command).read_text(encoding="utf-8"))
