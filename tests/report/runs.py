"""Made-up runs over real demo scenes: effects that look where the sentence says, failing runs wandering more."""

from __future__ import annotations

import numpy as np

from tests.scenes import clean_scene
from trajkit.demo.cells import CELL_PX
from trajkit.demo.grid import GRID
from trajkit.traces.images import to_png
from trajkit.traces.trace import Step, Trace

TASKS = ("general", "math", "document", "science", "code")
OUTCOMES = ("success", "success", "success", "hallucination", "reasoning_failure")
HOSTILE = "<script>alert(1)</script> & <b>bold</b> </script>"


def make_runs(n_scenes: int = 20, per_scene: int = 2, seed: int = 0) -> list[Trace]:
    """The first sentence of every run is HOSTILE."""
    runs = []
    for scene in range(n_scenes):
        rng = np.random.default_rng([seed, scene])
        drawn, image = clean_scene(rng)
        picture = to_png(image)
        for repeat in range(per_scene):
            outcome = OUTCOMES[int(rng.integers(len(OUTCOMES)))]
            runs.append(_run(rng, scene, repeat, outcome, drawn, picture))
    return runs


def _run(rng, scene: int, repeat: int, outcome: str, drawn, picture: bytes) -> Trace:
    failed = outcome != "success"
    n = int(rng.integers(5, 14 + 4 * failed))
    effects = rng.normal(0, 0.06 + 0.12 * failed, (n + 1, GRID * GRID))
    texts = [HOSTILE]
    for t in range(n + 1):
        row, col = rng.integers(0, GRID, 2)
        effects[t, row * GRID + col] += rng.gamma(4, 0.25)
        effects[t, int(rng.integers(GRID * GRID))] -= rng.gamma(2, 0.15)
        cell = drawn.at((int(row), int(col)))
        texts.append(f"row {row + 1} col {col + 1} is " + (f"a {cell[0]} {cell[1]}." if cell else "empty."))
    ends = np.cumsum(rng.integers(6, 12, n + 1)).tolist()
    steps = tuple(
        Step(
            texts[t] if t < n else "the answer is 7.",
            "thinking" if t < n else "answer",
            start,
            end,
            float(-rng.gamma(2, 0.1 + 0.1 * failed)),
            float(rng.gamma(2, 0.2)),
        )
        for t, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True))
    )
    cells = np.arange(GRID * GRID).reshape(GRID, GRID)
    return Trace(
        transcript_id=f"scene-{scene:03d}-{repeat}",
        model="demo",
        question=f"What is the sum of red digits? ({scene})",
        steps=steps,
        effects=effects.astype(np.float32),
        effects_kind="estimated",
        regions=np.kron(cells, np.ones((CELL_PX, CELL_PX), int)),
        group_id=f"scene-{scene:03d}",
        task_set=TASKS[scene % len(TASKS)],
        task_repeat=repeat,
        success=not failed,
        answer="7",
        target="7" if not failed else "9",
        outcome=outcome,
        image=picture,
        meta={"first_wrong": 2 if failed else None},
    )
