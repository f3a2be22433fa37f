"""A generation has the cores to itself: no thread beside it keeps a team, and attention is read by its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import current_thread

import pytest

import trajkit as tk

LET_GO = """
import os, torch
from trajkit.attribution.cores import let_go_of_cores
torch.set_num_threads(2)
threads = lambda: len(os.listdir("/proc/self/task"))
alone = threads()
for let_go in (False, True, False):
    torch.randn(4_000_000).exp_()
    if let_go:
        let_go_of_cores()
    print(threads() - alone)
"""
STREAMED = """
import os, sklearn.ensemble, torch
import trajkit as tk
from trajkit.demo import paths
from PIL import Image
torch.set_num_threads(2)
vlm = tk.load_vlm(paths.MODEL)
image = Image.new("RGB", (224, 224))
estimator = tk.EffectEstimator.load(paths.ESTIMATOR)
threads = lambda: len(os.listdir("/proc/self/task"))
alone, seen = threads(), []
torch.randn(4_000_000).exp_()
for step in tk.stream(vlm, image, "sort row 2 up.", estimator=estimator, seed=0, max_new_tokens=24):
    seen.append(threads() - alone)
print(max(seen))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux lists them")
def test_the_calling_thread_lets_go_of_its_team_and_gets_another():
    found = subprocess.run([sys.executable, "-c", LET_GO], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.split() == ["1", "0", "1"]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux lists them")
def test_a_stream_has_one_team_of_threads():
    found = subprocess.run([sys.executable, "-c", STREAMED], capture_output=True, text=True, check=True, timeout=120)
    assert int(found.stdout) <= 3  # the one that generates, the other of its team, and the one that explains


def test_attention_is_read_where_a_step_ends_and_explained_beside(demo_vlm, demo_estimator, scene_image, monkeypatch):
    from trajkit.attribution.features import StepFeatures

    threads, push, explain = {"read": set(), "explained": set()}, StepFeatures.push, demo_estimator.predict_interval

    def seen(name, function):
        return lambda *args: threads[name].add(current_thread().ident) or function(*args)

    monkeypatch.setattr(StepFeatures, "push", seen("read", push))
    monkeypatch.setattr(demo_estimator, "predict_interval", seen("explained", explain))
    assert list(tk.stream(demo_vlm, scene_image, "sort row 2 up.", estimator=demo_estimator, seed=0))
    assert len(threads["read"]) == len(threads["explained"]) == 1
    assert threads["read"] != threads["explained"]
