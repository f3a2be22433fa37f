"""Runs of one image and question under several group ids: told by hashes, and taken as of one group.

A copy under a new group id would stand on both sides of a split, count as a new group in calibration, or pass for new
where detectors are tried on it. A group_id alone does not say so; what the runs hold does.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from trajkit.errors import InputError
from trajkit.runs.keys import ENOUGH
from trajkit.runs.keys import key as key_of

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.runs.table import RunTable

Keyed = list[tuple[str, frozenset[bytes]]]
"""The group_id of each run, and its keys: runs that share one are of one image and question, or the same run."""

_NAMED = 3
"""Groups taken as one that a warning names."""


def keyed(runs: RunTable | pd.DataFrame) -> Keyed:
    """Group and keys of every run, in order. A feature frame knows neither image nor effects: its keys are of the
    features of all steps, where the run moves, and are shared with those of other frames alone. Raises InputError
    where a table was read without keys."""
    from trajkit.runs.table import RunTable

    if not isinstance(runs, RunTable):
        return _of_frame(runs)
    if "keys" not in runs.rows.schema.names:
        raise InputError(
            "telling copies of runs apart needs their keys, and this table was read without; give the traces or their "
            "path instead, or read them with run_table(traces, Wanted(keys=True)) (`trajkit.runs.kernel.Wanted`)."
        )
    groups, keys = (runs.rows[name].to_pylist() for name in ("group_id", "keys"))
    return [(group, frozenset(own)) for group, own in zip(groups, keys, strict=True)]


def one_group(runs: Keyed) -> dict[str, str]:
    """The group that each group is taken as: the first, in the order of the runs, of those that it shares a key with,
    directly or through others. Warns, with the number and names, where that is another."""
    root = {group: group for group, _ in runs}

    def of(group: str) -> str:
        while root[group] != group:
            root[group] = root[root[group]]
            group = root[group]
        return group

    place = {group: at for at, group in enumerate(root)}
    first: dict[bytes, str] = {}
    for group, keys in runs:
        for key in keys:
            a, b = sorted((of(group), of(first.setdefault(key, group))), key=place.__getitem__)
            root[b] = a
    taken = {group: of(group) for group in root}
    alike: dict[str, list[str]] = {}
    for group, as_one in taken.items():
        alike.setdefault(as_one, []).append(group)
    if several := [same for same in alike.values() if len(same) > 1]:
        shown = "; ".join(" = ".join(map(repr, same[: _NAMED + 1])) for same in several[:_NAMED])
        more = " and others" if len(several) > _NAMED or any(len(same) > _NAMED + 1 for same in several) else ""
        warnings.warn(
            f"{sum(map(len, several))} groups are taken as {len(several)}, as runs of them are of one image and "
            f"question or copies of each other: {shown}{more}.",
            stacklevel=3,
        )
    return taken


def regrouped(frame: pd.DataFrame, taken: Mapping[str, str]) -> pd.DataFrame:
    """The frame with each group_id replaced by the one it is taken as (`one_group`)."""
    if all(group == as_one for group, as_one in taken.items()):
        return frame
    return frame.assign(group_id=[taken.get(group, group) for group in frame["group_id"].astype(str)])


def groups_with(runs: Keyed, keys: Collection[bytes]) -> frozenset[str]:
    """The groups with a run that has one of the keys."""
    return frozenset(group for group, own in runs if not own.isdisjoint(keys))


def _of_frame(frame: pd.DataFrame) -> Keyed:
    from trajkit.trajectory.features import FEATURE_NAMES

    frame = frame.sort_values("step", kind="stable") if "step" in frame else frame
    values = frame[[name for name in FEATURE_NAMES if name in frame]].to_numpy(float)
    moved = frame["path_length"].to_numpy(float) > 0 if "path_length" in frame else np.zeros(len(frame), bool)
    groups = frame["group_id"].astype(str).to_numpy()
    found: Keyed = []
    for rows in frame.groupby("transcript_id", sort=True).indices.values():
        own = values[rows]
        tells = moved[rows].any() and len(np.unique(own[np.isfinite(own)])) >= 2 * ENOUGH
        found.append((str(groups[rows[0]]), frozenset({key_of("features", "", own.tobytes())} if tells else ())))
    return found
