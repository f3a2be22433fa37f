"""The sections on telling failure early, and on the monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from trajkit.judging import layout
from trajkit.plots import auc_by_step, false_alarms
from trajkit.report.collection import Collection
from trajkit.report.panels import Panel
from trajkit.tables.words import count

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.detection.store import Detectors
    from trajkit.judging.evaluation import Evaluation

_NEEDS = "This needs fitted detectors: run `trajkit fit TRACES --out DETECTORS`, then write the report with them."
_MORE_TOKENS = "more tokens"
_UNFITTED = (
    " Nothing is fitted beside it: more tokens, more entropy and more tortuosity count as riskier, which was set "
    "beforehand and not by these runs. One that is as far below 0.5 as another is above it tells as much, the other "
    "way round."
)
_DRAWN = (
    "trajectory+concentration",
    "uncertainty+length",
    "uncertainty+length+task",
    "length",
    "task",
    "uncertainty",
    "length+task",
    _MORE_TOKENS,
    "entropy so far",
    "tortuosity alone",
    "raw attention",
)
"""Methods drawn beside the detectors' own; the rest are in the table below the figure."""

_ABSTENTION = "Abstention: what is answered only when sure enough, and how often those answers are wrong"
_UNKNOWN = "No held-out run has a known outcome, so this cannot be told."
_MOST = 6
"""Steps, or fractions of the length, that stand side by side."""
_TOO_FEW = "Too few held-out runs of both outcomes are left at any one step to tell."


def evaluation_of(collection: Collection, detectors: Detectors, seed: int = 0) -> Evaluation | None:
    """What can be said of given detectors on the runs that they have not seen, without fitting anything.

    The AUCs are those of the predictor and of single features that need no fit: _MORE_TOKENS, entropy so far,
    tortuosity, chance. More of each counts as riskier, which was set beforehand: turned as suits these very runs, a
    feature that tells nothing would be above 0.5 more often than below. None where no outcome is known.
    """
    from trajkit.detection.splits import failures
    from trajkit.judging import alarms, ranking
    from trajkit.judging.evaluation import Evaluation

    frame = collection.test
    if frame.empty or np.isnan(failures(frame)).all():
        return None
    entropy = frame["entropy_mean"].to_numpy(float)
    scores = {
        detectors.predictor.features: frame["risk"].to_numpy(float),
        _MORE_TOKENS: frame["n_tokens"].to_numpy(float),
    }
    scores |= {"entropy so far": entropy} if np.isfinite(entropy).any() else {}
    scores |= ranking.plain_scores(frame, seed)
    return Evaluation(
        **vars(alarms.replay(detectors.monitor, frame, seed=seed, seen=detectors.seen | collection.copies)),
        auc_by_step=ranking.auc_by_step(frame, scores, n_boot=300, seed=seed),
        auc_by_fraction=ranking.auc_by_fraction(frame, scores, n_boot=300, seed=seed),
    )


def early_panels(
    evaluation: Evaluation | None, detectors: Detectors | None, collection: Collection | None = None
) -> list[Panel]:
    """AUC by absolute step, AUC by fraction of the final length, and AUC of the outcome classifier. collection: the
    runs, where it is to be said that they cannot be judged."""
    if evaluation is None:
        return [Panel("auc", "AUC of failure by step", missing=_why_none(detectors, collection))]
    main = detectors.predictor.features if detectors is not None else ""
    panels = []
    for key, table, title, at, read, caveat in (
        (
            "auc_by_step",
            evaluation.auc_by_step,
            "At absolute steps",
            "step",
            "Among runs still thinking at a step, the chance that a failing one gets a higher risk than a successful "
            "one: 0.5 is guessing, 1 is perfect; the band is a 95 % interval from resampling groups, the bars below "
            "count the runs still at risk and, in orange, those that fail.",
            "Later steps hold fewer and longer runs, another population than the early ones. Only a line above the "
            "baselines (length, task, uncertainty) shows that looking at the trajectory adds something.",
        ),
        (
            "auc_by_fraction",
            evaluation.auc_by_fraction,
            "At fractions of the final length: an oracle",
            "fraction",
            "The same, each run read at a fraction of its own final length, as in the literature.",
            "No monitor could do this: the final length is not known while a run goes on, and knowing it leaks the "
            "outcome. On random walks that differ in length alone, path length has an AUC of "
            "0.80 at a tenth of the final length, and 0.5 at a fixed step.",
        ),
    ):
        if not np.isfinite(table["auc"].to_numpy(float)).any():
            panels.append(Panel(key, title, missing=_TOO_FEW))
            continue
        table = _telling(table)
        if evaluation.split is None:
            caveat += _UNFITTED
        drawn = table[table["method"].isin({*_DRAWN, main})]
        figure = auc_by_step(drawn, main, "step" if at == "step" else "fraction", shown={*_DRAWN, main})
        panels.append(
            Panel(key, title, read, caveat, figure=figure, details={"": layout.areas_across(table, at, _MOST)})
        )
    if evaluation.outcome_auc is not None:
        panels.append(_outcome_panel(evaluation.outcome_auc, evaluation.abstention))
    return panels


def _why_none(detectors: Detectors | None, collection: Collection | None) -> str:
    """Why nothing is said of detectors."""
    if detectors is None:
        return _NEEDS
    if collection is not None and collection.unjudged and collection.test.empty:
        return f"This cannot be told of these runs: {collection.unjudged}"
    return _UNKNOWN


def _telling(table: pd.DataFrame) -> pd.DataFrame:
    """Without methods that say the same of all runs, such as the task where there is one."""
    same = (table["auc"] == 0.5) & table["low"].isna()
    return table[~same.groupby(table["method"]).transform("all")]


def _outcome_panel(areas: pd.DataFrame, abstention: pd.DataFrame | None) -> Panel:
    tables = {"AUC, one outcome against the rest (95 %)": layout.areas_by_outcome(areas)}
    if abstention is not None:
        tables[_ABSTENTION] = layout.answered(abstention)
    read = (
        "How well the end of thinking tells outcomes apart on held-out runs; macro is the plain mean of the outcomes."
    )
    return Panel("outcome_auc", "Which outcome it was", read, tables=tables)


def alarm_panels(
    evaluation: Evaluation | None, detectors: Detectors | None, collection: Collection | None = None
) -> list[Panel]:
    """False alarms against the promise, and what alarms caught and saved. collection: the runs, where it is to be said
    that they are of another model than the detectors'."""
    if evaluation is None:
        return [Panel("false_alarms", "False alarms", missing=_why_none(detectors, collection))]
    rates = evaluation.false_alarms
    if not np.isfinite(rates["rate"].to_numpy(float)).any():
        return [Panel("false_alarms", "False alarms", missing="No held-out run was successful, so none can be false.")]
    notes = [detectors.monitor.message] if detectors is not None and not detectors.monitor.can_alarm else []
    notes.append(evaluation.check.message)
    if evaluation.drift is not None:
        notes.append(evaluation.drift.message)
    if detectors is not None and collection is not None and (other := another_model(collection, detectors)):
        notes.append(f"{other} The promise does not hold there, whatever is found here.")
    return [
        Panel(
            "false_alarms",
            "Realised against promised",
            "Share of successful held-out runs on which the monitor raised an alarm, with 95 % intervals. What is "
            "promised is of a new run of a new group (an image or a question nothing was seen of): “new group”, where "
            "each group counts by the share of its runs that succeed. All successful runs pooled, and those of each "
            "length, are other quantities, which the promise does not bound.",
            "The promise does not hold for each length by itself, nor for another model, other tasks or other sampling "
            "settings. All intervals count how alike the runs of a group are; where too few groups tell, the runs of a "
            "group count as one.",
            " ".join(notes),
            false_alarms(rates, evaluation.false_alarms_by_length),
        ),
        Panel(
            "power",
            "What alarms catch and save",
            "How many failing runs were alarmed, at which step, and the share of thinking tokens that came after.",
            "Tokens saved count a stop at the alarm; what stopping loses on successful runs is in the last row.",
            tables={
                "Failing runs that were alarmed": layout.caught(evaluation.power),
                "Share of thinking tokens that came after the alarm": layout.saved(evaluation.tokens_saved),
            },
        ),
    ]


def predictor_note(collection: Collection, detectors: Detectors | None) -> str:
    """What a reader must know of the risk shown beside single runs."""
    if detectors is None:
        return "No detectors were given, so no risk is shown."
    notes = [detectors.monitor.message]
    if collection.unjudged:
        n = int(collection.frame.loc[collection.frame["risk"].isna(), "transcript_id"].nunique())
        of = int(collection.table.told.sum())
        notes.append(f"Of {n:,} of {count(of, 'run')} no risk is shown: {collection.unjudged}")
    if unlike := detectors.unlike(collection.table):
        notes.append(f"Beware: {unlike[:1].lower()}{unlike[1:]}")
    if other := another_model(collection, detectors):
        notes.append(f"Beware: {other}")
    there, new = frozenset(collection.runs["group_id"]), collection.held_out
    if new == there:
        notes.append("None of these runs is of a group that the detectors were made from, so all count as new to them.")
    elif not new:
        notes.append(
            "All of these runs are of groups that the detectors were made from: how they do here says nothing."
        )
    if collection.copies:
        n = int(collection.runs["group_id"].isin(collection.copies).sum())
        names = ", ".join(sorted(collection.copies)[:3]) + (", …" if len(collection.copies) > 3 else "")
        notes.append(
            f"{count(n, 'run')} {'is' if n == 1 else 'are'} of images and questions that the detectors were made from, "
            f"or copies of those runs, under other group ids ({names}), and not new."
        )
    if detectors.keys is None:
        notes.append(
            "The detectors do not say which images they were made from, so runs of the same images under other group "
            "ids would count as new."
        )
    return " ".join(notes)


def another_model(collection: Collection, detectors: Detectors) -> str:
    """A sentence where some of the runs are of another model than the detectors', else "": also where these do not say
    what they were fitted on."""
    others = detectors.others(collection.table.models)
    if not others or not any(detectors.made_for):
        return ""
    these = ", ".join(sorted({other.name for other in others} - {detectors.model})) or "other weights"
    return f"the detectors were fitted on runs of {detectors.model}, and these come from {these}."
