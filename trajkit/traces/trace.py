"""The Trace: the record of one run."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from trajkit.errors import TraceFormatError
from trajkit.text import shortened

if TYPE_CHECKING:
    import plotly.graph_objects as go

StepKind = Literal["thinking", "answer"]
EffectsKind = Literal["estimated", "measured"]
Outcome = Literal["success", "hallucination", "reasoning_failure", "failure", "unknown"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
FAILURES = ("failure", "hallucination", "reasoning_failure")
"""Of runs that are compared: outcomes of the wrong ones, first of those of no known kind, which a Trace may call
`unknown` too, with a `success` of False."""
ROUNDING = 1e-3
"""Nats by which a log-probability may exceed 0, or an entropy fall below it, in half precision."""


@dataclass(frozen=True)
class Step:
    """One sentence of the thinking span, or the answer.

    token_start, token_end: [start, end) in the generated tokens, 0 being the first. logprob: mean log-probability of
    its tokens, nats, ≤ 0. entropy: mean entropy of the next-token distribution, nats, ≥ 0. Both are None where the
    source of the run had none. seconds: time from the
    end of the step before to the end of this one, 0 when unknown. risk: probability of failure after it, as the monitor
    that watched the run said, and alarm: whether it was raised here; None where no monitor watched.

    See also: `Trace`.

    >>> step = tk.Step("There is a cup.", "thinking", 0, 5, logprob=-0.2, entropy=0.4)
    >>> step.n_tokens, step.to_dict()["kind"]
    (5, 'thinking')
    """

    text: str
    kind: StepKind
    token_start: int
    token_end: int
    logprob: float | None
    entropy: float | None
    seconds: float = 0.0
    risk: float | None = None
    alarm: bool | None = None

    @property
    def n_tokens(self) -> int:
        return self.token_end - self.token_start

    def _repr_html_(self) -> str:
        from trajkit.notebook.steps import step_html

        return step_html(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {field.name: getattr(self, field.name) for field in fields(Step)}


class WatchedBy(NamedTuple):
    """What a run's monitor was like. threshold: None where it could not alarm. watches: what for."""

    threshold: float | None
    watches: Literal["failure", "success"]

    @classmethod
    def of(cls, saved: Any) -> WatchedBy | None:
        """As `Monitor.about` has it; None for what is no such thing."""
        if not isinstance(saved, Mapping) or saved.get("watches") not in ("failure", "success"):
            return None
        threshold = saved.get("threshold")
        if not isinstance(threshold, int | float) or not math.isfinite(threshold):
            return cls(None, saved["watches"])
        return cls(float(threshold), saved["watches"])


@dataclass(frozen=True, eq=False)
class Trace:
    """One generation of a model for one image and question.

    effects: (T, K) float32, nats; row t is the effect vector of `steps[t]`. effects_kind: how they were come by, or
    None when the source had none (then effects is (T, 0)). regions: (H, W) label map, 0..K-1. image: encoded PNG or
    JPEG. hidden: (T, h) float32, a hidden state of the model for each step, or None where none was kept. half_widths:
    (T, K) float32, nats ≥ 0, measured effects lie within this of estimated ones about nine times in ten; None where the
    estimator has no intervals. tokens: (n,) int32, ids of the generated tokens, with the tags of the thinking span and
    the end token, or None where they are not known.
    group_id: runs of one group (image or question) are never split across train, calibration and test.
    Raises TraceFormatError when the parts do not fit together.

    See also: `Step`, `trace`, `read_traces`.

    >>> trace = traces[3]
    >>> trace.question, trace.answer, trace.outcome
    ('follow green from row 3 col 1. what is before the 0?', '3', 'success')
    >>> trace.effects.shape, trace.n_steps, trace.n_regions
    ((35, 35), 35, 35)
    >>> trace.steps[0].text, int(trace.effects[0].argmax())  # and the region that it rests on most
    ('row 3 col 1 is green 3.', 6)
    """

    transcript_id: str
    model: str
    question: str
    steps: tuple[Step, ...]
    effects: NDArray[np.float32]
    effects_kind: EffectsKind | None
    regions: NDArray[np.integer[Any]]
    group_id: str
    task_set: str = ""
    task_id: str = ""
    task_repeat: int = 0
    score: float | None = None
    success: bool | None = None
    answer: str = ""
    target: str = ""
    outcome: Outcome = "unknown"
    image: bytes | None = None
    image_sha256: str = ""
    hidden: NDArray[np.float32] | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    half_widths: NDArray[np.float32] | None = None
    tokens: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        if self.effects.ndim != 2 or len(self.effects) != len(self.steps):
            raise TraceFormatError(
                f"run {self.transcript_id!r}: effects must have one row per step; "
                f"got shape {self.effects.shape} for {len(self.steps)} steps."
            )
        if not np.isfinite(self.effects).all():
            raise TraceFormatError(
                f"run {self.transcript_id!r}: effects hold NaN or infinite values; measure it again."
            )
        if self.half_widths is not None and self.half_widths.shape != self.effects.shape:
            raise TraceFormatError(
                f"run {self.transcript_id!r}: half_widths must have the shape of effects, {self.effects.shape}; got "
                f"{self.half_widths.shape}."
            )
        if self.half_widths is not None and not ((self.half_widths >= 0) & np.isfinite(self.half_widths)).all():
            raise TraceFormatError(
                f"run {self.transcript_id!r}: half_widths must be finite and at least 0; measure it again."
            )
        if self.hidden is not None and not np.isfinite(self.hidden).all():
            raise TraceFormatError(
                f"run {self.transcript_id!r}: hidden holds NaN or infinite values, as in an overflow of float16; load "
                "the model in bfloat16 or float32, or do not keep hidden states."
            )
        if self.hidden is not None and (self.hidden.ndim != 2 or len(self.hidden) != len(self.steps)):
            raise TraceFormatError(
                f"run {self.transcript_id!r}: hidden must have one row per step; got shape {self.hidden.shape} for "
                f"{len(self.steps)} steps."
            )
        if self.tokens is not None and not _are_ids(self.tokens):
            raise TraceFormatError(
                f"run {self.transcript_id!r}: tokens must be (n,) whole numbers of at least 0; leave them out where "
                "they are not known."
            )
        if self.outcome not in OUTCOMES:
            raise TraceFormatError(
                f"run {self.transcript_id!r}: outcome must be one of {', '.join(OUTCOMES)}; got {self.outcome!r}."
            )
        if self.outcome != "unknown" and self.success is not None and self.success != (self.outcome == "success"):
            raise TraceFormatError(
                f"run {self.transcript_id!r}: success {self.success} contradicts outcome {self.outcome!r}; correct one "
                "of them, or leave success out."
            )
        for number, step in enumerate(self.steps, 1):
            fault = fault_of(step)
            if fault:
                raise TraceFormatError(f"run {self.transcript_id!r}, step {number}: {fault}; measure it again.")
        if self.image is not None and not self.image_sha256:
            object.__setattr__(self, "image_sha256", hashlib.sha256(self.image).hexdigest())

    def __repr__(self) -> str:
        steps, question = f"{self.n_steps} step{'s' * (self.n_steps != 1)}", shortened(self.question)
        effects = f"{self.n_regions} regions, {self.effects_kind} effects" if self.effects_kind else "no effects"
        return f"Trace({shortened(self.transcript_id)!r}: {self.outcome}, {steps}, {effects}, question {question!r})"

    def _repr_html_(self) -> str:
        from trajkit.notebook.run import trace_html

        return trace_html(self)

    def plot(self, kind: Literal["steps", "trajectory"] = "steps") -> go.Figure:
        """A plotly figure of the run: what was known after each step, or the path of its effects (`plots.plot_run`)."""
        from trajkit.plots.runs import plot_run

        return plot_run(self, kind)

    @property
    def watched(self) -> WatchedBy | None:
        """The monitor that watched it, as it was saved; None where none did, or that is not known."""
        return WatchedBy.of(self.meta.get("monitor"))

    @property
    def n_steps(self) -> int:
        return len(self.steps)

    @property
    def n_regions(self) -> int:
        return self.effects.shape[1]

    @property
    def thinking(self) -> NDArray[np.bool_]:
        """(T,) which steps belong to the thinking span."""
        return np.array([step.kind == "thinking" for step in self.steps], dtype=bool)


def _are_ids(tokens: NDArray[Any]) -> bool:
    return tokens.ndim == 1 and np.issubdtype(tokens.dtype, np.integer) and not (tokens < 0).any()


def fault_of(step: Step) -> str | None:
    """What no step can be like, in words."""
    if step.token_start < 0 or step.token_end < step.token_start:
        return f"tokens must be [start, end) with 0 <= start <= end, got [{step.token_start}, {step.token_end})"
    if step.logprob is not None and not -math.inf < step.logprob <= ROUNDING:
        return f"logprob must be a number of at most 0 or None, got {step.logprob}"
    if step.entropy is not None and not -ROUNDING <= step.entropy < math.inf:
        return f"entropy must be a number of at least 0 or None, got {step.entropy}"
    if not 0 <= step.seconds < math.inf:
        return f"seconds must be a number of at least 0, got {step.seconds}"
    if step.risk is not None and not 0 <= step.risk <= 1:
        return f"risk must be in [0, 1] or None, got {step.risk}"
    return None
