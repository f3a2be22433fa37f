"""How well the demo model answers: greedy on clean scenes, sampled on the mix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch

from trajkit.attribution.collect import Item, Judgement
from trajkit.attribution.stream import Sampling
from trajkit.demo.runs import judge_by_scene
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import split_steps


@torch.inference_mode()
def answer_all(
    vlm: VLM,
    items: Iterable[Item],
    sampling: Sampling,
    batch_size: int = 64,
    advance: Callable[[str], None] = lambda n: None,
) -> list[tuple[Item, Judgement, list[str], str | None]]:
    """One run of each item: (item, judgement, thinking sentences, answer). Prompts of one length share batches."""
    waiting: dict[int, list[tuple[Item, Prompt]]] = defaultdict(list)
    for item in items:
        prompt = vlm.prepare(item.image, item.question)
        waiting[prompt.length].append((item, prompt))
    if sampling.seed is not None:
        torch.manual_seed(sampling.seed)
    judged = []
    for length, group in waiting.items():
        for start in range(0, len(group), batch_size):
            chunk = group[start : start + batch_size]
            inputs = {name: torch.cat([p.inputs[name] for _, p in chunk]) for name in chunk[0][1].inputs}
            output = vlm.model.generate(**inputs, **sampling.arguments(vlm))[:, length:].tolist()
            for (item, _), row in zip(chunk, output, strict=True):
                end = next((i + 1 for i, t in enumerate(row) if t in vlm.end_tokens), len(row))
                spans, texts, closed = split_steps(row[:end], vlm)
                answer = texts[-1] if closed and spans and spans[-1].kind == "answer" else None
                thinking = [text for span, text in zip(spans, texts, strict=True) if span.kind == "thinking"]
                judged.append((item, judge_by_scene(item, thinking, answer), thinking, answer))
                advance(item.task_set)
    return judged
