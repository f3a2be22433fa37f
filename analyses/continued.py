"""Saved demo runs that are generated on from some of their tokens: what a policy would have made of them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from trajkit.attribution.collect import batched, pad_left
from trajkit.attribution.item import Item
from trajkit.demo.items import judge_by_scene
from trajkit.files import replacing
from trajkit.traces.trace import Trace
from trajkit.vlm.generation import Sampling, generate
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import split_steps

BATCH = 64


@dataclass(frozen=True)
class Beginning:
    """run: the saved run that it is of. group: its scene. tokens: generated or put there, from which to go on."""

    run: str
    group: str
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Continued:
    """What a generation came to. tokens: those generated after its beginning. answer: "" for none."""

    run: str
    tokens: int
    answer: str
    right: bool


def tokens_of(vlm: VLM, trace: Trace, steps: int) -> tuple[int, ...] | None:
    """The ids of the first `steps` thinking steps of a saved run, whose texts alone are kept; None where the tokenizer
    does not give them back."""
    ids: list[int] = []
    for step in trace.steps[:steps]:
        own = vlm.tokenizer.encode(step.text, add_special_tokens=False)
        if step.token_start != len(ids) or step.token_end != len(ids) + len(own):
            return None
        ids += own
    return tuple(ids)


def continued(
    vlm: VLM,
    items: Mapping[str, Item],
    beginnings: Sequence[Beginning],
    folder: Path,
    seed: int = 0,
    advance: Callable[[str, int], None] = lambda note, steps=1: None,
) -> Iterator[Continued]:
    """Each beginning generated to its end, in the order of their lengths, and judged by its scene.

    items: the question of each scene. A batch is drawn by the seed and what is in it, and kept as a file of `folder`
    named so: made once, and the same however often it was interrupted.
    """
    prompts: dict[str, Prompt] = {}
    for batch in batched(sorted(beginnings, key=lambda one: (len(one.tokens), one.run)), BATCH):
        said = f"{vlm.fingerprint} {[(one.run, one.tokens) for one in batch]}"
        key = zlib.crc32(said.encode(), seed)
        path = folder / f"{key:08x}.parquet"
        if not path.exists():
            prompts |= {one.group: _prompt(vlm, items[one.group]) for one in batch if one.group not in prompts}
            inputs = pad_left([prompts[one.group].inputs for one in batch], vlm.tokenizer.pad_token_id)
            begun = [one.tokens for one in batch]
            rows = generate(vlm, inputs, Sampling(1.0, seed=key), begun=begun)
            with replacing(path) as stream:
                pd.DataFrame({"run": [one.run for one in batch], "tokens": rows}).to_parquet(stream)
        for one, tokens in zip(batch, pd.read_parquet(path)["tokens"], strict=True):
            yield _judged(vlm, items[one.group], one, tokens.tolist())
        advance("", len(batch))


def _prompt(vlm: VLM, item: Item) -> Prompt:
    return vlm.prepare(item.image, item.question)


def _judged(vlm: VLM, item: Item, one: Beginning, tokens: list[int]) -> Continued:
    spans, texts, closed = split_steps(tokens, vlm)
    thinking = [text for text, span in zip(texts, spans, strict=True) if span.kind == "thinking"]
    answer = next((text for text, span in zip(texts, spans, strict=True) if span.kind == "answer" and closed), None)
    right = judge_by_scene(item, thinking, answer).success is True
    return Continued(one.run, len(tokens) - len(one.tokens), answer or "", right)
