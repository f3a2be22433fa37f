"""Policies: what a program does when its monitor speaks, and when it need not think any longer.

The rule alone; who generates carries it out. In one generation at most one thing is done:

- an alarm of the monitor after a thinking step is answered as `on_alarm` says;
- else `enough`, a monitor of success, ends the thinking where success is as good as certain. Where both speak after the
  same step the alarm counts;
- after that nothing is done in this generation, whatever either monitor says of later steps, those included that were
  written before the program could act;
- an alarm in the answer does nothing: there is no thinking left to act on;
- "ask again" makes `tries` further generations at most; an alarm in the last of them is flagged.

A monitor's promise is of the first generation of a question: a later one is made because of an alarm, on a question
where alarms are likelier than on others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from trajkit.detection.monitor_run import MonitoredStep, Verdict
from trajkit.detection.state import read, read_number
from trajkit.errors import InputError
from trajkit.tables.words import apart
from trajkit.text import LINES, require_plain

if TYPE_CHECKING:
    from trajkit.detection.monitor import Monitor
    from trajkit.detection.monitor_run import MonitorRun

OnAlarm = Literal["flag", "stop", "answer now", "ask again"]
Action = Literal["flag", "stop", "answer now", "ask again", "enough"]
Start = Literal["anew", "last good step"]


class JudgedStep(MonitoredStep, Protocol):
    """What a PolicyRun reads of a step: `LiveStep` and anything alike will do. token_end: generated tokens up to its
    end. verdict: the monitor's, None without one."""

    @property
    def token_end(self) -> int: ...
    @property
    def verdict(self) -> Verdict | None: ...


@dataclass(frozen=True)
class Decision:
    """What is to be done after a step, and why.

    step: thinking steps seen. action: "flag" (nothing but say so), "stop" (end the generation, without an answer),
    "answer now" and "enough" (close the thinking span at the end of a sentence; the model then answers), "ask again".
    verdict: of the monitor that spoke; of `Policy.enough` where the action is "enough". keep_tokens, keep_steps: for
    "ask again", what the next generation goes on from; 0 to begin anew.

    See also: `Policy`, `Verdict`.

    >>> from dataclasses import replace
    >>> alarmed = replace(steps[1], verdict=replace(steps[1].verdict, alarm=True))
    >>> decision = tk.Policy("stop").start_run().update(alarmed)
    >>> decision.action, decision.step
    ('stop', 2)
    >>> decision.to_dict()["action"]
    'stop'
    """

    step: int
    action: Action
    reason: str
    verdict: Verdict
    keep_tokens: int = 0
    keep_steps: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"verdict": self.verdict.to_dict()}


@dataclass(frozen=True)
class Policy:
    """What a program does when its monitor alarms, and when success is as good as certain.

    on_alarm: as `Decision.action`. tries, start and hint are of "ask again": how many further generations at most;
    whether they begin anew or go on from the last good step, the one after which the risk was lowest (the latest of
    several); and words put into the thinking before it goes on, of which no monitor is told. enough: a monitor that
    watches for success (`Monitor.calibrate(..., watches="success")`); thinking ends when it speaks.

    Raises InputError for a value that is not one of those, and for a setting of "ask again" without it.

    See also: `Monitor`, `Decision`, `PolicyRun`, `stream`.

    >>> policy = tk.Policy("ask again", tries=2, start="last good step")
    >>> policy.on_alarm, policy.tries
    ('ask again', 2)
    >>> tk.Policy("stop", tries=2)  # a setting that would do nothing
    Traceback (most recent call last):
        ...
    trajkit.errors.InputError: 'tries', 'start' and 'hint' say how to ask again, and this policy's ...
    """

    on_alarm: OnAlarm = "flag"
    tries: int = 1
    start: Start = "anew"
    hint: str = ""
    enough: Monitor | None = None

    def __post_init__(self) -> None:
        for name, kind in (("on_alarm", OnAlarm), ("start", Start)):
            if getattr(self, name) not in get_args(kind):
                allowed = ", ".join(map(repr, get_args(kind)))
                raise InputError(
                    f"The {name!r} parameter must be one of {allowed}. Got {getattr(self, name)!r} instead."
                )
        if isinstance(self.tries, bool) or not isinstance(self.tries, int) or self.tries < 1:
            raise InputError(f"The 'tries' parameter must be a whole number from 1 on. Got {self.tries!r} instead.")
        require_plain(self.hint, "the hint", LINES)
        if self.enough is not None and (
            getattr(self.enough, "watches", "") != "success" or self.enough.predictor is None
        ):
            raise InputError(
                "The 'enough' parameter must be a monitor that reads steps and watches for success: "
                "Monitor.calibrate(…, watches='success'). Got another instead."
            )
        if self.on_alarm != "ask again" and (self.tries, self.start, self.hint) != (1, "anew", ""):
            raise InputError(
                f"'tries', 'start' and 'hint' say how to ask again, and this policy's answer to an alarm is "
                f"{self.on_alarm!r}. Leave them out, or set on_alarm='ask again'."
            )

    def _repr_html_(self) -> str:
        from trajkit.notebook.models import policy_html

        return policy_html(self)

    def check(self, monitor: Monitor | None, model: str, fingerprint: str = "") -> None:
        """Raises InputError where nothing could call for the action, or a monitor of success would call for it, whose
        alarm is the good news; EstimatorMismatchError where `enough` was calibrated on another model."""
        if monitor is None and self.on_alarm != "flag":
            raise InputError(f"a policy that answers alarms with {self.on_alarm!r} needs a monitor; give monitor=….")
        if monitor is not None and monitor.watches == "success" and self.on_alarm != "flag":
            raise InputError(
                f"this monitor watches for success, and a policy that answers its alarms with {self.on_alarm!r} would "
                "act on runs that go well; give it as Policy(enough=…), and as monitor one that watches for failure."
            )
        if self.enough is not None:
            self.enough.check(model, fingerprint)

    def start_run(self, task_set: str = "", form: str = "", attempt: int = 0) -> PolicyRun:
        """The rule for one generation. task_set, form: as by `Monitor.start`. attempt: 0 for the first generation of a
        question, 1 for the first that was asked again, and so on; one that goes on from the last good step is given the
        steps that were kept, as its monitor is. Raises InputError for an attempt that the policy does not make.

        See also: `PolicyRun`.

        >>> rule = tk.Policy("stop").start_run()
        >>> [rule.update(step) for step in steps] == [None] * len(steps)  # of a run without an alarm
        True
        """
        if not 0 <= attempt <= (self.tries if self.on_alarm == "ask again" else 0):
            raise InputError(f"this policy makes no attempt number {attempt}.")
        return PolicyRun(self, self.enough.start(task_set, form) if self.enough else None, attempt)


class PolicyRun:
    """The rule over one generation. Made by `Policy.start_run`; not shared between generations.

    See also: `Policy.start_run`, `Decision`.

    >>> from dataclasses import replace
    >>> rule = tk.Policy("answer now").start_run()
    >>> alarmed = replace(steps[1], verdict=replace(steps[1].verdict, alarm=True))
    >>> rule.update(steps[0]), rule.update(alarmed).action
    (None, 'answer now')
    """

    def __init__(self, policy: Policy, enough: MonitorRun | None, attempt: int) -> None:
        self._policy, self._enough, self._attempt = policy, enough, attempt
        self._acted = False
        self._lowest = math.inf
        self._kept = 0, 0  # tokens and steps up to the one of the lowest risk

    def update(self, step: JudgedStep) -> Decision | None:
        """What is to be done after `step`: at most one Decision in a generation, and none after an answer step.

        Raises as `MonitorRun.update` of the monitor in `Policy.enough`.
        """
        if step.kind == "answer" or self._acted:
            return None
        decision = self._on_alarm(step.verdict) if step.verdict is not None and step.verdict.alarm else None
        if decision is None and self._enough is not None:
            found = self._enough.update(step)
            decision = _decision("enough", "success is as good as certain", found) if found.alarm else None
        self._acted = decision is not None
        if step.verdict is not None and step.verdict.risk <= self._lowest:
            self._lowest, self._kept = step.verdict.risk, (step.token_end, step.verdict.step)
        return decision

    def to_state(self) -> dict[str, Any]:
        """JSON-ready; `from_state` goes on from it, in another process too."""
        return {
            "attempt": self._attempt,
            "acted": self._acted,
            "lowest": self._lowest if math.isfinite(self._lowest) else None,
            "kept": list(self._kept),
            "enough": self._enough.to_state() if self._enough else None,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], policy: Policy) -> PolicyRun:
        """The run that `to_state` described, under the same policy. Raises InputError on a part that is missing, out of
        its range or of another policy."""
        attempt, kept = read(state, "attempt", int), read(state, "kept", list)
        if not all(isinstance(n, int) and n >= 0 for n in (attempt, *kept)) or len(kept) != 2:
            raise InputError(f"a saved policy run must hold whole numbers from 0 on; found {attempt!r} and {kept!r}.")
        enough = read(state, "enough", (dict, type(None)))
        if (policy.enough is None) != (enough is None):
            raise InputError("a saved policy run goes on under the policy that it was made with; this is another.")
        run = policy.start_run(attempt=attempt)
        run._acted = read(state, "acted", bool)
        run._lowest = read_number(state, "lowest", -math.inf, math.inf, null=math.inf)
        run._kept = kept[0], kept[1]
        if policy.enough is not None:
            run._enough = policy.enough.resume(enough)
        return run

    def _on_alarm(self, verdict: Verdict) -> Decision:
        action = self._policy.on_alarm
        if action != "ask again":
            return _decision(action, "the monitor alarmed", verdict)
        if self._attempt == self._policy.tries:
            return _decision("flag", "the monitor alarmed, and no try is left,", verdict)
        kept = self._kept if self._policy.start == "last good step" else (0, 0)
        return _decision(action, "the monitor alarmed", verdict, *kept)


def _decision(action: Action, what: str, verdict: Verdict, keep_tokens: int = 0, keep_steps: int = 0) -> Decision:
    value, limit = apart(verdict.max_risk, verdict.threshold)
    reason = f"{what} after step {verdict.step} ({value} is above {limit})"
    return Decision(verdict.step, action, reason, verdict, keep_tokens, keep_steps)
