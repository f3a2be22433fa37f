"""`trajkit fit`: detectors from saved runs, with how they do on runs held out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trajkit.cli.options import TracesArgument

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from trajkit.judging.fit import FitResult
    from trajkit.judging.promise import PromiseCheck

_INTERVAL = {"auc": "AUC", "low": "95 % from", "high": "to"}


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
) -> None:
    """Learn from saved runs with known outcomes to tell, mid-run, that a run is failing.

    Half of the groups (images or questions) fit a predictor, a quarter calibrates the alarm, and the last quarter,
    untouched until then, shows how well it does, beside baselines: length, task, token uncertainty, chance.

    [bold]Example[/bold]

      trajkit fit traces --out detectors --alpha 0.05
    """
    from trajkit.cli.output import stdout
    from trajkit.detection.store import FILE, save_detectors
    from trajkit.errors import InputError
    from trajkit.files import check_file
    from trajkit.judging.fit import fit_detectors
    from trajkit.runs.kernel import Wanted
    from trajkit.runs.table import run_table

    check_file(out / FILE)
    runs = run_table(traces, Wanted(metrics=False, keys=True))
    if runs.table["failed"].isna().all():
        raise InputError(
            f"none of the {len(runs)} runs in {traces} has a known outcome; "
            "give the questions a target and collect again."
        )
    result = fit_detectors(runs, alpha=alpha, seed=seed)
    path = save_detectors(out, result.detectors)
    console = stdout()
    show_evaluation(console, result)
    console.print(result.detectors.monitor.message, markup=False)
    console.print(f"Outcome classifier: {result.detectors.card['outcome']}.", markup=False)
    console.print(f"Wrote {path}. Next: trajkit monitor {traces} --detectors {out}", markup=False)


def show_evaluation(console: Console, result: FitResult) -> None:
    """The tables of a fit: the split, early failure by absolute step and (oracle) by fraction, outcomes, monitor."""
    from trajkit.cli.output import feature_sets, score, show_frame
    from trajkit.judging.promise import check_promise

    tables = result.tables
    show_frame(console, tables["split"], "Runs, split by group")
    most = max(2, (console.width - 24) // 18)  # columns that fit beside the methods
    show_frame(
        console, wide(tables["auc_by_step"], "step", most), "AUC of failure at absolute steps, runs still thinking"
    )
    oracle = tables["auc_by_fraction"]
    show_frame(
        console,
        wide(oracle, "fraction", most),
        "The same at fractions of the final length: ORACLE, the length is not known while a run goes on",
    )
    if "outcome_auc" in tables:
        counts = tables["outcome_auc"].query("outcome != 'macro'").drop_duplicates("outcome")
        each = ", ".join(f"{n} {outcome}" for outcome, n in zip(counts["outcome"], counts["n_runs"], strict=True))
        show_frame(
            console,
            stated(tables["outcome_auc"].query("outcome == 'macro'")),
            f"Macro AUC of the outcome, at the end of thinking, of {each}",
            {"method": "method", "n_runs": "runs"} | _INTERVAL,
            {"method": feature_sets} | dict.fromkeys(_INTERVAL, score),
        )
    show_monitor(console, tables, check_promise(tables["runs"], result.detectors.monitor))


def show_monitor(console: Console, tables: dict[str, pd.DataFrame], check: PromiseCheck) -> None:
    """False alarms and whether they are as promised, power and tokens saved."""
    from trajkit.cli.output import metric, promise, share, show_frame

    spread = {"low": "95 % from", "high": "to"}
    shares = dict.fromkeys(("rate", "median", "mean", *spread), share)
    show_frame(
        console, tables["false_alarms"].assign(unit=["a new run of a new group", "all successful runs, pooled"],
        alpha=[promise(check.alpha), "not promised"]), "False alarms on successful runs",
        {"unit": "of", "n": "n", "rate": "rate"} | spread | {"alpha": "promised"}, shares | {"alpha": str},
    )  # fmt: skip
    console.print(check.message, style="bold red" if check.kept == "broken" else "", markup=False)
    console.print()
    show_frame(
        console, tables["power"], "Failing runs that were alarmed",
        {"outcome": "outcome", "n": "n", "k": "alarmed", "rate": "rate"} | spread
        | {"median_alarm_step": "median step"}, shares | {"median_alarm_step": metric},
    )  # fmt: skip
    show_frame(
        console, tables["tokens_saved"], "Share of thinking tokens after the alarm",
        {"runs": "runs", "n": "n", "median": "median"} | spread | {"mean": "mean"}, shares,
    )  # fmt: skip


def stated(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with its `auc` missing where there is no interval: a bare AUC, of four runs say, is not to be read."""
    return table.assign(auc=table["auc"].where(table["low"].notna() & table["high"].notna()))


def wide(table: pd.DataFrame, at: str, most: int) -> pd.DataFrame:
    """Methods down, `at` across, each cell an AUC with its interval; `most` columns spread evenly over those there.

    A dash where there is no interval. A last row counts the runs and, of them, the failing ones; where a method has no
    score for some of the runs, its cell says for how many it has.
    """
    import numpy as np

    from trajkit.cli.output import feature_sets
    from trajkit.studies.words import records, spread

    places = sorted(table[at].unique())
    kept = [places[i] for i in np.unique(np.linspace(0, len(places) - 1, min(most, len(places))).round().astype(int))]
    part = stated(table[table[at].isin(kept)])
    part["cell"] = [
        spread(row.auc, row.low, row.high).replace("0.", ".")
        + (f" of {row.n_scored}" if 0 < row.n_scored < row.n_runs and np.isfinite(row.auc) else "")
        for row in records(part)
    ]
    shown = part.pivot(index="method", columns=at, values="cell").fillna("–")
    counts = part.groupby(at)[["n_runs", "n_failures"]].max()
    shown.loc["runs (failing)"] = [f"{counts.n_runs[c]:.0f} ({counts.n_failures[c]:.0f})" for c in shown.columns]
    shown.columns = [f"{at} {c:g}" if i == 0 else f"{c:g}" for i, c in enumerate(shown.columns)]
    shown.index = shown.index.map(feature_sets)
    return shown.rename_axis("method").reset_index()
