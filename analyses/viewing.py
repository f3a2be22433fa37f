"""How soon `trajkit view` shows a list, and what its answers take, on folders of any size.

    python -m analyses.viewing                    # the demo's 3,600 runs, and 50,000; writes reports/viewing.md
    python -m analyses.viewing --runs 3600 200000

The demo's saved runs, repeated where more are asked for (`analyses.large_folders`), with the demo's detectors.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import pandas as pd

from analyses.large_folders import write_copies
from trajkit.demo.paths import TRACES
from trajkit.files import write_text
from trajkit.tables import Table
from trajkit.tables.render import markdown
from trajkit.tables.words import metric


@dataclass(frozen=True)
class Cost:
    """first: seconds from the start of the process to the answer with the first list; of_cpu: that its threads worked
    until then. kilobytes: of that answer, of 50 runs. list, searched, sorted, document: milliseconds of an answer, the
    median. judged: seconds from the start until the risks of all runs are known. gigabytes: largest resident set."""

    runs: int
    first: float
    of_cpu: float
    kilobytes: float
    list: float
    searched: float
    sorted: float
    document: float
    judged: float
    gigabytes: float


HEADINGS = {
    "runs": "runs",
    "first": "first list, s",
    "of_cpu": "of CPU, s",
    "kilobytes": "a list of 50, kB",
    "list": "a list, ms",
    "searched": "searched, ms",
    "sorted": "by risk, ms",
    "document": "a run, ms",
    "judged": "all risks, s",
    "gigabytes": "peak GB",
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[3600, 50_000])
    parser.add_argument("--out", type=Path, default=Path("reports/viewing.md"))
    args = parser.parse_args(argv)
    costs = []
    with tempfile.TemporaryDirectory() as temporary:
        for runs in args.runs:
            folder = Path(temporary) / str(runs)
            write_copies(TRACES, folder, runs)
            costs.append(measured(folder, runs))
            print(costs[-1], file=sys.stderr, flush=True)
    table = Table(pd.DataFrame([vars(cost) for cost in costs]), HEADINGS, dict.fromkeys(list(HEADINGS)[1:], metric))
    text = (
        "# Viewing\n\n"
        f"Regenerate: `python -m analyses.viewing --runs {' '.join(map(str, args.runs))}`. `trajkit view` over the "
        "demo's saved runs, repeated with groups and questions of their own where there are more, with the demo's "
        f"detectors; on {platform.machine()} with {os.cpu_count()} cores, asked over its port. The first list counts "
        "from the start of the process; seconds by the clock hang on what else the machine does, those of CPU hardly. "
        "Lists and runs are medians, asked for once all risks are known.\n\n"
        f"{markdown(table)}"
    )
    write_text(args.out, text)
    print(text)


def measured(folder: Path, runs: int) -> Cost:
    """What `trajkit view` of a folder costs, in a process of its own."""
    command = [sys.executable, "-m", "trajkit", "view", str(folder), "--port", "0"]
    began = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            address = next(found[1] for line in process.stderr if (found := re.search(r"at (http://\S+) ", line)))
            with httpx.Client(base_url=address, timeout=120) as client:
                answer = client.get("/api/runs")
                first, of_cpu = time.perf_counter() - began, worked_by(process.pid)
                while client.get("/api/runs?limit=1").json()["live"]:
                    time.sleep(0.2)
                judged = time.perf_counter() - began
                rng = np.random.default_rng(0)
                places = rng.integers(0, runs, 20).tolist()
                ids = [client.get(f"/api/runs?limit=1&offset={at}").json()["runs"][0]["id"] for at in places]
                return Cost(
                    runs,
                    first,
                    of_cpu,
                    len(answer.content) / 1e3,
                    median_of(client.get, ["/api/runs"] * 9),
                    median_of(client.get, ["/api/runs?search=digit+red&outcome=hallucination"] * 9),
                    median_of(client.get, ["/api/runs?sort=risk"] * 9),
                    median_of(client.get, [f"/api/runs/{quote(id_, safe='')}" for id_ in ids]),
                    judged,
                    peak_of(process.pid),
                )
        finally:
            process.kill()


def median_of(ask: Callable[[str], httpx.Response], about: Sequence[str]) -> float:
    """Milliseconds of an answer."""
    taken = []
    for one in about:
        began = time.perf_counter()
        ask(one).raise_for_status()
        taken.append(1e3 * (time.perf_counter() - began))
    return float(np.median(taken))


def worked_by(pid: int) -> float:
    """Seconds of CPU that the threads of a process took so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_of(pid: int) -> float:
    """Gigabytes of the largest resident set of a process that goes on."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return float("nan") if found is None else int(found[1]) * 1024 / 1e9


if __name__ == "__main__":
    main()
