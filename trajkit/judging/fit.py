"""From traces to detectors: split by group, fit, calibrate, and evaluate on the runs held out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trajkit.detection.calibration import WATCHES
from trajkit.detection.copies import one_group, regrouped
from trajkit.detection.design import DEFAULT_FEATURES
from trajkit.detection.early_failure import EarlyFailurePredictor
from trajkit.detection.kinds import reduced, told_alike
from trajkit.detection.monitor import Monitor
from trajkit.detection.outcome import OutcomeClassifier
from trajkit.detection.sources import Sourced, sourced
from trajkit.detection.splits import Split, failures, split_by_group
from trajkit.detection.store import Detectors
from trajkit.errors import InputError
from trajkit.judging.alarms import replay
from trajkit.judging.evaluation import Evaluation
from trajkit.judging.ranking import (
    BASELINES,
    TORTUOSITY,
    abstention,
    auc_by_fraction,
    auc_by_step,
    outcome_auc,
    plain_scores,
    select_fractions,
)
from trajkit.judging.risks import matched_auc
from trajkit.runs.table import last_steps
from trajkit.traces.forms import task_labels

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.runs.source import Source
    from trajkit.runs.table import RunTable

COMPARED = (
    *BASELINES,
    "trajectory",
    "concentration",
    "trajectory+concentration",
    "trajectory+concentration+task",
    "uncertainty+length",
    "trajectory+concentration+uncertainty+length",
    "trajectory+concentration+uncertainty+length+task",
)


class FitResult(NamedTuple):
    """Detectors, and how they did on the test part.

    See also: `fit_detectors`, `Evaluation`.

    >>> fitted = tk.judging.fit_detectors(frame, compared=("length",), model=monitor.model, n_boot=50)
    >>> fitted.detectors.card["alpha"], type(fitted.evaluation).__name__
    (0.1, 'Evaluation')
    """

    detectors: Detectors
    evaluation: Evaluation

    def _repr_html_(self) -> str:
        from trajkit.notebook.results import fit_html

        return fit_html(self)


def fit_detectors(
    traces: Source | RunTable | pd.DataFrame,
    alpha: float = 0.1,
    seed: int = 0,
    features: str = DEFAULT_FEATURES,
    compared: Sequence[str] = COMPARED,
    model: str | None = None,
    n_boot: int = 500,
    test_groups: Collection[str] | None = None,
) -> FitResult:
    """Fit on half of the groups, calibrate the monitor on a quarter, evaluate everything on the last quarter.

    traces: their path, themselves, a table of them, or their feature frame (then give `model`, the name they come
    from). features: the set that the shipped predictor and classifier read; compared: the sets evaluated beside it,
    fitted on the same runs. What is about effects, or uncertainty, is left out of them where runs have none
    (`kinds.told_alike`). test_groups: the groups to evaluate on, where they are held out already; the others are
    then dealt two to one. Groups with copies of each other's runs are taken as one, with a warning
    (`copies.one_group`), and held out where any of them is. Raises InputError where there is too little to split, a
    run is of no group, or nothing that `features` names is there.

    See also: `FitResult`, `Detectors`, `save_detectors`.

    >>> fitted = tk.judging.fit_detectors(frame, compared=("length",), model=monitor.model, n_boot=50)
    >>> print(fitted.detectors.monitor.message.partition(":")[0])
    Alarms when the risk first exceeds 0.74
    >>> fitted.evaluation.false_alarms[["unit", "n", "rate"]].round(2)
            unit   n  rate
    0  new group  13   0.1
    1   all runs  51   0.1
    """
    read = sourced(traces, "fit_detectors")
    frame, keys, weights = read.frame, read.keys, read.fingerprint
    name = model if model is not None else read.model
    taken = one_group(keys)
    frame, sets_there, note = told_alike(regrouped(frame, taken))
    if not (shipped := reduced(features, sets_there)):
        raise InputError(f"nothing of the features {features} is known of these runs. {note}")
    features, compared = shipped, [one for name in compared if (one := reduced(name, sets_there))]
    held_out = None if test_groups is None else {taken.get(group, group) for group in test_groups}
    known = frame[~np.isnan(failures(frame))].reset_index(drop=True)
    split = split_by_group(known, seed=seed, test=held_out)
    parts = {part: split.rows(known, part) for part in ("fit", "calibration", "test")}
    fit, test = parts["fit"], parts["test"]

    predictors = {
        sets: EarlyFailurePredictor(sets).fit(fit, failures(fit)) for sets in dict.fromkeys((*compared, features))
    }
    # on all runs, of unknown outcome too: one of each group is drawn before one looks
    calibration = Sourced(split.rows(frame, "calibration"), name, weights, keys=[], regions=read.regions)
    monitor, enough = (
        Monitor.calibrate(predictors[features], calibration, alpha, seed, watches=what) for what in WATCHES
    )
    scores = {sets: predictor.risks(test) for sets, predictor in predictors.items()} | plain_scores(test, seed)
    outcome = _fit_outcome(fit, test, features, compared, n_boot, seed)
    evaluation = Evaluation(
        **vars(replay(monitor, split.rows(frame, "test"), n_boot, seed)),
        split=_split_table(known, split),
        auc_by_step=auc_by_step(test, scores, n_boot=n_boot, seed=seed),
        auc_by_fraction=auc_by_fraction(test, scores, n_boot=n_boot, seed=seed),
        tortuosity_by_task=None
        if TORTUOSITY not in scores
        else matched_auc(
            test,
            {TORTUOSITY: scores[TORTUOSITY]},
            select_fractions(test, (0.3,), "task_set"),
            task_labels(test),
            n_boot,
            seed,
        ),
        outcome_auc=outcome.auc,
        abstention=outcome.abstention,
        note=" ".join(filter(None, (note, read.units[1]))),
    )
    named = {part: sorted(group for group, as_one in taken.items() if as_one in getattr(split, part)) for part in parts}
    made_from = frozenset((*split.fit, *split.calibration))
    seen = frozenset(key for group, own in keys if taken[group] in made_from for key in own)
    card = {
        "model": name,
        "fingerprint": weights,
        "features": features,
        "alpha": alpha,
        "seed": seed,
        "runs": {part: int(rows["transcript_id"].nunique()) for part, rows in parts.items()},
        "groups": {part: len(getattr(split, part)) for part in parts},
        "fit_groups": named["fit"],
        "calibration_groups": named["calibration"],
        "test_groups": named["test"],
        "monitor": monitor.message,
        "enough": enough.message,
        "outcome": outcome.note,
        **read.units[0],
    }
    return FitResult(Detectors(predictors[features], outcome.classifier, monitor, card, seen, enough), evaluation)


class _Outcome(NamedTuple):
    """classifier, and how it did; all None where the fit runs are too few. note: what it does, or why there is none."""

    note: str
    classifier: OutcomeClassifier | None = None
    auc: pd.DataFrame | None = None
    abstention: pd.DataFrame | None = None


def _fit_outcome(
    fit: pd.DataFrame, test: pd.DataFrame, features: str, compared: Sequence[str], n_boot: int, seed: int
) -> _Outcome:
    train, held_out = last_steps(fit), last_steps(test)
    outcomes, groups = held_out["outcome"].to_numpy(str), held_out["group_id"].to_numpy(str)
    try:
        classifier = OutcomeClassifier(features, random_state=seed).fit(train, train["outcome"].to_numpy(str))
    except InputError as error:
        return _Outcome(str(error))
    classes = [str(name) for name in classifier.classes_]
    probabilities = {
        sets: OutcomeClassifier(sets, target_error=None)
        .fit(train, train["outcome"].to_numpy(str))
        .predict_proba(held_out)
        for sets in compared
        if sets != features
    } | {features: classifier.predict_proba(held_out)}
    probabilities["random"] = np.random.default_rng(seed).random((len(held_out), len(classes)))
    return _Outcome(
        f"answers where its top probability is at least {classifier.threshold_:.2f}",
        classifier,
        outcome_auc(outcomes, probabilities, classes, groups, n_boot, seed),
        abstention(outcomes, classifier.predict(held_out)),
    )


def _split_table(frame: pd.DataFrame, split: Split) -> pd.DataFrame:
    """Columns part, groups, runs, and the number of runs of each outcome."""
    import pandas as pd

    table = []
    for part in ("fit", "calibration", "test"):
        runs = split.rows(frame, part).drop_duplicates("transcript_id")
        table.append(
            {"part": part, "groups": len(getattr(split, part)), "runs": len(runs)}
            | dict(runs["outcome"].value_counts())
        )
    return pd.DataFrame(table).fillna(0).astype({"groups": int, "runs": int})
