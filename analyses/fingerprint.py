"""How long a fingerprint takes: a file of weights hashed the first time and again, and the check of those in memory.

    python -m analyses.fingerprint              # 2 GB, made for the purpose and deleted

A row of the page of `analyses.performance`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save_file

from trajkit.tables import Table
from trajkit.tables.render import markdown
from trajkit.vlm.fingerprint import checksum, hash_files


def seconds_per_gb(gigabytes: float = 2.0) -> dict[str, float]:
    """Seconds a gigabyte for `first` (hash of the files) and `memory` (sum of what is loaded); `again` in seconds."""
    layers = 64
    width = int((gigabytes * 1e9 / 2 / layers) ** 0.5)
    model = torch.nn.Sequential(*(torch.nn.Linear(width, width, False, dtype=torch.bfloat16) for _ in range(layers)))
    size = sum(2 * p.numel() for p in model.parameters()) / 1e9
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save_file(model.state_dict(), file)
        time.sleep(3)  # a file that was written a moment ago is not remembered
        cache = Path(folder) / "cache"
        first, again = (_timed(lambda: hash_files([file], cache)) for _ in range(2))
    return {"first": first / size, "again": again, "memory": _timed(lambda: checksum(model)) / size}


def table(gigabytes: float = 2.0) -> Table:
    """The same as a table of one row."""
    headings = {
        "weights": "weights",
        "first": "files, the first time",
        "again": "the same files again",
        "memory": "in memory, at every load",
    }
    formats = {"weights": "{:g} GB".format, "first": _speed, "again": _milliseconds, "memory": _speed}
    return Table(pd.DataFrame([{"weights": gigabytes} | seconds_per_gb(gigabytes)]), headings, formats)


def _speed(seconds: float) -> str:
    """Of seconds a gigabyte."""
    return f"{1 / seconds:.2g} GB/s, 16 GB in {16 * seconds:.1f} s"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.2g} ms"


def _timed(job: Callable[[], object]) -> float:
    began = time.perf_counter()
    job()
    return time.perf_counter() - began


if __name__ == "__main__":
    print(markdown(table()))
