"""From the parts of a run to its Trace."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trajkit.attribution.estimator import EffectEstimator
from trajkit.attribution.item import Item, Judge, judge_by_target
from trajkit.attribution.regions import Regions
from trajkit.traces.images import to_png
from trajkit.traces.trace import Step, Trace
from trajkit.vlm.generation import Sampling
from trajkit.vlm.model import VLM

if TYPE_CHECKING:
    from trajkit.attribution.explainer import LiveRun
    from trajkit.detection.monitor import Monitor


def settings(
    vlm: VLM,
    estimator: EffectEstimator,
    sampling: Sampling,
    keep_hidden: bool = False,
    server: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a run was made with, for its `meta`: runs that differ in any of it do not belong to one collection.

    server: what the one that made it says of itself, None where it was made here.
    """
    return {
        "fingerprint": vlm.fingerprint,
        "revision": vlm.revision,
        "system": vlm.system,
        "estimator": estimator.digest,
        **sampling.to_dict(),
        "keep_hidden": keep_hidden,
        "server": None if server is None else dict(server),
    }


def of_live(
    run: LiveRun,
    vlm: VLM,
    estimator: EffectEstimator,
    *,
    run_id: str,
    target: str | None,
    group_id: str | None,
    task_set: str,
    form: str,
    monitor: Monitor | None = None,
) -> Trace:
    """The Trace of a run under watch, judged by its target; without an answer where it was stopped before it ended.

    run_id: tells it from others where no seed does. monitor: the one that watched it.
    """
    names = ("text", "kind", "token_start", "token_end", "logprob", "entropy", "seconds", "risk", "alarm")
    live, sampling = list(run.steps), run.sampling
    steps = [Step(*(getattr(step, name) for name in names)) for step in live]
    effects = np.stack([step.effects for step in live]) if live else np.zeros((0, run.regions.k), np.float32)
    widths = [step.half_width for step in live if step.half_width is not None]
    picture = run.prompt.canvas.picture
    png = to_png(picture)
    image_id = hashlib.sha256(png).hexdigest()
    drawn = sampling.drawn
    acted = [decision.action for decision in run.decisions if decision.action != "flag"]
    drawn += (f" {', '.join(acted)}" if acted else "") + ("" if run.ended else f" stopped {len(live)}")
    draw = run_id if sampling.seed is None else drawn
    name = hashlib.sha256(f"{vlm.fingerprint} {image_id} {run.prompt.asked} {draw}".encode()).hexdigest()[:16]
    meta: dict[str, Any] = ({"kind": form} if form else {}) | ({} if run.ended else {"stopped": True})
    meta |= {"attempt": run.attempt, "abandoned": run.abandoned} if run.attempt else {}
    meta |= {"decisions": [decision.to_dict() for decision in run.decisions]} if run.decisions else {}
    meta |= {"messages": run.prompt.chat} if run.prompt.chat else {}
    meta |= {"monitor": monitor.about} if monitor is not None else {}
    item = Item(name, picture, run.prompt.question, group_id or image_id[:16], target, task_set, meta)
    return assemble(
        vlm,
        item,
        0,
        steps,
        effects,
        run.regions,
        png,
        settings(vlm, estimator, sampling),
        run.closed and run.ended,
        judge_by_target,
        run.tokens,
        np.stack(widths) if widths and len(widths) == len(live) else None,
    )


def assemble(
    vlm: VLM,
    item: Item,
    repeat: int,
    steps: list[Step],
    effects: Any,
    regions: Regions,
    png: bytes,
    settings: dict[str, Any],
    closed: bool,
    judge: Judge,
    tokens: Sequence[int],
    half_widths: Any = None,
) -> Trace:
    """The Trace of a run of an item, judged. tokens: all that were generated."""
    answer = next((s.text for s in steps if s.kind == "answer"), None) if closed else None
    verdict = judge(item, [s.text for s in steps if s.kind == "thinking"], answer)
    meta = item.meta | verdict.facts
    meta |= settings | {
        "thinking_closed": closed,
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
        half_widths=half_widths,
        tokens=np.asarray(tokens, np.int32),
    )
