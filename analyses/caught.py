"""Of the failing runs, how many does a monitor catch, and how soon: beside one that knows the scene, at one promise.

    python -m analyses.caught              # minutes; writes reports/caught.md
    python -m analyses.caught FOLDER       # other runs of the demo's world

Every score is fitted on the same scenes of validation digits, given a threshold by the monitor's rule on the same other
ones, and judged on the scenes of test digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import trajkit as tk
from analyses.common import arguments_of_traces, estimated, table_of, write
from analyses.run_scores import CEILING, LENGTH, SENTENCES, UNCERTAINTY, read
from trajkit.demo.knowing import KNOWN
from trajkit.demo.runs import held_out
from trajkit.detection import EarlyFailurePredictor, Monitor, StepPredictor
from trajkit.detection.design import DEFAULT_FEATURES
from trajkit.detection.run_risks import run_risks
from trajkit.detection.splits import failures, split_by_group
from trajkit.judging.alarms import monitor_runs
from trajkit.progress import progress
from trajkit.stats.resampling import Floats, edge_draws, group_draws, weighted_mean, weighted_median
from trajkit.tables import Estimate, words
from trajkit.tables.render import markdown
from trajkit.traces.trace import Trace

ALPHA = 0.1
DEALS = 10
WITHIN = 3
"""Sentences after the first mistake within which an alarm is soon."""
SHIPPED, TOLD, RANDOM, ANY = "as shipped", "as shipped, told the form", "random", "any"
PLAIN = ("uncertainty+length+task", "length+task", "task")
"""Feature sets without effects, of which the form of the question is one."""


def main(argv: list[str] | None = None) -> None:
    args = arguments_of_traces(
        __doc__,
        "reports/caught.md",
        argv,
        boot=1000,
        runs=(None, "the first runs alone"),
        alpha=(ALPHA, "false alarms promised"),
        deals=(DEALS, "deals of the scenes to fit and calibration"),
    )
    traces = list(islice(tk.read_traces(args.traces), args.runs))
    with progress("deals", total=args.deals) as bar:
        alarms = watched(traces, args.alpha, args.deals, bar.advance)
    report(args.out, args.command, alarms, args.alpha, args.boot)


def watched(
    traces: Sequence[Trace], alpha: float, deals: int, advance: Callable[[str], None] = lambda note: None
) -> pd.DataFrame:
    """What each monitor does on each held-out run, by each deal of the other scenes to fit and calibration.

    Columns: monitor, deal, those of `monitor_runs`, and late: sentences from the first mistake to the alarm, 0 where it
    comes at the mistake, NaN where there is no alarm or no sentence was the mistake.
    """
    frame = read(traces).frame
    frame = frame.assign(
        success=failures(frame) == 0, off_for=frame.groupby("transcript_id")["off_course"].cumsum().to_numpy()
    )
    unseen = held_out(frame["group_id"])
    found = []
    for deal in range(deals):
        parts = split_by_group(frame, seed=deal, test=unseen)
        fit, calibration, test = (parts.rows(frame, part) for part in ("fit", "calibration", "test"))
        for name, score in fitted(fit, deal).items():
            calibrating, judging = (rows.assign(score=score(rows)) for rows in (calibration, test))
            monitor = Monitor.of_scores(calibrating, alpha=alpha, seed=deal)
            found.append(monitor_runs(monitor, judging).assign(monitor=name, deal=deal))
        advance("")
    runs = pd.concat(found, ignore_index=True)
    thinking = {trace.transcript_id: int(trace.thinking.sum()) for trace in traces}
    first = {t.transcript_id: t.meta["first_wrong"] for t in traces if t.meta["first_wrong"] is not None}
    mistake = runs["transcript_id"].map({run: at + 1 for run, at in first.items() if at < thinking[run]})
    return runs.assign(late=(runs["alarm_step"] - mistake).where(runs["alarmed"]))


def fitted(fit: pd.DataFrame, seed: int) -> dict[str, Callable[[pd.DataFrame], Floats]]:
    """Monitor → the score of each row of a frame, the higher the riskier."""
    failed = failures(fit).astype(int)
    sentences = StepPredictor().fit(fit, fit["label"])
    knowing = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(_known(fit, fit), failed)

    def any_wrong(rows: pd.DataFrame) -> Floats:
        return run_risks(sentences.risks(rows), rows["transcript_id"])["any"]

    def drawn(rows: pd.DataFrame) -> Floats:
        return np.random.default_rng([seed, len(rows)]).random(len(rows))

    features = {SHIPPED: DEFAULT_FEATURES, TOLD: f"{DEFAULT_FEATURES}+task", UNCERTAINTY: UNCERTAINTY, LENGTH: LENGTH}
    features |= {name: name for name in PLAIN}
    by = {name: EarlyFailurePredictor(of) for name, of in features.items()}
    return {
        CEILING: lambda rows: knowing.decision_function(_known(rows, fit)),
        **{name: model.fit(fit, failed).risks for name, model in by.items()},
        SENTENCES: any_wrong,
        RANDOM: drawn,
    }


def _known(rows: pd.DataFrame, fit: pd.DataFrame) -> Floats:
    """(n, F) what a judge knows who has the scene and the sentences so far, forms of questions as those of `fit`."""
    forms = rows["kind"].to_numpy()[:, None] == np.unique(fit["kind"])
    return np.column_stack([np.log1p(rows[["difficulty", *KNOWN, "off_for", "step"]].to_numpy(float)), forms])


def report(out: Path, command: str, alarms: pd.DataFrame, alpha: float, n_boot: int) -> None:
    """Write the page. alarms: as by `watched`; command: what makes the page again."""
    one = alarms[(alarms["monitor"] == SHIPPED) & (alarms["deal"] == 0)]
    failing = one[one["failure"] == 1]
    text = (
        f"# How many failing runs are caught\n\nRegenerate: `{command}`. {words.count(len(one), 'run')} about scenes "
        f"of test digits, {len(failing):,} of them failing. Every monitor promises {words.promise(alpha)} false "
        "alarms; all are fitted on the same scenes of validation digits and have their thresholds from the same other "
        f"ones, one run a scene. Figures are means over {words.count(alarms['deal'].nunique(), 'deal')} of those "
        f"scenes; 95 % intervals resample test scenes and take the deals as they are. {_MONITORS}"
    )
    late = "Sentences from the first mistake to the alarm, the median"
    sections = {
        "Failing runs that are caught": caught(alarms, n_boot),
        "Caught, by outcome": by_part(alarms, "outcome", n_boot),
        "Caught, by family": by_part(alarms, "task_set", n_boot),
        "False alarms, by family": by_part(alarms, "task_set", n_boot, failing=False),
        f"{late}, by outcome": lateness(alarms, "outcome", n_boot),
    }
    body = "\n".join(f"## {name}\n\n{markdown(table)}" for name, table in sections.items())
    write(out, f"{text}\n\n{body}\n## {late}, by family", lateness(alarms, "task_set", n_boot), _READING)


def caught(alarms: pd.DataFrame, n_boot: int) -> Any:
    """A row a monitor: false alarms, failing runs alarmed, of what the ceiling's monitor alarms, and how soon."""
    most = _power(alarms[alarms["monitor"] == CEILING], n_boot)
    rows = []
    for name, own in alarms.groupby("monitor", sort=False):
        power = _power(own, n_boot)
        by_deal = own[own["failure"] == 1].groupby("deal")["alarmed"].mean()
        row: dict[str, Any] = {
            "monitor": name,
            "false alarms": estimated(_false_alarms(own, n_boot)),
            "caught": estimated(power),
        }
        row["of the ceiling's"] = Estimate(np.nan) if name == CEILING else estimated(_share(power, most))
        row["sd between deals"] = float(by_deal.std()) if len(by_deal) > 1 else np.nan
        rows.append(row | _how_soon(own, n_boot))
    return table_of(rows, _FORMATS)


def _share(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def by_part(alarms: pd.DataFrame, column: str, n_boot: int, failing: bool = True) -> Any:
    """A row a monitor: the share of failing runs alarmed, or of good ones, of each value of a column."""
    figure = _power if failing else _false_alarms
    counts = alarms[(alarms["deal"] == 0) & (alarms["failure"] == failing)].drop_duplicates("transcript_id")
    parts = _parts(alarms, column)
    rows: list[dict[str, Any]] = [
        {"monitor": name} | {part: estimated(figure(own[own[column] == part], n_boot)) for part in parts}
        for name, own in alarms.groupby("monitor", sort=False)
    ]
    counted = {part: str((counts[column] == part).sum()) for part in parts}
    rows.append({"monitor": f"{'failing' if failing else 'good'} runs"} | counted)
    return table_of(rows, dict.fromkeys(parts, _share_or_count))


def lateness(alarms: pd.DataFrame, column: str, n_boot: int) -> Any:
    """A row a monitor: the median number of sentences, of each value of a column."""
    parts = _parts(alarms, column)
    rows = [
        {"monitor": name} | {part: _median(own[own[column] == part], n_boot) for part in (ANY, *parts)}
        for name, own in _with_any(alarms, column).groupby("monitor", sort=False)
    ]
    return table_of(rows, dict.fromkeys((ANY, *parts), _sentences))


def _with_any(alarms: pd.DataFrame, column: str) -> pd.DataFrame:
    return pd.concat([alarms, alarms.assign(**{column: ANY})], ignore_index=True)


def _parts(alarms: pd.DataFrame, column: str) -> list[str]:
    return sorted(alarms.loc[alarms["failure"] == 1, column].unique())


def _power(own: pd.DataFrame, n_boot: int) -> Floats:
    """(B,) draws of the share of failing runs that are alarmed, the mean over deals."""
    failing = own[own["failure"] == 1]
    return weighted_mean(failing["alarmed"].to_numpy(float), group_draws(failing["group_id"], n_boot, 0))


def _false_alarms(own: pd.DataFrame, n_boot: int) -> Floats:
    """(B,) draws of the share of good runs that are alarmed, of a new run of a new scene (`promise.of_new_groups`): the
    mean over scenes of the share of runs that are good and alarmed, by that of those that are good. Deals are taken
    together, as each judges the same runs."""
    good = (own["failure"] == 0).astype(float)
    shares = own[["group_id"]].assign(good=good, alarmed=good * own["alarmed"]).groupby("group_id").mean().reset_index()
    draws = group_draws(shares["group_id"], n_boot, 0)
    found = _share(draws.sums(shares["alarmed"]), draws.sums(shares["good"]))
    return edge_draws(found[0], shares["good"].sum(), len(found)) if found[0] in (0, 1) else found


def _how_soon(own: pd.DataFrame, n_boot: int) -> dict[str, Any]:
    told = own[(own["failure"] == 1) & own["late"].notna()]
    draws = group_draws(told["group_id"], n_boot, 0)
    soon = weighted_mean((told["late"] <= WITHIN).to_numpy(float), draws)
    before = weighted_mean((told["late"] < 0).to_numpy(float), draws)
    return {"median sentences late": _median(own, n_boot), _BEFORE: estimated(before), _SOON: estimated(soon)}


def _median(own: pd.DataFrame, n_boot: int) -> Estimate:
    told = own[(own["failure"] == 1) & own["late"].notna()]
    return estimated(weighted_median(told["late"].to_numpy(float), group_draws(told["group_id"], n_boot, 0)))


def _share_or_count(found: Estimate | str) -> str:
    return found if isinstance(found, str) else words.shares(found)


_sentences = partial(words.estimate, digits=1)
_BEFORE, _SOON = "of the alarms before it", f"by {WITHIN} sentences after it"
_FORMATS = {
    "false alarms": words.shares,
    "caught": words.shares,
    "sd between deals": words.share,
    "of the ceiling's": words.shares,
    "median sentences late": _sentences,
    _BEFORE: words.shares,
    _SOON: words.shares,
}
_MONITORS = f"""

- *{CEILING}*: a judge who knows the scene, how hard its picture is and the form, and of the sentences so far which
  cells they leave misread, how many follow from nothing, and whether and for how long the run has been off its course.
- *{SHIPPED}*: the early-failure predictor of the shipped monitor, of all of a run's prefix features.
- *{TOLD}*: the same with the family and form of the question (the feature set `task`), which the ceiling has too.
- *{SENTENCES}*: the chance that any sentence so far is wrong, by a `StepPredictor` of effects and uncertainty.
- *{UNCERTAINTY}*, *{LENGTH}*: the early-failure predictor of log-probability and entropy alone (means, and the most
  doubtful step), and of how many steps and tokens the run has. With *task*, the family and form of the question, too:
  what a monitor catches that is told the form and reads no effects. *{RANDOM}*: a number drawn anew after each
  sentence."""
_READING = """
False alarms are of a new run of a new scene, as promised; of a family alone nothing is promised. *sd between deals*: of
what is caught, by which scenes the threshold came from: whoever ships one monitor ships one deal. Intervals of *of the
ceiling's* are paired. The first mistake is the sentence that took the run off its course for good; runs that only their
answer made wrong have none, and are left out of what is said of sentences, and so are runs without an alarm. An alarm
before the mistake counts by a negative number.
"""


if __name__ == "__main__":
    main()
