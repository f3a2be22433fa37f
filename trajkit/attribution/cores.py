"""Processor cores for the thread that generates: none beside it takes them.

torch shares each operation on the CPU among the threads of an OpenMP team, and each Python thread has a team of its
own. As soon as the teams have more threads than there are cores, OpenMP no longer waits for work at the ready but goes
to sleep after every operation, in all of them, for as long as the second team lives: decoding, which is thousands of
short operations a token, becomes a third slower while the other thread does nothing at all.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch


def let_go_of_cores() -> None:
    """End the team of the calling thread, as another one generates; it is made anew when this one computes.

    Only for GNU's OpenMP on Linux, with which torch comes there; elsewhere nothing is done.
    """
    openmp = _gnu_openmp()
    if openmp is not None:
        openmp.omp_pause_resource_all(_SOFTLY)


_SOFTLY = 1
"""omp_pause_soft: what was set stays."""


@cache
def _gnu_openmp() -> Any:
    """The library as torch has loaded it; None where that is another one, or too old."""
    try:
        maps = Path("/proc/self/maps").read_text().splitlines()
        loaded = {line.split(maxsplit=5)[-1] for line in maps if "libgomp" in line}
        own = {path for path in loaded if Path(torch.__file__).parent in Path(path).parents} or loaded
        openmp = ctypes.CDLL(own.pop()) if len(own) == 1 else None  # others, as scikit-learn's, have teams of their own
    except OSError:
        return None
    return openmp if hasattr(openmp, "omp_pause_resource_all") else None
