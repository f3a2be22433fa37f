"""What examples in docstrings take for granted, as docs/reference/index.md says it to readers."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def names_in_examples() -> dict[str, Any]:
    """Name → value: the demo's model, its files, and runs that its detectors have not seen."""
    import numpy as np
    from PIL import Image

    import trajkit as tk
    from trajkit.demo.named import named_cells
    from trajkit.demo.runs import step_labels

    detectors = tk.detection.load_detectors("data/demo/detectors")
    traces = tk.read_traces("data/demo/traces")
    table = tk.run_table("data/demo/traces")
    runs = table.only(~table.table["group_id"].isin(detectors.seen).to_numpy()).drawn(400)
    trace = traces[3]
    some = traces[:240]
    sentences = tk.detection.sentence_features(some, named_cells, step_labels(some))
    vlm, estimator = tk.load_vlm("data/demo/model"), tk.EffectEstimator.load("data/demo/estimator")
    image, question = Image.open("data/demo/example.png"), "how many times is row 1 more than row 3?"
    return {
        "np": np,
        "tk": tk,
        "Image": Image,
        "vlm": vlm,
        "estimator": estimator,
        "detectors": detectors,
        "monitor": detectors.monitor,
        "image": image,
        "question": question,
        "steps": list(tk.stream(vlm, image, question, estimator=estimator, monitor=detectors.monitor, seed=1)),
        "traces": traces,
        "trace": trace,
        "path": trace.effects[trace.thinking],
        "runs": runs,
        "frame": runs.frame,
        "sentences": sentences,
        "held": tk.judging.held_out_steps(sentences, n_splits=3, deals=1),
        "watched": tk.judging.monitor_runs(detectors.monitor, runs.frame),
    }
