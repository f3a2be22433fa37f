"""`trajkit analyze`: how the metrics of saved runs differ between outcomes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trajkit.cli.options import TracesArgument

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.studies.study import Study

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
        Path | None,
        typer.Option("--report", metavar="OUT", help="Make every study of these runs and write them to this folder."),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="md|html|csv", show_default="md",
                     help="What --report writes: pages with pictures, one page, or all numbers of all runs."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="STUDY", help="Make this study alone; may be given again.")
    ] = None,
    n_boot: Annotated[
        int | None,
        typer.Option("--boot", metavar="N", min=100, max=100_000, show_default="1000",
                     help="Draws of groups behind each interval of --report."),
    ] = None,
    most: Annotated[
        int | None,
        typer.Option("--most", metavar="N", min=100, show_default="10000",
                     help="Runs that --report studies at most: of a larger folder, whole groups drawn at random."),
    ] = None,
) -> None:  # fmt: skip
    """Compare runs by how they ended: trajectory, concentration and uncertainty of successful runs, hallucinations and
    reasoning failures, with effect sizes and corrected p-values that respect groups of runs on one image.

    Metrics are read after the last thinking step. Many grow with the number of steps: read them beside `steps`.

    With --report, five studies are written, each with tables, a picture and what they say in plain words: trajectories,
    metric_distributions, concentration, early_failure and outcomes, beside a page on how to read them.

    [bold]Examples[/bold]

      trajkit analyze traces

      trajkit analyze traces --report analysis --format html

      trajkit analyze traces --report analysis --only early_failure
    """
    from trajkit.cli.output import metric, note, p_value, score, share, show_frame, stdout
    from trajkit.detection.splits import compared_outcomes
    from trajkit.errors import InputError
    from trajkit.runs.kernel import Wanted
    from trajkit.runs.table import run_table
    from trajkit.stats.resampling import MIN_GROUPS
    from trajkit.text import count

    if report is not None:
        return _studies(traces, report, form, only, n_boot, most)
    if only or form or n_boot or most:
        raise InputError(
            "--only, --format, --boot and --most are about what --report writes; name a folder with --report too."
        )
    runs = run_table(traces, Wanted(metrics=False)).usable()
    last = runs.last
    if runs.left_out:
        note(f"{count(runs.left_out, 'run')} without effects or thinking steps left out.")
    sections = {"Runs by outcome": counts(last), "Metrics by outcome: median": medians(last)}
    drawn = runs.drawn()
    known = compared_outcomes(drawn.last)
    outcomes = known["outcome"].nunique()
    if outcomes >= 2:
        sections[
            "Differences between outcomes, within task family and question form: Cliff's δ > 0 where a is larger; p by "
            "permutation, Holm over the table"
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
        if drawn.drawn_from:
            console.print(f"Of {len(drawn):,} runs. {drawn.said_of_draw}\n")
        if table["delta_low"].isna().any():
            console.print(
                f"–: no interval: a side has runs of under {MIN_GROUPS} groups (a δ of 1 or −1 has an exact bound all "
                "the same), all runs are tied, or no task has runs of both outcomes.\n"
            )
    if outcomes < 2:
        console.print("Fewer than two known outcomes, so there is nothing to compare.")


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
    """`stats.compare` of the metrics within family and form, each over the runs where it is finite; p-values are
    corrected over all."""
    import numpy as np

    from trajkit.stats import compare
    from trajkit.stats.compare import PERMUTATIONS

    metrics = [name for name in METRICS if name in last and last["outcome"][np.isfinite(last[name])].nunique() > 1]
    return compare(last, metrics, n_resamples=PERMUTATIONS).replace({"metric": NAMES})


def _studies(
    traces: Path, out: Path, form: str | None, only: list[str] | None, n_boot: int | None, most: int | None
) -> None:
    import shlex

    from trajkit.cli.output import note, stdout
    from trajkit.errors import InputError
    from trajkit.progress import progress
    from trajkit.runs.table import MOST_RUNS
    from trajkit.studies.make import N_BOOT, STUDIES, make, make_all
    from trajkit.studies.runs import read_runs
    from trajkit.studies.write import FORMATS, check_folder, write_studies

    if form is not None and form not in FORMATS:
        raise InputError(f"--format must be one of {', '.join(FORMATS)}; got {form!r}.")
    names = list(dict.fromkeys(only or STUDIES))
    for name in names:
        make(name)
    check_folder(out)
    every = read_runs(traces)
    runs = every.drawn(most or MOST_RUNS)
    command = ["trajkit", "analyze", str(traces), "--report", str(out)]
    command += [part for name in only or () for part in ("--only", name)]
    command += ["--format", form] if form else []
    command += ["--boot", str(n_boot)] if n_boot else []
    command += ["--most", str(most)] if most else []
    data = {"runs": every.table, "steps": every.frame} if form == "csv" else {}
    made: list[Study] = []
    left_out: dict[str, str] = {}
    with progress("studies", total=len(names)) as bar:
        for name in names:
            bar.advance(STUDIES[name], 0)
            done, refused = make_all(runs, [name], n_boot or N_BOOT, lambda note: bar.advance(note, 0))
            made, left_out = made + done, left_out | refused
            if made:  # each is kept as soon as it is made
                where = write_studies(made, out, form or "md", shlex.join(command), runs.summary(), left_out, data)
                data = {}
            bar.advance(STUDIES[name])
    for title, why in left_out.items():
        note(f"{title}: not made. {why}")
    if not made:
        raise InputError("none of the studies could be made of these runs, so nothing was written.")
    stdout().print(f"Wrote {where}", markup=False)
