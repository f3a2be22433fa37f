"""`trajkit analyze`: how the metrics of saved runs differ between outcomes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trajkit.cli.options import TracesArgument

if TYPE_CHECKING:
    import pandas as pd

METRICS = (
    "step", "n_tokens", "path_length", "tortuosity", "straightness", "mean_step", "switch_rate", "concentration_mean",
    "concentration_slope", "logprob_mean", "entropy_mean",
)  # fmt: skip
"""Compared at the last thinking step of each run."""

NAMES = {"step": "steps"}
DIFFERENCES = {
    "metric": "metric", "pair": "a – b", "runs": "runs", "cliffs_delta": "δ", "delta_low": "95 % from",
    "delta_high": "to", "p_corrected": "p",
}  # fmt: skip
"""What fits a terminal of `stats.compare`; the Markdown file has all of its columns."""


def analyze(
    traces: TracesArgument,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.md", help="Write the tables to this Markdown file too.")
    ] = None,
) -> None:
    """Compare runs by how they ended: trajectory, concentration and uncertainty of successful runs, hallucinations and
    reasoning failures, with effect sizes and corrected p-values that respect groups of runs on one image.

    Metrics are read after the last thinking step. Many grow with the number of steps: read them beside `steps`.

    [bold]Examples[/bold]

      trajkit analyze traces

      trajkit analyze traces --report reports/outcomes.md
    """
    from trajkit.cli.output import metric, p_value, score, share, show_frame, stdout
    from trajkit.detection.splits import compared_outcomes
    from trajkit.errors import InputError
    from trajkit.stats.compare import MIN_GROUPS
    from trajkit.traces.frame import features
    from trajkit.traces.store import read_traces

    runs = read_traces(traces)
    frame = features(runs)
    if frame.empty:
        raise InputError(f"none of the {len(runs)} runs in {traces} has a thinking step; there is nothing to compare.")
    last = frame.groupby("transcript_id", sort=False).tail(1).reset_index(drop=True)
    sections = {"Runs by outcome": counts(last), "Metrics by outcome: median": medians(last)}
    known = compared_outcomes(last)
    outcomes = known["outcome"].nunique()
    if outcomes >= 2:
        sections[
            "Differences between outcomes: Cliff's δ > 0 where a is larger; p by permutation, Holm over the pairs"
        ] = differences(known)
    console = stdout()
    formats = dict.fromkeys(last["outcome"].unique(), metric) | {"share": share, "p_corrected": p_value}
    formats |= dict.fromkeys(("cliffs_delta", "delta_low", "delta_high"), score)
    for title, table in sections.items():
        if "cliffs_delta" not in table:
            show_frame(console, table, title, None, formats)
            continue
        numbers = [f"{a} – {b}" for a, b in zip(table["n_a"], table["n_b"], strict=True)]
        pairs = table.assign(pair=table["a"] + " – " + table["b"], runs=numbers)
        show_frame(console, pairs, title, DIFFERENCES, formats)
        if table["delta_low"].isna().any():
            console.print(
                f"–: too few groups for an interval: a side has under {MIN_GROUPS}, or all resamples agree.\n"
            )
    if outcomes < 2:
        console.print("Fewer than two known outcomes, so there is nothing to compare.")
    if report is not None:
        _write(report, traces, sections)
        console.print(f"Wrote {report}", markup=False)


def counts(last: pd.DataFrame) -> pd.DataFrame:
    """Runs and groups of each outcome, the most frequent first."""
    table = last.groupby("outcome").agg(runs=("transcript_id", "size"), groups=("group_id", "nunique"))
    table["share"] = table["runs"] / len(last)
    return table.sort_values("runs", ascending=False).reset_index()


def medians(last: pd.DataFrame) -> pd.DataFrame:
    """A row per metric, a column per outcome; infinite values (a path back to its start) count, NaN do not."""
    metrics = [name for name in METRICS if name in last]
    table = last.groupby("outcome")[metrics].median().T
    table.index = [NAMES.get(str(name), str(name)) for name in table.index]
    return table.rename_axis("metric").reset_index()


def differences(last: pd.DataFrame) -> pd.DataFrame:
    """`stats.compare` for each metric, over the runs where it is finite; p-values are corrected within a metric."""
    import numpy as np
    import pandas as pd

    from trajkit.progress import progress
    from trajkit.stats import compare

    parts = []
    metrics = [name for name in METRICS if name in last]
    with progress("comparing", total=len(metrics)) as bar:
        for name in metrics:
            known = last[np.isfinite(last[name].to_numpy(float))]
            if known["outcome"].nunique() >= 2:
                parts.append(compare(known, name).replace({"metric": NAMES}))
            bar.advance(name)
    return pd.concat(parts, ignore_index=True)


def _write(path: Path, traces: Path, sections: dict[str, pd.DataFrame]) -> None:
    from trajkit.cli.output import markdown

    text = f"# Runs by outcome\n\nWritten by `trajkit analyze {traces} --report {path}`.\n"
    text += "".join(f"\n## {title}\n\n{markdown(table)}" for title, table in sections.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
