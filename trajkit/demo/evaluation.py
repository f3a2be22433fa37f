"""How well the demo model answers: greedy on clean scenes, sampled on the mix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from trajkit.attribution.collect import batched, generate_runs
from trajkit.attribution.item import Item, Judgement
from trajkit.demo.items import judge_by_scene
from trajkit.vlm.generation import Sampling
from trajkit.vlm.model import VLM
from trajkit.vlm.sentences import split_steps


def answer_all(
    vlm: VLM, items: Iterable[Item], sampling: Sampling, advance: Callable[[str], None] = lambda note: None
) -> list[tuple[Item, Judgement, list[str], str | None]]:
    """One run of each item: (item, judgement, thinking sentences, answer or None)."""
    judged = []
    for batch in batched(items, 256):
        for item, _, runs in generate_runs(vlm, batch, 1, sampling):
            thinking, answer = said(vlm, runs[0])
            judged.append((item, judge_by_scene(item, thinking, answer), thinking, answer))
            advance(item.task_set)
    return judged


def said(vlm: VLM, tokens: Sequence[int]) -> tuple[list[str], str | None]:
    """The sentences of a run's thinking span, and its answer or None."""
    spans, texts, closed = split_steps(tokens, vlm)
    answer = texts[-1] if closed and spans and spans[-1].kind == "answer" else None
    return [text for span, text in zip(spans, texts, strict=True) if span.kind == "thinking"], answer
