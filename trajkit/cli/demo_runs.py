"""The runs that `trajkit demo` shows: scenes gone through in order, the first run of each ending shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from trajkit.cli.terminal import RunView
from trajkit.demo.endings import SOUGHT, Ending, ending, is_enough, is_shown
from trajkit.tables.estimate import Estimate
from trajkit.tables.words import count, shares

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from trajkit.attribution.estimator import EffectEstimator
    from trajkit.attribution.item import Item, Judgement
    from trajkit.attribution.stream import Stream
    from trajkit.detection.monitor import Monitor
    from trajkit.judging.alarms import Replay
    from trajkit.traces.trace import Trace
    from trajkit.vlm.model import VLM


class Rates(NamedTuple):
    """How often a monitor alarms on runs that it has not seen. caught: of failing runs. false_alarms: of good ones."""

    caught: Estimate
    false_alarms: Estimate
    runs: int
    scenes: int

    @classmethod
    def of(cls, replay: Replay) -> Rates:
        """As the tables of a replay have them."""
        from trajkit.judging.alarms import NEW_GROUP
        from trajkit.judging.ranking import ALL

        power, good, runs = replay.power, replay.false_alarms, replay.runs
        caught, false = power[power["outcome"] == ALL], good[good["unit"] == NEW_GROUP]
        first, second = (Estimate.of(rows[["rate", "low", "high"]].iloc[0]) for rows in (caught, false))
        return cls(first, second, len(runs), runs["group_id"].nunique())

    def said(self) -> str:
        """In two sentences."""
        return (
            f"The monitor on {count(self.runs, 'run')} of {count(self.scenes, 'scene')} that it has not seen, with "
            f"95 % intervals: of failing runs it alarms {shares(self.caught)} and misses the others; of good ones it "
            f"alarms {shares(self.false_alarms)}."
        )

    def beside(self, what: Ending) -> str:
        """How usual an ending is, in a few words."""
        value, low, high = self.caught
        return {
            "right": "",
            "false alarm": f"false alarm, as on {shares(self.false_alarms)} of good runs",
            "caught": f"caught, as {shares(self.caught)} of failing runs are",
            "missed": f"missed, as {shares(Estimate(1 - value, 1 - high, 1 - low))} of failing runs are",
        }[what]


class Demonstrated(NamedTuple):
    """Runs that were shown. said: in words, which of how many they are, and how usual their endings."""

    traces: list[Trace]
    said: str = ""


class _Run(NamedTuple):
    item: Item
    judgement: Judgement
    ending: Ending
    trace: Trace


@dataclass
class HeldBack(RunView):
    """A view that shows nothing of its run until it is told to."""

    _told: list[Callable[[], None]] = field(default_factory=list, init=False)
    _showing: bool = field(default=False, init=False)

    @property
    def rich(self) -> bool:
        """As of a RunView, once it shows."""
        return self._showing and super().rich

    def start(self, *what: Any, **about: Any) -> None:
        self._told.append(partial(super().start, *what, **about))

    def step(self, *what: Any) -> None:
        self._told.append(partial(super().step, *what))

    def end(self, *what: Any) -> None:
        self._told.append(partial(super().end, *what))

    def show(self) -> None:
        """All that was held back, in its order."""
        self._showing = True
        for tell in self._told:
            tell()


def show_runs(console: Console, least: int, seed: int, most: int = 0, rates: Rates | None = None) -> Demonstrated:
    """Go through scenes of a seed and show runs, by `endings.is_shown`.

    least: runs shown as they come, whatever they show. most: scenes gone through for what is sought. rates: said before
    the runs and beside them.
    """
    from torch import set_num_threads

    from trajkit.cli.loading import load_detectors_for, load_estimator, load_model
    from trajkit.demo.runs import demo_items

    set_num_threads(1)  # more gain nothing on so small a model, and threads that wait for each other lose much
    vlm = load_model(None)
    estimator = load_estimator(None, vlm)
    detectors = load_detectors_for(None, vlm)
    watcher = detectors.monitor if detectors else None
    most = max(least, most if watcher else 0)
    console.print(_rule(least, most, seed, rates), markup=False)
    so_far: list[Ending] = []
    passed: list[Ending] = []  # those since the last that was shown
    shown: list[Trace] = []
    for number, item in enumerate(demo_items("test", most, seed)):
        view = RunView(console, watcher) if number < least else HeldBack(console, watcher)
        run = _run(view, vlm, estimator, watcher, item, number, seed)
        so_far.append(run.ending)
        if is_shown(so_far, least):
            _show_passed(console, number, passed)
            passed.clear()
            if isinstance(view, HeldBack):
                view.show()
            _show_truth(console, run, rates, watcher is not None)
            shown.append(run.trace)
        else:
            passed.append(run.ending)
        if is_enough(so_far, least):
            break
    _show_passed(console, len(so_far), passed)
    console.print(_summary(so_far, watcher is not None, most > least), markup=False)
    first = f"the first {least}, and " if least > 1 else ""
    which = f"Held-out scenes of seed {seed}: {first}of the first {len(so_far)} the first run of each ending."
    return Demonstrated(shown, f"{which} {rates.said()}" if rates else which)


def _run(
    view: RunView, vlm: VLM, estimator: EffectEstimator, watcher: Monitor | None, item: Item, number: int, seed: int
) -> _Run:
    """Scene `number` of a seed asked about, and judged by what is in it."""
    from trajkit.cli.stream import watch
    from trajkit.demo.runs import judge_by_scene, judged
    from trajkit.traces.forms import form_of

    about = f"scene {number + 1} · {item.task_set} · difficulty {item.meta['difficulty']:.2f}"
    asked = {"image": item.image, "question": item.question, "seed": seed + number, "temperature": 1.0}
    options = asked | {"task_set": item.task_set, "form": form_of(item.meta)}
    running: list[Stream] = []
    steps = watch(view, vlm, estimator, watcher, options, about, begun=running.append)
    answer = next((step.text for step in reversed(steps) if step.kind == "answer"), None)
    judgement = judge_by_scene(item, [step.text for step in steps if step.kind == "thinking"], answer)
    alarmed = any(step.verdict is not None and step.verdict.alarm for step in steps)
    trace = judged(running[0].trace(group_id=item.group_id), item, judgement)
    return _Run(item, judgement, ending(judgement.outcome == "success", alarmed), trace)


def _rule(least: int, most: int, seed: int, rates: Rates | None) -> str:
    """How often the monitor is right, and which runs come."""
    from trajkit.demo.runs import MIX

    scenes = (
        f"Held-out scenes, those of seed {seed} in their order: task families in turn, difficulty drawn evenly from "
        f"{MIX[0]:g} to {MIX[1]:g}, temperature 1. "
    )
    shown = "The first is shown as it comes, whatever it shows."
    if least > 1:
        shown = f"The first {least} are shown as they come, whatever they show."
    sought = (
        "After that the first run of each ending is shown, until one that fails has alarmed and one that fails has "
        f"not: {most} scenes at most. Nothing else is looked at."
    )
    rule = scenes + " ".join([shown] * (least > 0) + [sought] * (most > least))
    return f"{rates.said()}\n{rule}\n" if rates else f"{rule}\n"


def _show_passed(console: Console, last: int, passed: Sequence[Ending]) -> None:
    """What came of the scenes up to number `last` that are not shown."""
    if not passed:
        return
    of, n = Counter(passed), len(passed)
    words = (
        (of["right"], "right, no alarm"),
        (of["false alarm"], "right, but alarmed"),
        (of["missed"], "wrong, no alarm"),
        (of["caught"], "wrong, alarmed"),
    )
    scenes = f"scene {last}" if n == 1 else f"scenes {last - n + 1} to {last}"
    said = "; ".join(f"{k} {what}" for k, what in words if k)
    console.print(f"{scenes}: {said}\n", style="dim", markup=False)


def _show_truth(console: Console, run: _Run, rates: Rates | None, watched: bool) -> None:
    from rich.text import Text

    words = {
        "success": ("right", "bold green"),
        "hallucination": ("hallucination: it asserted what is not there, and the answer follows from it", "bold red"),
        "reasoning_failure": ("reasoning failure: it read the image rightly and still answered wrongly", "bold red"),
        "unknown": ("wrong: it misread the image, and the answer does not follow from that either", "bold red"),
    }
    word, style = words[run.judgement.outcome]
    line = Text.assemble("truth: ", (str(run.item.target), "bold"), "  →  ", (word, style))
    first = run.judgement.facts.get("first_wrong")
    if first is not None:
        line.append(f" (went wrong at step {first + 1})", "dim")
    if watched and run.ending != "right":
        made = rates.beside(run.ending) if rates else run.ending
        line.append(f" · {made}", "bold green" if run.ending == "caught" else "bold yellow")
    console.print(line, soft_wrap=not console.is_terminal)
    console.print()


def _summary(so_far: list[Ending], watched: bool, sought: bool) -> str:
    """What came, and what did not."""
    n, of = len(so_far), Counter(so_far)
    right = of["right"] + of["false alarm"]
    line = f"{count(n, 'run')}: {right} right, {n - right} wrong"
    if watched:
        alarms = of["caught"] + of["false alarm"]
        line += f"; {count(alarms, 'alarm')}, {of['false alarm']} false; {of['missed']} missed"
    lacking = sorted(SOUGHT - set(so_far))
    if sought and lacking:
        line += f"; none was {' or '.join(lacking)}"
    return f"{line}.{' It ends with what was looked for, so these are no rates.' * sought}\n"
