"""`trajkit monitor`: what an alarm would have done on saved runs; with `-`, the monitor for runs that go on now."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated

import typer

from trajkit.cli.options import AddressOption, EngineOption, WorkersOption
from trajkit.cli.policy import EnoughOption, FromOption, PolicyOption, TriesOption
from trajkit.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.detection.store import Detectors, Known
    from trajkit.runs.table import RunTable
    from trajkit.tables import Table


LINES = Path("-")
"""In place of saved runs: lines on standard input."""


def monitor(
    traces: Annotated[
        Path,
        typer.Argument(
            metavar="TRACES|-", help="A .parquet file of runs, or a folder of them, as `collect` writes; `-` for lines."
        ),
    ],
    detectors: Annotated[
        Path, typer.Option("--detectors", metavar="DETECTORS", help="Folder that `fit` wrote, or `Monitor.save`.")
    ],
    every: Annotated[
        bool, typer.Option("--all", help="Replay also the runs that the detectors were made from.")
    ] = False,
    most: Annotated[int, typer.Option("--list", metavar="N", min=0, help="List at most so many alarms.")] = 20,
    policy: PolicyOption = None,
    tries: TriesOption = None,
    start: FromOption = None,
    enough: EnoughOption = False,
    strict: Annotated[bool, typer.Option("--strict", help="With -: stop at the first line that is no good.")] = False,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    address: AddressOption = None,
) -> int:
    """Replay the monitor over saved runs: which it would have stopped and when, how many of them wrongly, and the
    tokens that stopping would have saved.

    Of the traces that the detectors were made from, only the held-out runs are replayed, unless you ask for --all; runs
    of the same images and questions under other group ids are told by hashes, and left out too.
    What is promised, and whether these runs kept it, is of a new run of a new group (image or question); many runs of a
    few groups, pooled, are another quantity.

    With - in place of TRACES it watches runs that go on now, in whatever program: it reads steps as lines of JSON from
    standard input and answers each at once with a verdict, and with --policy with what to do, for any number of runs
    side by side (docs/events.md). A line that is no good is answered with an error and the next one read.

    [bold]Examples[/bold]

      trajkit monitor traces --detectors detectors

      trajkit stream photo.png "sort row 2 up." --json | trajkit monitor - --detectors detectors

    [bold]Exit codes[/bold] with -: 0 at the end of the input, alarms or not; 3 where --policy stop said so of a run; 1
    where some lines were no good; 2 where --strict stopped at one; 130 and 143 after Ctrl-C and SIGTERM, with what the
    open runs came to written.
    """
    from trajkit.cli.lines import monitor_lines
    from trajkit.cli.output import UsageError
    from trajkit.cli.policy import Asked

    if traces == LINES:
        if every or engine != "local" or workers is not None or address is not None:
            raise UsageError("--all, --engine, --workers and --address are about saved runs; leave them out with `-`.")
        return monitor_lines(detectors, Asked(policy, tries, start, enough=enough), strict)
    if strict or Asked(policy, tries, start, enough=enough) != Asked():
        raise UsageError("--policy, --tries, --from, --enough and --strict are about lines: `trajkit monitor -`.")
    _replay(traces, detectors, every, most, engine, workers, address)
    return 0


def _replay(
    traces: Path, detectors: Path, every: bool, most: int, engine: str, workers: int | None, address: str | None
) -> None:
    """Replay the monitor over saved runs and show what it did."""
    from trajkit.cli.fit import show_drift, show_monitor
    from trajkit.cli.output import stdout
    from trajkit.cli.reading import Engine, read_runs
    from trajkit.detection.copies import keyed, one_group, regrouped
    from trajkit.detection.kinds import judgeable
    from trajkit.detection.store import load_detectors
    from trajkit.judging.alarms import replay
    from trajkit.runs.kernel import Wanted
    from trajkit.tables.render import show

    how = Engine.of(engine, workers, address)
    found = load_detectors(detectors)
    saved = read_runs(traces, Wanted(metrics=False, keys=True), how)
    check_runs(found, saved)
    known = found.known(keyed(saved))
    copies = said_of_copies(found, known, saved)
    runs, selection = (saved, "all runs") if every else held_out(known, saved)
    watch = found.monitor
    frame, left_out = judgeable(found.predictor, runs.frame)
    console = stdout()
    console.print(f"{watch.message}\n{copies}Replaying {selection}: {len(runs):,} of {len(saved):,}.", markup=False)
    console.print(f"{left_out[:1].upper()}{left_out[1:]}\n" if left_out else "", markup=False)
    if unlike := found.unlike(runs):
        console.print(f"{unlike}\n", markup=False)
    taken = one_group(keyed(runs))
    seen = frozenset(as_one for group, as_one in taken.items() if group in known.all)
    replayed = replay(watch, regrouped(frame, taken), seen=seen)
    alarms = replayed.runs[replayed.runs["alarmed"]]
    if len(alarms) and most:
        title = f"Alarms ({len(alarms):,}" + (f", the first {most:,})" if len(alarms) > most else ")")
        show(console, alarm_table(alarms.head(most), runs), title)
    elif not len(alarms):
        console.print("No alarm.\n")
    if replayed.runs["failure"].isna().all():
        console.print("No run has a known outcome, so whether the promise is kept, and power, cannot be told.")
        show_drift(console, replayed)
        return
    show_monitor(console, replayed, saved.by_hand)


def alarm_table(alarms: pd.DataFrame, runs: RunTable) -> Table:
    """One row an alarm, with the question that the run was asked. alarms: rows of `Replay.runs`."""
    from trajkit.cli.output import one_line
    from trajkit.tables import Table
    from trajkit.tables.names import outcome_name
    from trajkit.tables.words import score, share

    questions = runs.table.set_index("transcript_id")["question"]
    asked = [shorten(one_line(questions[name]), 40, placeholder=" …") for name in alarms["transcript_id"]]
    at = [f"{step} of {n}" for step, n in zip(alarms["alarm_step"], alarms["n_steps"], strict=True)]
    headings = {
        "transcript_id": "run",
        "question": "question",
        "outcome": "outcome",
        "at": "alarm at step",
        "max_risk": "highest risk",
        "saved": "tokens saved",
    }
    return Table(
        alarms.assign(question=asked, at=at),
        headings,
        {"max_risk": score, "saved": share},
        names={"outcome": outcome_name},
    )


def held_out(known: Known, runs: RunTable) -> tuple[RunTable, str]:
    """The runs of groups that the detectors were not made from, and in words which those are.

    Raises InputError where there is none.
    """
    from trajkit.tables.words import count

    keep = ~runs.table["group_id"].isin(known.all).to_numpy(bool)
    if not keep.any() and len(runs):
        raise InputError(
            f"none of {count(len(runs), 'run')} is of a group that these detectors were not made from, which says "
            "nothing of new runs; give other traces, or --all to replay them all the same."
        )
    if keep.all():
        return runs, "all runs (none is of a group that the detectors were made from, so they count as new)"
    return runs.only(keep), "held-out runs only"


def said_of_copies(detectors: Detectors, known: Known, runs: RunTable) -> str:
    """A line on runs that pass for new by their group ids alone; empty where there is none."""
    from trajkit.tables.words import count

    if detectors.keys is None:
        return (
            "These detectors do not say which images they were made from, so runs of the same images under other group "
            "ids would count as new. Fit them again (`trajkit fit`).\n"
        )
    if not known.copies:
        return ""
    n = int(runs.table["group_id"].isin(known.copies).sum())
    names = ", ".join(sorted(known.copies)[:3]) + (", …" if len(known.copies) > 3 else "")
    return (
        f"Not new, whatever their group ids say: {count(n, 'run')} of {count(len(known.copies), 'group')} ({names}), "
        "of images and questions that the detectors were made from, or copies of those runs.\n"
    )


def check_runs(detectors: Detectors, runs: RunTable) -> None:
    """Raises EstimatorMismatchError when the runs come from another model than the detectors' own."""
    for other in detectors.others(runs.models):
        raise detectors.refuse(other)
