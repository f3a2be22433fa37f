"""The sections on telling failure early, and on the monitor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trajkit.judging.promise import check_promise
from trajkit.judging.ranking import ALL
from trajkit.plots import auc_by_step, false_alarms
from trajkit.plots.style import outcome_name
from trajkit.report.collection import Collection
from trajkit.report.panels import Panel, Table, percent, spread
from trajkit.tables.words import count

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.detection.store import Detectors
    from trajkit.judging.evaluation import Evaluation

_NEEDS = "This needs fitted detectors: run `trajkit fit TRACES --out DETECTORS`, then write the report with them."
_DRAWN = (
    "trajectory+concentration", "uncertainty+length", "uncertainty+length+task", "length", "task", "uncertainty",
    "length+task", "tokens so far", "entropy so far", "tortuosity alone", "raw attention",
)  # fmt: skip
"""Methods drawn beside the detectors' own; the rest are in the table below the figure."""

_ABSTENTION = "Abstention: what is answered only when sure enough, and how often those answers are wrong"
_UNKNOWN = "No held-out run has a known outcome, so this cannot be told."
_TOO_FEW = "Too few held-out runs of both outcomes are left at any one step to tell."


def evaluation_of(collection: Collection, detectors: Detectors, seed: int = 0) -> Evaluation | None:
    """What can be said of given detectors on the runs that they have not seen, without fitting anything.

    The AUCs are those of the predictor and of single features that need no fit: tokens so far, entropy so far,
    tortuosity, chance. None where no outcome is known.
    """
    from trajkit.detection.splits import failures
    from trajkit.judging import alarms, ranking
    from trajkit.judging.evaluation import Evaluation

    frame = collection.test
    if frame.empty or np.isnan(failures(frame)).all():
        return None
    scores = {
        detectors.predictor.features: frame["risk"].to_numpy(float),
        "tokens so far": frame["n_tokens"].to_numpy(float),
        "entropy so far": frame["entropy_mean"].to_numpy(float),
    } | ranking.plain_scores(frame, seed)
    return Evaluation(
        **vars(alarms.replay(detectors.monitor, frame, seed=seed)),
        auc_by_step=ranking.auc_by_step(frame, scores, n_boot=300, seed=seed),
        auc_by_fraction=ranking.auc_by_fraction(frame, scores, n_boot=300, seed=seed),
    )


def early_panels(evaluation: Evaluation | None, detectors: Detectors | None) -> list[Panel]:
    """AUC by absolute step, AUC by fraction of the final length, and AUC of the outcome classifier."""
    if evaluation is None:
        return [Panel("auc", "AUC of failure by step", missing=_NEEDS if detectors is None else _UNKNOWN)]
    main = detectors.predictor.features if detectors is not None else ""
    panels = []
    for key, table, title, at, read, caveat in (
        (
            "auc_by_step", evaluation.auc_by_step, "At absolute steps", "step",
            "Among runs still thinking at a step, the chance that a failing one gets a higher risk than a successful "
            "one: 0.5 is guessing, 1 is perfect; the band is a 95 % interval from resampling groups, the bars below "
            "count the runs still at risk and, in orange, those that fail.",
            "Later steps hold fewer and longer runs, another population than the early ones. Only a line above the "
            "baselines (length, task, uncertainty) shows that looking at the trajectory adds something.",
        ),
        (
            "auc_by_fraction", evaluation.auc_by_fraction, "At fractions of the final length: an oracle", "fraction",
            "The same, each run read at a fraction of its own final length, as in the literature.",
            "No monitor could do this: the final length is not known while a run goes on, and knowing it leaks the "
            "outcome. On random walks that differ in length alone, path length has an AUC of "
            "0.80 at a tenth of the final length, and 0.5 at a fixed step.",
        ),
    ):  # fmt: skip
        if not np.isfinite(table["auc"].to_numpy(float)).any():
            panels.append(Panel(key, title, missing=_TOO_FEW))
            continue
        drawn = table[table["method"].isin({*_DRAWN, main})]
        figure = auc_by_step(drawn, main, "step" if at == "step" else "fraction", shown={*_DRAWN, main})
        panels.append(Panel(key, title, read, caveat, figure=figure, details=(_auc_table(table, at),)))
    if evaluation.outcome_auc is not None:
        panels.append(_outcome_panel(evaluation.outcome_auc, evaluation.abstention))
    return panels


def _auc_table(table: pd.DataFrame, at: str) -> Table:
    """Methods down, at most six places across; the last row counts the runs."""
    places = sorted(table[at].unique())
    places = [places[i] for i in np.unique(np.linspace(0, len(places) - 1, min(6, len(places))).round().astype(int))]
    cells = {(row["method"], row[at]): _auc(row) for row in table.to_dict("records")}
    counts = table.groupby(at)[["n_runs", "n_failures"]].max()
    rows = tuple(
        (str(method).replace("+", " + "), *(cells.get((method, place), "–") for place in places))
        for method in table["method"].unique()
    )
    rows += (("runs (failing)", *(f"{counts.n_runs[at]:.0f} ({counts.n_failures[at]:.0f})" for at in places)),)
    return Table((f"AUC [95 %] at {at}", *(f"{place:g}" for place in places)), rows)


def _auc(row: Mapping[Any, Any]) -> str:
    """An AUC with its interval; a dash without one: a bare AUC, of four runs say, is not to be read."""
    return spread(
        row["auc"] if np.isfinite(row["low"]) and np.isfinite(row["high"]) else np.nan, row["low"], row["high"]
    )


def _outcome_panel(table: pd.DataFrame, abstention: pd.DataFrame | None) -> Panel:
    outcomes = [str(name) for name in table["outcome"].unique()]
    rows = []
    for method, part in table.groupby("method", sort=False):
        by = {row["outcome"]: _auc(row) for row in part.to_dict("records")}
        rows.append((str(method).replace("+", " + "), *(by.get(name, "–") for name in outcomes)))
    counts = table.drop_duplicates("outcome").set_index("outcome")["n_runs"]
    rows.append(("runs", *(f"{counts[name]:,}" for name in outcomes)))
    found = [Table(("method", *map(outcome_name, outcomes)), tuple(rows), "AUC, one outcome against the rest [95 %]")]
    if abstention is not None:
        cells = tuple(
            (outcome_name(row["outcome"]), f"{row['n_runs']:,}", percent(row["answered"]), percent(row["error"]))
            for row in abstention.to_dict("records")
        )
        found.append(Table(("outcome", "runs", "answered", "wrong among answered"), cells, _ABSTENTION))
    read = (
        "How well the end of thinking tells outcomes apart on held-out runs; macro is the plain mean of the outcomes."
    )
    return Panel("outcome_auc", "Which outcome it was", read, tables=tuple(found))


def alarm_panels(
    evaluation: Evaluation | None, detectors: Detectors | None, collection: Collection | None = None
) -> list[Panel]:
    """False alarms against the promise, and what alarms caught and saved. collection: the runs, where it is to be said
    that they are of another model than the detectors'."""
    if evaluation is None:
        return [Panel("false_alarms", "False alarms", missing=_NEEDS if detectors is None else _UNKNOWN)]
    rates = evaluation.false_alarms
    if not np.isfinite(rates["rate"].to_numpy(float)).any():
        return [Panel("false_alarms", "False alarms", missing="No held-out run was successful, so none can be false.")]
    notes = [detectors.monitor.message] if detectors is not None and not detectors.monitor.can_alarm else []
    if detectors is not None:
        seen = detectors.seen | (collection.copies if collection is not None else frozenset())
        notes.append(check_promise(evaluation.runs, detectors.monitor, seen).message)
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
            tables=_alarm_tables(evaluation),
        ),
    ]


def _alarm_tables(evaluation: Evaluation) -> tuple[Table, Table]:
    caught = tuple(
        (
            "all failing" if row["outcome"] == ALL else outcome_name(row["outcome"]),
            f"{row['k']} of {row['n']}",
            spread(row["rate"], row["low"], row["high"]),
            "–" if not np.isfinite(row["median_alarm_step"]) else f"{row['median_alarm_step']:g}",
        )
        for row in evaluation.power.to_dict("records")
    )
    saved = tuple(
        (row["runs"], str(row["n"]), spread(row["median"], row["low"], row["high"]), spread(row["mean"], np.nan, 0))
        for row in evaluation.tokens_saved.to_dict("records")
    )
    return (
        Table(("failing runs", "alarmed", "share [95 %]", "median alarm step"), caught),
        Table(("thinking tokens after the alarm", "runs", "median share [95 %]", "mean share"), saved),
    )


def predictor_note(collection: Collection, detectors: Detectors | None) -> str:
    """What a reader must know of the risk shown beside single runs."""
    if detectors is None:
        return "No detectors were given, so no risk is shown."
    notes = [detectors.monitor.message]
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
    """A sentence where some of the runs are of another model than the detectors', else "".

    Weights tell models apart; names only where the weights are not known.
    """
    made_for = str(detectors.card.get("fingerprint", ""))
    fingerprints = set(collection.table.values("fingerprint"))
    known = bool(made_for and fingerprints)
    others = sorted(set(collection.runs["model"]) - {detectors.model})
    if not (fingerprints != {made_for} if known else others and detectors.model):
        return ""
    these = ", ".join(others) or "other weights"
    return f"the detectors were fitted on runs of {detectors.model}, and these come from {these}."
