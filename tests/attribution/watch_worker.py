"""A process whose generation is interrupted: `python -m tests.attribution.watch_worker` prints what is left of it.

By Ctrl-C, then by SIGTERM in a program that turns it into SystemExit, as servers do.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

import numpy as np
from transformers import AutoModelForImageTextToText

import trajkit as tk
from tests.scenes import clean_scene
from trajkit.demo import paths
from trajkit.vlm.adapter import adapter_for
from trajkit.vlm.processor import load_processor


def main() -> None:
    model = AutoModelForImageTextToText.from_pretrained(paths.MODEL)
    processor, estimator = (
        load_processor(str(paths.MODEL), adapter_for(model.config)),
        tk.EffectEstimator.load(paths.ESTIMATOR),
    )
    image = clean_scene(np.random.default_rng(11))[1]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for number in (signal.SIGINT, signal.SIGTERM):
        raised = ""
        try:
            with tk.watch(
                model,
                processor,
                image,
                "sort row 1 down.",
                estimator=estimator,
                on_step=lambda step, number=number: os.kill(os.getpid(), number),
            ) as run:
                model.generate(**run.inputs, **run.kwargs, do_sample=False)
        except BaseException as error:
            raised = type(error).__name__
        trace = run.trace()
        left = {
            "raised": raised,
            "steps": trace.n_steps,
            "stopped": trace.meta.get("stopped"),
            "tokens": len(run.runs[0].tokens),
            "explained": trace.steps[-1].token_end,
            "threads": sum("_explain" in thread.name for thread in threading.enumerate()),
            "kernel": model.config.text_config._attn_implementation,
        }
        print(json.dumps(left), flush=True)


if __name__ == "__main__":
    main()
