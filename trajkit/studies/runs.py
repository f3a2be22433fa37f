"""What studies read of a folder of traces: one pass over it, no images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.detection.splits import compared_outcomes, failures
from trajkit.errors import InputError
from trajkit.runs.features import features
from trajkit.stats.resampling import numbered
from trajkit.traces.store import Traces
from trajkit.traces.trace import Trace
from trajkit.trajectory.runs import RUN_METRICS, run_metrics

if TYPE_CHECKING:
    import pandas as pd

LAST = ("n_tokens", "logprob_mean", "entropy_mean")
"""Prefix features that a run is given as its own, from its last thinking step."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs with effects and at least one thinking step.

    frame: prefix features, a row a run and step (`tk.features`). table: a row a run, in the order of `frame`:
    transcript_id group_id task_set form success outcome failed (1, 0, NaN unknown), RUN_METRICS of its thinking steps,
    LAST, and what its judge wrote to `meta`: `detail`, the cause of the outcome, or "", and `unread`, how many cells
    that the question is about were never read, NaN where it does not say. `outcome` is `failure` for
    wrong runs where no failure has a known kind. paths: (T, K) effects of each run's thinking steps, nats. labels: the
    region map of each, one object for runs that share it. left_out: runs without effects or without thinking. kinds: of
    effects, estimated or measured.
    """

    frame: pd.DataFrame
    table: pd.DataFrame
    paths: tuple[NDArray[np.float32], ...]
    labels: tuple[NDArray[np.integer[Any]], ...]
    left_out: int
    kinds: tuple[str, ...] = ()

    def summary(self) -> str:
        """How many runs of what, in a sentence or two."""
        counts = self.table["outcome"].value_counts()
        shares = ", ".join(f"{n:,} {str(outcome).replace('_', ' ')}" for outcome, n in counts.items())
        said = f"{len(self.table):,} runs of {self.table['group_id'].nunique():,} groups: {shares}. "
        unkind = int(((self.table["failed"] == 1) & (self.table["outcome"] == "unknown")).sum())
        if unkind:
            said += f"{unkind:,} of the unknown are known to have failed, of no known kind: they count as failures. "
        said += f"Effects: {', '.join(self.kinds)}."
        return said + (f" {self.left_out:,} runs without effects or thinking are left out." if self.left_out else "")

    def known(self) -> Runs:
        """The runs that are known to have succeeded or failed. Raises InputError without some of both."""
        keep = ~np.isnan(self.table["failed"].to_numpy(float))
        failed = self.table["failed"].to_numpy(float)[keep]
        if len(np.unique(failed)) < 2:
            raise InputError(
                f"this needs runs that succeeded and runs that failed; of {len(keep)} runs {int((failed == 0).sum())} "
                f"are known to have succeeded and {int((failed == 1).sum())} to have failed."
            )
        return self.only(keep)

    def only(self, keep: NDArray[np.bool_]) -> Runs:
        """Some of the runs, by a mask over `table`."""
        table = self.table[keep].reset_index(drop=True)
        frame = self.frame[self.frame["transcript_id"].isin(set(table["transcript_id"]))].reset_index(drop=True)
        at = np.flatnonzero(keep)
        return Runs(
            frame, table, tuple(self.paths[i] for i in at), tuple(self.labels[i] for i in at), self.left_out,
            self.kinds,
        )  # fmt: skip


def read_runs(traces: Iterable[Trace]) -> Runs:
    """Read all runs once. Raises InputError when none has effects and a thinking step."""
    import pandas as pd

    paths: list[NDArray[np.float32]] = []
    labels: list[NDArray[np.integer[Any]]] = []
    maps: dict[str, NDArray[np.integer[Any]]] = {}
    kinds: set[str] = set()
    details: list[str] = []
    unread: list[float] = []
    left_out = 0

    def usable() -> Iterator[Trace]:
        nonlocal left_out
        for trace in traces.without_images() if isinstance(traces, Traces) else traces:
            if trace.effects_kind is None or not trace.n_regions or not trace.thinking.any():
                left_out += 1
                continue
            paths.append(trace.effects[trace.thinking])
            known = maps.setdefault(trace.image_sha256, trace.regions)
            labels.append(known if np.array_equal(known, trace.regions) else trace.regions)
            kinds.add(trace.effects_kind)
            details.append(str(trace.meta.get("detail") or ""))
            said = trace.meta.get("unread")
            unread.append(said if isinstance(said, int | float) else np.nan)
            yield trace

    frame = features(usable())
    if not paths:
        raise InputError(f"none of the {left_out} runs has effects and a thinking step; there is nothing to analyse.")
    frame = frame.assign(outcome=compared_outcomes(frame, keep_unknown=True)["outcome"])
    last = frame.groupby("transcript_id", sort=False).tail(1).reset_index(drop=True)
    table = last[["transcript_id", "group_id", "task_set", "form", "success", "outcome", *LAST]].copy()
    table["failed"] = failures(last)
    table["detail"], table["unread"] = details, np.array(unread, float)
    metrics = metrics_of(paths)
    if twice := set(metrics) & set(table.columns):
        raise ValueError(f"two columns of one name: {', '.join(sorted(twice))}")
    table = pd.concat([table, pd.DataFrame(metrics)], axis=1)
    return Runs(frame, table, tuple(paths), tuple(labels), left_out, tuple(sorted(kinds)))


def within(task: ArrayLike, of: ArrayLike) -> NDArray[np.integer[Any]]:
    """(n,) a stratum for each task (`task_labels`) and value of `of`, whole numbers such as lengths or folds."""
    values = np.asarray(of, dtype=int)
    return numbered(task) * (values.max(initial=0) + 1) + values


def metrics_of(paths: Iterable[NDArray[np.floating[Any]]]) -> dict[str, NDArray[np.float64]]:
    """RUN_METRICS of each path, (R,); paths may differ in width."""
    paths = list(paths)
    out = {name: np.full(len(paths), np.nan) for name in RUN_METRICS}
    widths = np.array([path.shape[1] for path in paths])
    for width in np.unique(widths):
        mine = np.flatnonzero(widths == width)
        rows = [paths[i] for i in mine]
        found = run_metrics(np.concatenate(rows), np.concatenate([[0], np.cumsum([len(row) for row in rows])]))
        for name, column in found.items():
            out[name][mine] = column
    return out
