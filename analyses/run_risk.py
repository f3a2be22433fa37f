"""Will a run fail: told from the risks of its sentences and the geometry of its path, beside what could be known.

    python -m analyses.run_risk                          # minutes; writes reports/run_risk.md and its picture
    python -m analyses.run_risk --runs 600 --deals 1    # a first look
    python -m analyses.run_risk FOLDER                   # other runs of the demo's world

At absolute steps, among the runs that have come so far, from what was known then; cross-validated by scene, sentence
predictors and all; beside a judge who knows the scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import trajkit as tk
from analyses.common import arguments_of_traces, write
from analyses.pictures import interval, panels, save
from analyses.run_scores import (
    ADDED,
    BASES,
    CEILING,
    KINDS,
    LENGTH,
    PREFIX,
    SENTENCES,
    TASK,
    UNCERTAINTY,
    Deal,
    Prefixes,
    read,
    scored,
)
from trajkit.detection import StepPredictor
from trajkit.judging import gains, matched_auc
from trajkit.judging.ceilings import shares_of_ceiling
from trajkit.judging.ranking import Selection, select_steps
from trajkit.plots.style import OUTCOME_COLOURS
from trajkit.progress import progress
from trajkit.stats.resampling import Floats, Integers, numbered
from trajkit.tables import Estimate, Table, words
from trajkit.tables.render import markdown
from trajkit.traces.forms import task_labels

STEPS = (2, 3, 4, 6, 8, 12, 16, 20)
STATED = (4, 8)
"""At which it is said what gains."""
LEAST = 30
"""Runs of either kind that a step needs."""
DEALS, FOLDS = 2, 5


def main(argv: list[str] | None = None) -> None:
    runs_of, deals_of = (None, "the first runs alone"), (DEALS, "deals of the scenes to folds")
    args = arguments_of_traces(__doc__, "reports/run_risk.md", argv, boot=500, runs=runs_of, deals=deals_of)
    runs = read(list(islice(tk.read_traces(args.traces), args.runs)))
    selected = told_steps(runs)
    with progress("fits", total=args.deals * len(KINDS) * FOLDS * (FOLDS + 1) // 2) as bar:
        deals = [Deal(runs, seed, StepPredictor(), bar.advance, FOLDS) for seed in range(args.deals)]
    judged = Judged(runs, scored(runs, deals, selected), np.stack([deal.fold for deal in deals]), selected, args.boot)
    report(args.out, args.command, judged)


def told_steps(runs: Prefixes) -> list[Selection]:
    """Those of STEPS that LEAST failing runs and as many others have come to."""
    found = select_steps(runs.frame, STEPS)
    failed = [runs.failed[selection.rows] for selection in found]
    return [one for one, y in zip(found, failed, strict=True) if min(y.sum(), (1 - y).sum()) >= LEAST]


class Judged:
    """Figures of scores (R, n) or (n,) on the runs at each of the selected steps. folds: (R, n)."""

    def __init__(
        self, runs: Prefixes, scores: Mapping[str, Floats], folds: Integers, selected: Sequence[Selection], n_boot: int
    ) -> None:
        self.runs, self.scores, self.selected, self.folds = runs, scores, selected, folds
        task = task_labels(runs.frame)
        self.forms = np.stack([numbered(task, fold) for fold in folds])
        self.options: dict[str, Any] = {"n_boot": n_boot, "n_folds": int(folds.max()) + 1}
        self.alone = [name for name in scores if " + " not in name and name != CEILING]

    def areas(self, strata: Integers) -> pd.DataFrame:
        """A row a method and step."""
        scores = {name: self.scores[name] for name in (*self.alone, CEILING)}
        return matched_auc(self.runs.frame, scores, self.selected, strata, **self.options)

    def gain(self, better: str, than: str, strata: Integers, at: Sequence[Selection]) -> pd.DataFrame:
        frame = self.runs.frame
        return gains(frame, self.scores[better], self.scores[than], at, strata, **self.options)

    def gains_over_uncertainty(self, strata: Integers) -> pd.DataFrame:
        """A row a method and step that all of its runs are scored at."""
        found = []
        for name in self.alone:
            at = [s for s in self.selected if not np.isnan(np.atleast_2d(self.scores[name])[:, s.rows]).any()]
            if name != UNCERTAINTY and at:
                found.append(self.gain(name, UNCERTAINTY, strata, at).assign(method=name))
        return pd.concat(found, ignore_index=True)

    def added(self) -> list[dict[str, Any]]:
        """A row a step of STATED and a thing that is added: its gain on each of BASES, and within forms."""
        rows = []
        for selection in [one for one in self.selected if one.step in STATED]:
            for name in ADDED:
                row: dict[str, Any] = {"step": selection.step, "added": name}
                for base in BASES:
                    for label, strata in ((base, self.folds), (f"{base}, within form", self.forms)):
                        row[label] = _estimates(self.gain(f"{base} + {name}", base, strata, [selection]), "gain")[0]
                rows.append(row)
        return rows

    def shares(self, strata: Integers) -> pd.DataFrame:
        scores = {name: self.scores[name] for name in self.alone}
        return shares_of_ceiling(self.runs.frame, scores, self.scores[CEILING], self.selected, strata, **self.options)


def report(out: Path, command: str, judged: Judged) -> None:
    """Write the page and its picture. command: what makes it again."""
    runs, selected = judged.runs, judged.selected
    n = runs.frame["transcript_id"].nunique()
    last = runs.frame.groupby("transcript_id").last()
    text = (
        f"# Will a run fail\n\nRegenerate: `{command}`. {words.count(n, 'run')}, "
        f"{(last['outcome'] != 'success').mean():.1%} of them failing. AUC of failure among the runs that have come "
        "to a step, from what was known then; scenes are held out from all that is fitted, sentence predictors "
        f"included (five folds, the mean of {len(judged.folds)} deals). Pairs are of one fold; *within form* also of "
        f"one form of question. 95 % intervals resample scenes and allow for fitting anew. {_METHODS}"
    )
    pooled, within = judged.areas(judged.folds), judged.areas(judged.forms)
    said = partial(words.estimate, null=0.0)
    sections: dict[str, tuple[pd.DataFrame, str, Any]] = {
        "AUC, all pairs": (pooled, "auc", words.auc),
        "AUC, within form": (within, "auc", words.auc),
        "More than uncertainty alone": (judged.gains_over_uncertainty(judged.folds), "gain", words.difference),
        "More than uncertainty alone, within form": (
            judged.gains_over_uncertainty(judged.forms), "gain", words.difference
        ),
        "Of the way from 0.5 to the ceiling": (judged.shares(judged.folds), "share", said),
        "Of the way from 0.5 to the ceiling, within form": (judged.shares(judged.forms), "share", said),
    }  # fmt: skip
    parts = [f"## {name}\n\n{markdown(by_step(*told, judged))}" for name, told in sections.items()]
    added = pd.DataFrame(judged.added())
    columns = [name for name in added if name not in ("step", "added")]
    last_table = Table(added, {name: name for name in added}, dict.fromkeys(columns, words.difference))
    counts = ", ".join(
        f"{len(one.rows):,} at step {one.step} ({int(runs.failed[one.rows].sum()):,} failing)" for one in selected
    )
    body = "\n".join([f"Runs: {counts}.\n", *parts, "## What each adds to uncertainty, and to all baselines"])
    write(out, f"{text}\n\n{body}", last_table, _READING, save(picture(pooled, within), out))


def by_step(found: pd.DataFrame, figure: str, said: Any, judged: Judged) -> Table:
    """found: a row a method and step → a row a method, a column a step."""
    order = [name for name in judged.scores if name in set(found["method"])]
    rows = []
    for name in order:
        own = found[found["method"] == name]
        cells = dict(zip(own["step"], _estimates(own, figure), strict=True))
        missing = Estimate(np.nan)
        rows.append({"method": name} | {str(one.step): cells.get(one.step, missing) for one in judged.selected})
    steps = [str(one.step) for one in judged.selected]
    return Table(pd.DataFrame(rows), {"method": "at step"} | {s: s for s in steps}, dict.fromkeys(steps, said))


def _estimates(found: pd.DataFrame, figure: str) -> list[Estimate]:
    return [Estimate(*map(float, row)) for row in found[[figure, "low", "high"]].to_numpy()]


def picture(pooled: pd.DataFrame, within: pd.DataFrame) -> Any:
    """AUC by step: left of all pairs, right within form."""
    figure, axes = panels(2, 4.6)
    colours = {LENGTH: "unknown", UNCERTAINTY: "reasoning_failure", PREFIX: "failure", SENTENCES: "success"}
    colours[CEILING] = "hallucination"
    for ax, areas, title in zip(axes, (pooled, within), ("all pairs", "within form"), strict=True):
        for name, colour in colours.items():
            own = areas[areas["method"] == name].rename(columns={"auc": "value"})
            if len(own):
                interval(ax, own["step"], own, OUTCOME_COLOURS[colour], name)
        ax.axhline(0.5, color="0.6", lw=0.8)
        ax.set_xticks(sorted(areas["step"].unique()))
        ax.set(title=title, xlabel="steps so far", ylabel="AUC of failure", ylim=(0.35, 1))
    axes[0].legend(fontsize=8)
    return figure


_METHODS = f"""

- *{UNCERTAINTY}*: log-probability and entropy of the steps so far, their means and the most doubtful. *{LENGTH}*:
  tokens so far. *{TASK}*: family and form. *{PREFIX}*: the early-failure predictor, of all of a run's prefix features.
- *{SENTENCES}*: of each sentence, the chance that it is wrong (`StepPredictor`, effects and uncertainty): the largest,
  their sum, the chance that any is, the mean of the last four, and the chance that any stands whose region no later
  sentence rests on. By themselves they are not fitted on how runs end; *{SENTENCES}* without more is fitted on all.
- *geometry*: path length, tortuosity, straightness, switches; *of grounded steps*: length, tortuosity and revisits of
  the path through the steps that some region supports by half a nat or more, and their share. Its z-scores are among
  random walks of as many steps: through the run's own resting places in a random order, and through those of other runs
  of the same task. *effective dimension*: participation ratio of the covariance of the effects so far. *distance to
  successes*: to the ten nearest successful runs of other scenes, by path metrics, or by the sorted mean effects.
- *ceiling*: a judge who knows the scene, how hard its picture is, the form, and which sentences so far are wrong."""
_READING = """
Each added thing is fitted together with the baselines, and compared with the same baselines without it on the same
draws of scenes. All runs of a task have the same random walks through other runs' resting places, so that those
z-scores keep the order of path lengths within a form. Intervals are not corrected for the number of rows.
"""


if __name__ == "__main__":
    main()
