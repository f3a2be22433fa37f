"""A thread beside a generation takes one core, and takes it from nobody's settings."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import trajkit as tk

SEEN = """
import os, threading, torch
from trajkit.attribution.one_core import on_one_core
torch.set_num_threads(2)
threads = lambda: len(os.listdir("/proc/self/task"))
numbers = torch.randn(500, 500)
numbers @ numbers

def beside():
    on_one_core()
    before = threads()
    numbers @ numbers
    torch.randn(4_000_000).exp_()
    print(torch.get_num_threads(), threads() - before)

for work in (beside, lambda: print(torch.get_num_threads())):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
print(torch.get_num_threads())
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux lists them")
def test_no_team_is_made_and_other_threads_keep_theirs():
    found = subprocess.run([sys.executable, "-c", SEEN], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.split() == ["1", "0", "2", "2"]


def test_steps_are_explained_on_one_core(demo_vlm, demo_estimator, scene_image, monkeypatch):
    import torch

    from trajkit.attribution.features import StepFeatures

    cores, push = [], StepFeatures.push
    monkeypatch.setattr(StepFeatures, "push", lambda *args: cores.append(torch.get_num_threads()) or push(*args))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(torch.set_num_threads, 3).result()
    try:
        steps = list(tk.stream(demo_vlm, scene_image, "what is the sum of row 2?", estimator=demo_estimator, seed=0))
    finally:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(torch.set_num_threads, torch.get_num_threads()).result()
    assert set(cores) == {1}
    assert len(cores) == len(steps)
