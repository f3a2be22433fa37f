"""Why an outcome was given to a run: which features moved it away from the average run, in words."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trajkit.detection.design import Rows
from trajkit.detection.outcome import OutcomeClassifier
from trajkit.detection.prefix_model import PrefixModel
from trajkit.tables.words import count, metric, share

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Reason:
    """feature: a prefix feature, `step` or `task`. value: what it is in this run, usual: its mean over training runs
    at that step (NaN for step and task). moved: what it adds to the log-odds of the class given, beside the average
    training run; positive speaks for the class. words: the same as a sentence without its full stop.

    See also: `explain`.

    >>> reason = tk.detection.explain(detectors.outcome, runs.last[:1])[0][0]
    >>> reason.feature, round(reason.value, 2), round(reason.usual, 2)
    ('mean_step', 4.63, 5.76)
    """

    feature: str
    value: float
    usual: float
    moved: float
    words: str


def contributions(model: PrefixModel, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """For each feature, (n, C) what it adds to the log-odds of each class, of `model` fitted.

    Every class's log-odds against the mean of all classes; the columns that a feature has in the design (itself, times
    s and s², times the task, its being missing) are added up, less what they are in the average training row. With the
    log-odds of that row they add up to those of `frame`.
    """
    rows = Rows.of_frame(frame, model.map_.sets)
    design = model.map_.matrix(rows) - model.centre_
    coef = model.coef_ if len(model.classes_) > 2 else np.concatenate([-model.coef_, model.coef_]) / 2
    coef = coef - coef.mean(0)
    owners = np.array(model.map_.owners())
    return {name: design[:, owners == name] @ coef[:, owners == name].T for name in dict.fromkeys(owners.tolist())}


def explain(classifier: OutcomeClassifier, frame: pd.DataFrame, most: int = 3) -> list[list[Reason]]:
    """The `most` features that spoke most for the likeliest class of each row of `frame`, the strongest first.

    frame: a run a row, as by `runs.table.last_steps`. Only features that speak for the class are named; there may be
    none.

    See also: `OutcomeClassifier`, `Reason`.

    >>> some = runs.last[:1]
    >>> detectors.outcome.classes_.tolist(), detectors.outcome.predict_proba(some)[0].round(2)
    (['hallucination', 'reasoning_failure', 'success'], array([0.52, 0.43, 0.05]))
    >>> for reason in tk.detection.explain(detectors.outcome, some)[0]:
    ...     print(reason.words)
    mean move between steps 4.63, below the usual 5.76
    the run has 93 steps
    spread of concentration 0.293, below the usual 0.309
    """
    parts = contributions(classifier, frame)
    best = classifier.predict_proba(frame).argmax(1)
    records = frame.to_dict("records")
    usual = classifier.map_.usual(frame["step"].to_numpy(float))
    found = []
    for i, record in enumerate(records):
        moved = {name: float(part[i, best[i]]) for name, part in parts.items()}
        strongest = sorted(moved, key=moved.__getitem__, reverse=True)[:most]
        found.append([_reason(name, record, usual.get(name), i, moved[name]) for name in strongest if moved[name] > 0])
    return found


def _reason(name: str, record: Mapping[Hashable, Any], usual: np.ndarray | None, i: int, moved: float) -> Reason:
    value = record.get(name, math.nan)
    number = float(value) if isinstance(value, int | float | np.number) else math.nan
    typical = math.nan if usual is None else float(usual[i])
    step = int(record["step"])
    task_set, form = (str(record.get(column, "")) for column in ("task_set", "form"))
    return Reason(name, number, typical, moved, words(name, number, typical, step, task_set, form))


def words(name: str, value: float, usual: float, step: int, task_set: str = "", form: str = "") -> str:
    """A feature's value as a sentence, beside what is usual at that step."""
    if name == "task":
        named = [f"the {what} {value!r}" for what, value in (("family", task_set), ("form", form)) if value]
        return f"it is a question of {' and '.join(named)}" if named else "its questions are of no named family"
    if name == "step":
        return f"the run has {count(step, 'step')}"
    if math.isnan(value):
        return f"{_NAMES.get(name, name)} is not defined in this run"
    if name == "switch_rate":
        moves = step - 1
        kept = round((1 - value) * moves)
        return f"top region kept at {kept} of {count(moves, 'move')} (usual: {share(1 - usual)})"
    here, there = metric(value), metric(usual)
    how = "as usual" if here == there else f"{'above' if value > usual else 'below'} the usual {there}"
    return f"{_NAMES.get(name, name)} {here}, {how}"


_NAMES = {
    "n_tokens": "tokens so far",
    "path_length": "path length",
    "net_displacement": "distance from the first step",
    "tortuosity": "tortuosity",
    "straightness": "straightness",
    "mean_step": "mean move between steps",
    "concentration": "concentration of the last step",
    "concentration_mean": "level of concentration",
    "concentration_slope": "trend of concentration",
    "concentration_sd": "spread of concentration",
    "logprob_mean": "mean log-probability of tokens",
    "entropy_mean": "mean entropy of tokens",
    "logprob_low": "lowest log-probability of a step",
    "entropy_high": "highest entropy of a step",
}
