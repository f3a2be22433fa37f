"""A small made-up world of runs: failing ones jump more between regions and are less sure, by known amounts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from trajkit.traces.trace import Step, Trace
from trajkit.trajectory.features import prefix_features

TASKS = ("math", "document")
REGIONS = 6


@dataclass(frozen=True)
class Run:
    """effects (T, K), tokens per step (T,), logprob (T,), entropy (T,)."""

    transcript_id: str
    group_id: str
    task_set: str
    outcome: str
    effects: np.ndarray
    tokens: np.ndarray
    logprob: np.ndarray
    entropy: np.ndarray
    form: str = ""


@dataclass(frozen=True)
class LiveStep:
    effects: np.ndarray
    logprob: float
    entropy: float
    n_tokens: int
    kind: str = "thinking"


def make_runs(n_groups: int = 60, per_group: int = 3, seed: int = 0, signal: float = 1.0) -> list[Run]:
    rng = np.random.default_rng(seed)
    runs = []
    for group in range(n_groups):
        hardness = rng.normal(0, 0.7)
        for repeat in range(per_group):
            failed = rng.random() < 1 / (1 + np.exp(0.3 - hardness))
            outcome = rng.choice(["hallucination", "reasoning_failure"]) if failed else "success"
            bad = signal * failed
            steps = int(rng.integers(1, 9))
            spread = 1.0 + (0.9 * bad if outcome == "reasoning_failure" else -0.4 * bad)
            runs.append(
                Run(
                    transcript_id=f"run-{group:03d}-{repeat}",
                    group_id=f"scene-{group:03d}",
                    task_set=TASKS[group % 2],
                    outcome=outcome,
                    effects=rng.normal(0.3, spread, (steps, REGIONS)).astype(np.float32),
                    tokens=rng.integers(5, 12, steps),
                    logprob=-np.abs(rng.normal(0.3 + 0.25 * bad, 0.15, steps)),
                    entropy=np.abs(rng.normal(0.5 + 0.2 * bad, 0.2, steps)),
                )
            )
    return runs


def make_frame(runs: list[Run]) -> pd.DataFrame:
    parts = []
    for run in runs:
        columns = prefix_features(run.effects, n_tokens=np.cumsum(run.tokens), logprob=run.logprob, entropy=run.entropy)
        part = pd.DataFrame(columns)
        for name in ("transcript_id", "group_id", "task_set", "form", "outcome"):
            part[name] = getattr(run, name)
        part["success"] = run.outcome == "success"
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def live_steps(run: Run) -> list[LiveStep]:
    columns = (run.effects, run.logprob, run.entropy, run.tokens)
    return [LiveStep(e, float(lp), float(h), int(n)) for e, lp, h, n in zip(*columns, strict=True)]


def make_trace(run: Run, model: str = "demo") -> Trace:
    """The run as a Trace, with an answer step at its end that detectors must not look at."""
    ends = np.cumsum([*run.tokens, 3]).tolist()
    said = zip([0, *ends[:-1]], ends, [*run.logprob, -9.0], [*run.entropy, 9.0], strict=True)
    steps = [Step("look .", "thinking", start, end, float(lp), float(h)) for start, end, lp, h in said]
    return Trace(
        transcript_id=run.transcript_id,
        model=model,
        question="?",
        steps=(*steps[:-1], replace(steps[-1], kind="answer")),
        effects=np.concatenate([run.effects, np.full((1, REGIONS), 50, np.float32)]).astype(np.float32),
        effects_kind="measured",
        regions=np.arange(REGIONS).reshape(1, REGIONS),
        group_id=run.group_id,
        task_set=run.task_set,
        success=run.outcome == "success",
        outcome=run.outcome,  # type: ignore[arg-type]
        meta={"kind": run.form} if run.form else {},
    )


def random_walks(n_groups: int, seed: int, longer: int = 8) -> list[Run]:
    """Walks that differ in nothing but length, failing ones being `longer`; below 8 some are as long as successes."""
    rng = np.random.default_rng(seed)
    runs = []
    for group in range(n_groups):
        failed = bool(rng.random() < 0.5)
        steps = int(rng.integers(8, 16) + (longer if failed else 0))
        runs.append(
            Run(
                transcript_id=f"walk-{group}",
                group_id=f"scene-{group}",
                task_set="math",
                outcome="reasoning_failure" if failed else "success",
                effects=np.cumsum(rng.normal(size=(steps, REGIONS)), axis=0),
                tokens=rng.integers(5, 12, steps),
                logprob=-rng.random(steps),
                entropy=rng.random(steps),
            )
        )
    return runs
