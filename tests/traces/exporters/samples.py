"""Four runs that have between them all that formats treat in a way of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.traces.factory import make_trace
from trajkit.traces.trace import Trace

FORMULA = '=HYPERLINK("http://example.org","look")'
MARKUP = "a | b <script>alert(1)</script> **bold** [x](http://y)"


def samples() -> list[Trace]:
    """watched: risk, alarm, half widths, tokens, a system prompt, a beginning. odd: text that other tools would run or
    lay out, a wrong run of no known kind, an effect that supports nothing. imported: no effects, no uncertainty, no
    image, cut off, with the exact text and source. other: of another model."""
    watched = make_trace(0, outcome="hallucination", success=False, score=0.0, target="no")
    said = zip(watched.steps, (0.25, 0.75, None), (False, True, None), strict=True)
    watched = replace(
        watched,
        steps=tuple(replace(step, risk=risk, alarm=alarm) for step, risk, alarm in said),
        half_widths=np.abs(watched.effects) / 2,
        tokens=np.arange(42, dtype=np.int32),
        meta={
            "temperature": 0.5, "max_new_tokens": 64, "seed": 7, "system": "Think first.", "began": 1_790_000_000,
            "thinking_closed": True, "detail": "misreading", "estimator": "e5", "fingerprint": "f0",
        },
    )  # fmt: skip
    odd = make_trace(5, question=FORMULA, answer="-3", target="@SUM(A1)", success=False, score=0.5, outcome="unknown")
    odd = replace(odd, steps=(replace(odd.steps[0], text=f"{MARKUP}\n\r\x1b[2J=1+1"), *odd.steps[1:]), task_id="t/2")
    odd = replace(odd, effects=np.vstack([-np.ones((1, 3)), odd.effects[1:]]).astype(np.float32))
    cut = make_trace(2, image=None, image_sha256="", regions=np.zeros((0, 0), np.uint8), effects_kind=None, answer="")
    imported = replace(
        cut,
        transcript_id="imported",
        effects=np.zeros((cut.n_steps, 0), np.float32),
        steps=tuple(replace(step, logprob=None, entropy=None, seconds=0.0) for step in cut.steps),
        outcome="unknown",
        success=None,
        score=None,
        target="",
        task_set="",
        group_id="",
        meta={
            "source": {"format": "inspect", "file": "digits.eval", "tool": "inspect_ai 0.3", "id": "s00"},
            "written": {"thinking": " sentence 0. sentence 1.", "answer": " yes"},
            "messages": [{"role": "user", "content": [{"type": "text", "text": "is there a 7?"}]}],
            "cut": "length",
            "counted_in": "words",
        },
    )
    return [watched, odd, imported, make_trace(8, model="org/Other-8B", task_id="t/3")]
