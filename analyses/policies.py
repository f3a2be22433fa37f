"""What it is worth to act on the monitor's alarms: policies replayed on saved runs, and really generated.

    python -m analyses.policies    # minutes, seconds when run again; writes reports/policies.md and its picture

On scenes of test digits, with the detectors of data/demo/detectors and their calibration scenes. What was generated is
kept in runs/policies, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import trajkit as tk
from analyses.continued import Beginning, continued, tokens_of
from analyses.pictures import panels, save
from trajkit.demo import paths
from trajkit.demo.labeller import normalise
from trajkit.demo.runs import demo_items
from trajkit.detection.guarantee import max_score_threshold
from trajkit.detection.monitor import drawn_successes
from trajkit.detection.policies import Decision, Policy
from trajkit.detection.splits import failures
from trajkit.detection.store import load_detectors
from trajkit.files import write_text
from trajkit.judging.policies import (
    Play,
    SavedRuns,
    Worth,
    ask_again,
    majority,
    random_alarms,
    random_stops,
    stop,
    stops,
    whole,
    windowed_entropy,
)
from trajkit.progress import progress
from trajkit.tables import Estimate, Table, joined, words
from trajkit.tables.render import markdown
from trajkit.traces.trace import Trace

ALPHAS = (0.05, 0.1, 0.2, 0.3)
SHIPPED = 0.1
WINDOWS = (8, 16, 32, 64, 10_000)
"""Tokens over which confidence is averaged; the last stands for all so far."""
HINT = "let me look again."
"""In the demo model's own words."""
SCENES_SEED = 1
"""Of the scenes of the shipped traces."""
LEAVE, RANDOM, CONFIDENCE = "no monitor", "at random, as often", "on low confidence"
MONITOR = "at the alarm"
COLUMNS = {
    "tokens": "tokens a question",
    "accuracy": "accuracy",
    "right_of_answered": "right of the answered",
    "saved_failing": "tokens saved on failing runs, %",
    "saved_successful": "on successful ones, %",
    "lost": "successes lost",
    "mended": "failures mended",
    "gain": "gain at equal tokens, points",
}
"""Measures that a table shows, and their headings."""

Alarms = NDArray[np.int64]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=0, help="test scenes, 0 for all")
    parser.add_argument("--generate-at", type=float, nargs="+", default=[0.1, 0.2], help="alphas to generate at")
    parser.add_argument("--boot", type=int, default=1000, help="bootstrap draws of scenes")
    parser.add_argument("--work", type=Path, default=Path("runs/policies"), help="where generated runs are kept")
    parser.add_argument("--out", type=Path, default=Path("reports/policies.md"))
    args = parser.parse_args(argv)
    world = World.load(args.scenes)
    samples = {f"majority of {k}": majority(world.saved, k) for k in (3, 5)}
    worth = Worth.of(world.saved, [whole(world.saved), *samples.values()], args.boot)
    replayed = {LEAVE: whole(world.saved)} | replays(world, SHIPPED) | samples
    curve = {alpha: stopping(world, alpha) for alpha in ALPHAS}
    generated = {alpha: generations(world, alpha, args.work) for alpha in args.generate_at}
    told = worth.table(replayed)
    told_curve = pd.concat([worth.table(plays).assign(alpha=alpha) for alpha, plays in curve.items()])
    told_generated = {alpha: worth.table({LEAVE: whole(world.saved)} | plays) for alpha, plays in generated.items()}
    page = [
        f"# What acting on alarms is worth\n\nRegenerate: `{_command(parser, args)}`. {_about(world)}",
        f"## Replayed on saved runs, alpha {SHIPPED:g}\n\n{_of_replays(worth, replayed)}\n\n{markdown(_table(told))}",
        f"## Stopping, by alpha\n\n{_of_curve(worth, curve)}\n\n{markdown(_curve_table(told_curve))}",
    ]
    for alpha, table in told_generated.items():
        page.append(
            f"## Really generated, alpha {alpha:g}\n\n{_of_generated(worth, generated[alpha])}\n\n"
            f"{markdown(_table(table))}"
        )
    picture = save(_picture(told, told_generated[args.generate_at[0]]), args.out)
    page.append(f"![policies]({picture.name})\n\n{_READING}")
    text = "\n\n".join(part.strip() for part in page) + "\n"
    write_text(args.out, text)
    print(text)


@dataclass(frozen=True, eq=False)
class World:
    """Held-out runs, and what is known of them and of the calibration runs. traces: by transcript_id. risks,
    confidence: of the rows of `test`; window: tokens over which confidence was averaged."""

    traces: dict[str, Trace]
    detectors: tk.detection.Detectors
    calibration: pd.DataFrame
    test: pd.DataFrame
    saved: SavedRuns
    risks: NDArray[np.float64]
    window: int

    @classmethod
    def load(cls, scenes: int) -> World:
        """scenes: how many of the test scenes, 0 for all."""
        detectors = load_detectors(paths.DETECTORS)
        frame = tk.features(paths.TRACES)
        parts = {part: frame["group_id"].isin(detectors.card[f"{part}_groups"]) for part in ("fit", "calibration")}
        groups = sorted(detectors.card["test_groups"])[: scenes or None]
        fit, calibration, test = (
            frame[rows].reset_index(drop=True) for rows in (*parts.values(), frame["group_id"].isin(groups))
        )
        traces = {t.transcript_id: t for t in tk.read_traces(paths.TRACES) if t.group_id in set(groups)}
        ends = pd.DataFrame([_end(trace) for trace in traces.values()])
        window = max(WINDOWS, key=lambda w: _power(fit, windowed_entropy(fit, w)))
        saved = SavedRuns.of(test, ends)
        return cls(traces, detectors, calibration, test, saved, detectors.monitor.predictor.risks(test), window)

    def alarms(self, alpha: float) -> Alarms:
        """The monitor's, calibrated at alpha as the shipped one is at 0.1."""
        return self.saved.alarms(self.risks, self.monitor(alpha).threshold)

    def monitor(self, alpha: float) -> tk.Monitor:
        """Of failure."""
        return tk.Monitor.calibrate(self.detectors.monitor.predictor, self.calibration, alpha)

    def unsure(self, alpha: float) -> Alarms:
        """Where the entropy of the last tokens exceeds what it does in alpha of successful runs."""
        threshold = _threshold(self.calibration, windowed_entropy(self.calibration, self.window), alpha)
        return self.saved.alarms(windowed_entropy(self.test, self.window), threshold)

    def sure(self, alpha: float) -> Alarms:
        """Where success is as good as certain, wrongly so in alpha of failing runs."""
        risks = self.detectors.monitor.predictor.risks(self.calibration)
        return self.saved.alarms(1 - self.risks, _threshold(self.calibration, 1 - risks, alpha, ends=1.0))


def _end(trace: Trace) -> dict[str, Any]:
    ended = trace.steps[-1].kind == "answer"  # the token that ends a generation is generated too
    return {
        "transcript_id": trace.transcript_id,
        "question": trace.question,
        "answer": normalise(trace.answer),
        "tokens": trace.steps[-1].token_end + ended,
    }


def _threshold(frame: pd.DataFrame, score: NDArray[Any], alpha: float, ends: float = 0.0) -> float:
    """The threshold of a score by the rule of the monitor. ends: 0 for what successful runs exceed in alpha, 1 for what
    failing runs do."""
    runs = frame.assign(max_risk=score, failure=np.abs(failures(frame) - ends)).groupby("transcript_id")
    kept = {"group_id": "first", "failure": "first", "max_risk": "max"}
    return max_score_threshold(drawn_successes(runs.agg(kept), 0)["max_risk"], alpha)


def _power(frame: pd.DataFrame, score: NDArray[Any]) -> float:
    """Share of failing runs alarmed on the score, at the shipped alpha."""
    failing = frame.assign(score=score)[failures(frame) == 1].groupby("transcript_id")["score"].max()
    return float((failing > _threshold(frame, score, SHIPPED)).mean())


def replays(world: World, alpha: float) -> dict[str, Play]:
    """Plays that saved runs alone can tell."""
    saved, alarms = world.saved, world.alarms(alpha)
    at, by_chance = stops(saved, alarms), random_stops(saved, alarms)
    return stopping(world, alpha) | {
        f"ask again {MONITOR}": ask_again(saved, at),
        f"ask again {MONITOR}, 3 tries": ask_again(saved, at, 3),
        f"ask again {RANDOM}": ask_again(saved, by_chance),
        f"ask again {CONFIDENCE}": ask_again(saved, stops(saved, world.unsure(alpha))),
    }


def stopping(world: World, alpha: float) -> dict[str, Play]:
    """Stop at the alarm, and its controls."""
    saved, alarms = world.saved, world.alarms(alpha)
    return {
        f"stop {MONITOR}": stop(saved, stops(saved, alarms)),
        f"stop {RANDOM}": stop(saved, random_stops(saved, alarms)),
        f"stop {CONFIDENCE}": stop(saved, stops(saved, world.unsure(alpha))),
    }


def generations(world: World, alpha: float, work: Path) -> dict[str, Play]:
    """Plays whose text had to be generated."""
    vlm = tk.load_vlm(paths.MODEL)
    scenes = world.saved.runs["group_id"].nunique()
    items = {item.group_id: item for item in demo_items("test", scenes, SCENES_SEED)}
    close, hint = (vlm.think_end,), tuple(vlm.tokenizer.encode(HINT, add_special_tokens=False))
    alarms, sure = world.alarms(alpha), world.sure(alpha)
    given_back = {name: tokens_of(vlm, trace, int(trace.thinking.sum())) for name, trace in world.traces.items()}

    def begun(at: Alarms, keep: Mapping[str, int] | None, put: tuple[Any, ...]) -> list[Beginning]:
        """Of runs that were stopped, the tokens to go on from. keep: of each run, all up to the stop by default."""
        made = []
        for i in np.flatnonzero(at >= 0):
            name, group = world.saved.runs.loc[i, ["transcript_id", "group_id"]]
            if (tokens := given_back[name]) is not None:
                end = world.traces[name].steps[world.saved.step[at[i]] - 1].token_end if keep is None else keep[name]
                made.append(Beginning(name, group, (*tokens[:end], *put)))
        return made

    good = {name: decision.keep_tokens for name, decision in last_good_steps(world, alpha, alarms).items()}
    anew = dict.fromkeys(world.traces, 0)
    wanted = {
        f"answer now {MONITOR}": (alarms, begun(alarms, None, close), len(close)),
        f"answer now {RANDOM}": (chance := random_alarms(world.saved, alarms), begun(chance, None, close), len(close)),
        "ask again anew": (alarms, begun(alarms, anew, ()), 0),
        "ask again from the last good step": (alarms, begun(alarms, good, ()), 0),
        "ask again from there, with a hint": (alarms, begun(alarms, good, hint), len(hint)),
        "enough: answer when success is sure": (sure, begun(sure, None, close), len(close)),
        f"enough, {RANDOM}": (chance := random_alarms(world.saved, sure), begun(chance, None, close), len(close)),
    }
    with progress(f"alpha {alpha:g}", total=sum(len(beginnings) for _, beginnings, _ in wanted.values())) as bar:
        return {
            name: played(world.saved, at, continued(vlm, items, beginnings, work, advance=bar.advance), put)
            for name, (at, beginnings, put) in wanted.items()
        }


def played(saved: SavedRuns, at: Alarms, made: Any, put: int) -> Play:
    """The runs that were continued at an alarm, and the others as they are. put: tokens put there for each."""
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


def last_good_steps(world: World, alpha: float, alarms: Alarms) -> dict[str, Decision]:
    """What the rule decides for each run that is alarmed, told its steps one by one."""
    monitor, policy = world.monitor(alpha), Policy("ask again", start="last good step")
    found = {}
    for i in np.flatnonzero(alarms >= 0):
        trace = world.traces[world.saved.runs.loc[i, "transcript_id"]]
        watch, rule = monitor.start(trace.task_set), policy.start_run(trace.task_set)
        for step, effects in zip(trace.steps, trace.effects, strict=True):
            n = step.token_end - step.token_start
            seen = _Step(effects, step.logprob, step.entropy, n, step.kind, step.token_end)
            if decision := rule.update(seen._replace(verdict=watch.update(seen))):
                found[trace.transcript_id] = decision
    return found


def _table(told: pd.DataFrame) -> Table:
    """A row a play. told: as `Worth.table`."""
    rows = joined(told, "value").pivot(index="policy", columns="measure", values="value")
    rows = rows.loc[list(dict.fromkeys(told["policy"]))].reset_index()
    return Table(rows, {"policy": "policy"} | COLUMNS, _FORMATS)


def _curve_table(told: pd.DataFrame) -> Table:
    """A row an alpha and play."""
    rows = joined(told, "value").pivot(index=["alpha", "policy"], columns="measure", values="value")
    order = told[["alpha", "policy"]].drop_duplicates()
    rows = rows.loc[list(order.itertuples(index=False, name=None))].reset_index()
    shown = ("tokens", "right_of_answered", "saved_failing", "saved_successful", "lost", "gain")
    return Table(rows, {"alpha": "alpha", "policy": "policy"} | {name: COLUMNS[name] for name in shown}, _FORMATS)


def _points(found: Estimate) -> str:
    """A difference of shares with its interval, in percentage points."""
    signed = partial(words.estimate, digits=1, sign=True, null=0.0)
    return signed(Estimate(*(100 * each for each in found)))


def _percent(found: Estimate) -> str:
    """A share that may be negative, with its interval, as per cent."""
    return words.estimate(Estimate(*(100 * each for each in found)), digits=1)


_FORMATS = {
    "tokens": partial(words.estimate, digits=1),
    "accuracy": words.shares,
    "right_of_answered": words.shares,
    "saved_failing": _percent,
    "saved_successful": _percent,
    "lost": words.shares,
    "mended": words.shares,
    "gain": _points,
}


def _about(world: World) -> str:
    saved = world.saved
    scenes, alone = saved.runs["group_id"].nunique(), saved.right
    window = "all tokens so far" if world.window == WINDOWS[-1] else f"the last {world.window} tokens"
    return (
        f"{words.count(len(saved), 'run')} of {words.count(scenes, 'scene')} of test digits, of which "
        f"{words.share(1 - alone.mean())} fail when left alone. Each stands once as the first generation of its "
        "question; where another is wanted it is the question's next saved run, or is really generated. Every generated "
        "token is counted, those of runs that were thrown away too; a run that is stopped without an answer is not "
        "right. 95 % intervals resample scenes; the thresholds, of the calibration scenes, stay as they are.\n\n"
        "*Gain at equal tokens*: accuracy, in points, less that without a monitor for as many tokens a question. "
        "Without one, more tokens buy the majority of 3 or 5 answers (self-consistency) for some of the questions, and "
        "fewer leave some questions out. *At random*: as often after each step as the monitor, whichever run it is. "
        f"*On low confidence*: where the mean entropy of {window} (of windows of {_windows()}, the one that alarms most "
        "failing runs of the scenes that detectors are fitted on) exceeds a threshold by the monitor's rule at the same "
        "alpha. DeepConf (arXiv 2508.15260) averages the negative mean log-probability of the likeliest tokens over a "
        "window and takes its threshold from other samples of the same question; saved runs keep the entropy and the "
        "log-probability of each step alone, so entropy, which also looks at the whole distribution, stands for it, "
        "and a step's mean for its tokens."
    )


def _windows() -> str:
    return f"{words.listed([str(w) for w in WINDOWS[:-1]])} tokens, and of all"


def _between(worth: Worth, plays: Mapping[str, Play], a: str, b: str) -> dict[str, Estimate]:
    """Each measure of one play less that of another."""
    return dict(joined(worth.differences(plays, [(a, b)]), "value").set_index("measure")["value"])


def _measures(worth: Worth, play: Play) -> dict[str, Estimate]:
    return dict(joined(worth.table({"": play}), "value").set_index("measure")["value"])


def _verdict(found: Estimate, above: str, below: str, neither: str) -> str:
    return {"above": above, "below": below}.get(found.beside(0.0), neither) + f" ({_points(found)} points)"


def _of_replays(worth: Worth, plays: Mapping[str, Play]) -> str:
    stopped, asked, more = (
        _measures(worth, plays[name]) for name in (f"stop {MONITOR}", f"ask again {MONITOR}", "majority of 3")
    )
    chance, unsure = (_between(worth, plays, f"stop {MONITOR}", f"stop {other}") for other in (RANDOM, CONFIDENCE))
    again = _between(worth, plays, f"ask again {MONITOR}", LEAVE)
    against = _between(worth, plays, f"ask again {MONITOR}", f"ask again {CONFIDENCE}")
    thrice = _between(worth, plays, "majority of 3", LEAVE)
    return (
        f"Stopping at the alarm saves {words.shares(stopped['saved_failing'])} of the tokens of failing runs and "
        f"{words.shares(stopped['saved_successful'])} of those of successful ones, and loses "
        f"{words.shares(stopped['lost'])} of the successes. For the tokens that it uses it is "
        f"{_verdict(stopped['gain'], 'better', 'worse', 'not shown to be better or worse')} than leaving out questions "
        f"at random; against stopping at random it is "
        f"{_verdict(chance['gain'], 'better', 'worse', 'not shown to be better or worse')}, and against stopping on low "
        f"confidence {_verdict(unsure['gain'], 'better', 'worse', 'not shown to be better or worse')}.\n\n"
        f"Asking again at the alarm, once, changes accuracy by {_points(again['accuracy'])} points for "
        f"{_FORMATS['tokens'](again['tokens'])} tokens a question more: "
        f"{_verdict(asked['gain'], 'a gain', 'a loss', 'not told from nothing')} at equal tokens, and against asking "
        f"again on low confidence {_verdict(against['gain'], 'better', 'worse', 'not shown to be better or worse')}. "
        f"The majority of 3 answers brings {_points(thrice['accuracy'])} points for "
        f"{_FORMATS['tokens'](more['tokens'])} tokens a question."
    )


def _of_curve(worth: Worth, curve: Mapping[float, Mapping[str, Play]]) -> str:
    said = []
    for alpha, plays in curve.items():
        against = {other: _between(worth, plays, f"stop {MONITOR}", f"stop {other}") for other in (RANDOM, CONFIDENCE)}
        said.append(
            f"- alpha {alpha:g}: at equal tokens, "
            f"{_verdict(against[RANDOM]['gain'], 'better', 'worse', 'not told')} against random stopping, "
            f"{_verdict(against[CONFIDENCE]['gain'], 'better', 'worse', 'not told')} against low confidence"
        )
    return "The monitor's stops beside the others':\n\n" + "\n".join(said)


def _of_generated(worth: Worth, plays: Mapping[str, Play]) -> str:
    every = dict(plays) | {LEAVE: whole(worth.saved)}
    said = []
    for name in plays:
        own, less = _measures(worth, plays[name]), _between(worth, every, name, LEAVE)
        said.append(
            f"- {name}: accuracy {_points(less['accuracy'])} points, tokens {_FORMATS['tokens'](less['tokens'])} a "
            f"question, against no monitor; at equal tokens "
            f"{_verdict(own['gain'], 'a gain', 'a loss', 'not told from nothing')}"
        )
    for ours in (f"answer now {MONITOR}", "enough: answer when success is sure"):
        theirs = f"answer now {RANDOM}" if ours.startswith("answer") else f"enough, {RANDOM}"
        gain = _between(worth, every, ours, theirs)["gain"]
        said.append(f"- {ours} against {theirs}: {_verdict(gain, 'better', 'worse', 'not told apart')} at equal tokens")
    return "\n".join(said)


def _picture(replayed: pd.DataFrame, generated: pd.DataFrame) -> Any:
    """Accuracy against tokens a question: all that was replayed, and what was generated, with the way without a
    monitor."""
    figure, axes = panels(2, 5.4, 4.4)
    line = replayed.set_index(["policy", "measure"])["value"]
    names = (LEAVE, "majority of 3", "majority of 5")
    way = [(0.0, 0.0), *((line[name, "tokens"], line[name, "accuracy"]) for name in names)]
    for ax, told, title in zip(axes, (replayed, generated), ("Replayed", "Really generated"), strict=True):
        ax.plot(*zip(*way, strict=True), color="#8a94a0", lw=1, label="without a monitor", zorder=1)
        for i, (name, own) in enumerate(told.groupby("policy", sort=False)):
            of = own.set_index("measure")
            x, y = of.loc["tokens"], of.loc["accuracy"]
            ax.errorbar(
                x["value"],
                y["value"],
                xerr=[[x["value"] - x["low"]], [x["high"] - x["value"]]],
                yerr=[[y["value"] - y["low"]], [y["high"] - y["value"]]],
                fmt=_MARKS[i % len(_MARKS)],
                color=_COLOURS[i % len(_COLOURS)],
                ms=5,
                lw=0.8,
                label=name,
            )
        ax.set(title=title, xlabel="tokens a question", ylabel="accuracy")
        ax.legend(fontsize=7, loc="lower right")
    axes[1].set(xlim=(35, 75), ylim=(0.5, 0.8))
    return figure


_COLOURS = (
    "#23527c",
    "#d1590b",
    "#1b8a6b",
    "#8e5ea2",
    "#b07d2b",
    "#c0708a",
    "#4d8f8f",
    "#111111",
    "#b85450",
    "#5b8c5a",
)
_MARKS = ("o", "s", "^", "D", "v")


def _command(parser: argparse.ArgumentParser, args: argparse.Namespace) -> str:
    typed = ["python", "-m", "analyses.policies"]
    for name, value in vars(args).items():
        if name not in ("out", "work") and value != parser.get_default(name):
            typed += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(typed)


_READING = """\
## Reading
"""


if __name__ == "__main__":
    main()
