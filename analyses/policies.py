"""What it is worth to act on the monitor's alarms: policies replayed on saved runs, and really generated.

    python -m analyses.policies    # minutes, seconds when run again; writes reports/policies.md and its picture

On scenes of test digits, with the detectors of data/demo/detectors and their calibration scenes. What was generated is
kept in runs/policies, so that an interrupted run goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import trajkit as tk
from analyses.common import command_of, estimated
from analyses.pictures import panels, save
from analyses.played import (
    ANEW,
    AT_ALARM,
    AT_RANDOM,
    ENOUGH,
    ENOUGH_AT_RANDOM,
    GOOD,
    HINTED,
    SHIPPED,
    UNSURE,
    WINDOWS,
    World,
    generations,
    last_good_steps,
    replays,
    stopping,
)
from trajkit.demo import paths
from trajkit.detection import Monitor
from trajkit.files import write_text
from trajkit.judging.alarms import monitor_runs
from trajkit.judging.policies import Play, majority, whole
from trajkit.judging.promise import check_promise
from trajkit.judging.worth import Worth
from trajkit.stats.resampling import weighted_mean
from trajkit.tables import Estimate, Table, joined, words
from trajkit.tables.render import markdown

ALPHAS = (0.05, 0.1, 0.2, 0.3)
SAMPLES = (3, 5)
LEAVE = "no monitor"
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
OF_STOPS = ("tokens", "right_of_answered", "saved_failing", "saved_successful", "lost", "gain")
Plays = Mapping[str, Play]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=0, help="test scenes, 0 for all")
    parser.add_argument("--generate-at", type=float, nargs="+", default=[0.1, 0.2], help="alphas to generate at")
    parser.add_argument("--boot", type=int, default=1000, help="bootstrap draws of scenes")
    parser.add_argument("--work", type=Path, default=Path("runs/policies"), help="where generated runs are kept")
    parser.add_argument("--out", type=Path, default=Path("reports/policies.md"))
    args = parser.parse_args(argv)
    world = World.load(args.scenes)
    alone = {LEAVE: whole(world.saved)}
    samples = {f"majority of {k} answers": majority(world.saved, k) for k in SAMPLES}
    worth = Worth.of(world.saved, [*alone.values(), *samples.values()], args.boot)
    replayed = alone | replays(world, SHIPPED) | samples
    curve = {alpha: stopping(world, alpha) for alpha in ALPHAS}
    vlm = tk.load_vlm(paths.MODEL)
    generated = {alpha: alone | generations(world, alpha, vlm, args.work) for alpha in args.generate_at}
    command = command_of("policies", parser, args, unsaid=("out", "work"))
    page = [
        f"# What acting on alarms is worth\n\nRegenerate: `{command}`. {_about(world)}",
        f"## Replayed on saved runs, alpha {SHIPPED:g}\n\n{_of_replays(worth, replayed)}\n\n{_table(worth, replayed)}",
        f"## Stopping, by alpha\n\n{_of_curve(world, worth, curve)}\n\n{_curve_table(worth, curve)}",
        *(
            f"## Really generated, alpha {alpha:g}\n\n{_of_generated(worth, plays)}\n\n"
            f"{_of_good_steps(world, worth, alpha)} {_of_success(world, worth, alpha, plays)}\n\n"
            f"{_table(worth, plays)}"
            for alpha, plays in generated.items()
        ),
    ]
    picture = save(_picture(worth, curve, replayed, generated), args.out)
    page.append(f"![policies]({picture.name})\n\n{_READING}")
    text = "\n\n".join(part.strip() for part in page) + "\n"
    write_text(args.out, text)
    print(text)


def _rows(told: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """A row a play, a column a measure. told: as `Worth.table`."""
    rows = joined(told, "value").pivot(index=by, columns="measure", values="value")
    return rows.reindex(pd.MultiIndex.from_frame(told[by].drop_duplicates()) if len(by) > 1 else told[by[0]].unique())


def _table(worth: Worth, plays: Plays) -> str:
    rows = _rows(worth.table(plays), ["policy"]).rename_axis("policy").reset_index()
    return markdown(Table(rows, {"policy": "policy"} | COLUMNS, _FORMATS))


def _curve_table(worth: Worth, curve: Mapping[float, Plays]) -> str:
    told = pd.concat([worth.table(plays).assign(alpha=alpha) for alpha, plays in curve.items()])
    rows = _rows(told, ["alpha", "policy"]).reset_index()
    return markdown(Table(rows, {"alpha": "alpha", "policy": "policy"} | {m: COLUMNS[m] for m in OF_STOPS}, _FORMATS))


def _percent(found: Estimate) -> str:
    """A share that may be negative, with its interval, as per cent."""
    return words.estimate(_hundredfold(found), digits=1)


def _points(found: Estimate) -> str:
    """A difference of shares with its interval, in percentage points; told from 0 or not."""
    return words.estimate(_hundredfold(found), digits=1, sign=True, null=0.0)


def _hundredfold(found: Estimate) -> Estimate:
    return Estimate(*(100 * each for each in found))


_tokens = partial(words.estimate, digits=1)
_FORMATS = {
    "tokens": _tokens,
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
    runs, scenes = words.count(len(saved), "run"), words.count(saved.runs["group_id"].nunique(), "scene")
    window = "all tokens so far" if world.window == WINDOWS[-1] else f"the last {world.window} tokens"
    windows = f"{words.listed([str(w) for w in WINDOWS[:-1]])} tokens, and of all"
    return (
        f"{runs} of {scenes} of test digits, of which {words.share(1 - saved.right.mean())} fail when left alone. Each "
        "stands once as the first generation of its question; where another is wanted it is the question's next saved "
        "run, or is really generated. Every generated token is counted, those of runs that were thrown away too; a run "
        "that is stopped without an answer is not right. Thinking is closed where the sentence of the alarm ends; "
        "live, the sentence that follows may have begun, and is finished first. 95 % intervals resample scenes; the "
        "thresholds, of the calibration scenes, stay as they are.\n\n"
        "*Gain at equal tokens*: accuracy, in points, less that without a monitor for as many tokens a question. "
        "Without one, more tokens buy the majority of 3 or 5 answers (self-consistency) for some of the questions, and "
        "fewer leave some questions out. *At random*: as often after each step as the monitor, whichever run it is. "
        f"*On low confidence*: where the mean entropy of {window} exceeds a threshold by the monitor's rule at the "
        f"same alpha (of windows of {windows}, the one that alarms most failing runs of the scenes that detectors are "
        "fitted on). DeepConf (arXiv 2508.15260) averages over a window the negative mean log-probability of a token's "
        "likeliest alternatives, and takes its threshold from other samples of the same question. Saved runs keep the "
        "mean entropy and log-probability of each step: entropy stands for it here, as it looks at the whole "
        "distribution too, and one threshold holds for all questions."
    )


def _less(worth: Worth, plays: Plays, a: str, b: str) -> dict[str, Estimate]:
    """Each measure of one play less that of another."""
    return dict(joined(worth.differences(plays, [(a, b)]), "value").set_index("measure")["value"])


def _own(worth: Worth, play: Play) -> dict[str, Estimate]:
    """Each measure of a play."""
    return dict(joined(worth.table({"": play}), "value").set_index("measure")["value"])


def _than(found: Estimate, what: str) -> str:
    """Whether a difference in points is told, from what, and how large it is."""
    said = {"above": "better than", "below": "worse than"}.get(found.beside(0.0), "not told from")
    return f"{said} {what}: {_points(found)} points"


def _of_replays(worth: Worth, plays: Plays) -> str:
    stop, again, three = f"stop {AT_ALARM}", f"ask again {AT_ALARM}", "majority of 3 answers"
    stopped, asked, more = (_own(worth, plays[name]) for name in (stop, again, three))
    changed, thrice = (_less(worth, plays, name, LEAVE) for name in (again, three))
    stops = [(other, _less(worth, plays, stop, f"stop {other}")["gain"]) for other in (AT_RANDOM, UNSURE)]
    against = _less(worth, plays, again, f"ask again {UNSURE}")["gain"]
    return (
        f"Stopping at the alarm saves {_percent(stopped['saved_failing'])} % of the tokens of failing runs and "
        f"{_percent(stopped['saved_successful'])} % of those of successful ones, and loses "
        f"{words.shares(stopped['lost'])} of the successes; of the answers that are still given "
        f"{words.shares(stopped['right_of_answered'])} are right. At equal tokens it is "
        f"{_than(stopped['gain'], 'leaving out some questions')}; "
        f"{'; '.join(_than(found, f'stopping {other}') for other, found in stops)}.\n\n"
        f"Asking again at the alarm, once, changes accuracy by {_points(changed['accuracy'])} points for "
        f"{_tokens(changed['tokens'])} tokens a question more. At equal tokens it is "
        f"{_than(asked['gain'], 'doing without a monitor')}; {_than(against, f'asking again {UNSURE}')}. The majority "
        f"of 3 answers changes accuracy by {_points(thrice['accuracy'])} points, for {_tokens(more['tokens'])} tokens "
        "a question."
    )


def _of_curve(world: World, worth: Worth, curve: Mapping[float, Plays]) -> str:
    said = ["The monitor's stops, at equal tokens, and its promise:\n"]
    for alpha, plays in curve.items():
        ours = f"stop {AT_ALARM}"
        stops = [(other, _less(worth, plays, ours, f"stop {other}")["gain"]) for other in (AT_RANDOM, UNSURE)]
        told = "; ".join(_than(found, f"stopping {other}") for other, found in stops)
        said.append(f"- alpha {alpha:g}: {told}. {_promise(world, world.monitor(alpha))}")
    return "\n".join(said)


def _of_generated(worth: Worth, plays: Plays) -> str:
    said = ["Against no monitor, and in pairs:\n"]
    for name in plays:
        if name != LEAVE:
            own, less = _own(worth, plays[name]), _less(worth, plays, name, LEAVE)
            said.append(
                f"- {name}: accuracy {_points(less['accuracy'])} points, {_tokens(less['tokens'])} tokens a question; "
                f"at equal tokens {_than(own['gain'], 'doing without one')}"
            )
    pairs = (
        (f"answer now {AT_ALARM}", f"answer now {AT_RANDOM}"),
        (GOOD, ANEW),
        (HINTED, GOOD),
        (ENOUGH, ENOUGH_AT_RANDOM),
    )
    said += [f"- {a}, at equal tokens: {_than(_less(worth, plays, a, b)['gain'], b)}" for a, b in pairs]
    return "\n".join(said)


def _of_success(world: World, worth: Worth, alpha: float, plays: Plays) -> str:
    """What became of the promise of the monitor of success, and of the answers at which it spoke."""
    monitor = world.success(alpha)
    spoke = world.alarms(monitor) >= 0
    right = world.saved.right == 1
    successful, still = (
        words.shares(_share(worth, values[rows], rows))
        for values, rows in ((spoke, right), (plays[ENOUGH].right, spoke & right))
    )
    return (
        f"Of the monitor of success: {_promise(world, monitor)} It speaks on {successful} of successful runs; of these "
        f"{still} are still right when they answer there."
    )


def _promise(world: World, monitor: Monitor) -> str:
    """Whether a monitor kept its promise on the test runs, in words."""
    return check_promise(monitor_runs(monitor, world.test), monitor).message


def _of_good_steps(world: World, worth: Worth, alpha: float) -> str:
    """How often what is kept of a failing run was right."""
    decided = last_good_steps(world, alpha)
    names = world.saved.runs["transcript_id"]
    rows = names.isin(decided).to_numpy() & (world.saved.right == 0)
    kept, seen = (
        np.array([world.first_wrong(name) < getattr(decided[name], step) for name in names[rows]])
        for step in ("keep_steps", "step")
    )
    return (
        f"Of failing runs that are alarmed something is wrong by the alarm in "
        f"{words.shares(_share(worth, seen, rows))}, and up to the last good step in "
        f"{words.shares(_share(worth, kept, rows))}."
    )


def _share(worth: Worth, values: NDArray[Any], rows: NDArray[np.bool_]) -> Estimate:
    """The mean of values of some of the runs."""
    return estimated(weighted_mean(values.astype(float), worth.draws.of(rows)))


def _picture(worth: Worth, curve: Mapping[float, Plays], replayed: Plays, generated: Mapping[float, Plays]) -> Any:
    """Stops by alpha; and accuracy against tokens, both less those of no monitor, replayed and generated."""
    figure, (first, *others) = panels(3, 4.8, 4.6)
    for i, name in enumerate(curve[ALPHAS[0]]):
        found = [_own(worth, plays[name]) for plays in curve.values()]
        lost, saved = ([_hundredfold(each[measure]) for each in found] for measure in ("lost", "saved_failing"))
        _crosses(first, lost, saved, i, name)
    first.set(title="Stopping, alpha 0.05 to 0.3", xlabel="successes lost, %", ylabel="tokens saved on failing runs, %")
    first.legend(fontsize=8, loc="lower right")
    alone, more = (_own(worth, replayed[name]) for name in (LEAVE, "majority of 3 answers"))
    cost, right = alone["tokens"].value, 100 * alone["accuracy"].value
    slope = (100 * more["accuracy"].value - right) / (more["tokens"].value - cost)
    alpha, made = next(iter(generated.items()))
    titles = (f"Replayed, alpha {SHIPPED:g}", f"Really generated, alpha {alpha:g}")
    for ax, plays, title in zip(others, (replayed, made), titles, strict=True):
        shown = [name for name in plays if name != LEAVE and not name.startswith("majority")]
        for i, name in enumerate(shown):
            less = _less(worth, plays, name, LEAVE)
            _crosses(ax, [less["tokens"]], [_hundredfold(less["accuracy"])], i, name)
        ax.plot(
            [-6, 0, 10], [-6 * right / cost, 0, 10 * slope], color="#8a94a0", lw=1, label="without a monitor", zorder=1
        )
        ax.plot(0, 0, "o", color="#8a94a0", ms=4)
        ax.set(title=title, xlabel="tokens a question, less those without a monitor")
        ax.set(ylabel="accuracy, less that without, points", ylim=(-13, 4))
        ax.legend(fontsize=7, loc="lower right")
    return figure


def _crosses(ax: Any, x: list[Estimate], y: list[Estimate], number: int, label: str) -> None:
    """Points with the interval of both numbers, joined where they are several."""
    bars = [np.array([(each.value - each.low, each.high - each.value) for each in side]).T for side in (x, y)]
    middle = [[each.value for each in side] for side in (x, y)]
    colour, mark = _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)]
    ax.errorbar(*middle, bars[1], bars[0], fmt=f"{mark}-", color=colour, ms=5, lw=0.9, label=label)


_COLOURS = ("#23527c", "#d1590b", "#1b8a6b", "#8e5ea2", "#b07d2b", "#c0708a", "#4d8f8f")
_MARKS = ("o", "s", "^", "D", "v")


_READING = """\
## Reading

**An alarm tells more than chance; that it tells more than plain entropy is not shown.** Stopping or answering at the
alarm loses fewer successes than doing so at random as often, and saves more on failing runs. Stopping where the last
tokens were uncertain, which needs no attribution, cannot be told from it at alpha 0.05, 0.1 and 0.2, and is better at
0.3: in [detection](detection.md), too, uncertainty is what the predictor lives on.

**Acting on it pays here, a little.** Stopping saves about a quarter of the tokens of failing runs, and brings more
right answers than leaving out as many questions' worth of tokens would. Asking again at the alarm, once or up to three
times, is told to be better than spending the same tokens otherwise, by one to two points; the majority of several
answers raises accuracy by more, at several times the tokens. Runs that go on for long are mostly lost ones, so that
tokens are saved where they are spent in vain.

**Going on from the last good step is as good as beginning anew**, with fewer tokens. The hint, in words of the model's
own, is told to be worse than doing without. Of some fifty differences on this page two or three would be told by
chance, and no interval allows for that: what is told at one alpha alone, or by a hair, is no finding.

**Enough keeps its promise and is of no use here.** It speaks on fewer failing runs than promised. But that a run will
end right does not mean that it could answer already: the answer of this model needs all that it reads. Whoever closes
the thinking early needs a model that goes on thinking after it knows, or a monitor that was calibrated on the answers
given there.

A monitor's promise is of first generations. World and model are small: the page shows how policies are measured, and
says nothing of a large model.
"""


if __name__ == "__main__":
    main()
