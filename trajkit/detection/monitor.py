"""The monitor: watches a running generation and raises an alarm, at most on α of the runs it promises to spare."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trajkit.detection.calibration import SPARED_WORD, Calibration, Watches, drawn_runs, run_maxima, spared
from trajkit.detection.copies import one_group, regrouped
from trajkit.detection.drift import WARN_AT, Drift
from trajkit.detection.guarantee import confident_threshold, max_score_threshold, runs_needed, threshold_rank
from trajkit.detection.kinds import judgeable
from trajkit.detection.monitor_run import MonitoredStep as MonitoredStep
from trajkit.detection.monitor_run import MonitorRun as MonitorRun
from trajkit.detection.monitor_run import Verdict as Verdict
from trajkit.detection.score_table import SCORE, score_frame
from trajkit.detection.sources import Sourced, sourced
from trajkit.detection.state import HUGE, read, read_number
from trajkit.errors import EstimatorMismatchError, InputError
from trajkit.fingerprints import ModelId
from trajkit.tables.words import count, metric, promise
from trajkit.traces.forms import task_label

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.detection.early_failure import EarlyFailurePredictor
    from trajkit.runs.source import Source
    from trajkit.runs.table import RunTable

Higher = Literal["worse", "better"]
Number = TypeVar("Number", float, NDArray[np.float64])
_BEYOND = "the monitor is used beyond its calibration: {}. Its promise is untried there."


@dataclass(frozen=True, eq=False)
class Monitor:
    """Scores with a calibrated threshold on their maximum over the run.

    The scores are those of a fitted predictor, or your own (predictor None, `of_scores`).

    Guarantee: of a new run from a new group (image or question) of the same population, P(any alarm | it succeeds) ≤
    alpha. With `delta` None that is over the draw of the calibration runs too; with `delta` it holds for this very
    monitor, with probability ≥ 1 − delta over the draw of the calibration runs. Neither holds for another model, other
    tasks or other generation settings than those it was calibrated on, nor within each group: where many runs of few
    groups are pooled, the share alarmed is another quantity, which may be well above alpha on hard groups.

    watches: `failure`; or `success`, where an alarm says that success is as good as certain, the score is the
    probability of success, and the promise is P(any alarm | it fails) ≤ alpha.
    n: groups it was calibrated on, those whose drawn run is of the kind that is spared. score_min, score_max: range of
    these runs' maxima (NaN when there were none).
    model, fingerprint: name and weights' hash of the model whose runs they were, "" when unknown.
    calibration: what those runs were like; None for a monitor that was saved without it, which then warns of nothing.
    higher: of scores of your own, what a high one means.

    See also: `EarlyFailurePredictor`, `MonitorRun`, `Policy`, `stream`, `judging.false_alarms`.

    >>> print(monitor.message.partition(":")[0])
    Alarms when the risk first exceeds 0.75
    >>> watching = monitor.start()
    >>> for step in steps:  # of a run, as they come
    ...     verdict = watching.update(step)
    >>> verdict.alarmed, round(verdict.max_risk, 2)
    (False, 0.2)
    """

    predictor: EarlyFailurePredictor | None
    threshold: float
    alpha: float
    n: int
    score_min: float
    score_max: float
    model: str = ""
    delta: float | None = None
    fingerprint: str = ""
    watches: Watches = "failure"
    calibration: Calibration | None = None
    higher: Higher = "worse"
    _noticed: set[str] = field(default_factory=set, init=False, repr=False)

    def __post_init__(self) -> None:
        for parameter, value, known in (("watches", self.watches, Watches), ("higher", self.higher, Higher)):
            if value not in get_args(known):
                allowed = " or ".join(map(repr, get_args(known)))
                raise InputError(f"The {parameter!r} parameter of Monitor must be {allowed}. Got {value!r} instead.")

    def __repr__(self) -> str:
        limit = f"alarms above {self.threshold:.3g}" if self.can_alarm else "cannot alarm"
        return f"Monitor(of {self.watches}: {limit}, alpha={self.alpha:g}, {self.n} calibration groups)"

    def _repr_html_(self) -> str:
        from trajkit.notebook.models import monitor_html

        return monitor_html(self)

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
        watches: Watches = "failure",
    ) -> Monitor:
        """Calibrate on `traces` (their feature frame, or what `sourced` took): one run of each group is drawn by
        `seed`, and its maximum counts if it succeeded or, with watches="success", if it failed (`calibration.spared`).

        So give all runs of the calibration groups, the failed ones and those of unknown outcome too, and none of a
        group that the predictor was fitted on. model, fingerprint: for a frame, which knows neither. Raises InputError
        when the traces come from several models, or when columns or group ids are missing, and where no run has what
        the predictor reads; runs that lack it are left out, with a warning. Groups with copies of each
        other's runs are taken as one, with a warning (`copies.one_group`).

        See also: `Monitor.of_scores`, `split_by_group`.

        >>> known = runs.known().frame
        >>> parts = tk.detection.split_by_group(known)
        >>> fitting = parts.rows(known, "fit")
        >>> fitted = tk.EarlyFailurePredictor().fit(fitting, fitting["outcome"] != "success")
        >>> mine = tk.Monitor.calibrate(fitted, parts.rows(known, "calibration"), alpha=0.2)
        >>> mine.n, round(mine.threshold, 2)
        (9, 0.73)
        """
        if not hasattr(predictor, "risks"):
            raise InputError(
                "Monitor.calibrate takes a fitted EarlyFailurePredictor, then traces; got "
                f"{type(predictor).__name__} for the predictor."
                + " Take detectors.predictor."
                * hasattr(predictor, "predictor")
            )
        read = sourced(traces, "Monitor.calibrate")
        name = model if model is not None else read.model
        weights = fingerprint if fingerprint is not None else read.fingerprint
        untold = cls(predictor, math.inf, alpha, 0, math.nan, math.nan, name, delta, weights, watches)
        frame, left_out = judgeable(predictor, regrouped(read.frame, one_group(read.keys)))
        for said in filter(None, (left_out, read.units[1])):
            warnings.warn(said, stacklevel=2)
        return untold._calibrated(run_maxima(frame, untold.scores(frame)), seed, read.regions_of(frame))

    @classmethod
    def of_scores(
        cls,
        frame: pd.DataFrame,
        score: str = "score",
        group: str = "group_id",
        success: str = "success",
        run: str | None = "transcript_id",
        alpha: float = 0.1,
        seed: int = 0,
        delta: float | None = None,
        higher: Higher = "worse",
        watches: Watches = "failure",
    ) -> Monitor:
        """A monitor of scores of your own: a judge's, a probe's, a log-probability. The rule and the promise are those
        of `calibrate`, the threshold is in the score's unit, and `MonitorRun.update_score` takes the scores.

        frame: a row a step, or a row a run with run=None. score … run: names of its columns. group: image or question;
        give all runs of each, of failed and unknown outcome too, and none that the score was fitted on. higher: what a
        high score means. Raises InputError on a column that is missing or does not hold what it should.

        See also: `Monitor.calibrate`, `MonitorRun.update_score`.

        >>> import pandas as pd
        >>> rng = np.random.default_rng(0)
        >>> scored = pd.DataFrame({"run": np.arange(200), "judge": rng.normal(7, 1, 200)})
        >>> scored["success"] = rng.random(200) < 0.7
        >>> mine = tk.Monitor.of_scores(scored, "judge", group="run", run="run", higher="better")
        >>> mine.start().update_score(2.0).alarm  # a judge gives 2 where it gave 7
        True
        """
        rows = score_frame(frame, score, group, success, run)
        untold = cls(None, math.inf, alpha, 0, math.nan, math.nan, delta=delta, watches=watches, higher=higher)
        return untold._calibrated(run_maxima(rows, untold.scores(rows)), seed, None)

    def _calibrated(self, runs: pd.DataFrame, seed: int, regions: tuple[int, int] | None) -> Monitor:
        """This monitor with the threshold that runs (`run_maxima`) give it."""
        drawn = drawn_runs(runs, seed)
        maxima = spared(drawn, self.watches)["max_score"].to_numpy(float)
        low, high = (float(maxima.min()), float(maxima.max())) if len(maxima) else (math.nan, math.nan)
        steps = int(runs["n_steps"].max() if len(runs) else 0)
        seen = Calibration(steps, regions, tuple(sorted(drawn["max_score"])), tuple(np.sort(maxima).tolist()))
        threshold = _threshold(maxima, self.alpha, self.delta)
        return replace(self, threshold=threshold, n=len(maxima), score_min=low, score_max=high, calibration=seen)

    def at(self, alpha: float) -> Monitor:
        """As calibrated with another alpha on the same runs, `delta` the same; where they are too few for it, one that
        cannot alarm.

        The promise of the new alpha holds where it is chosen without a look at the runs that are then judged, nor at
        what thresholds other alphas have: of several that were tried, the one that looked best promises nothing. Raises
        InputError on an alpha outside (0, 1), and for a monitor that was saved without the maxima of its runs.

        >>> stricter = monitor.at(0.05)
        >>> stricter.threshold > monitor.threshold
        True
        """
        seen = self.calibration
        if seen is None or seen.spared is None:
            raise InputError(
                f"this monitor was saved by an older trajkit, with its threshold for alpha = {self.alpha:g} and "
                "without the maxima that another alpha's follows from; fit the detectors again."
            )
        return replace(self, alpha=alpha, threshold=_threshold(seen.spared, alpha, self.delta))

    def scores(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """(n,) the score of each row, the larger the nearer to an alarm: of a feature frame or, for scores of your own,
        of a table that `score_table.score_frame` laid out. Raises InputError on a frame without what it needs, and on
        runs that lack what the predictor reads (`kinds.judgeable`).

        See also: `EarlyFailurePredictor.risks`.

        >>> monitor.scores(frame)[:3].round(2)
        array([0.53, 0.81, 0.7 ])
        """
        if self.predictor is not None:
            _, left_out = judgeable(self.predictor, frame)
            if left_out:
                raise InputError(f"of the runs of this frame {left_out}")
            return np.asarray(self.score_of(self.predictor.risks(frame)))
        if SCORE not in frame:
            raise InputError(f"this monitor watches scores of your own: give a frame with the column {SCORE!r}.")
        return np.asarray(self.score_of(frame[SCORE].to_numpy(float)))

    def score_of(self, said: Number) -> Number:
        """The score of a risk, or of a score of your own: turned where it is a low one that alarms."""
        if self.predictor is not None:
            return said if self.watches == "failure" else 1.0 - said
        return said if (self.higher == "worse") == (self.watches == "failure") else -said

    @property
    def can_alarm(self) -> bool:
        """False when calibration had too few groups whose drawn run counts for the promise asked for."""
        return math.isfinite(self.threshold)

    @property
    def message(self) -> str:
        """One sentence for a person: what the monitor promises, or why it cannot alarm."""
        ended = {"failure": "succeeded", "success": "failed"}[self.watches]
        if not self.can_alarm:
            needed, was = runs_needed(self.alpha, self.delta), "was" if self.n == 1 else "were"
            return (
                f"This monitor cannot alarm: alpha={self.alpha:g} needs at least {count(needed, 'group')} (images or "
                f"questions) whose run drawn for calibration {ended}, and there {was} {self.n}. Collect runs on more "
                "images or questions, or raise alpha."
            )
        sure = "" if self.delta is None else f", with {promise(1 - self.delta)} confidence"
        does, more = "Alarms", "more may be alarmed"
        if self.watches == "success":
            does, more = "Says that it is enough", "it may be said of more"
        return (
            f"{does} when {self._crossing}: at most {promise(self.alpha)} of {SPARED_WORD[self.watches]} "
            f"runs{sure}, each a new run of a new group (image or question). Calibrated on one run of each group, the "
            f"{self.n} that {ended}. Many runs of few groups, pooled, are another matter: {more} there."
        )

    @property
    def _crossing(self) -> str:
        """`the risk first exceeds 0.61`, in the score's own unit and direction."""
        if self.predictor is not None:
            what = "the risk" if self.watches == "failure" else "the probability of success"
            return f"{what} first exceeds {self.threshold:.2f}"
        limit = self.score_of(self.threshold)
        return f"the score first {'exceeds' if limit == self.threshold else 'falls below'} {metric(limit)}"

    @property
    def about(self) -> dict[str, Any]:
        """What a run that it watched is saved with, JSON-ready; the threshold is null where it cannot alarm."""
        return {"watches": self.watches, "alpha": self.alpha, "threshold": self.threshold if self.can_alarm else None}

    @property
    def made_for(self) -> ModelId:
        """The model whose runs it was calibrated on."""
        return ModelId(self.model, self.fingerprint)

    def check(self, model: str, fingerprint: str = "") -> None:
        """Raises EstimatorMismatchError when the monitor was calibrated on runs of another model, as `ModelId.is_same`
        tells it; InputError when it watches scores of your own, and so no model's steps."""
        if self.predictor is None:
            raise InputError(
                "this monitor watches scores of your own, and cannot judge the steps of a model by itself; call "
                "`monitor.start()` and give each score to `update_score(score)`."
            )
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

        >>> watching = monitor.start()
        >>> watching.verdict.risk  # before the first step
        0.0
        """
        labels = self.predictor.map_.tasks if self.predictor is not None else ()
        if labels and (label := task_label(task_set, form)) not in labels:
            warnings.warn(
                f"these detectors read the task, and were not fitted on {label or 'an unknown one'!r} but on "
                f"{', '.join(labels[:5])}{', …' if len(labels) > 5 else ''}; the promise does not hold there. Name the "
                "family and form of the question (task_set, form), or fit detectors on its kind.",
                stacklevel=2,
            )
        return MonitorRun(self, task_set, form)

    def resume(self, state: Mapping[str, Any]) -> MonitorRun:
        """Go on with a generation that `MonitorRun.to_state` described, by this monitor or a copy of it: with equal
        bits. Raises InputError on a state that is damaged or of another monitor.

        >>> watching = monitor.start()
        >>> state = watching.to_state()  # JSON-ready
        >>> again = monitor.resume(state)
        >>> again.verdict == watching.verdict
        True
        """
        return MonitorRun.from_state(state, self)

    def watchdog(self, threshold: float = WARN_AT, seed: int = 0, acted: bool = False) -> Drift:
        """Tells whether the scores drift away from those of the calibration (`Drift`): give it `Verdict.max_risk` of
        each run that has ended, one a group, in the order in which they began.

        acted: whether runs end at their alarm, as by a policy, or are begun anew. What they would have come to is then
        not known, and all maxima above the monitor's threshold count as equal; give an alarmed run too. Where thinking
        is ended before an alarm, as by `Policy.enough`, drift cannot be told. Raises InputError where the monitor was
        saved without the maxima of its calibration.

        See also: `Drift`.

        >>> drift = monitor.watchdog()
        >>> for run_max in watched.drop_duplicates("group_id")["max_risk"]:
        ...     state = drift.update(run_max)
        >>> print(state.message)
        No drift of the scores is told over 66 runs (p = 0.529, at any time).
        """
        if self.calibration is None:
            raise InputError(
                "this monitor was saved by an older trajkit and does not know the maxima of its calibration; fit the "
                "detectors again."
            )
        cap = math.nextafter(self.threshold, math.inf) if acted else math.inf
        return Drift(self.calibration.maxima, threshold, seed, cap)

    def notice(self, step: int, n_regions: int | None = None) -> None:
        """Warn, once each in the life of this monitor, of a run longer than any of the calibration, and of one with
        fewer or more image regions. step: how many it has; n_regions: None where there are none."""
        if self.calibration is None:
            return
        for of, said in self.beyond(step, n_regions).items():
            if of not in self._noticed:
                self._noticed.add(of)
                warnings.warn(said, stacklevel=3)

    def beyond(self, steps: int, n_regions: int | None = None) -> dict[str, str]:
        """How a run is unlike all of the calibration, so that the promise is untried for it: a sentence under `steps`
        or `regions`; nothing where it is not, or the monitor was saved without what its calibration was like.

        steps: of its thinking. n_regions: of the image, None where there are none.

        >>> monitor.beyond(steps=5), list(monitor.beyond(steps=500))  # no run of the calibration was so long
        ({}, ['steps'])
        """
        seen, found = self.calibration, dict[str, str]()
        if seen is None:
            return found
        if steps > seen.steps:
            found["steps"] = f"a run is at step {steps}, and the longest of the calibration had {seen.steps}"
        if n_regions and seen.regions is not None and not seen.regions[0] <= n_regions <= seen.regions[1]:
            few, many = seen.regions
            had = f"{few}" if few == many else f"{few} to {many}"
            found["regions"] = f"a run has {n_regions} image regions, and those of the calibration had {had}"
        return {of: _BEYOND.format(what) for of, what in found.items()}

    def save(self, folder: str | Path) -> Path:
        """Write `folder`/monitor.json, the predictor with it, and return its path. `load` reads it.

        See also: `Monitor.load`.

        >>> monitor.save(folder / "monitor").name
        'monitor.json'
        >>> tk.Monitor.load(folder / "monitor").threshold == monitor.threshold
        True
        """
        from trajkit.detection.store import save_monitor

        return save_monitor(folder, self)

    @classmethod
    def load(cls, folder: str | Path) -> Monitor:
        """What `save` wrote. Raises InputError where it is missing, damaged or changed.

        See also: `Monitor.save`, `load_detectors`.

        >>> saved = monitor.save(folder / "mine")
        >>> tk.Monitor.load(folder / "mine").alpha
        0.1
        """
        from trajkit.detection.store import load_monitor

        return load_monitor(folder)

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
            "watches": self.watches,
            "higher": self.higher,
            "calibration": None if self.calibration is None else self.calibration.to_state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], predictor: EarlyFailurePredictor | None) -> Monitor:
        """The monitor that `to_state` described; of a state older than `watches`, one that watches failure and knows
        nothing of its calibration. Raises InputError on a part that is missing or out of its range."""
        state = {"watches": "failure", "higher": "worse", "calibration": None} | dict(state)
        n = int(read(state, "n", int))
        if n < 0:
            raise InputError(f"a saved monitor must hold 'n' ≥ 0; found {n}. Fit the detectors again.")
        least, most = (0.0, 1.0) if predictor is not None else (-HUGE, HUGE)
        threshold = read_number(state, "threshold", least, most, null=math.inf)
        low, high = (read_number(state, f"score_{end}", least, most, null=math.nan) for end in ("min", "max"))
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
        seen = (
            None
            if read(state, "calibration", (dict, type(None))) is None
            else Calibration.from_state(state["calibration"])
        )
        if seen is not None and seen.spared is not None and len(seen.spared) != n:
            raise InputError(
                f"a saved monitor must hold as many 'spared' maxima as its n = {n}; found {len(seen.spared)}. Fit the "
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
            watches=read(state, "watches", str),
            calibration=seen,
            higher=read(state, "higher", str),
        )


def _threshold(maxima: ArrayLike, alpha: float, delta: float | None) -> float:
    """By either rule of `guarantee`."""
    return max_score_threshold(maxima, alpha) if delta is None else confident_threshold(maxima, alpha, delta)
