"""The monitor: watches a running generation and raises an alarm, at most on α of the successful runs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from trajkit.detection.alarm import exceeds
from trajkit.detection.copies import one_group, regrouped
from trajkit.detection.guarantee import confident_threshold, max_score_threshold, runs_needed, threshold_rank
from trajkit.detection.sources import Sourced, require_runs, sourced
from trajkit.detection.state import read, read_number
from trajkit.errors import EstimatorMismatchError, InputError
from trajkit.fingerprints import ModelId
from trajkit.tables.words import count, promise
from trajkit.traces.forms import task_label

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.detection.early_failure import EarlyFailurePredictor
    from trajkit.runs.source import Source
    from trajkit.runs.table import RunTable


class MonitoredStep(Protocol):
    """What a MonitorRun reads of a step; `LiveStep` and anything alike will do. effects: (K,) nats."""

    @property
    def effects(self) -> NDArray[Any]: ...
    @property
    def logprob(self) -> float: ...
    @property
    def entropy(self) -> float: ...
    @property
    def n_tokens(self) -> int: ...
    @property
    def kind(self) -> Literal["thinking", "answer"]: ...


@dataclass(frozen=True)
class Verdict:
    """The monitor's word after one step.

    step: thinking steps seen so far. risk: probability of failure now; max_risk: its largest so far; both 0 before the
    first thinking step. alarm: True on the one step where max_risk first exceeds the threshold.
    """

    step: int
    risk: float
    max_risk: float
    threshold: float
    alarm: bool

    @property
    def alarmed(self) -> bool:
        """Whether the alarm has been raised, on this step or before."""
        return exceeds(self.max_risk, self.threshold)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: an infinite threshold is null."""
        return {
            "step": self.step,
            "risk": self.risk,
            "max_risk": self.max_risk,
            "threshold": None if math.isinf(self.threshold) else self.threshold,
            "alarm": self.alarm,
            "alarmed": self.alarmed,
        }


class MonitorRun:
    """One generation under watch. Made by `Monitor.start`; not shared between generations."""

    def __init__(self, monitor: Monitor, task_set: str = "", form: str = "") -> None:
        from trajkit.trajectory.features import PrefixFeatures

        self._monitor, self._task = monitor, (task_set, form)
        self._prefix = PrefixFeatures()
        self._n_tokens = 0
        self._last = Verdict(step=0, risk=0.0, max_risk=0.0, threshold=monitor.threshold, alarm=False)

    @property
    def verdict(self) -> Verdict:
        """The last verdict."""
        return self._last

    def update(self, step: MonitoredStep) -> Verdict:
        """The verdict after `step`. An answer step changes nothing: the last verdict, without a new alarm.

        Raises InputError when the effects are not a finite (K,) vector.
        """
        if step.kind == "answer":
            self._last = replace(self._last, alarm=False)
            return self._last
        effects = np.asarray(step.effects, dtype=float)
        finite = math.isfinite(np.add.reduce(effects, axis=None)) or np.isfinite(effects).all()  # the sum may overflow
        if effects.ndim != 1 or not finite:
            raise InputError(f"a monitored step needs finite effects of shape (K,); got shape {effects.shape}.")
        self._n_tokens += step.n_tokens
        row = self._prefix.update(effects, n_tokens=self._n_tokens, logprob=step.logprob, entropy=step.entropy)
        risk = self._monitor.predictor.risk(row, *self._task)
        max_risk = max(self._last.max_risk, risk)
        self._last = Verdict(
            step=self._last.step + 1,
            risk=risk,
            max_risk=max_risk,
            threshold=self._monitor.threshold,
            alarm=exceeds(max_risk, self._monitor.threshold) and not self._last.alarmed,
        )
        return self._last


@dataclass(frozen=True, eq=False)
class Monitor:
    """A fitted predictor with a calibrated threshold on the maximum over the run.

    Guarantee: of a new run from a new group (image or question) of the same population, P(any alarm | it succeeds) ≤
    alpha. With `delta` None that is over the draw of the calibration runs too; with `delta` it holds for this very
    monitor, with probability ≥ 1 − delta over the draw of the calibration runs. Neither holds for another model, other
    tasks or other generation settings than those it was calibrated on, nor within each group: where many runs of few
    groups are pooled, the share alarmed is another quantity, which may be well above alpha on hard groups.

    n: groups it was calibrated on, those whose drawn run succeeded. score_min, score_max: range of these runs' maxima
    (NaN when there were none).
    model, fingerprint: name and weights' hash of the model whose runs they were, "" when unknown.
    """

    predictor: EarlyFailurePredictor
    threshold: float
    alpha: float
    n: int
    score_min: float
    score_max: float
    model: str = ""
    delta: float | None = None
    fingerprint: str = ""

    @classmethod
    def calibrate(
        cls,
        predictor: EarlyFailurePredictor,
        traces: Source | RunTable | pd.DataFrame | Sourced,
        alpha: float = 0.1,
        seed: int = 0,
        delta: float | None = None,
        model: str | None = None,
        fingerprint: str | None = None,
    ) -> Monitor:
        """Calibrate on `traces` (their feature frame, or what `sourced` took): one run of each group is drawn by
        `seed`, and its maximum counts if it succeeded (see `drawn_successes`).

        So give all runs of the calibration groups, the failed ones and those of unknown outcome too, and none of a
        group that the predictor was fitted on. model, fingerprint: for a frame, which knows neither. Raises InputError
        when the traces come from several models, or when columns or group ids are missing. Groups with copies of each
        other's runs are taken as one, with a warning (`copies.one_group`).
        """
        read = sourced(traces, "Monitor.calibrate")
        name = model if model is not None else read.model
        weights = fingerprint if fingerprint is not None else read.fingerprint
        runs = run_maxima(predictor, regrouped(read.frame, one_group(read.keys)))
        maxima = drawn_successes(runs, seed)["max_risk"].to_numpy(float)
        threshold = max_score_threshold(maxima, alpha) if delta is None else confident_threshold(maxima, alpha, delta)
        low, high = (float(maxima.min()), float(maxima.max())) if len(maxima) else (math.nan, math.nan)
        return cls(predictor, threshold, alpha, len(maxima), low, high, name, delta, weights)

    @property
    def can_alarm(self) -> bool:
        """False when calibration had too few groups whose drawn run succeeded for the promise asked for."""
        return math.isfinite(self.threshold)

    @property
    def message(self) -> str:
        """One sentence for a person: what the monitor promises, or why it cannot alarm."""
        if not self.can_alarm:
            needed, was = runs_needed(self.alpha, self.delta), "was" if self.n == 1 else "were"
            return (
                f"This monitor cannot alarm: alpha={self.alpha:g} needs at least {count(needed, 'group')} (images or "
                f"questions) whose run drawn for calibration succeeded, and there {was} {self.n}. Collect runs on more "
                "images or questions, or raise alpha."
            )
        sure = "" if self.delta is None else f", with {promise(1 - self.delta)} confidence"
        return (
            f"Alarms when the risk first exceeds {self.threshold:.2f}: at most {promise(self.alpha)} of successful "
            f"runs{sure}, each a new run of a new group (image or question). Calibrated on one run of each group, the "
            f"{self.n} that succeeded. Many runs of few groups, pooled, are another matter: more may be alarmed there."
        )

    @property
    def made_for(self) -> ModelId:
        """The model whose runs it was calibrated on."""
        return ModelId(self.model, self.fingerprint)

    def check(self, model: str, fingerprint: str = "") -> None:
        """Raises EstimatorMismatchError when the monitor was calibrated on runs of another model.

        As `ModelId.is_same` tells it.
        """
        ours = ModelId(model, fingerprint)
        if not self.made_for.is_same(ours):
            raise EstimatorMismatchError(
                f"this monitor was calibrated on runs of {self.model!r} and is used on {model!r}; its promise does not "
                f"hold there.{self.made_for.difference(ours)} Fit detectors on runs of that model (`trajkit fit`)."
            )

    def start(self, task_set: str = "", form: str = "") -> MonitorRun:
        """Watch a new generation. task_set, form: the question's family and form, "" for unknown.

        Only a predictor with the feature set `task` reads them. The threshold is one for all tasks; a task that the
        predictor was not fitted on, the unknown one too, is judged by what the tasks have in common, is of no promise,
        and warns.
        """
        labels = self.predictor.map_.tasks
        if labels and (label := task_label(task_set, form)) not in labels:
            warnings.warn(
                f"these detectors read the task, and were not fitted on {label or 'an unknown one'!r} but on "
                f"{', '.join(labels[:5])}{', …' if len(labels) > 5 else ''}; the promise does not hold there. Name the "
                "family and form of the question (task_set, form), or fit detectors on its kind.",
                stacklevel=2,
            )
        return MonitorRun(self, task_set, form)

    def to_state(self) -> dict[str, Any]:
        """JSON-ready, without the predictor."""

        def number(value: float) -> float | None:
            return value if math.isfinite(value) else None

        return {
            "threshold": number(self.threshold),
            "alpha": self.alpha,
            "n": self.n,
            "score_min": number(self.score_min),
            "score_max": number(self.score_max),
            "model": self.model,
            "fingerprint": self.fingerprint,
            "delta": self.delta,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], predictor: EarlyFailurePredictor) -> Monitor:
        """The monitor that `to_state` described. Raises InputError on a part that is missing or out of its range."""
        n = int(read(state, "n", int))
        if n < 0:
            raise InputError(f"a saved monitor must hold 'n' ≥ 0; found {n}. Fit the detectors again.")
        threshold = read_number(state, "threshold", 0, 1, null=math.inf)
        low, high = (read_number(state, f"score_{end}", 0, 1, null=math.nan) for end in ("min", "max"))
        alpha = read_number(state, "alpha", 0, 1, open_ends=True)
        delta = None if read(state, "delta", (float, type(None))) is None else state["delta"]
        if delta is not None:
            read_number(state, "delta", 0, 1, open_ends=True)
        finite = math.isfinite(threshold)
        if finite != (threshold_rank(n, alpha, delta) <= n) or (finite and not low <= threshold <= high):
            raise InputError(
                f"a saved monitor must hold a 'threshold' between 'score_min' and 'score_max' where n = {n} groups are "
                f"enough for alpha = {alpha:g}, and none where not; found {threshold:g}, {low:g}, {high:g}. Fit the "
                "detectors again."
            )
        return cls(
            predictor=predictor,
            threshold=threshold,
            alpha=alpha,
            n=n,
            score_min=low,
            score_max=high,
            model=str(read(state, "model", str)),
            fingerprint=str(read(state, "fingerprint", str)),
            delta=delta,
        )


def run_maxima(predictor: EarlyFailurePredictor, frame: pd.DataFrame) -> pd.DataFrame:
    """A row per run, sorted by transcript_id: group_id, failure (1, 0, NaN) and max_risk over its thinking steps.

    Raises InputError where the frame lacks transcript_id or group_id, or a run is of no group or of two.
    """
    import pandas as pd

    from trajkit.detection.splits import failures

    require_runs(frame, "run_maxima")
    rows = pd.DataFrame(
        {
            "transcript_id": frame["transcript_id"].astype(str).to_numpy(),
            "group_id": frame["group_id"].astype(str).to_numpy(),
            "failure": failures(frame),
            "max_risk": predictor.risks(frame),
        }
    )
    kept = {"group_id": "first", "failure": "first", "max_risk": "max"}
    return rows.groupby("transcript_id").agg(kept).reset_index()


def drawn_successes(runs: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Of runs as `run_maxima` gives them, one drawn from each group, where that one succeeded.

    A new run of a new group, given that it succeeds, comes from an easy group more often than from a hard one. So the
    run is drawn first, among all of its group, and kept if it succeeded: drawing among the successes would count a
    group that fails nine times in ten as much as one that never does (tests/detection/test_monitor.py). A drawn run of
    unknown outcome is left out like a failed one; the promise is then for runs whose success is found out.
    """
    shuffled = runs.iloc[np.random.default_rng(seed).permutation(len(runs))]
    drawn = shuffled.drop_duplicates("group_id")
    return drawn[drawn["failure"] == 0]
