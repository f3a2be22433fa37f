"""Is a sentence told to be false, or to go the wrong way: by its effects, by its uncertainty, by both?

    python -m analyses.step_detection              # two minutes; writes reports/step_detection.md and its picture
    python -m analyses.step_detection --runs 600   # a first look
    python -m analyses.step_detection FOLDER       # other runs of the demo's world, such as those before reinforcement

On the demo's runs, whose every sentence can be held against its scene; cross-validated by scene.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import trajkit as tk
from analyses.common import arguments_of_traces, write
from analyses.pictures import panels, save
from trajkit.demo.named import named_cells
from trajkit.demo.runs import step_labels
from trajkit.detection.step_features import CONFIDENT, KINDS
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
from trajkit.judging.held_out_sentences import ALL, DEALS, READINGS, SURE, SURE_READINGS
from trajkit.progress import progress
from trajkit.stats.resampling import Floats
from trajkit.tables import Estimate, Table, words
from trajkit.tables.render import markdown

N_BOOT = 500
PLACES = {
    ALL: "among all sentences",
    SURE: "among confident ones",
    READINGS: "among readings",
    SURE_READINGS: "among confident readings",
}
LINEAR = "both, linear"
COLOURS = {"effects": "#d1590b", "uncertainty": "#8e5ea2", "both": "#23527c", "length": "#b07d2b"}


def main(argv: list[str] | None = None) -> None:
    runs_of, deals_of = (None, "the first runs alone"), (DEALS, "deals of the scenes to folds")
    args = arguments_of_traces(__doc__, "reports/step_detection.md", argv, boot=N_BOOT, runs=runs_of, deals=deals_of)
    traces = list(islice(tk.read_traces(args.traces), args.runs))
    frame = tk.detection.sentence_features(traces, named_cells, step_labels(traces))
    with progress("fits", total=args.deals * 5 * len(KINDS)) as bar:
        held = held_out_steps(frame, deals=args.deals, advance=bar.advance)
    held = replace(held, chances={**held.chances, LINEAR: linear(held)})
    areas = step_areas(held, n_boot=args.boot)
    within = step_areas(held, within_task=True, n_boot=args.boot)
    added = {alike: step_gains(held, within_task=alike, n_boot=args.boot) for alike in (False, True)}
    asked = [one for one in held.selections() if one.columns["sentences"] in (ALL, SURE)]
    chances = step_probabilities(held, asked, args.boot)
    sections = {
        "": counts(held),
        **{f"AUC {PLACES[name]}": step_layout.areas_in(areas, name) for name in held_places(areas)},
        **{
            f"AUC {PLACES[name]}, within family and form": step_layout.areas_in(within, name)
            for name in held_places(within)
        },
        "Of the way to who knows the scene": shares(areas),
        "What effects add to uncertainty": step_layout.gains(added[False]),
        "What effects add to uncertainty, within family and form": step_layout.gains(added[True]),
        **{
            f"As probabilities, {PLACES[name]}": step_layout.probabilities(chances[chances["sentences"] == name])
            for name in (ALL, SURE)
            if name in held_places(areas)
        },
    }
    head = (
        f"# Sentences told to be wrong\n\nRegenerate: `{args.command}`. {words.count(len(traces), 'run')} of "
        f"the demo model, {words.count(len(frame), 'sentence')}, each judged by predictors that were fitted on other "
        f"scenes (five folds, the mean of {args.deals} deals). 95 % intervals resample scenes and allow for fitting "
        f"anew. {_WORDS}"
    )
    body = "\n".join(f"## {name}\n\n{markdown(table)}" if name else markdown(table) for name, table in sections.items())
    last = "## The first wrong sentence of a run"
    drawn = picture(areas, step_calibration(held, bins=30, n_boot=args.boot))
    first = step_layout.firsts(first_wrong(held, n_boot=args.boot))
    write(args.out, f"{head}\n\n{body}\n{last}", first, _READING, save(drawn, args.out))


def held_places(areas: pd.DataFrame) -> list[str]:
    """Those of PLACES in which some sentence is wrong."""
    return [name for name in PLACES if areas.loc[areas["sentences"] == name, "n_wrong"].any()]


def shares(areas: pd.DataFrame) -> Table:
    """The share of the way from an AUC of 0.5 to 1 that each kind of features goes: a row a target and selection."""
    told = areas[(areas["n_wrong"] > 0) & areas["method"].isin(list(KINDS))]
    rows = [
        {"told": target, "among": sentences}
        | {one.method: Estimate(2 * one.auc - 1, 2 * one.low - 1, 2 * one.high - 1) for one in own.itertuples()}
        for (target, sentences), own in told.groupby(["target", "sentences"], sort=False)
    ]
    return Table(pd.DataFrame(rows), formats=dict.fromkeys(KINDS, partial(words.estimate, null=0.0)))


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
    """A row a family: sentences, how many of them are of each selection, and the share that is wrong, of all and of
    the sure ones."""
    inside = {one.within[1]: np.isin(np.arange(len(held.frame)), one.rows) for one in held.selections() if one.within}
    rows = []
    families = held.frame["task_set"].to_numpy(str)
    for family in [*sorted(set(families)), "all"]:
        own = np.flatnonzero((families == family) | (family == "all"))
        row: dict[str, Any] = {"family": family, "sentences": len(own)}
        row |= {name: int(rows_in[own].sum()) for name, rows_in in inside.items() if name != ALL}
        row |= {target: words.share(held.is_it(target)[own].mean()) for target in held.targets}
        if SURE in inside:
            sure = own[inside[SURE][own]]
            row |= {f"{target}, {SURE}": words.share(held.is_it(target)[sure].mean()) for target in held.targets}
        rows.append(row)
    return Table(pd.DataFrame(rows))


def picture(areas: pd.DataFrame, curves: pd.DataFrame) -> Any:
    """Left, AUC of false sentences by what they are told from; right, calibration of `both`."""
    figure, (left, right) = panels(2, 5.0, 3.8)
    places = list(PLACES)
    for i, (method, colour) in enumerate(COLOURS.items()):
        own = areas[(areas["target"] == "false") & (areas["method"] == method)].set_index("sentences").reindex(places)
        x, off = np.arange(len(places)) + (i - 1.5) * 0.12, own["auc"].to_numpy()
        ends = [off - own["low"], own["high"] - off]
        left.errorbar(x, off, yerr=ends, fmt="o", color=colour, label=method, capsize=2)
    left.axhline(0.5, color="#8a929c", lw=1, ls=":")
    left.set(ylim=(0.3, 1.0), ylabel="AUC of a false sentence", title="told from the others")
    left.set_xticks(range(len(places)), [name.replace(" ", "\n") for name in places])
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
    "*false*: the sentence reads a cell as what it is not. *lost*: it is none of the things that follow from what was "
    "said before. *wrong*: either. Each sentence is judged by itself, put right later or not, so who knows the scene "
    "has an AUC of 1 everywhere, and finds the first wrong sentence of every run. *confident*: the geometric mean of "
    f"the probabilities of a sentence's tokens is {CONFIDENT:g} or more. *readings* name a place. *effects*: how large "
    "they are, how concentrated, where they rest beside the place named, how far they agree with earlier steps. "
    "*uncertainty*: log-probability, entropy, number of tokens, lowest log-probability so far. Whether a sentence "
    "names a place is known to both, and the family of the question to neither. *position*, *length* (in tokens) and "
    "*task* (family and form): shares among the other scenes' sentences alike. *largest effect*, *log-probability*: "
    "the number itself, the less the likelier wrong."
)
_READING = """
Among all sentences an AUC tells kinds of sentences apart too: how many tokens a sentence has says what it is about.
Readings are all of one kind. Confident sentences are those about which uncertainty has little left to say, so that it
is there that effects must earn their keep. Of sentences that follow or do not, a conclusion is drawn from what was
said, and not from the picture.

Uncertainty is not told the number of the sentence, nor what was said before; effects show both in part (*seen*,
*since*, agreement with the last sentence about the place), as runs that are lost come back to the same places. The text
alone tells that too, and no row here reads it: what effects add to uncertainty is not what they add to uncertainty and
text.

The size of the trees was chosen on runs of another world. Chances that are right would have the calibration error of
the last column by chance alone. Ranks within a run are of runs with a wrong sentence, whose first one is sought; of
ties each counts for its share.
"""


if __name__ == "__main__":
    main()
