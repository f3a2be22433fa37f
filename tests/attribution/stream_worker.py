"""A process that runs could hang or bring down: `python -m tests.attribution.stream_worker` prints what it is past.

After each nothing runs and no lock is held; after the last the process must end by itself.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time

import numpy as np

import trajkit as tk
from tests.scenes import clean_scene
from trajkit.demo import paths

QUESTION = "sort row 1 down."


class Interrupting(tk.LinearEstimator):
    """Ctrl-C while the first step is being explained."""

    def predict(self, features):
        if not hasattr(Interrupting, "done"):
            Interrupting.done = True
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)
        return super().predict(features)


def cycle(vlm, image, estimator):
    """A stream that only the garbage collector can find, which runs in both of the stream's own threads."""

    def collect_garbage(*_: object) -> None:
        gc.collect()

    hook = vlm.model.register_forward_hook(collect_garbage)
    gc.disable()
    holder = {"stream": tk.stream(vlm, image, QUESTION, estimator=estimator, temperature=0)}
    next(holder["stream"])
    holder["itself"] = holder
    del holder
    wait_for_threads()
    hook.remove()
    gc.enable()


def interrupt(vlm, image, estimator):
    """Ctrl-C in `trace`: when the exception arrives, while it still holds all frames, the threads have ended."""
    slow = Interrupting({"weights": np.ones(24, np.float32)}, estimator.binding)
    try:
        tk.trace(vlm, image, QUESTION, estimator=slow, temperature=0)
    except KeyboardInterrupt:
        assert not of_streams(), of_streams()
    else:
        raise AssertionError("the interrupt was lost")


def leave(vlm, image, estimator):
    """The process ends in the middle of a run."""
    next(running := tk.stream(vlm, image, QUESTION, estimator=estimator, temperature=0))
    sys.modules["kept"] = running


def of_streams() -> list[str]:
    """Threads of runs; tqdm keeps one of its own."""
    return [t.name for t in threading.enumerate() if "_produce" in t.name or "_explain" in t.name]


def wait_for_threads() -> None:
    until = time.monotonic() + 20
    while of_streams() and time.monotonic() < until:
        time.sleep(0.01)
    assert not of_streams(), of_streams()


def main() -> None:
    vlm, estimator = tk.load_vlm(paths.MODEL), tk.EffectEstimator.load(paths.ESTIMATOR)
    image = clean_scene(np.random.default_rng(11))[1]
    for case in (interrupt, cycle):
        case(vlm, image, estimator)
        assert vlm.lock.acquire(timeout=1), "the lock is held"
        vlm.lock.release()
        assert vlm.text_config._attn_implementation == "sdpa"
        print(case.__name__, flush=True)
    leave(vlm, image, estimator)
    print("leave", flush=True)


if __name__ == "__main__":
    main()
