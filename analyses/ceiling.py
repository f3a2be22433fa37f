"""How much of a failure could be known, and when: the AUC by sentence of judges who know the scene.

    python -m analyses.ceiling      # minutes; writes reports/ceiling.md and its picture

The model is asked about fresh scenes of held-out digits and sampled at temperature 1. No detector is
fitted on anything that a monitor sees: this is what there is to be found.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import trajkit as tk
from analyses.common import command_of, table_of, write
from analyses.pictures import interval, panels, save
from pipelines.demo.rollouts import Rollout, roll_out
from trajkit.attribution.collect import batched
from trajkit.attribution.item import Item
from trajkit.demo import paths
from trajkit.demo.evaluation import said
from trajkit.demo.items import CLEAN, demo_items, judge_by_scene
from trajkit.demo.knowing import KNOWN, known_frame
from trajkit.demo.questions import FAMILIES
from trajkit.plots.style import OUTCOME_COLOURS
from trajkit.progress import progress
from trajkit.stats.resampling import numbered, wilson
from trajkit.tables import Estimate, words
from trajkit.tables.render import markdown
from trajkit.traces.trace import Step, Trace
from trajkit.vlm.model import VLM
from trajkit.vlm.sentences import split_steps

STEPS = (1, 2, 4, 6, 8, 12, 16, 20)
ASKED = {4: 0.70, 8: 0.80}
JUDGES = {
    "scene alone": "knows how hard the picture is and the form of the question, and sees no sentence",
    "off course": "knows whether going on without a mistake would now end wrong",
    "sentences": "knows both, how many cells stand misread, were put right and how often the run lost its way",
    "cause": "knows whether the sentence that will turn out to be the cause of failure has been said",
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=paths.MODEL, help="by default the demo's")
    parser.add_argument("--runs", type=int, default=1500, help="one a scene")
    parser.add_argument("--clean", type=int, default=500, help="greedy runs about clean pictures")
    parser.add_argument("--seed", type=int, default=11, help="of the scenes")
    parser.add_argument("--boot", type=int, default=500, help="bootstrap draws of scenes")
    parser.add_argument("--out", type=Path, default=Path("reports/ceiling.md"))
    args = parser.parse_args(argv)
    vlm = tk.load_vlm(args.model)
    with progress("asking", total=args.runs + args.clean) as bar:
        frame = known_frame(
            list(judged_runs(vlm, demo_items("validation", args.runs, args.seed), bar.advance, args.seed))
        )
        clean = demo_items("validation", args.clean, args.seed + 1, CLEAN)
        greedy = known_frame(list(judged_runs(vlm, clean, bar.advance, None)))
    report(args.out, command_of("ceiling", parser, args), frame, greedy, args.boot)


def report(out: Path, command: str, frame: pd.DataFrame, greedy: pd.DataFrame, n_boot: int) -> None:
    """Write the page of sampled runs and of greedy ones about clean pictures, each as by `known_frame`.

    command: what makes the page again.
    """
    rows = [row for step in STEPS if (row := _at(frame, step, n_boot))]
    within = [row for step in STEPS if (row := _at(frame, step, n_boot, within="kind"))]
    by_family = [
        {"family": family} | row
        for family in FAMILIES
        for step in ASKED
        if (row := _at(frame[frame["task_set"] == family], step, n_boot))
    ]
    runs = frame.groupby("transcript_id").last()
    text = (
        f"# What could be known\n\nRegenerate: `{command}`. {words.count(len(runs), 'run')}, "
        f"{runs['failure'].mean():.1%} of them failing. AUC of failure among the runs that have come to a sentence, "
        "with 95 % intervals that resample scenes.\n\n"
        + "\n".join(f"- *{name}*: {text}." for name, text in JUDGES.items())
    )
    reading = "\n\n".join(
        (
            "Within form, over pairs of a failing and another run about questions of one form, judged by one fit:\n\n"
            + markdown(table_of(within, _FORMATS)),
            "Greedy answers about clean pictures:\n\n" + markdown(table_of(_accuracy(greedy), {"right": words.figure})),
            "By family:\n\n" + markdown(table_of(by_family, _FORMATS)),
            "Runs by family and form:\n\n" + markdown(table_of(_runs(runs), {"failing": words.figure})),
            "Where failures begin, as the share of failing runs whose cause was said by a sentence:\n\n"
            + markdown(table_of(_causes(frame), dict.fromkeys(map(str, STEPS), words.share))),
            _asked(rows),
        )
    )
    write(out, text, table_of(rows, _FORMATS), reading, save(_picture(rows), out))


def judged_runs(vlm: VLM, items: Iterable[Item], advance: Callable[[str], None], seed: int | None) -> Iterator[Trace]:
    """One judged run of each item, at temperature 1 or greedy where seed is None, and what it said."""
    longest = vlm.model.generation_config.max_new_tokens
    for number, batch in enumerate(batched(items, 128)):
        for (run,) in roll_out(vlm, batch, 1, longest, None if seed is None else 1000 * seed + number):
            item, spans, texts = run.item, *split_steps(run.tokens, vlm)[:2]
            judged = judge_by_scene(item, *said(vlm, run.tokens))
            yield Trace(
                item.id,
                vlm.name,
                item.question,
                tuple(
                    Step(text, span.kind, span.start, span.end, *_means(run, span.start, span.end))
                    for span, text in zip(spans, texts, strict=True)
                ),
                np.zeros((len(spans), 0), np.float32),
                None,
                np.zeros((1, 1), np.uint8),
                item.group_id,
                task_set=item.task_set,
                success=judged.success,
                outcome=judged.outcome,
                meta={**item.meta, **judged.facts},
            )
            advance(item.task_set)


def _means(run: Rollout, start: int, end: int) -> tuple[float, float]:
    return float(run.logprob[start:end].mean()), float(run.entropy[start:end].mean())


_FORMATS: dict[str, Any] = dict.fromkeys(JUDGES, words.auc)


def _at(frame: pd.DataFrame, step: int, n_boot: int, within: str | None = None) -> dict[str, Any]:
    """A row of the table: AUCs among the runs that have come to a step, over pairs that are alike in the column
    `within`; nothing where runs are fewer than 20, fewer than 5 of them fail or succeed, or there is no such pair."""
    here = frame[frame["step"] == step].reset_index(drop=True)
    y, groups = here["failure"].to_numpy(bool), here["group_id"].to_numpy()
    if len(here) < 20 or min(y.sum(), (~y).sum()) < 5:
        return {}
    fold = _folds(groups)
    strata = None if within is None else numbered(here[within], fold)  # models of different folds differ in base rates
    if strata is not None and here.groupby(strata)["failure"].nunique().max() < 2:
        return {}
    scores = {
        "scene alone": _fitted(here, ["difficulty"], fold),
        "off course": here["off_course"].to_numpy(float),
        "sentences": _fitted(here, ["difficulty", *KNOWN], fold),
        "cause": here["cause_past"].to_numpy(float),
    }
    found = {name: tk.stats.auc(y, score, groups, within=strata, n_boot=n_boot) for name, score in scores.items()}
    return {"sentence": step, "runs": len(here), "failing": int(y.sum())} | {
        name: Estimate(auc.value, auc.low, auc.high) for name, auc in found.items()
    }


def _folds(groups: NDArray[np.str_]) -> NDArray[np.int64]:
    """(n,) of ten folds that divide scenes."""
    from sklearn.model_selection import GroupKFold

    fold = np.zeros(len(groups), np.int64)
    folds = GroupKFold(n_splits=min(10, len(np.unique(groups))), shuffle=True, random_state=0)
    for number, (_, test) in enumerate(folds.split(groups, groups=groups)):
        fold[test] = number
    return fold


def _fitted(here: pd.DataFrame, columns: list[str], fold: NDArray[np.int64]) -> NDArray[np.float64]:
    """Out-of-fold log-odds of a logistic regression on columns and the form of the question."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.column_stack([np.log1p(here[columns].to_numpy(float)), pd.get_dummies(here["kind"]).to_numpy(float)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    y, folds = here["failure"].to_numpy(bool), PredefinedSplit(fold)
    return cross_val_predict(model, x, y, cv=folds, method="decision_function").round(9)


def _runs(runs: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for (family, kind), some in runs.groupby(["task_set", "kind"], sort=False):
        n, wrong = len(some), int(some["failure"].sum())
        lengths = some["step"]
        rows.append(
            {"family": family, "form": kind, "runs": n, "failing": Estimate.of((wrong / n, *wilson(wrong, n)))}
            | {name: int((some["outcome"] == name).sum()) for name in ("hallucination", "reasoning_failure", "unknown")}
            | {
                f"sentences, {end}": f"{part.median():.0f} ({part.quantile(0.1):.0f}–{part.quantile(0.9):.0f})"
                for end, part in (("right", lengths[~some["failure"]]), ("wrong", lengths[some["failure"]]))
                if len(part)
            }
        )
    return rows


def _accuracy(frame: pd.DataFrame) -> list[dict[str, Any]]:
    runs = frame.groupby("transcript_id").last()
    rows = []
    for family in ("all", *FAMILIES):
        some = runs if family == "all" else runs[runs["task_set"] == family]
        n, right = len(some), int((~some["failure"]).sum())
        rows.append({"family": family, "questions": n, "right": Estimate.of((right / n, *wilson(right, n)))})
    return rows


def _causes(frame: pd.DataFrame) -> list[dict[str, Any]]:
    failing = frame[frame["failure"]]
    last = failing.groupby("transcript_id").last()
    first = failing[failing["cause_past"]].groupby("transcript_id")["step"].min().reindex(last.index)
    rows = []
    for outcome in ("hallucination", "reasoning_failure", "unknown", "any"):
        some = first if outcome == "any" else first[last["outcome"] == outcome]
        if len(some):
            rows.append({"outcome": outcome, "runs": len(some)} | {str(s): float((some <= s).mean()) for s in STEPS})
    return rows


def _asked(rows: list[dict[str, Any]]) -> str:
    found = {row["sentence"]: row["sentences"] for row in rows}
    return " ".join(
        f"At sentence {step} {'at least' if found[step].value >= least else 'less than'} the {least:.2f} that a world "
        f"needs in which a monitor can show what it is worth: {words.auc(found[step])}."
        for step, least in ASKED.items()
        if step in found
    )


def _picture(rows: list[dict[str, Any]]) -> Any:
    figure, (ax,) = panels(1, 5.0)
    colours = ("unknown", "reasoning_failure", "success", "hallucination")
    for name, colour in zip(JUDGES, colours, strict=True):
        line = pd.DataFrame([row[name] for row in rows])
        interval(ax, [row["sentence"] for row in rows], line, OUTCOME_COLOURS[colour], name)
    ax.axhline(0.5, color="0.6", lw=0.8)
    ax.set_xticks([row["sentence"] for row in rows])
    ax.set(xlabel="sentences so far", ylabel="AUC of failure", ylim=(0.45, 1))
    ax.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    main()
