"""Do monitors keep their promise? Simulated calibrations of known truth, and what each mistake would cost.

    python -m analyses.guarantees              # some two minutes; writes reports/guarantees.md
    python -m analyses.guarantees --sims 200   # a first look

Both modes, monitors of success and of any score, from 9 to 500 runs; and the test for drift.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyses.simulated_monitors import (
    WORLDS,
    World,
    alarmed,
    by_step,
    confident,
    draw_among_spared,
    draw_first,
    false_alarms,
    marginal,
    one_rank_low,
    population,
    scores,
)
from trajkit.detection import Drift, Monitor
from trajkit.files import write_text
from trajkit.progress import progress
from trajkit.stats.resampling import wilson
from trajkit.tables import Across, Estimate, Table, words
from trajkit.tables.render import markdown

SIMS = 2000
ALPHA, DELTA = 0.1, 0.1
NUMBERS = (9, 19, 22, 50, 100, 200, 500)
WORST = World(-1)
Row = dict[str, Any]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sims", type=int, default=SIMS, help="simulated calibrations behind each number")
    parser.add_argument("--runs", type=int, nargs="+", default=list(NUMBERS), help="runs that a calibration counts")
    parser.add_argument("--out", type=Path, default=Path("reports/guarantees.md"))
    args = parser.parse_args(argv)
    with progress("guarantees", total=len(WORLDS) * len(args.runs) + 3) as bar:
        kept = [row for world in WORLDS for n in args.runs for row in promises(world, n, args.sims, bar.advance)]
        wrong = list(mistakes(args.sims))
        bar.advance("mistakes")
        own = list(own_scores(args.sims))
        bar.advance("scores of your own")
        drift = list(drifts(args.sims))
        bar.advance("drift")
    few = "" if args.sims == SIMS else f" --sims {args.sims}"
    chosen = "" if args.runs == list(NUMBERS) else f" --runs {' '.join(map(str, args.runs))}"
    sections = {
        "The promise, by the runs that a calibration counts": across_numbers(kept),
        f"Mistakes, at 100 runs, where {WORST}": plain(wrong, "rule"),
        "Monitors of scores of your own (`Monitor.of_scores`), 40 groups": plain(own, "scores"),
        "Drift: streams that are said to drift within 300 runs": plain(drift, "stream"),
    }
    text = (
        f"# Guarantees\n\nRegenerate: `python -m analyses.guarantees{few}{chosen}`. Over {args.sims:,} simulated "
        "calibrations each, with the 95 % interval that chance gives the figure.\n\n"
        + "".join(f"## {title}\n\n{markdown(table)}\n" for title, table in sections.items())
        + _READING
    )
    write_text(args.out, text)
    print(text)


def promises(world: World, n: int, sims: int, advance: Any) -> Iterator[Row]:
    """What is promised of runs of a world, and what is found."""
    rates = false_alarms(marginal(ALPHA), n, world, sims)
    sure = false_alarms(confident(ALPHA, DELTA), n, world, sims)
    enough = false_alarms(marginal(ALPHA), n, world, sims, watches="success")
    row = {"world": str(world), "n": n}
    yield row | {"figure": f"false alarms, {words.promise(ALPHA)} promised", "found": mean(rates)}
    yield row | {
        "figure": f"calibrations with more than {words.promise(ALPHA)}, {words.promise(DELTA)} promised",
        "found": share(sure > ALPHA),
    }
    yield row | {"figure": f"enough said of failing runs, {words.promise(ALPHA)} promised", "found": mean(enough)}
    advance(f"{world}, {n}")


def mistakes(sims: int, n: int = 100) -> Iterator[Row]:
    """False alarms by rules that look alike. The last takes time, and is far off: of a tenth of the calibrations."""
    for name, rule, draw, some in (
        ("the rule", marginal(ALPHA), draw_first, sims),
        ("one rank lower", one_rank_low(ALPHA), draw_first, sims),
        ("drawn among the successes of a group", marginal(ALPHA), draw_among_spared, sims),
        ("a quantile of each step", by_step(ALPHA), draw_first, max(sims // 10, 1)),
    ):
        yield {"rule": name, "found": mean(false_alarms(rule, n, WORST, some, draw))}


def own_scores(sims: int, n_groups: int = 40) -> Iterator[Row]:
    """Monitors made from tables of scores, a row a step."""
    for higher in ("worse", "better"):
        for watches in ("failure", "success"):
            rates = [_own(np.random.default_rng([5, sim]), n_groups, sim, higher, watches) for sim in range(sims)]
            yield {"scores": f"higher is {higher}, watches {watches}", "found": mean(np.array(rates))}


def _own(rng: np.random.Generator, n_groups: int, seed: int, higher: Any, watches: Any) -> float:
    runs = population(rng, n_groups, WORST)
    steps = scores(rng, runs, WORST)
    run, step = np.nonzero(np.isfinite(steps))
    frame = pd.DataFrame(
        {
            "run": run,
            "scene": runs["group_id"].to_numpy()[run],
            "ok": runs["failure"].to_numpy()[run] == 0,
            "judge": steps[run, step] * (1 if higher == "worse" else -1),
        }
    )
    monitor = Monitor.of_scores(frame, "judge", "scene", "ok", "run", ALPHA, seed, higher=higher, watches=watches)
    return alarmed(monitor.threshold, WORST, watches)


def drifts(sims: int, n_old: int = 100, n_new: int = 300) -> Iterator[Row]:
    """Streams of run maxima that are like those of the calibration, and some that are not."""
    for name, shift, digits in (
        ("like the calibration", 0.0, None),
        ("the same, most of them ties", 0.0, 0),
        ("scores higher by half a standard deviation", 0.5, None),
        ("scores lower by one", -1.0, None),
    ):
        rng = np.random.default_rng(9)
        told = []
        for sim in range(sims):
            old, new = rng.normal(size=n_old), rng.normal(shift, 1, n_new)
            if digits is not None:
                old, new = old.round(digits), new.round(digits)
            told.append(_drifts(Drift(old, seed=sim), new))
        yield {"stream": name, "found": share(np.array(told))}


def _drifts(drift: Drift, maxima: np.ndarray) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return any(drift.update(most).warned for most in maxima)


def mean(rates: np.ndarray) -> Estimate:
    off = 1.96 * rates.std() / np.sqrt(len(rates))
    return Estimate(float(rates.mean()), max(float(rates.mean() - off), 0.0), float(rates.mean() + off))


def share(held: np.ndarray) -> Estimate:
    return Estimate.of((held.mean(), *wilson(int(held.sum()), len(held))))


def across_numbers(rows: list[Row]) -> Table:
    headings = {"world": "world", "figure": "figure"}
    across = Across("n", "found", "{} runs".format)
    return Table(pd.DataFrame(rows), headings, {"found": partial(words.shares, null=ALPHA)}, across=across)


def plain(rows: list[Row], first: str) -> Table:
    return Table(pd.DataFrame(rows), {first: first, "found": "share (95 %)"}, {"found": words.shares})


_READING = f"""
## Reading

False alarms are the share of new runs that ended well, each of a new group, on which the monitor alarms; for `enough`,
the share of those that failed. Groups are unlike in difficulty and in how many runs they have, runs in length. A mean
above {words.promise(ALPHA)} by more than chance would break the promise; it lies below where the rank, a whole number,
was rounded up, and with ties. With {words.promise(1 - DELTA)} confidence no monitor can be had from fewer than 22 runs,
so that nothing is alarmed there.

A wealth of 100, at which drift is told, is reached by at most 1 % of streams that are like the calibration, over any
time.
"""


if __name__ == "__main__":
    main()
