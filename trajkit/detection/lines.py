"""Many runs watched at once by lines of JSON, in any order among runs: what `trajkit monitor -` does with its input.

An input line is a step as `trajkit stream --json` tells it, or as little of one as a monitor reads; docs/events.md says
which fields. It comes from outside, so every value is checked, and what is wrong is said of that line alone.
"""

from __future__ import annotations

import logging
import math
import reprlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trajkit.detection.design import PATH
from trajkit.detection.monitor import Monitor, MonitorRun, Verdict
from trajkit.detection.policies import Decision, Policy, PolicyRun
from trajkit.detection.watched import FirstRuns, Place
from trajkit.errors import InputError, TrajkitError
from trajkit.events import Failure, RunName, Telling, WatchEnd, WatchStart, check_name
from trajkit.log import log_decision, log_verdict
from trajkit.strict_json import parse_json
from trajkit.traces.trace import Step, fault_of

MOST_RUNS = 100_000
"""Runs that may be open at once."""
LONGEST_LINE = 1 << 20
"""Bytes."""
_MOST_TOKENS = 2**31
_HUGE = 1e100
"""No number is larger: nats and scores, so far from overflow that squares and sums stay finite."""
_ASIDE = ("verdict", "decision", "error")
"""Events of the lines of other commands that ask for no answer."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Reading(Step):
    """A step as a line tells it. effects: (K,) nats, none where it tells a score instead. placed: whether it says where
    its tokens stand, and not only how many there are."""

    effects: NDArray[np.float64]
    placed: bool = True
    score: float | None = None
    verdict: Verdict | None = None


class RunId(NamedTuple):
    """A run, and which of the several that were generated together under its name. None: it could not be told."""

    run: RunName | None = None
    row: int = 0

    def __str__(self) -> str:
        return f"{self.run} row {self.row}" if self.row else str(self.run)


class Said(NamedTuple):
    """One answer, and the run that it is about."""

    what: Telling
    about: RunId = RunId()


@dataclass(eq=False)
class _Open:
    """A run under watch, and what its end will tell."""

    watch: MonitorRun
    policy: PolicyRun | None
    task: tuple[str, str]
    attempt: int
    place: Place | None
    n_tokens: int = 0
    n_regions: int = 0
    alarm_step: int | None = None

    def update(self, step: _Reading) -> tuple[Verdict, Decision | None]:
        """The verdict on a step, and the decision where there is one. Raises InputError where the step is about another
        number of regions than the first."""
        own = self.watch.takes_scores
        if step.kind == "thinking" and own != (step.score is not None):
            raise InputError(
                'these detectors work on scores of your own: give the number "score".'
                if own
                else 'these detectors work out the score themselves: give "effects", "logprob", "entropy" and '
                '"n_tokens" in place of "score".'
            )
        if step.score is not None:
            verdict = self.watch.update_score(step.score)
        else:
            if step.kind == "thinking" and self.n_regions and len(step.effects) != self.n_regions:
                raise InputError(
                    f'"effects" must be {self.n_regions} numbers, as in the first step; got {len(step.effects)}.'
                )
            verdict = self.watch.update(step)
            self.n_regions = len(step.effects) or self.n_regions
        if not step.placed:
            step = replace(step, token_start=self.n_tokens, token_end=self.n_tokens + step.n_tokens)
        self.n_tokens += step.n_tokens
        if verdict.alarm:
            self.alarm_step = verdict.step
        return verdict, self.policy.update(replace(step, verdict=verdict)) if self.policy else None


class LineMonitor:
    """A monitor over the lines of many runs. Memory is that of the open runs, O(K) each, whatever their length, and of
    the names of the groups that were seen.

    Of each group that is named by a start, the first run to begin is watched for drift (`Drift`), which warns; what
    alarmed runs come to after their alarm does not count, since a program may end them there. With `Policy.enough`, by
    which others end early too, drift cannot be told.
    policy: what is decided on alarms is told too, and left to whoever wrote the lines to carry out.
    """

    def __init__(self, monitor: Monitor, policy: Policy | None = None, most_runs: int = MOST_RUNS) -> None:
        self._monitor, self._policy, self._most = monitor, policy, most_runs
        self._required = () if monitor.predictor is None else monitor.predictor.required
        self._open: dict[RunId, _Open] = {}
        self._refused: dict[RunId, str] = {}
        self._lines = 0
        known = monitor.calibration is not None and bool(monitor.calibration.maxima)
        cut = policy is not None and policy.enough is not None
        self._first = FirstRuns(monitor.watchdog(acted=True)) if known and not cut else None

    def __len__(self) -> int:
        """Runs that are open."""
        return len(self._open)

    def answer(self, line: bytes) -> list[Said]:
        """What is said to the next line: a verdict and perhaps a decision, what a start or an end is answered, or a
        Failure where the line cannot be used; no run has then changed.

        Nothing is said to an empty line, nor to verdicts, decisions and errors that another command told.
        """
        self._lines += 1
        name = RunId()
        try:
            record = _object(line)
            event = record.get("event", "step")
            if not record or event in _ASIDE:
                return []
            name = RunId(check_name(record.get("run", "")), _whole(record, "row", 0))
            if event == "start":
                return self._start(name, record)
            if event == "end":
                return [self._end(name)]
            if event == "step":
                return [Said(told, name) for told in self._step(name, record)]
            raise InputError(f'"event" must be "start", "step" or "end"; got {_short(event)}.')
        except TrajkitError as error:
            return [Said(Failure(message=str(error), line=self._lines), name)]

    def end_all(self) -> Iterator[Said]:
        """Let go of every run that is still open, the first begun first."""
        for name in list(self._open):
            yield self._told(name, closed=False)

    def _start(self, name: RunId, record: Mapping[str, Any]) -> list[Said]:
        task, group = (_text(record, "task_set"), _text(record, "form")), _text(record, "group")
        model = _text(record, "model"), _text(record, "fingerprint")
        before = []
        if name in self._open:
            self._placed(self._open[name], None)
            before.append(self._told(name, closed=False))
        self._refused.pop(name, None)
        self._make_room()
        try:
            if any(model):
                self._monitor.check(*model)
        except TrajkitError as error:
            self._refused[name] = str(error)
            return [*before, Said(Failure(message=str(error), line=self._lines), name)]
        self._open[name] = self._begin(task, 0, self._first.begin(group) if self._first else None)
        threshold = self._monitor.threshold if self._monitor.can_alarm else None
        return [
            *before,
            Said(WatchStart(threshold=threshold, alpha=self._monitor.alpha, watches=self._monitor.watches), name),
        ]

    def _step(self, name: RunId, record: Mapping[str, Any]) -> list[Verdict | Decision]:
        if name in self._refused:
            raise InputError(f"run {_short(str(name))} is not watched: {self._refused[name]}")
        step, attempt = _reading(record, self._required), _whole(record, "attempt", 0)
        run = self._open.get(name)
        if run is None:
            self._make_room()
            run = self._begin(("", ""), attempt)
        elif attempt != run.attempt:
            run = self._begin(run.task, attempt)
        verdict, decision = run.update(step)  # of a line that cannot be judged nothing is kept
        before, self._open[name] = self._open.get(name), run
        if before is not None and before is not run:
            self._placed(before, None)
        if verdict.alarm:
            self._placed(run, verdict.max_risk)
        log_verdict(_log, verdict, *name)
        if decision is None:
            return [verdict]
        log_decision(_log, decision, *name)
        return [verdict, decision]

    def _begin(self, task: tuple[str, str], attempt: int, place: Place | None = None) -> _Open:
        policy = self._policy.start_run(*task, attempt) if self._policy else None
        return _Open(self._monitor.start(*task), policy, task, attempt, place)

    def _placed(self, run: _Open, most: float | None) -> None:
        if self._first is not None:
            self._first.end(run.place, most)

    def _make_room(self) -> None:
        if len(self._open) + len(self._refused) >= self._most:
            raise InputError(f'{self._most:,} runs are open, which is the most; close some with {{"event": "end", …}}.')

    def _end(self, name: RunId) -> Said:
        if name in self._refused:
            raise InputError(f"run {_short(str(name))} was not watched: {self._refused.pop(name)}")
        if name not in self._open:
            raise InputError(f"no run {_short(str(name))} is open.")
        run = self._open[name]
        self._placed(run, run.watch.verdict.max_risk if run.watch.verdict.step else None)
        return self._told(name, closed=True)

    def _told(self, name: RunId, closed: bool) -> Said:
        """The end of a run, which is forgotten here."""
        run = self._open.pop(name)
        last = run.watch.verdict
        end = WatchEnd(
            closed=closed,
            n_steps=last.step,
            n_tokens=run.n_tokens,
            max_risk=last.max_risk if math.isfinite(last.max_risk) else None,
            threshold=last.threshold if math.isfinite(last.threshold) else None,
            alarmed=last.alarmed,
            alarm_step=run.alarm_step,
            drift_p=self._first.p_value if self._first is not None else None,
        )
        return Said(end, name)


def _object(line: bytes) -> dict[str, Any]:
    """The object of a line; empty for an empty line."""
    if len(line) > LONGEST_LINE:
        raise InputError(f"the line is longer than {LONGEST_LINE:,} bytes, which is the most.")
    if not line.strip():
        return {}
    try:
        record = parse_json(line.decode())
    except ValueError as error:
        raise InputError(f"the line is no JSON: {error}. Write one object a line.") from error
    if not isinstance(record, dict):
        raise InputError(f"the line must be a JSON object; got {_short(record)}.")
    return record


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f'"{key}" must be a text; got {_short(value)}.')
    return value


def _reading(record: Mapping[str, Any], required: Collection[str]) -> _Reading:
    """The step of a line. Of an answer nothing is read but that it is one. required: the prefix features that the
    monitor needs; effects, logprob and entropy that none of them is about may be left out, or null."""
    kind = record.get("kind", "thinking")
    if kind not in ("thinking", "answer"):
        raise InputError(f'"kind" must be "thinking" or "answer"; got {_short(kind)}.')
    if kind == "answer":
        return _Reading("", "answer", 0, 0, 0.0, 0.0, effects=np.zeros(0))
    if "score" in record:
        return _Reading("", "thinking", 0, 0, 0.0, 0.0, effects=np.zeros(0), score=_number(record, "score"))
    start, end = _tokens(record)
    logprob, entropy = (
        None if record.get(key) is None and f"{key}_mean" not in required else _number(record, key)
        for key in ("logprob", "entropy")
    )
    given, placed = record.get("effects"), "n_tokens" not in record
    effects = np.zeros(0) if given in (None, []) and PATH not in required else _effects(given)
    step = _Reading("", "thinking", start, end, logprob, entropy, effects=effects, placed=placed)
    fault = fault_of(step)
    if fault:
        raise InputError(f"{fault}.")
    return step


def _tokens(record: Mapping[str, Any]) -> tuple[int, int]:
    if "n_tokens" in record:
        return 0, _whole(record, "n_tokens")
    if not {"token_start", "token_end"} & record.keys():
        raise InputError('"n_tokens" must be the number of the step\'s tokens (or give "token_start" and "token_end").')
    return _whole(record, "token_start"), _whole(record, "token_end")


def _whole(record: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = record.get(key, default)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS:
        return value
    raise InputError(f'"{key}" must be a whole number from 0 to {_MOST_TOKENS - 1}; got {_short(value)}.')


def _number(record: Mapping[str, Any], key: str) -> float:
    value = record.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _HUGE:
        return float(value)
    raise InputError(f'"{key}" must be a number of less than {_HUGE:g}; got {_short(value)}.')


def _effects(values: Any) -> NDArray[np.float64]:
    """(K,) nats."""
    if isinstance(values, list) and values and {*map(type, values)} <= {int, float} and max(map(abs, values)) < _HUGE:
        return np.array(values, float)
    raise InputError(
        f'"effects" must be a list of numbers, one a region, each of less than {_HUGE:g} nats; got {_short(values)}.'
    )


def _short(value: Any) -> str:
    """A value as a message shows it."""
    return "nothing" if value is None else reprlib.repr(value)
