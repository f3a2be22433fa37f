"""Policies on the demo's held-out runs: what saved runs tell of them, and what had to be generated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import trajkit as tk
from analyses.continued import Beginning, Continued, continued, tokens_of
from trajkit.demo import paths
from trajkit.demo.items import demo_items
from trajkit.detection.early_failure import EarlyFailurePredictor
from trajkit.detection.monitor import Monitor
from trajkit.detection.policies import Decision, Policy
from trajkit.detection.splits import failures
from trajkit.detection.store import load_detectors
from trajkit.judging.policies import (
    Play,
    SavedRuns,
    ask_again,
    ends,
    random_alarms,
    random_stops,
    stop,
    stops,
    whole,
    windowed_entropy,
)
from trajkit.progress import progress
from trajkit.traces.trace import Trace
from trajkit.vlm.model import VLM

SHIPPED = 0.1
"""Alpha of the demo's monitor."""
WINDOWS = (8, 16, 32, 64, 10_000)
"""Tokens over which confidence is averaged; the last stands for all so far."""
HINT = "let me look again."
"""In the demo model's own words."""
SCENES_SEED = 1
"""Of the scenes of the shipped traces."""
AT_ALARM, AT_RANDOM, UNSURE = "at the alarm", "at random as often", "on low confidence"
ANEW, GOOD, HINTED = "ask again anew", "ask again from the last good step", "ask again from there, with a hint"
ENOUGH, ENOUGH_AT_RANDOM = "enough: answer when success is sure", "enough, at random as often"

Alarms = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class World:
    """Held-out runs, and the runs that thresholds come from. traces: by transcript_id. window: tokens over which
    confidence is averaged."""

    traces: dict[str, Trace]
    predictor: EarlyFailurePredictor
    calibration: pd.DataFrame
    test: pd.DataFrame
    saved: SavedRuns
    window: int

    @classmethod
    def load(cls, scenes: int) -> World:
        """The shipped detectors and traces. scenes: how many of the test scenes, 0 for all."""
        detectors = load_detectors(paths.DETECTORS)
        frame = tk.features(paths.TRACES)
        card = {part: sorted(detectors.card[f"{part}_groups"]) for part in ("fit", "calibration", "test")}
        card["test"] = card["test"][: scenes or None]
        parts = {name: frame[frame["group_id"].isin(groups)].reset_index(drop=True) for name, groups in card.items()}
        held_out = set(card["test"])
        traces = {trace.transcript_id: trace for trace in tk.read_traces(paths.TRACES) if trace.group_id in held_out}
        saved = SavedRuns.of(parts["test"], ends(traces.values()))
        window = max(WINDOWS, key=lambda tokens: _power(parts["fit"], tokens))
        return cls(traces, detectors.monitor.predictor, parts["calibration"], parts["test"], saved, window)

    def monitor(self, alpha: float) -> Monitor:
        """Of failure; at alpha 0.1 the shipped one."""
        return Monitor.calibrate(self.predictor, self.calibration, alpha)

    def success(self, alpha: float) -> Monitor:
        """Of success."""
        return Monitor.calibrate(self.predictor, self.calibration, alpha, watches="success")

    def alarms(self, monitor: Monitor) -> Alarms:
        """Of a monitor that reads steps."""
        return self.saved.alarms(monitor.scores(self.test), monitor.threshold)

    def first_wrong(self, run: str) -> float:
        """Sentences before the first that went wrong and was never put right (`checker`); +inf on success."""
        found = self.traces[run].meta["first_wrong"]
        return np.inf if found is None else float(found)

    def unsure(self, alpha: float) -> Alarms:
        """Where the entropy of the last tokens exceeds what it does in alpha of successful runs."""
        return self.saved.alarms(
            windowed_entropy(self.test, self.window), _of_entropy(self.calibration, self.window, alpha)
        )


def _of_entropy(frame: pd.DataFrame, window: int, alpha: float) -> float:
    """The threshold on the windowed entropy by the monitor's rule."""
    return Monitor.of_scores(frame.assign(score=windowed_entropy(frame, window)), alpha=alpha).threshold


def _power(frame: pd.DataFrame, window: int) -> float:
    """Share of failing runs whose windowed entropy is alarming, at the shipped alpha."""
    scored = frame.assign(score=windowed_entropy(frame, window))
    worst = scored[failures(frame) == 1].groupby("transcript_id")["score"].max()
    return float((worst > _of_entropy(frame, window, SHIPPED)).mean())


def stopping(world: World, alpha: float) -> dict[str, Play]:
    """Stop at the alarm, and its controls."""
    saved, alarms = world.saved, world.alarms(world.monitor(alpha))
    return {
        f"stop {AT_ALARM}": stop(saved, stops(saved, alarms)),
        f"stop {AT_RANDOM}": stop(saved, random_stops(saved, alarms)),
        f"stop {UNSURE}": stop(saved, stops(saved, world.unsure(alpha))),
    }


def replays(world: World, alpha: float) -> dict[str, Play]:
    """Plays that saved runs alone can tell."""
    saved, alarms = world.saved, world.alarms(world.monitor(alpha))
    at = stops(saved, alarms)
    return stopping(world, alpha) | {
        f"ask again {AT_ALARM}": ask_again(saved, at),
        f"ask again {AT_ALARM}, 3 tries": ask_again(saved, at, 3),
        f"ask again {AT_RANDOM}": ask_again(saved, random_stops(saved, alarms)),
        f"ask again {UNSURE}": ask_again(saved, stops(saved, world.unsure(alpha))),
    }


def generations(world: World, alpha: float, vlm: VLM, work: Path) -> dict[str, Play]:
    """Plays whose text had to be generated, each run from where the policy acts. work: where it is kept."""
    items = {item.group_id: item for item in demo_items("test", _scenes(world), SCENES_SEED)}
    ids = {name: tokens_of(vlm, trace, int(trace.thinking.sum())) for name, trace in world.traces.items()}
    close, hint = (vlm.think_end,), tuple(vlm.tokenizer.encode(HINT, add_special_tokens=False))
    alarms, sure = world.alarms(world.monitor(alpha)), world.alarms(world.success(alpha))
    by_chance, sure_by_chance = random_alarms(world.saved, alarms), random_alarms(world.saved, sure)
    good = {name: decision.keep_tokens for name, decision in last_good_steps(world, alpha).items()}
    anew = dict.fromkeys(world.traces, 0)
    wanted = {
        f"answer now {AT_ALARM}": (alarms, None, close),
        f"answer now {AT_RANDOM}": (by_chance, None, close),
        ANEW: (alarms, anew, ()),
        GOOD: (alarms, good, ()),
        HINTED: (alarms, good, hint),
        ENOUGH: (sure, None, close),
        ENOUGH_AT_RANDOM: (sure_by_chance, None, close),
    }
    begun = {name: _beginnings(world, ids, *how) for name, how in wanted.items()}
    plays = {}
    with progress(f"alpha {alpha:g}", total=sum(map(len, begun.values()))) as bar:
        for name, (at, _, put) in wanted.items():
            made = continued(vlm, items, begun[name], work, advance=bar.advance)
            plays[name] = _played(world.saved, at, made, len(put))
    return plays


def _scenes(world: World) -> int:
    """How many scenes have to be drawn to have all of those."""
    return 1 + max(int(group.rpartition("-")[2]) for group in world.saved.runs["group_id"])


def _beginnings(
    world: World, ids: Mapping[str, tuple[int, ...] | None], at: Alarms, keep: Mapping[str, int] | None, put: Any
) -> list[Beginning]:
    """What the runs that are stopped go on from. keep: how many tokens of each run, all up to the stop by default; put:
    tokens that follow them."""
    made = []
    for i in np.flatnonzero(at >= 0):
        name, group = world.saved.runs.loc[i, ["transcript_id", "group_id"]]
        step = world.traces[name].steps[world.saved.step[at[i]] - 1]
        tokens = ids[name]
        if tokens is not None:
            made.append(Beginning(name, group, (*tokens[: step.token_end if keep is None else keep[name]], *put)))
    return made


def _played(saved: SavedRuns, at: Alarms, made: Iterable[Continued], put: int) -> Play:
    """The runs that were continued from where they were stopped, and the others as they are. put: tokens written there
    for each."""
    now = {name: i for i, name in enumerate(saved.runs["transcript_id"])}
    right, answered, tokens = (values.copy() for values in whole(saved))
    for one in made:
        i = now[one.run]
        right[i], answered[i] = one.right, one.answer != ""
        tokens[i] = saved.used[at[i]] + put + one.tokens
    return Play(right, answered, tokens)


class _Step(NamedTuple):
    """A saved step as a monitor and a policy read it."""

    effects: NDArray[Any]
    logprob: float
    entropy: float
    n_tokens: int
    kind: Any
    token_end: int
    verdict: Any = None


def last_good_steps(world: World, alpha: float) -> dict[str, Decision]:
    """What the rule decides of each run, told its steps one by one, where it decides to ask again."""
    monitor, policy = world.monitor(alpha), Policy("ask again", start="last good step")
    found = {}
    for trace in world.traces.values():
        watch, rule = monitor.start(trace.task_set), policy.start_run(trace.task_set)
        for step, effects in zip(trace.steps, trace.effects, strict=True):
            n = step.token_end - step.token_start
            seen = _Step(effects, step.logprob, step.entropy, n, step.kind, step.token_end)
            if decision := rule.update(seen._replace(verdict=watch.update(seen))):
                found[trace.transcript_id] = decision
    return found
