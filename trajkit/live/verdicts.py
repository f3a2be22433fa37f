"""What detectors say of saved runs: of one after each of its steps, and of many in a word."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trajkit.tables.names import outcome_name
from trajkit.tables.words import apart, sentence

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.detection.store import Detectors
    from trajkit.runs.table import RunTable
    from trajkit.traces.trace import Trace


class Highest(NamedTuple):
    """risk: the largest of a run. alarm: the step that alarmed. None where there is none."""

    risk: float | None = None
    alarm: int | None = None


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What is said of one run. risks: (T,) after each of its steps, NaN where nothing is said. alarm: the step that
    raises it. threshold: +inf where it is not known. watches: "failure" or "success", None where nothing does. reading:
    what the outcome classifier makes of it. seen: whether the detectors were made from runs of its group; None without
    detectors. note: why nothing is said, or how the run is unlike those of the calibration, or ""."""

    risks: NDArray[np.float64]
    alarm: int | None = None
    threshold: float = math.inf
    watches: str | None = None
    reading: str = ""
    seen: bool | None = None
    note: str = ""

    @property
    def highest(self) -> Highest:
        known = self.risks[~np.isnan(self.risks)]
        return Highest(float(known.max()) if len(known) else None, self.alarm)


def why_alarmed(watches: str | None, risk: float, threshold: float) -> str:
    """In words. watches: what the monitor watches for, whose probability `risk` is."""
    what = "probability of success" if watches == "success" else "risk"
    value, limit = apart(risk, threshold)
    return f"{what} {value} is above {limit}"


def verdicts_saved(trace: Trace) -> Verdicts:
    """Those of the monitor that watched the run, as it was saved."""
    risks = np.array([math.nan if step.risk is None else step.risk for step in trace.steps], float)
    alarm = next((at for at, step in enumerate(trace.steps) if step.alarm), None)
    if np.isnan(risks).all():
        return Verdicts(risks, alarm)
    threshold, watches = trace.watched or (None, "failure")
    return Verdicts(risks, alarm, math.inf if threshold is None else threshold, watches)


def verdicts_of(trace: Trace, rows: pd.DataFrame, detectors: Detectors, seen: bool | None) -> Verdicts:
    """Those of detectors. rows: of the run, a row for each thinking step with a column `risk`, NaN where the run lacks
    what they read."""
    from trajkit.detection.alarm import alarm_rows
    from trajkit.detection.kinds import why_not

    monitor, thinking = detectors.monitor, np.flatnonzero(trace.thinking)
    risks = np.full(trace.n_steps, math.nan)
    if rows.empty:
        return Verdicts(risks, threshold=monitor.threshold, watches=monitor.watches, seen=seen)
    if rows["risk"].isna().all():
        return Verdicts(risks, seen=seen, note=f"No risk is shown: {why_not(detectors.predictor, rows)}")
    risks[thinking] = rows["risk"].to_numpy(float)
    at = int(alarm_rows(risks[thinking], monitor.threshold)[0])
    alarm = None if at < 0 else int(thinking[at])
    beyond = " ".join(map(sentence, monitor.beyond(len(thinking), trace.n_regions).values()))
    return Verdicts(risks, alarm, monitor.threshold, monitor.watches, _reading(rows, detectors), seen, beyond)


def highest_of(frame: pd.DataFrame, threshold: float) -> dict[str, Highest]:
    """transcript_id → the largest risk and the alarm of each run of a frame as `RunTable.frame`, with a column `risk`.
    The alarm is the number of a thinking step, from 0."""
    from trajkit.detection.alarm import alarm_rows

    if frame.empty:
        return {}
    risks = frame["risk"].to_numpy(float)
    starts = np.flatnonzero(frame["step"].to_numpy(int) == 1)
    alarms = alarm_rows(risks, threshold, starts)
    largest = np.fmax.reduceat(risks, starts)
    ids = frame["transcript_id"].to_numpy(object)[starts]
    return {
        name: Highest(None if math.isnan(risk) else float(risk), None if row < 0 else int(row - start))
        for name, risk, row, start in zip(ids, largest, alarms, starts, strict=True)
    }


class Judge:
    """Detectors that are asked about runs, those of their own model."""

    def __init__(self, detectors: Detectors) -> None:
        self._detectors = detectors

    def fits(self, model: str, fingerprint: str) -> bool:
        """Whether they were fitted on runs of this model."""
        from trajkit.fingerprints import ModelId

        return not any(self._detectors.made_for) or not self._detectors.others([ModelId(model, fingerprint)])

    def highest(self, table: RunTable) -> Mapping[str, Highest]:
        """Of each run of their model that has what they read."""
        return highest_of(self._of_own(table), self._detectors.monitor.threshold)

    def risks(self, table: RunTable) -> Mapping[str, NDArray[np.float64]]:
        """(T,) after each thinking step of each run of their model that has any, NaN where it lacks what they read."""
        frame = self._of_own(table)
        if frame.empty:
            return {}
        starts = np.flatnonzero(frame["step"].to_numpy(int) == 1)
        parts = np.split(frame["risk"].to_numpy(float), starts[1:])
        return dict(zip(frame["transcript_id"].to_numpy(object)[starts].tolist(), parts, strict=True))

    def _of_own(self, table: RunTable) -> pd.DataFrame:
        """The frame of the runs that are of their model, with risks."""
        models = [*zip(table.rows["model"].to_pylist(), table.rows["fingerprint"].to_pylist(), strict=True)]
        fits = {model: self.fits(*model) for model in set(models)}
        return self._risky(table.only(np.array([fits[model] for model in models], bool)).frame)

    def verdicts(self, trace: Trace) -> Verdicts:
        """Of one run."""
        from trajkit.detection.copies import keyed
        from trajkit.runs.kernel import Wanted
        from trajkit.runs.table import run_table

        if not self.fits(trace.model, str(trace.meta.get("fingerprint") or "")):
            note = f"The detectors are of {self._detectors.model}, and this run is not, so no risk is shown."
            return Verdicts(np.full(trace.n_steps, math.nan), note=note)
        table = run_table([trace], Wanted(metrics=False, keys=True))
        seen = bool(self._detectors.known(keyed(table)).all)
        found = verdicts_of(trace, self._risky(table.frame), self._detectors, seen)
        unlike = self._detectors.unlike(table) if not np.isnan(found.risks).all() else ""
        return replace(found, note=" ".join(filter(None, (found.note, unlike))))

    def _risky(self, frame: pd.DataFrame) -> pd.DataFrame:
        from trajkit.detection.kinds import known_risks

        return frame.assign(risk=known_risks(self._detectors.predictor, frame)) if len(frame) else frame


def _reading(rows: pd.DataFrame, detectors: Detectors) -> str:
    """What the outcome classifier makes of a run after its last thinking step, and which features speak for it."""
    from trajkit.detection.explanation import explain
    from trajkit.detection.outcome import ABSTAIN

    classifier, last = detectors.outcome, rows.tail(1)
    if classifier is None:
        return ""
    proba = classifier.predict_proba(last)
    order = np.argsort(-proba[0])
    shares = ", ".join(f"{outcome_name(str(classifier.classes_[i]))} {100 * proba[0, i]:.0f} %" for i in order)
    unsure = ", so it abstains" * (classifier.decide(proba)[0] == ABSTAIN)
    reasons = "; ".join(reason.words for reason in explain(classifier, last)[0]) or "no feature by itself"
    likeliest = outcome_name(str(classifier.classes_[order[0]]))
    return (
        f"The outcome classifier, from features after the last thought: {shares}{unsure}. For {likeliest}: {reasons}."
    )
