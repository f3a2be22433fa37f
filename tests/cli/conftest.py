"""The command line in process, and small inputs for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from trajkit.traces.trace import Step, Trace


@dataclass(frozen=True)
class Result:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    def assert_one_line_error(self, *words: str) -> None:
        """A non-zero exit code and one line on stderr that has all `words`; no traceback."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert self.code not in (0, 70), self.err
        assert len(lines) == 1, self.err
        assert lines[0].startswith("trajkit: ")
        assert "Traceback" not in self.err + self.out
        for word in words:
            assert word in lines[0]


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def cli(capsys, monkeypatch) -> Callable[..., Result]:
    """Run `trajkit ARGUMENTS` in this process. However slow it is, nothing is said of what is being loaded."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("trajkit.progress.SLOW", 3600.0)

    def run(*arguments: object) -> Result:
        from trajkit.cli.main import main

        capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(int(done.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def picture(tmp_path_factory, scene_image) -> Path:
    path = tmp_path_factory.mktemp("picture") / "scene.png"
    scene_image.save(path)
    return path


@pytest.fixture(scope="session")
def model_and_estimator(tmp_path_factory, demo_vlm) -> list[str]:
    """Options for the demo model with an estimator that fits it."""
    from trajkit.attribution.estimator import Binding
    from trajkit.attribution.linear import LinearEstimator

    folder = tmp_path_factory.mktemp("estimator")
    n = demo_vlm.n_features
    binding = Binding(demo_vlm.fingerprint, demo_vlm.name, None, "vision", "sum", "mean")
    LinearEstimator({"weights": np.full(n, 1 / n, np.float32)}, binding).save(folder)
    return ["--model", str(demo_vlm.name), "--estimator", str(folder)]


def _trace(group: int, repeat: int, failed: bool | None, rng: np.random.Generator, model: str = "toy") -> Trace:
    """A run whose failing kind has diffuse, low-confidence steps."""
    n_steps, k = int(rng.integers(3, 9)), 16
    effects = rng.gamma(2.0 if failed else 0.3, 1.0, (n_steps + 1, k)).astype(np.float32)
    steps = [
        Step(
            f"sentence {i}.",
            "thinking" if i < n_steps else "answer",
            5 * i,
            5 * i + 5,
            float(-rng.gamma(2.0, 0.4 if failed else 0.1)),
            float(rng.gamma(2.0, 0.2)),
        )
        for i in range(n_steps + 1)
    ]
    outcome = "unknown" if failed is None else "success"
    if failed:
        outcome = ("hallucination", "reasoning_failure")[int(rng.integers(2))]
    return Trace(
        f"g{group}-{repeat}",
        model,
        "how many?",
        tuple(steps),
        effects,
        "estimated",
        np.arange(k).reshape(4, 4),
        f"g{group}",
        task_set=("math", "code")[group % 2],
        task_id=f"g{group}",
        task_repeat=repeat,
        success=None if failed is None else not failed,
        answer="4",
        outcome=outcome,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="session")
def make_trace() -> Callable[..., Trace]:
    return _trace


@pytest.fixture(scope="session")
def traces(tmp_path_factory) -> Path:
    """240 runs of 80 groups, two fifths of them failing."""
    from trajkit.traces.store import write_traces

    rng = np.random.default_rng(0)
    runs = [_trace(g, r, bool(rng.random() < 0.4), rng) for g in range(80) for r in range(3)]
    return write_traces(runs, tmp_path_factory.mktemp("traces") / "runs.parquet")


@pytest.fixture(scope="session")
def detectors(traces, tmp_path_factory) -> Path:
    """Fitted on those runs."""
    from trajkit.detection.store import save_detectors
    from trajkit.judging.fit import fit_detectors
    from trajkit.traces.store import read_traces

    folder = tmp_path_factory.mktemp("detectors")
    save_detectors(folder, fit_detectors(read_traces(traces), compared=("length",), n_boot=20).detectors)
    return folder


@pytest.fixture
def questions(tmp_path, scene_image) -> Callable[..., Path]:
    """Write a JSONL file of questions about one scene; `without_target` leaves targets out."""

    def write(n: int = 3, target: str | None = "no") -> Path:
        scene_image.save(tmp_path / "scene.png")
        rows = [
            {"id": f"q{i}", "image": "scene.png", "question": f"sort row {i + 1} up.", "target": target}
            for i in range(n)
        ]
        path = tmp_path / "questions.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write
