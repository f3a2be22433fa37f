"""From what another server was asked for to Traces: its answers checked, and explained with the model here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trajkit.attribution.item import Item, Judge, SetAside, judge_by_target
from trajkit.attribution.tokens import IMPOSSIBLE, model_doubt, prompt_doubt, rounding_of
from trajkit.attribution.told import check_prompt, checked_tokens
from trajkit.attribution.written import BATCH, Pictures, Written, explain_written
from trajkit.errors import InputError, TrajkitError, WriteError
from trajkit.live.asking import Answer, Asking, Unanswered, Wanted
from trajkit.live.other_server import NoEntryError, RefusedError, UpstreamError

if TYPE_CHECKING:
    from trajkit.attribution.estimator import EffectEstimator
    from trajkit.traces.trace import Trace
    from trajkit.vlm.model import VLM, Prompt

MOST_FAILURES = 8
"""Runs in a row that cannot be had or used by the server's fault, after which no more are asked for."""


def collect_asked(
    asking: Asking,
    wanted: Iterable[Wanted],
    *,
    estimator: EffectEstimator,
    made_by: Mapping[str, Any],
    judge: Judge = judge_by_target,
    keep_hidden: bool = False,
    set_aside: SetAside | None = None,
    over: Callable[[Wanted], object] = lambda one: None,
) -> Iterator[Trace]:
    """Yield runs that a server is asked for, as Traces with estimated effects, in the order in which they come.

    The next ones are asked for while these are explained. made_by, judge, keep_hidden: as for `explain_written`.
    set_aside: called for the item of a run that the server has no answer to, that does not fit the model here, or that
    cannot be explained; where there is none, its error is raised. over: called for each run, however it ended. Raises
    UpstreamError where the server fails at several runs in a row, and NoEntryError where it lets nobody in.
    """
    vlm, pictures = asking.vlm, Pictures(asking.vlm, estimator.binding.region_method)
    had, fits = _InARow(set_aside), _InARow(set_aside)
    for some in asking.answers(wanted, BATCH):
        prompts: dict[str, Prompt] = {}
        written: list[Written] = []
        for one in some:
            with had.try_out(one.wanted.item):
                written.append(_written(vlm, one, prompts))
        answers = {one.wanted.id: one for one in some if isinstance(one, Answer)}
        for trace in explain_written(
            vlm,
            written,
            estimator=estimator,
            made_by=made_by,
            judge=judge,
            keep_hidden=keep_hidden,
            set_aside=set_aside,
            pictures=pictures,
        ):
            answer = answers[trace.transcript_id]
            checked = None
            with fits.try_out(answer.wanted.item):
                checked = _held_against(trace, answer, asking)
            if checked is not None:
                yield checked
        for one in some:
            over(one.wanted)


class _InARow:
    """Sets aside what fails, until several have in a row."""

    def __init__(self, set_aside: SetAside | None) -> None:
        self._set_aside, self._n = set_aside, 0

    @contextmanager
    def try_out(self, item: Item) -> Iterator[None]:
        """What happens inside the block is about a run of this item. Raises as `collect_asked`."""
        try:
            yield
            self._n = 0
        except (NoEntryError, WriteError):
            raise
        except TrajkitError as error:
            self._n += not isinstance(error, RefusedError)
            if self._set_aside is None:
                raise
            if self._n >= MOST_FAILURES:
                raise UpstreamError(f"{self._n} runs in a row could not be had. The last: {error}") from error
            self._set_aside(item, error if isinstance(error, InputError) else InputError(str(error)))


def _written(vlm: VLM, one: Answer | Unanswered, prompts: dict[str, Prompt]) -> Written:
    """What a server wrote, behind the prompt made here. prompts: those made already, by item.

    Raises the error of a run that has no answer; InputError where the server made another prompt, or wrote tokens that
    the model here does not know.
    """
    if isinstance(one, Unanswered):
        raise one.error
    item = one.wanted.item
    if item.id not in prompts:
        prompts[item.id] = vlm.prepare(item.image, item.question)
    prompt = prompts[item.id]
    if one.prompt is not None:
        check_prompt(prompt.inputs["input_ids"][0].tolist(), one.prompt)
    elif doubt := prompt_doubt(prompt.length, one.n_prompt):
        raise InputError(doubt)
    tokens = checked_tokens(vlm, one.tokens, prompt.length)
    return Written(item, one.wanted.repeat, tokens, prompt, one.facts)


def _held_against(trace: Trace, answer: Answer, asking: Asking) -> Trace:
    """A run with how far its log-probabilities are from those that the server tells. Raises InputError where they are
    not of the same weights."""
    difference, n = _difference(trace, answer.logprobs)
    if not n:
        return trace
    doubt = model_doubt(difference, n, rounding_of(asking.vlm)) if asking.draws_plainly else None
    if doubt is not None:
        raise InputError(doubt)
    return replace(trace, meta={**trace.meta, "logprob_difference": round(difference, 9)})


def _difference(trace: Trace, logprobs: list[float]) -> tuple[float, int]:
    """Mean |difference|, nats a token, of the steps' mean log-probabilities, and over how many tokens; (0, 0) of none.
    Steps that hold a token without one are passed over."""
    total, n = 0.0, 0
    for step in trace.steps:
        told = logprobs[step.token_start : step.token_end]
        if step.logprob is not None and len(told) == step.token_end - step.token_start > 0 and min(told) > IMPOSSIBLE:
            total += abs(sum(told) - step.logprob * len(told))
            n += len(told)
    return (total / n if n else 0.0), n
