"""The runs that `trajkit demo` shows: scenes gone through in order, the first run of each ending shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

from trajkit.cli.retold import RetoldRun
from trajkit.demo.endings import ENDINGS, SOUGHT, Ending, endings, is_enough, is_shown
from trajkit.demo.retelling import alarm, cause
from trajkit.detection.step_features import CONFIDENT
from trajkit.tables.estimate import Estimate
from trajkit.tables.words import count, listed, shares

if TYPE_CHECKING:
    from rich.console import Console

    from trajkit.attribution.estimator import EffectEstimator
    from trajkit.attribution.item import Item
    from trajkit.detection.monitor import Monitor
    from trajkit.judging.alarms import Replay
    from trajkit.traces.trace import Trace
    from trajkit.vlm.model import VLM


class Rates(NamedTuple):
    """How often a monitor alarms on runs that it has not seen. caught: of failing runs. false_alarms: of good ones.
    alpha: what is promised of these, that their share be told apart from it."""

    caught: Estimate
    false_alarms: Estimate
    runs: int
    scenes: int
    alpha: float

    @classmethod
    def of(cls, replay: Replay) -> Rates:
        """As the tables of a replay have them."""
        from trajkit.judging.alarms import NEW_GROUP
        from trajkit.judging.ranking import ALL

        power, good, runs = replay.power, replay.false_alarms, replay.runs
        caught, false = power[power["outcome"] == ALL], good[good["unit"] == NEW_GROUP]
        first, second = (Estimate.of(rows[["rate", "low", "high"]].iloc[0]) for rows in (caught, false))
        return cls(first, second, len(runs), runs["group_id"].nunique(), replay.check.alpha)

    def said(self) -> str:
        """In two sentences."""
        return (
            f"The monitor on {count(self.runs, 'run')} of {count(self.scenes, 'scene')} that it has not seen, with "
            f"95 % intervals: of failing runs it alarms {shares(self.caught)} and misses the others; of good ones it "
            f"alarms {shares(self.false_alarms, self.alpha)}."
        )

    def beside(self, right: bool, alarmed: bool) -> str:
        """How usual it is what the monitor made of a run, in a few words; "" of a right run without an alarm."""
        value, low, high = self.caught
        if right:
            return f"false alarm, as on {shares(self.false_alarms, self.alpha)} of good runs" if alarmed else ""
        if alarmed:
            return f"caught, as {shares(self.caught)} of failing runs are"
        return f"missed, as {shares(Estimate(1 - value, 1 - high, 1 - low))} of failing runs are"


class Demonstrated(NamedTuple):
    """Runs that were shown. said: in words, which of how many they are, and how usual their endings."""

    traces: list[Trace]
    said: str = ""


def show_runs(console: Console, least: int, seed: int, most: int = 0, rates: Rates | None = None) -> Demonstrated:
    """Go through scenes of a seed and show runs, by `endings.is_shown`.

    least: runs shown first, whatever they show. most: scenes gone through for what is sought. rates: said before the
    runs and beside them.
    """
    from torch import set_num_threads

    from trajkit.cli.loading import load_detectors_for, load_estimator, load_model
    from trajkit.demo.items import demo_items

    set_num_threads(1)  # more gain nothing on so small a model, and threads that wait for each other lose much
    vlm = load_model(None)
    estimator = load_estimator(None, vlm)
    detectors = load_detectors_for(None, vlm)
    watcher = detectors.monitor if detectors else None
    most = max(least, most if watcher else 0)
    console.print(_rule(least, most, seed, rates), markup=False)
    gone: list[Trace] = []
    so_far: list[frozenset[Ending]] = []
    shown: list[int] = []
    for number, item in enumerate(demo_items("test", most, seed)):
        with _passing(console, number, item, so_far):
            run = _run(vlm, estimator, watcher, item, seed + number)
        gone.append(run)
        so_far.append(endings(run))
        if is_shown(so_far, least):
            _show_passed(console, gone[shown[-1] + 1 if shown else 0 : number], number)
            show_run(console, run, number + 1, rates, watcher)
            shown.append(number)
        if is_enough(so_far, least):
            break
    _show_passed(console, gone[shown[-1] + 1 if shown else 0 :], len(gone))
    console.print(_summary(gone, so_far, watcher is not None, most > least), markup=False)
    first = f"the first {count(least, 'run')}, and " if least else ""
    which = f"Held-out scenes of seed {seed}: {first}of the first {len(gone)} the first run of each ending."
    return Demonstrated([gone[i] for i in shown], f"{which} {rates.said()}" if rates else which)


@contextmanager
def _passing(console: Console, number: int, item: Item, so_far: Sequence[frozenset[Ending]]) -> Iterator[None]:
    """While a run is made: which scene it is, and what is looked for."""
    lacking = _lacking(so_far)
    sought = f", still looking for {listed(lacking)}" if lacking else ""
    spins = console.is_terminal and not console.record
    doing = f"scene {number + 1} ({item.task_set}){sought}"
    with console.status(doing, spinner="dots") if spins else nullcontext():
        yield


def _run(vlm: VLM, estimator: EffectEstimator, watcher: Monitor | None, item: Item, seed: int) -> Trace:
    """The model's run of an item, judged by what is in its scene."""
    from trajkit.attribution.stream import stream
    from trajkit.demo.items import judge_by_scene
    from trajkit.demo.runs import judged
    from trajkit.traces.forms import form_of

    running = stream(
        vlm,
        item.image,
        item.question,
        estimator=estimator,
        monitor=watcher,
        seed=seed,
        temperature=1.0,
        task_set=item.task_set,
        form=form_of(item.meta),
    )
    try:
        steps = list(running)
    finally:
        running.close()
    answer = next((step.text for step in reversed(steps) if step.kind == "answer"), None)
    judgement = judge_by_scene(item, [step.text for step in steps if step.kind == "thinking"], answer)
    return judged(running.trace(group_id=item.group_id), item, judgement)


def _rule(least: int, most: int, seed: int, rates: Rates | None) -> str:
    """How often the monitor is right, and which runs come."""
    from trajkit.demo.items import MIX

    scenes = (
        f"Held-out scenes, those of seed {seed} in their order: task families in turn, {100 * MIX.smudged:.0f} % of "
        "the pictures smudged where the reading begins, temperature 1. "
    )
    first = f"The first {least} are" if least > 1 else "The first is"
    shown = f"{first} shown, whatever comes of {'them' if least > 1 else 'it'}."
    sought = (
        f"{'After that the' if least else 'The'} first run of each ending is shown: lost and caught (a reasoning "
        "failure that alarms), hallucinated with confidence (the tokens of the misreading that it failed by had a "
        f"probability of {CONFIDENT:g} or more, their geometric mean), recovered (right, although a misreading had to "
        "be put right), missed (wrong, no alarm), false alarm (right, but alarmed). It ends when the first three have "
        f"come: {most} scenes at most. Nothing else is looked at."
    )
    rule = scenes + " ".join([shown] * (least > 0) + [sought] * (most > least))
    return f"{rates.said()}\n\n{rule}\n" if rates else f"{rule}\n"


def _show_passed(console: Console, passed: Sequence[Trace], last: int) -> None:
    """What came of the scenes up to number `last` that are not shown."""
    if not passed:
        return
    of, n = Counter((run.success is True, alarm(run) is not None) for run in passed), len(passed)
    words = (
        (of[True, False], "right, no alarm"),
        (of[True, True], "right, but alarmed"),
        (of[False, False], "wrong, no alarm"),
        (of[False, True], "wrong, alarmed"),
    )
    scenes = f"scene {last}" if n == 1 else f"scenes {last - n + 1} to {last}"
    said = "; ".join(f"{k} {what}" for k, what in words if k)
    console.print(f"{scenes}: {said}\n", style="dim", markup=False)


def show_run(console: Console, run: Trace, scene: int, rates: Rates | None, watcher: Monitor | None) -> None:
    """A judged run: how it ended, what it said, and what is true. scene: its number, from 1."""
    from rich.text import Text

    found = endings(run)
    title = " · ".join([f"scene {scene}", *(ending for ending in ENDINGS if ending in found)])
    if console.is_terminal:
        console.rule(Text(title, "bold"), style="grey30")
    else:
        console.print(f"== {title}", markup=False)
    RetoldRun(console, run, watcher).show(f"{run.task_set} · difficulty {run.meta['difficulty']:.2f}")
    _show_truth(console, run, rates, watcher is not None)


def _show_truth(console: Console, run: Trace, rates: Rates | None, watched: bool) -> None:
    from rich.text import Text

    words = {
        "success": ("right", "bold green"),
        "hallucination": ("hallucination: it asserted what is not there, and that led it astray", "bold red"),
        "reasoning_failure": ("reasoning failure: it lost its way, and not by a misreading", "bold red"),
        "unknown": ("wrong: it lost its way, and then misread the image too", "bold red"),
    }
    word, style = words[run.outcome]
    line = Text.assemble("truth: ", (run.target, "bold"), "  →  ", (word, style))
    first = run.meta["first_wrong"]
    failed, at = cause(run), alarm(run)
    if first is not None:
        apart = "" if failed is None or at is None else _apart(at - failed)
        line.append(f" (went wrong at {'the answer' if failed is None else f'step {first + 1}'}{apart})", "dim")
    right, alarmed = run.success is True, at is not None
    if watched and not (right and not alarmed):
        made = rates.beside(right, alarmed) if rates else _made(right, alarmed)
        line.append(f" · {made}", "bold green" if alarmed and not right else "bold yellow")
    console.print(line, soft_wrap=not console.is_terminal)
    console.print()


def _apart(steps: int) -> str:
    """How far an alarm is from the step that a run failed by."""
    if not steps:
        return ", alarmed there"
    return f", alarmed {count(abs(steps), 'step')} {'later' if steps > 0 else 'before'}"


def _summary(gone: Sequence[Trace], so_far: Sequence[frozenset[Ending]], watched: bool, sought: bool) -> str:
    """What came, and what did not."""
    n, right = len(gone), sum(run.success is True for run in gone)
    line = f"{count(n, 'run')}: {right} right, {n - right} wrong"
    if watched:
        of = Counter(ending for each in so_far for ending in each)
        alarms = sum(alarm(run) is not None for run in gone)
        line += f"; {count(alarms, 'alarm')}, {of['false alarm']} false; {of['missed']} missed"
    lacking = _lacking(so_far)
    if sought and lacking:
        line += f"; not found: {', '.join(lacking)}"
    ends = not lacking and sought
    return f"{line}.{' It ends with what was looked for, so these are no rates.' * ends}\n"


def _lacking(so_far: Sequence[frozenset[Ending]]) -> list[Ending]:
    """What is sought and has not come."""
    return [ending for ending in ENDINGS if ending in SOUGHT.difference(*so_far)]


def _made(right: bool, alarmed: bool) -> str:
    return "false alarm" if right else "caught" if alarmed else "missed"
