"""Traces to test with: small, made from a number, with images that several runs share."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from trajkit.traces.trace import Step, Trace


def png(seed: int = 0, size: tuple[int, int] = (24, 20)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def make_trace(number: int = 0, **changes: Any) -> Trace:
    """Run `number`: 2 to 4 thinking steps and an answer, 3 regions, an image shared by four runs."""
    rng = np.random.default_rng(number)
    t, k = 3 + number % 3, 3
    steps = [
        Step(f"sentence {i}.", "thinking", 5 * i, 5 * i + 3 + i, -0.25 * i, 0.5 + i, 0.125 * i) for i in range(t - 1)
    ]
    fields: dict[str, Any] = {
        "transcript_id": f"run-{number:04d}",
        "model": "demo",
        "question": "is there a red 7?",
        "steps": (*steps, Step("yes", "answer", 40, 42, -0.1, 0.2)),
        "effects": rng.normal(size=(t, k)).astype(np.float32),
        "effects_kind": "estimated",
        "regions": np.arange(20 * 24).reshape(20, 24) % k,
        "group_id": f"scene-{number // 4}",
        "task_set": "general",
        "task_id": "t1",
        "task_repeat": number % 4,
        "score": 1.0,
        "success": True,
        "answer": "yes",
        "target": "yes",
        "outcome": "success",
        "image": png(number // 4),
        "meta": {"temperature": 1.0, "seed": number},
    }
    return Trace(**(fields | changes))


def assert_same(a: Trace, b: Trace) -> None:
    """Equal in every field, NaN being equal to NaN."""
    for name in Trace.__dataclass_fields__:
        left, right = getattr(a, name), getattr(b, name)
        if name in ("effects", "regions", "half_widths", "tokens") and left is not None:
            np.testing.assert_array_equal(left, right)
        elif name == "meta":
            assert dict(left) == dict(right)
        else:
            assert left == right or (left != left and right != right), f"{name}: {left!r} is not {right!r}"
