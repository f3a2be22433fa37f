"""Every pipeline runs from end to end with --quick, into a scratch folder, and leaves data/ alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import trajkit as tk
from pipelines import collect_traces, fit_detectors, reinforce_demo_model, train_demo_model, train_estimator
from trajkit.demo import paths


def stamp(folder: Path) -> dict[str, int]:
    return {str(f): f.stat().st_mtime_ns for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.fixture
def written(tmp_path, monkeypatch, capsys):
    """Run a pipeline's main with --quick from the repository root; return what it said it wrote."""
    monkeypatch.chdir(paths.ROOT)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def run(pipeline, *options: str) -> Path:
        before = stamp(paths.DEMO)
        pipeline.main(["--quick", *options])
        assert stamp(paths.DEMO) == before
        said = capsys.readouterr().out.strip().splitlines()[-1]
        return next(
            p
            for p in sorted(tmp_path.rglob("*"))
            if said.find(str(p)) >= 0 and p.is_dir() and p.parent.name != tmp_path.name
        )

    return run


def test_train_demo_model(written):
    vlm = tk.load_vlm(written(train_demo_model))
    assert vlm.n_features == 24


def test_reinforce_demo_model(written):
    folder = written(reinforce_demo_model)
    assert tk.load_vlm(folder).fingerprint != tk.load_vlm(paths.MODEL).fingerprint
    assert len((folder.parent / "work" / "updates.jsonl").read_text().splitlines()) == 2


def test_train_estimator(written):
    folder = written(train_estimator)
    for kind in ("estimator", "estimator-linear"):
        assert tk.EffectEstimator.load(folder.with_name(kind)).card["runs"] == 8


def test_collect_traces(written):
    traces = tk.read_traces(written(collect_traces))
    assert len(traces) == 10
    assert len({t.group_id for t in traces}) == 5


def test_fit_detectors(written):
    from trajkit.detection.store import load_detectors

    assert load_detectors(written(fit_detectors)).card["groups"]["test"] > 10
