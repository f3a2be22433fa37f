"""From questions to Traces: one run live (`trace`), or many in batches (`collect`)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor

from trajkit.aside import aside
from trajkit.attribution.assemble import settings
from trajkit.attribution.estimator import EffectEstimator
from trajkit.attribution.item import Item, Judge, SetAside, judge_by_target
from trajkit.attribution.stream import stream
from trajkit.attribution.written import Pictures, Written, estimated, explain, passes, trace_of
from trajkit.errors import InputError
from trajkit.traces.trace import Trace
from trajkit.vlm.canvas import Images
from trajkit.vlm.generation import Sampling, generate
from trajkit.vlm.model import VLM, Prompt

T = TypeVar("T")


def trace(
    vlm: VLM,
    image: Images | None = None,
    question: str | None = None,
    *,
    target: str | None = None,
    group_id: str | None = None,
    **options: Any,
) -> Trace:
    """Generate one run with `stream` and return its Trace (`Stream.trace`), with what the monitor said of each step.

    options: all others of `stream`, which raises what it says there.

    See also: `stream`, `Trace`, `write_traces`.

    >>> made = tk.trace(vlm, image, question, estimator=estimator, seed=1, target="2")
    >>> made.answer, made.success, made.effects.shape
    ('2', True, (21, 22))
    """
    running = stream(vlm, image, question, **options)
    try:
        for _ in running:
            pass
    finally:
        running.close()
    return running.trace(target=target, group_id=group_id)


def collect(
    vlm: VLM,
    items: Iterable[Item],
    *,
    estimator: EffectEstimator,
    samples: int = 1,
    sampling: Sampling | None = None,
    judge: Judge = judge_by_target,
    done: frozenset[str] = frozenset(),
    batch_size: int = 32,
    keep_hidden: bool = False,
    set_aside: SetAside | None = None,
    advance: Callable[..., None] = lambda note, steps=1: None,
) -> Iterator[Trace]:
    """Yield `samples` runs of every item, as Traces with estimated effects.

    keep_hidden: also keep a hidden state of each step, at most 128 numbers (`replay.Replay`).

    Items are generated `batch_size` at a time, seeded as by `generate_runs`: the same items in the same order give the
    same runs. Runs whose transcript_id (item id, "-", repeat) is in `done` are not yielded again, so a collection that
    was interrupted goes on as if it had not been. set_aside: called for an item some or all of whose runs cannot be
    made, and the others go on. An interrupt (Ctrl-C) is raised once the runs that had ended by then have been yielded.
    Raises InputError for such an item where there is no set_aside, and when greedy runs are asked for more than once.
    """
    estimator.check(vlm.fingerprint, vlm.name)
    sampling = sampling or Sampling(seed=0)
    sampling.check(vlm, samples)
    made_by = settings(vlm, estimator, sampling, keep_hidden)

    pictures = Pictures(vlm, estimator.binding.region_method)

    for batch in batched(items, batch_size):
        if all(f"{item.id}-{i}" in done for item in batch for i in range(samples)):
            advance("already there", len(batch))
            continue
        drawn: list[tuple[Item, Prompt, list[list[int]]]] = []
        interrupts: list[KeyboardInterrupt] = []
        try:
            for one in generate_runs(vlm, batch, samples, sampling, set_aside, keep_ended=True):
                drawn.append(one)
        except KeyboardInterrupt as interrupt:
            interrupts.append(interrupt)
        asked = [Written(item, i, tokens, prompt) for item, prompt, runs in drawn for i, tokens in enumerate(runs)]
        wanted = [run for run in asked if run.id not in done]
        for some in passes(wanted):
            found = _despite(
                interrupts, explain, vlm, some, pictures, estimated(estimator), estimator.binding.pooling, keep_hidden
            )
            for run, explained in zip(some, found, strict=True):
                with aside(run.item, set_aside):
                    made = _despite(interrupts, trace_of, vlm, run, explained, pictures, made_by, judge)
                    if made is not None:
                        yield made
        for item, _, _ in drawn:
            advance(item.task_set)
        if interrupts:
            raise interrupts[0]
        if without := len(batch) - len(drawn):
            advance("left out", without)


def _despite(interrupts: list[KeyboardInterrupt], work: Callable[..., T], *arguments: Any) -> T:
    """What `work` gives, done again where it is interrupted; that is added to `interrupts`."""
    try:
        return work(*arguments)
    except KeyboardInterrupt as interrupt:
        interrupts.append(interrupt)
        return work(*arguments)


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


@torch.inference_mode()
def generate_runs(
    vlm: VLM,
    items: Sequence[Item],
    samples: int,
    sampling: Sampling,
    set_aside: SetAside | None = None,
    *,
    keep_ended: bool = False,
) -> Iterator[tuple[Item, Prompt, list[list[int]]]]:
    """`samples` generations of each item, each cut after its end token; all in one batch, prompts padded on the left.

    Seeded, where there is a seed, by it and by the whole batch (ids of its items in their order, and `samples`): the
    same batch gives the same runs, and an item has others in another batch. set_aside: called for an item that cannot
    be asked, which is as if it had not been given, and for one with a run that fails on the way (`generate`): that run
    is empty, and all others are what they would have been. An item without any run is left out. keep_ended: where an
    interrupt (Ctrl-C) ends it, it is raised behind the runs that had ended by then. Raises InputError where there is no
    set_aside, and for settings with which nothing can be generated.
    """
    asked: list[tuple[Item, Prompt]] = []
    for item in items:
        with aside(item, set_aside):
            asked.append((item, vlm.prepare(item.image, item.question)))
    if not asked:
        return
    inputs = pad_left([prompt.inputs for _, prompt in asked], vlm.tokenizer.pad_token_id)
    if sampling.seed is not None:
        salt = zlib.crc32(" ".join(item.id for item, _ in asked).encode(), sampling.seed)
        sampling = replace(sampling, seed=(salt << 8) % 2**32)  # torch's generator reads the low 32 bits on the CPU
    failed: dict[int, InputError] = {}
    ended: dict[int, list[int]] = {}
    interrupt: KeyboardInterrupt | None = None
    try:
        rows = generate(vlm, inputs, sampling, samples, failed=failed if set_aside else None, ended=ended)
    except KeyboardInterrupt as error:
        if not keep_ended:
            raise
        interrupt, rows = error, [ended.get(row, []) for row in range(len(asked) * samples)]
    for i, (item, prompt) in enumerate(asked):
        own = range(i * samples, (i + 1) * samples)
        if set_aside and (errors := [failed[row] for row in own if row in failed]):
            set_aside(item, errors[0])
        runs = [[] if row in failed else rows[row] for row in own]
        if any(runs):
            yield item, prompt, runs
    if interrupt is not None:
        raise interrupt


def pad_left(prompts: Sequence[dict[str, Tensor]], pad_token: int) -> dict[str, Tensor]:
    """Inputs of several prompts as one batch: token rows padded on the left, the patches of all images in order."""
    length = max(p["input_ids"].shape[1] for p in prompts)
    fill = {"input_ids": pad_token, "attention_mask": 0, "mm_token_type_ids": 0}

    def padded(name: str, value: Tensor) -> Tensor:
        return torch.nn.functional.pad(value, (length - value.shape[1], 0), value=fill[name]) if name in fill else value

    return {name: torch.cat([padded(name, p[name]) for p in prompts]) for name in prompts[0]}
