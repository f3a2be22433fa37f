"""How a run under watch can end, and which runs a demonstration shows: by their endings and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Ending = Literal["right", "false alarm", "caught", "missed"]
SOUGHT: frozenset[Ending] = frozenset({"caught", "missed"})
"""A demonstration goes on until it has them: a failing run that alarms, and one that does not."""


def ending(right: bool, alarmed: bool) -> Ending:
    """What a monitor made of a run that ended right or wrong."""
    if right:
        return "false alarm" if alarmed else "right"
    return "caught" if alarmed else "missed"


def is_shown(so_far: Sequence[Ending], least: int) -> bool:
    """Whether the last of the runs so far is: one of the first `least`, or the first of its ending."""
    return len(so_far) <= least or so_far[-1] not in so_far[:-1]


def is_enough(so_far: Sequence[Ending], least: int) -> bool:
    """Whether there are `least` runs, and one of each ending that is `SOUGHT`."""
    return len(so_far) >= least and set(so_far) >= SOUGHT
