"""One generation under watch: a verdict after each of its steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from trajkit.detection.alarm import exceeds
from trajkit.detection.design import PATH
from trajkit.detection.kinds import cannot
from trajkit.detection.state import read
from trajkit.errors import InputError
from trajkit.trajectory.features import PrefixFeatures

if TYPE_CHECKING:
    from trajkit.detection.monitor import Monitor


class MonitoredStep(Protocol):
    """What a MonitorRun reads of a step; `LiveStep` and anything alike will do. effects: (K,) nats, (0,)
    where there are none."""

    @property
    def effects(self) -> NDArray[Any]: ...
    @property
    def logprob(self) -> float | None: ...
    @property
    def entropy(self) -> float | None: ...
    @property
    def n_tokens(self) -> int: ...
    @property
    def kind(self) -> Literal["thinking", "answer"]: ...


@dataclass(frozen=True)
class Verdict:
    """The monitor's word after one step.

    step: thinking steps seen so far. risk: the score now, the larger the nearer to an alarm: the probability of
    failure; of a monitor that watches success, that of success; of scores of your own, the score, or where a low one is
    what alarms, the score with its sign turned. max_risk: its largest so far. Before the first thinking step both are
    0, and −inf for scores of your own. alarm: True on the one step where max_risk first exceeds the threshold.

    See also: `MonitorRun`, `Decision`.

    >>> verdict = monitor.start().update(steps[0])
    >>> verdict.step, round(verdict.risk, 2), round(verdict.threshold, 2), verdict.alarm
    (1, 0.19, 0.75, False)
    >>> list(verdict.to_dict())
    ['step', 'risk', 'max_risk', 'threshold', 'alarm', 'alarmed']
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
        """JSON-ready: an infinite threshold is null, and so is a score before the first."""
        numbers = {"risk": self.risk, "max_risk": self.max_risk, "threshold": self.threshold}
        return {
            "step": self.step,
            **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
            "alarm": self.alarm,
            "alarmed": self.alarmed,
        }


class MonitorRun:
    """One generation under watch. Made by `Monitor.start` or `Monitor.resume`; not shared between generations, and
    sharing nothing with others. Its memory is that of two vectors of effects, however long it goes on.

    See also: `Monitor.start`, `Verdict`, `stream`.

    >>> watching = monitor.start()
    >>> [round(watching.update(step).risk, 2) for step in steps[:3]]
    [0.19, 0.17, 0.16]
    >>> watching.verdict.step
    3
    """

    def __init__(self, monitor: Monitor, task_set: str = "", form: str = "") -> None:
        self._monitor, self._task = monitor, (task_set, form)
        self._prefix = PrefixFeatures()
        self._required = () if monitor.predictor is None else monitor.predictor.required
        self._n_tokens = 0
        none = -math.inf if monitor.predictor is None else 0.0
        self._last = Verdict(step=0, risk=none, max_risk=none, threshold=monitor.threshold, alarm=False)

    @property
    def verdict(self) -> Verdict:
        """The last verdict."""
        return self._last

    @property
    def takes_scores(self) -> bool:
        """Whether it is given scores (`update_score`), and not steps (`update`)."""
        return self._monitor.predictor is None

    def update(self, step: MonitoredStep) -> Verdict:
        """The verdict after `step`. An answer step changes nothing: the last verdict, without a new alarm.

        Warns, once a monitor, of a run that is unlike all of the calibration (`Calibration`). Raises InputError when
        the effects are not a finite (K,) vector, the step lacks what the predictor reads, such as effects, or the
        monitor is one of scores of your own (`update_score`).

        See also: `MonitorRun.update_score`.

        >>> monitor.start().update(steps[0]).alarm
        False
        """
        if step.kind == "answer":
            self._last = replace(self._last, alarm=False)
            return self._last
        monitor = self._monitor
        if monitor.predictor is None:
            raise InputError("this monitor watches scores of your own; give it each by `update_score(score)`.")
        effects = np.asarray(step.effects, dtype=float)
        finite = math.isfinite(np.add.reduce(effects, axis=None)) or np.isfinite(effects).all()  # the sum may overflow
        if effects.ndim != 1 or not finite:
            raise InputError(f"a monitored step needs finite effects of shape (K,); got shape {effects.shape}.")
        logprob, entropy = (math.nan if value is None else value for value in (step.logprob, step.entropy))
        told = {PATH: effects.size, "logprob_mean": not math.isnan(logprob), "entropy_mean": not math.isnan(entropy)}
        if missing := [name for name in self._required if not told.get(name, True)]:
            raise InputError(f"this run cannot be judged: {cannot(monitor.predictor, missing)}")
        n_tokens = self._n_tokens + step.n_tokens
        row = self._prefix.update(effects, n_tokens=n_tokens, logprob=logprob, entropy=entropy)
        self._n_tokens = n_tokens
        risk = monitor.predictor.risk(row, *self._task)
        return self._judge(monitor.score_of(risk), len(effects))

    def update_score(self, score: float) -> Verdict:
        """The verdict after a step of that score, of a monitor made by `Monitor.of_scores`.

        Raises InputError on a score that is no finite number, or of a monitor that makes its scores itself (`update`).

        See also: `Monitor.of_scores`.

        >>> import pandas as pd
        >>> scored = pd.DataFrame({"run": np.arange(50), "score": np.arange(50.0), "success": True})
        >>> mine = tk.Monitor.of_scores(scored, group="run", run="run")
        >>> watching = mine.start()
        >>> watching.update_score(20.0).alarm, watching.update_score(49.0).alarm
        (False, True)
        """
        if self._monitor.predictor is not None:
            raise InputError("this monitor works out its scores itself; give it each step by `update(step)`.")
        if isinstance(score, str) or score is None or not math.isfinite(score):
            raise InputError(f"a score must be a finite number; got {score!r}.")
        return self._judge(self._monitor.score_of(float(score)))

    def _judge(self, score: float, n_regions: int | None = None) -> Verdict:
        last, threshold = self._last, self._monitor.threshold
        number, most = last.step + 1, max(last.max_risk, score)
        alarm = exceeds(most, threshold) and not exceeds(last.max_risk, threshold)
        self._last = Verdict(number, score, most, threshold, alarm)
        self._monitor.notice(number, n_regions)
        return self._last

    def to_state(self) -> dict[str, Any]:
        """The run as it stands, JSON-ready; `Monitor.resume` goes on from there with equal bits.

        See also: `Monitor.resume`.

        >>> import json
        >>> watching = monitor.start()
        >>> verdict = watching.update(steps[0])
        >>> monitor.resume(json.loads(json.dumps(watching.to_state()))).verdict == verdict
        True
        """
        last = self._last
        return {
            "task": list(self._task),
            "prefix": self._prefix.to_state(),
            "n_tokens": int(self._n_tokens),
            **{name: _written(value) for name, value in vars(last).items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], monitor: Monitor) -> MonitorRun:
        """The run that `to_state` described. Raises InputError on a part that is missing or of another monitor."""
        if not isinstance(state, Mapping) or "task" not in state:
            raise InputError(
                "a saved run must be what `MonitorRun.to_state` gave, read back from JSON where it was written."
            )
        task = read(state, "task", list)
        if len(task) != 2 or not all(isinstance(name, str) for name in task):
            raise InputError(f"a saved run must hold 'task' as family and form; found {task!r}.")
        run = cls(monitor, *task)
        run._prefix = PrefixFeatures.from_state(read(state, "prefix", dict))
        run._n_tokens = int(read(state, "n_tokens", int))
        risk, most, threshold = (_number(state, name) for name in ("risk", "max_risk", "threshold"))
        run._last = Verdict(int(read(state, "step", int)), risk, most, threshold, bool(read(state, "alarm", bool)))
        if threshold != monitor.threshold:
            raise InputError(
                f"this run was watched by a monitor of threshold {threshold:g}, and this one has "
                f"{monitor.threshold:g}; resume it with the monitor that it was begun with."
            )
        return run


def _written(value: float) -> float | str:
    """JSON knows no infinity: as a text, which float() reads."""
    return value if math.isfinite(value) else str(value)


def _number(state: Mapping[str, Any], key: str) -> float:
    """What `_written` wrote. Raises InputError."""
    value = read(state, key, (float, int, str))
    try:
        return float(value)
    except ValueError as error:
        raise InputError(f"a saved run must hold {key!r} as a number; found {value!r}.") from error
