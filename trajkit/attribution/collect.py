"""From questions to Traces: one run live (`trace`), or many in batches (`collect`)."""

from __future__ import annotations

import hashlib
import io
import platform
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from trajkit.attribution.estimator import EffectEstimator
from trajkit.attribution.regions import Regions, segment
from trajkit.attribution.replay import replay
from trajkit.attribution.stream import Sampling, stream
from trajkit.traces.trace import Outcome, Step, Trace
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import split_steps

if TYPE_CHECKING:
    from trajkit.detection.monitor import Monitor


@dataclass(frozen=True, eq=False)
class Item:
    """A question to collect runs of. target: the right answer, or None when there is none to compare with."""

    id: str
    image: Image.Image
    question: str
    group_id: str
    target: str | None = None
    task_set: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """What came of a run: its outcome, whether it succeeded (None: cannot be told), and facts for `meta`."""

    outcome: Outcome
    success: bool | None
    facts: dict[str, Any] = field(default_factory=dict)


Judge = Callable[[Item, Sequence[str], str | None], Judgement]
"""(item, sentences of the thinking span, answer or None) → Judgement."""


def judge_by_target(item: Item, sentences: Sequence[str], answer: str | None) -> Judgement:
    """Success when the answer equals the target but for case, spacing and a final stop; a wrong one is `unknown`."""
    if item.target is None:
        return Judgement("unknown", None)
    right = answer is not None and _plain(answer) == _plain(item.target)
    return Judgement("success" if right else "unknown", right)


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(". ")


def encode_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def trace(
    vlm: VLM,
    image: Image.Image,
    question: str,
    *,
    estimator: EffectEstimator,
    monitor: Monitor | None = None,
    regions: Regions | None = None,
    target: str | None = None,
    group_id: str | None = None,
    temperature: float | None = None,
    max_new_tokens: int | None = None,
    seed: int | None = None,
) -> Trace:
    """Generate one run with `stream` and return its Trace. group_id defaults to the image's hash."""
    running = stream(
        vlm, image, question, estimator=estimator, monitor=monitor, regions=regions, temperature=temperature,
        max_new_tokens=max_new_tokens, seed=seed,
    )  # fmt: skip
    live = list(running)
    steps = [Step(s.text, s.kind, s.token_start, s.token_end, s.logprob, s.entropy, s.seconds) for s in live]
    effects = np.stack([s.effects for s in live]) if live else np.zeros((0, running.regions.k), np.float32)
    png = encode_png(running.prompt.image)
    image_id = hashlib.sha256(png).hexdigest()
    name = hashlib.sha256(f"{vlm.fingerprint} {image_id} {question} {seed}".encode()).hexdigest()[:16]
    item = Item(name, running.prompt.image, question, group_id or image_id[:16], target)
    sampling = Sampling(temperature, max_new_tokens, seed)
    return _assemble(vlm, item, 0, steps, effects, running.regions, png, sampling, running.closed, judge_by_target)


def collect(
    vlm: VLM,
    items: Iterable[Item],
    *,
    estimator: EffectEstimator,
    samples: int = 1,
    sampling: Sampling | None = None,
    judge: Judge = judge_by_target,
    done: frozenset[str] = frozenset(),
    region_method: Any = "vision",
    k: tuple[int, int] = (16, 128),
    advance: Callable[[str], None] = lambda note: None,
) -> Iterator[Trace]:
    """Yield `samples` runs of every item, as Traces with estimated effects.

    The runs of one item are sampled as one batch, seeded by (seed, item id): a run does not depend on which other
    items are collected. Runs whose transcript_id (item id, "-", repeat) is in `done` are not yielded again.
    """
    estimator.check(vlm.fingerprint, vlm.name)
    sampling = sampling or Sampling(seed=0)
    for item in items:
        if all(f"{item.id}-{i}" in done for i in range(samples)):
            advance("already there")
            continue
        prompt = vlm.prepare(item.image, item.question)
        regions = segment(prompt.image, region_method, k, vlm=vlm)
        png = encode_png(prompt.image)
        for i, tokens in enumerate(generate_batch(vlm, prompt, samples, sampling, item.id)):
            if f"{item.id}-{i}" in done:
                continue
            spans, texts, closed = split_steps(tokens, vlm)
            if not spans:
                continue
            pooling: Any = estimator.binding.pooling
            seen = replay(vlm, prompt, torch.tensor(tokens, device=vlm.model.device), spans, regions, pooling)
            steps = [
                Step(text, span.kind, span.start, span.end, float(seen.logprob[t]), float(seen.entropy[t]))
                for t, (span, text) in enumerate(zip(spans, texts, strict=True))
            ]
            effects = estimator.predict(seen.features)
            yield _assemble(vlm, item, i, steps, effects, regions, png, sampling, closed, judge)
        advance(item.task_set)


@torch.inference_mode()
def generate_batch(vlm: VLM, prompt: Prompt, samples: int, sampling: Sampling, salt: str = "") -> list[list[int]]:
    """`samples` generations of one prompt, each cut after its end token; seeded by (seed, salt) if there is one."""
    arguments = sampling.arguments(vlm)
    many = samples if arguments.get("do_sample", vlm.model.generation_config.do_sample) else 1
    with torch.random.fork_rng(enabled=sampling.seed is not None):
        if sampling.seed is not None:
            torch.manual_seed((sampling.seed << 32) + zlib.crc32(salt.encode()))
        output = vlm.model.generate(**prompt.inputs, **arguments, num_return_sequences=many)
    rows = output[:, prompt.length :].tolist()
    rows = [row[: next((i + 1 for i, t in enumerate(row) if t in vlm.end_tokens), len(row))] for row in rows]
    return rows if many == samples else rows * samples


def _assemble(
    vlm: VLM, item: Item, repeat: int, steps: list[Step], effects: Any, regions: Regions, png: bytes,
    sampling: Sampling, closed: bool, judge: Judge,
) -> Trace:  # fmt: skip
    answer = next((s.text for s in steps if s.kind == "answer"), None) if closed else None
    verdict = judge(item, [s.text for s in steps if s.kind == "thinking"], answer)
    meta = item.meta | verdict.facts
    meta |= {
        "temperature": sampling.temperature,
        "seed": sampling.seed,
        "thinking_closed": closed,
        "fingerprint": vlm.fingerprint,
        "revision": vlm.revision,
        "region_method": regions.method,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    return Trace(
        transcript_id=f"{item.id}-{repeat}",
        model=vlm.name,
        question=item.question,
        steps=tuple(steps),
        effects=np.asarray(effects, np.float32),
        effects_kind="estimated",
        regions=regions.labels.astype(np.uint8 if regions.k <= 256 else np.uint16),
        group_id=item.group_id,
        task_set=item.task_set,
        task_id=item.id,
        task_repeat=repeat,
        score=None if verdict.success is None else float(verdict.success),
        success=verdict.success,
        answer=answer or "",
        target=item.target or "",
        outcome=verdict.outcome,
        image=png,
        meta=meta,
    )
