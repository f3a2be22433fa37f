"""`trajkit demo`: everything at once, on the built-in model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from trajkit.attribution.item import Item, Judgement

SEED = 2026
"""Not the seed of the shipped traces, so these scenes are in none of them."""

ERRORS = {(True, True): "false alarm", (False, False): "missed"}
"""(the run ended right, the monitor alarmed) → what the monitor got wrong."""


def demo(
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", show_default="reports/demo", help="Where to write the report."),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", metavar="N", min=0, max=500, help="How many runs to show.")] = 5,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, max=2**31 - 1, help="Draws the scenes and the runs.")
    ] = SEED,
) -> None:
    """Watch the built-in model reason about scenes that it has never seen, then analyse the runs shipped with trajkit
    and write a report. Takes under 3 minutes on two cores, needs no network, writes only the report.

    The scenes are the first ones that the seed gives: one of each task family in turn, difficulty drawn
    evenly over that of the shipped runs, digits that training never showed. None is picked by how its run ends.

    [bold]Examples[/bold]

      trajkit demo

      trajkit demo --runs 2 --seed 7
    """
    from trajkit.cli.output import stdout
    from trajkit.folders import check_own
    from trajkit.report.build import MARK

    out = Path("reports", "demo") if out is None else out
    check_own(out, MARK)
    console = stdout()
    if runs:
        show_runs(console, runs, seed)
    _analyse(console, out)


def show_runs(console: Console, n: int, seed: int) -> None:
    from trajkit.cli.loading import load_detectors_for, load_estimator, load_model
    from trajkit.cli.stream import watch
    from trajkit.cli.terminal import RunView
    from trajkit.demo.runs import MIX, demo_items, judge_by_scene
    from trajkit.tables.words import count
    from trajkit.traces.forms import form_of

    vlm = load_model(None)
    estimator = load_estimator(None, vlm)
    detectors = load_detectors_for(None, vlm)
    watcher = detectors.monitor if detectors else None
    console.print(
        f"Held-out scenes: the first {n} of seed {seed}. Task families in turn, difficulty drawn evenly from "
        f"{MIX[0]:g} to {MIX[1]:g}, temperature 1; none is picked by how its run ends.\n",
        markup=False,
    )
    ends: list[tuple[bool, bool]] = []
    for number, item in enumerate(demo_items("test", n, seed)):
        about = f"run {number + 1} of {n} · {item.task_set} · difficulty {item.meta['difficulty']:.2f}"
        asked = {"image": item.image, "question": item.question, "seed": seed + number, "temperature": 1.0}
        options = asked | {"task_set": item.task_set, "form": form_of(item.meta)}
        view = RunView(console, watcher)
        steps = watch(view, vlm, estimator, watcher, options, about)
        answer = next((step.text for step in reversed(steps) if step.kind == "answer"), None)
        judgement = judge_by_scene(item, [step.text for step in steps if step.kind == "thinking"], answer)
        alarmed = any(step.verdict is not None and step.verdict.alarm for step in steps)
        ends.append((judgement.outcome == "success", alarmed))
        _show_truth(console, item, judgement, ERRORS.get(ends[-1]) if watcher else None)
    right, alarms = (sum(end) for end in zip(*ends, strict=True))
    line = f"{count(n, 'run')}: {right} right, {n - right} wrong"
    if watcher:
        line += f"; {count(alarms, 'alarm')}, {ends.count((True, True))} false; {ends.count((False, False))} missed"
    console.print(f"{line}.\n", markup=False)


def _show_truth(console: Console, item: Item, judgement: Judgement, error: str | None) -> None:
    """error: in a word, what the monitor got wrong."""
    from rich.text import Text

    words = {
        "success": ("right", "bold green"),
        "hallucination": ("hallucination: it asserted what is not there, and the answer follows from it", "bold red"),
        "reasoning_failure": ("reasoning failure: it read the image rightly and still answered wrongly", "bold red"),
        "unknown": ("wrong: it misread the image, and the answer does not follow from that either", "bold red"),
    }
    word, style = words[judgement.outcome]
    line = Text.assemble("truth: ", (str(item.target), "bold"), "  →  ", (word, style))
    first = judgement.facts.get("first_wrong")
    if first is not None:
        line.append(f" (went wrong at step {first + 1})", "dim")
    if error:
        line.append(f" · {error}", "bold yellow")
    console.print(line, soft_wrap=not console.is_terminal)
    console.print()


def _analyse(console: Console, out: Path) -> None:
    from trajkit.cli.fit import show_monitor
    from trajkit.demo import paths
    from trajkit.demo.runs import fit_demo_detectors
    from trajkit.report import write_report
    from trajkit.tables.words import count
    from trajkit.traces.store import read_traces

    traces = read_traces(paths.TRACES)
    scenes = len(set(traces.column("group_id")))
    if console.is_terminal:
        console.rule(style="grey30")
    console.print(
        f"The shipped traces: {count(len(traces), 'run')} of {count(scenes, 'scene')}. Detectors are fitted "
        "again beside their baselines, and tried on scenes of digits that nothing has seen.",
        markup=False,
    )
    detectors, evaluation = fit_demo_detectors(traces)
    runs, groups = (detectors.card[unit]["test"] for unit in ("runs", "groups"))
    tried = f"Tried on {count(runs, 'run')} of {count(groups, 'scene')}:"
    console.print(f"{detectors.monitor.message}\n{tried}\n", markup=False)
    show_monitor(console, evaluation)
    path = write_report(traces, out, detectors=detectors, evaluation=evaluation, title="trajkit demo")
    console.print(f"Report: {path}", markup=False, soft_wrap=True)
