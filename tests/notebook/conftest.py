"""Things that show themselves: one of each, real ones."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import trajkit as tk
from trajkit.attribution.explainer import LiveStep
from trajkit.detection.monitor_run import Verdict
from trajkit.tables import Estimate, Part, Table

DEMO = Path(__file__).parents[2] / "data" / "demo"
HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m&\u202e</div></style><script>alert(2)</script>"
"""What a model, a question or a name may say."""


@cache
def traces() -> tk.Traces:
    return tk.read_traces(DEMO / "traces")


def watched(trace: tk.Trace, alarm: int | None = 3, threshold: float | None = 0.61) -> tk.Trace:
    """The run with risks that rise, and an alarm."""
    risks = np.linspace(0.2, 0.9, trace.n_steps)
    steps = [replace(step, risk=float(risks[at]), alarm=at == alarm) for at, step in enumerate(trace.steps)]
    monitor = {"watches": "failure", "alpha": 0.1, "threshold": threshold}
    return replace(trace, steps=tuple(steps), meta={**trace.meta, "monitor": monitor})


def bare(trace: tk.Trace) -> tk.Trace:
    """The run as an import has it: without effects, regions and uncertainty."""
    steps = tuple(replace(step, logprob=None, entropy=None) for step in trace.steps)
    none = np.zeros((trace.n_steps, 0), np.float32)
    return replace(trace, steps=steps, effects=none, effects_kind=None, regions=np.zeros((0, 0), np.uint8))


def live_step(text: str = "row 2 col 2 is green 6.") -> LiveStep:
    return LiveStep(
        text,
        "thinking",
        7,
        15,
        -0.18,
        0.19,
        index=1,
        effects=np.array([0.1, -2.5, 7.0, 0.0], np.float32),
        half_width=np.array([0.1, 0.5, 2.0, 0.1], np.float32),
        verdict=Verdict(2, 0.7, 0.7, 0.61, True),
        risk=0.7,
        alarm=True,
    )


def shown(thing: object) -> str:
    """As IPython asks for it."""
    bundle = getattr(thing, "_repr_mimebundle_", None)
    return bundle()["text/html"] if bundle else thing._repr_html_()  # type: ignore[attr-defined]


def step_predictor() -> tk.StepPredictor:
    """Fitted on a few runs, every third sentence of which is called false."""
    frame = tk.detection.sentence_features(traces()[:30])
    return tk.StepPredictor(max_iter=3).fit(frame, np.where(np.arange(len(frame)) % 3, "", "false"))


@cache
def things() -> dict[str, Any]:
    """Name → one of each kind of thing that shows itself."""
    detectors = tk.detection.load_detectors(DEMO / "detectors")
    runs = tk.run_table(traces()[:900])
    compared = tk.judging.compare_runs(tk.run_table(traces()[:120]), draws=20)
    fit = tk.judging.fit_detectors(traces()[:900], compared=("length",), n_boot=20)
    frame = pd.DataFrame(
        {"method": ["a", "<b>"], "auc": [Estimate(0.7, 0.6, 0.8), Estimate(0.5)], "n": [Part(1, 4), 2]}
    )
    return {
        "trace": traces()[1],
        "watched trace": watched(traces()[2]),
        "trace without effects": bare(traces()[3]),
        "traces": traces(),
        "run table": runs,
        "step": traces()[0].steps[0],
        "live step": live_step(),
        "regions": tk.segment(DEMO / "example.png", "blocks", (16, 16)),
        "network estimator": tk.EffectEstimator.load(DEMO / "estimator"),
        "linear estimator": tk.EffectEstimator.load(DEMO / "estimator-linear"),
        "predictor": detectors.predictor,
        "predictor before fit": tk.EarlyFailurePredictor(),
        "step predictor": step_predictor(),
        "step predictor before fit": tk.StepPredictor("effects"),
        "classifier": detectors.outcome,
        "monitor": detectors.monitor,
        "monitor that cannot alarm": detectors.monitor.at(0.001),
        "monitor of scores": tk.Monitor.of_scores(tk.features(traces()[:900]), "logprob_mean", higher="better"),
        "detectors": detectors,
        "policy": tk.Policy("ask again", enough=detectors.enough),
        "table": Table(frame, note="a <note>"),
        "estimate": Estimate(0.61, 0.55, 0.67),
        "auc": tk.stats.auc([0, 1, 0, 1, 1], [0.1, 0.4, 0.5, 0.6, 0.9]),
        "comparison": compared,
        "fit": fit,
        "evaluation": fit.evaluation,
    }
