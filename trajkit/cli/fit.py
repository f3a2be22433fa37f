"""`trajkit fit`: detectors from saved runs, with how they do on runs held out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trajkit.cli.options import AddressOption, EngineOption, TracesArgument, WorkersOption

if TYPE_CHECKING:
    from collections.abc import Collection

    import pandas as pd
    from rich.console import Console

    from trajkit.judging.alarms import Replay
    from trajkit.judging.fit import FitResult


def fit(
    traces: TracesArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DETECTORS", help="Folder to write the detectors to.")],
    alpha: Annotated[
        float,
        typer.Option(
            "--alpha",
            metavar="SHARE",
            min=0.001,
            max=0.5,
            help="Largest share of successful runs, each a new run of a new group, that may be alarmed.",
        ),
    ] = 0.1,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, max=2**31 - 1, help="Same seed, same split of the groups.")
    ] = 0,
    step_labels: Annotated[
        str | None,
        typer.Option(
            "--step-labels",
            metavar="FILE",
            help="Learn to tell wrong sentences too, from a file of labels (JSONL or CSV: transcript_id, step, label: "
            "false, lost or empty), or, with the word meta, from those in the runs.",
        ),
    ] = None,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    address: AddressOption = None,
) -> None:
    """Learn from saved runs with known outcomes to tell, mid-run, that a run is failing.

    Half of the groups (images or questions) fit a predictor, a quarter calibrates the alarm, and the last quarter,
    untouched until then, shows how well it does, beside baselines: length, task, token uncertainty, chance.
    Of runs without effects it learns from length and uncertainty alone, and says so. Where sentences are labelled, a
    predictor of wrong ones is written beside the detectors (steps.json), cross-validated by group.

    [bold]Example[/bold]

      trajkit fit traces --out detectors --alpha 0.05
    """
    from trajkit.cli.fit_sentences import fit_sentences, read_sentences
    from trajkit.cli.output import stdout
    from trajkit.cli.reading import Engine, read_runs
    from trajkit.detection.store import FILE, save_detectors
    from trajkit.errors import InputError
    from trajkit.files import check_file
    from trajkit.judging.fit import fit_detectors
    from trajkit.runs.kernel import Wanted
    from trajkit.tables.words import count

    how = Engine.of(engine, workers, address)
    check_file(out / FILE)
    runs = read_runs(traces, Wanted(metrics=False, keys=True), how)
    if runs.table["failed"].isna().all():
        raise InputError(
            f"none of {count(len(runs), 'run')} in {traces} has a known outcome. Label them in `trajkit view "
            f"{traces}`, or collect or import them with targets."
        )
    sentences = None if step_labels is None else read_sentences(traces, step_labels)
    result = fit_detectors(runs, alpha=alpha, seed=seed)
    path = save_detectors(out, result.detectors)
    console = stdout()
    if result.evaluation.note:
        console.print(f"{result.evaluation.note}\n", markup=False)
    show_evaluation(console, result, runs.by_hand)
    console.print(result.detectors.monitor.message, markup=False)
    console.print(result.detectors.card["enough"], markup=False)
    console.print(f"Outcome classifier: {result.detectors.card['outcome'].rstrip('.')}.", markup=False)
    if sentences is not None:
        fit_sentences(console, sentences, out)
    console.print(f"Wrote {path}. Next: trajkit monitor {traces} --detectors {out}", markup=False)


def show_evaluation(console: Console, result: FitResult, by_hand: Collection[str] = ()) -> None:
    """The tables of a fit: the split, early failure by absolute step and (oracle) by fraction, outcomes, monitor.
    by_hand: runs whose outcome is somebody's label."""
    from trajkit.judging import layout
    from trajkit.tables import Table
    from trajkit.tables.render import show

    found = result.evaluation
    if found.split is not None:
        show(console, Table(found.split), "Runs, split by group")
    most = max(2, (console.width - 24) // 18)  # columns that fit beside the methods
    if found.auc_by_step.empty:
        console.print("AUC of failure at absolute steps: too few held-out runs reach any step to tell.\n", markup=False)
    else:
        by_step = layout.areas_across(found.auc_by_step, "step", most)
        show(console, by_step, "AUC of failure (95 %) at absolute steps, runs still thinking")
    title = "The same at fractions of the final length: ORACLE, the length is not known while a run goes on"
    show(console, layout.areas_across(found.auc_by_fraction, "fraction", most), title)
    if found.outcome_auc is not None:
        table, runs = layout.macro_areas(found.outcome_auc)
        show(console, table, f"Macro AUC of the outcome, at the end of thinking, of {runs}")
    show_monitor(console, found, by_hand)


def show_monitor(console: Console, replay: Replay, by_hand: Collection[str] = ()) -> None:
    """False alarms and whether they are as promised, drift, power and tokens saved; and which of the runs were labelled
    by hand, as far as they are among by_hand."""
    from trajkit.judging import layout
    from trajkit.tables.render import show

    show(console, layout.false_alarm_rates(replay.false_alarms, replay.check), "False alarms on successful runs")
    console.print(replay.check.message, style="bold red" if replay.check.kept == "broken" else "", markup=False)
    show_drift(console, replay)
    console.print()
    show(console, layout.caught(replay.power), "Failing runs that were alarmed")
    show(console, layout.saved(replay.tokens_saved), "Share of thinking tokens after the alarm")
    if said := said_of_labelled(replay.runs, by_hand):
        console.print(said, markup=False)


def said_of_labelled(runs: pd.DataFrame, by_hand: Collection[str]) -> str:
    """Whether alarmed runs were labelled more often than others, in words; "" where none of them was. runs: as
    `alarms.monitor_runs`."""
    from trajkit.tables.words import count

    labelled, alarmed = runs["transcript_id"].isin(list(by_hand)), runs["alarmed"].astype(bool)
    if not labelled.any():
        return ""
    alarms, others = count(int(alarmed.sum()), "alarmed run"), count(int((~alarmed).sum()), "other")
    n, more = int((labelled & alarmed).sum()), int((labelled & ~alarmed).sum())
    return (
        f"Labelled by hand: {n:,} of {alarms} and {more:,} of {others}. Where runs were chosen for a label by their "
        "alarm or risk, or labelled in sight of it, the rates above tell of that choice too, and what is promised of "
        "new runs does not hold."
    )


def show_drift(console: Console, replay: Replay) -> None:
    """Whether the scores have drifted since the calibration, where that can be told; it takes no outcomes."""
    if replay.drift is not None:
        console.print(replay.drift.message, style="bold red" if replay.drift.warned else "", markup=False)
