"""Is a sentence told to be false, or to go the wrong way: by its effects, by its uncertainty, by both?

    python -m analyses.step_detection              # two minutes; writes reports/step_detection.md and its picture
    python -m analyses.step_detection --runs 600   # a first look

On the demo's runs, whose every sentence can be held against its scene; cross-validated by scene.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import trajkit as tk
from analyses.common import command_of, write
from analyses.pictures import panels, save
from trajkit.demo import paths
from trajkit.demo.named import named_cells
from trajkit.demo.runs import step_labels
from trajkit.detection.step_features import KINDS
from trajkit.judging import (
    HeldOutSteps,
    first_wrong,
    held_out_steps,
    step_areas,
    step_calibration,
    step_gains,
    step_layout,
    step_probabilities,
)
from trajkit.judging.held_out_sentences import ALL, CONFIDENT, DEALS, READINGS
from trajkit.progress import progress
from trajkit.stats.resampling import Floats
from trajkit.tables import Table, words
from trajkit.tables.render import markdown

N_BOOT = 500
LINEAR = "both, linear"
COLOURS = {"effects": "#d1590b", "uncertainty": "#8e5ea2", "both": "#23527c", "length": "#b07d2b"}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", type=Path, nargs="?", default=paths.TRACES, help="by default the demo's")
    parser.add_argument("--runs", type=int, help="the first runs alone")
    parser.add_argument("--deals", type=int, default=DEALS, help="deals of the scenes to folds")
    parser.add_argument("--boot", type=int, default=N_BOOT, help="bootstrap draws of scenes")
    parser.add_argument("--out", type=Path, default=Path("reports/step_detection.md"))
    args = parser.parse_args(argv)
    traces = list(islice(tk.read_traces(args.traces), args.runs))
    frame = tk.detection.sentence_features(traces, named_cells, step_labels(traces))
    with progress("fits", total=args.deals * 5 * len(KINDS)) as bar:
        held = held_out_steps(frame, deals=args.deals, advance=bar.advance)
    held = replace(held, chances={**held.chances, LINEAR: linear(held)})
    areas = step_areas(held, n_boot=args.boot)
    within = step_areas(held, held.selections()[:1], within_task=True, n_boot=args.boot)
    sections = {
        "": counts(held),
        "Told from the others": step_layout.areas(areas, within),
        "What effects add to uncertainty": step_layout.gains(step_gains(held, n_boot=args.boot)),
        "As probabilities": step_layout.probabilities(step_probabilities(held, args.boot)),
    }
    command = command_of("step_detection", parser, args, ["traces"])
    head = (
        f"# Sentences told to be wrong\n\nRegenerate: `{command}`. {words.count(len(traces), 'run')} of "
        f"the demo model, {words.count(len(frame), 'sentence')}, each judged by predictors that were fitted on other "
        f"scenes (five folds, the mean of {args.deals} deals). 95 % intervals resample scenes and allow for fitting "
        f"anew. {_WORDS}"
    )
    body = "\n".join(f"## {name}\n\n{markdown(table)}" if name else markdown(table) for name, table in sections.items())
    last = "## The first wrong sentence of a run"
    drawn = picture(areas, step_calibration(held, bins=30, n_boot=args.boot))
    first = step_layout.firsts(first_wrong(held, n_boot=args.boot))
    write(args.out, f"{head}\n\n{body}\n{last}", first, _READING, save(drawn, args.out))


def linear(held: HeldOutSteps) -> Floats:
    """(R, n, C) chances by logistic regression on what `both` reads, with columns that say what is missing."""
    columns = [name for name in KINDS["both"] if name in held.frame]
    x, label = held.frame[columns].to_numpy(float), held.frame["label"].to_numpy(str)
    found = np.zeros((*held.folds.shape, len(held.classes)))
    for deal, fold in enumerate(held.folds):
        for number in range(held.n_folds):
            test = fold == number
            model = make_pipeline(
                SimpleImputer(add_indicator=True), StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)
            )
            found[deal, test] = model.fit(x[~test], label[~test]).predict_proba(x[test])
    return found


def counts(held: HeldOutSteps) -> Table:
    """A row a family: sentences, how many of them name a place, and how many are wrong."""
    readings = set(held.selections()[1].rows.tolist())
    rows: list[dict[str, Any]] = []
    families = held.frame["task_set"].to_numpy(str)
    for family in [*sorted(set(families)), "all"]:
        own = np.flatnonzero((families == family) | (family == "all"))
        row = {"family": family, "sentences": len(own), READINGS: sum(i in readings for i in own.tolist())}
        rows.append(row | {target: words.share(held.is_it(target)[own].mean()) for target in held.targets})
    return Table(pd.DataFrame(rows))


def picture(areas: pd.DataFrame, curves: pd.DataFrame) -> Any:
    """Left, AUC of false sentences by what they are told from; right, calibration of `both`."""
    figure, (left, right) = panels(2, 5.0, 3.8)
    places = [ALL, READINGS, CONFIDENT]
    for i, (method, colour) in enumerate(COLOURS.items()):
        own = areas[(areas["target"] == "false") & (areas["method"] == method)].set_index("sentences").loc[places]
        x, off = np.arange(len(places)) + (i - 1.5) * 0.12, own["auc"].to_numpy()
        ends = [off - own["low"], own["high"] - off]
        left.errorbar(x, off, yerr=ends, fmt="o", color=colour, label=method, capsize=2)
    left.axhline(0.5, color="#8a929c", lw=1, ls=":")
    left.set(ylim=(0.3, 1.0), ylabel="AUC of a false sentence", title="told from the others")
    left.set_xticks(range(len(places)), places)
    left.legend(loc="lower left", fontsize=8)
    for target, colour in zip(("false", "lost"), ("#d1590b", "#7a57b0"), strict=True):
        own = curves[curves["target"] == target]
        ends = [own["failed"] - own["low"], own["high"] - own["failed"]]
        right.errorbar(own["risk"], own["failed"], yerr=ends, fmt="o-", color=colour, label=target, capsize=2, lw=1)
    right.axline((0, 0), slope=1, color="#8a929c", lw=1, ls=":")
    right.set(xlabel="chance by both", ylabel="share that was", title="calibration", xlim=(0, None), ylim=(0, None))
    right.legend()
    return figure


_WORDS = (
    "*false*: the sentence reads a cell as what it is not. *lost*: it does not follow from what had been read by then. "
    "*wrong*: either. Each sentence is judged by itself, put right later or not, so who knows the scene has an AUC of "
    "1. *readings* name a place; the *confident* ones have a mean token log-probability above the median of all "
    "readings. *effects*: how large they are, how concentrated, where they rest beside the place named, how far they "
    "agree with earlier steps. *uncertainty*: log-probability, entropy, number of tokens, lowest log-probability "
    "so far. Whether a sentence names a place is known to both, and the family of the question to neither. *position*, "
    "*length* (in tokens) and *task* (family and form): shares among the other scenes' sentences alike. *largest "
    "effect*, *log-probability*: the number itself, the less the likelier wrong."
)
_READING = """
Among all sentences an AUC tells kinds of sentences apart too: how many tokens a sentence has says what it is about, and
so `length` alone is far above chance. Among readings there is less of that, and the gain of effects over uncertainty is
larger; it is largest among confident readings, which uncertainty tells worst. About whether a conclusion follows
effects say nothing that uncertainty does not: a conclusion is drawn from what was said, not from the picture. The
largest effect by itself does not tell, and rather by being large than by being small.

The same features in a linear model are behind: what is usual differs between kinds of sentences, which trees tell
apart (their size was chosen among seven on these very scenes). Chances that are right would have the calibration error
of the last column by chance alone. Ranks within a run are of runs with a wrong sentence, whose first one is sought; of
ties each counts for its share.
"""


if __name__ == "__main__":
    main()
