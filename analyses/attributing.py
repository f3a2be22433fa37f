"""Effects for runs that were written elsewhere: are they those of collecting, and how fast do they come?

    python -m analyses.attributing           # some minutes on 2 cores; writes reports/attributing.md
    python -m analyses.attributing --quick   # fewer runs

Runs of the demo's model are collected, then attributed from what a log may tell of them: token ids, exact text, or the
bare texts of their steps; so are the shipped runs, from bare texts, and runs that inspect logged. Times are processor
time of the same runs in turn (A B C A B C …): medians of repeats, and of the ratios within them, with the lowest and
highest.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import trajkit as tk
from trajkit.attribution.attribute import attribute
from trajkit.attribution.collect import collect
from trajkit.attribution.estimator import EffectEstimator
from trajkit.demo.items import demo_items
from trajkit.demo.paths import DEMO, ESTIMATOR, MODEL, TRACES
from trajkit.files import write_text
from trajkit.progress import progress
from trajkit.tables import Table, render, words
from trajkit.traces.trace import Trace
from trajkit.vlm.generation import Sampling
from trajkit.vlm.model import VLM
from trajkit.vlm.pieces import TextPieces

LOG = DEMO / "logs" / "digits.eval"
"""Runs of the demo's model, logged by inspect."""
SAME = 1e-3
"""Nats by which effects may differ and be the same."""
SAMPLING = Sampling(temperature=1.0, seed=3)


@dataclass(frozen=True)
class Kit:
    """What is compared with what."""

    vlm: VLM
    estimator: EffectEstimator


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="collected, to compare effects")
    parser.add_argument("--timed", type=int, default=16, help="runs of which the time is taken")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("reports/attributing.md"))
    args = parser.parse_args(argv)
    if args.quick:
        args.runs, args.timed, args.repeats = 12, min(args.timed, 4), min(args.repeats, 3)
    kit = Kit(tk.load_vlm(MODEL), tk.EffectEstimator.load(ESTIMATOR))
    shipped: Sequence[Trace] = tk.read_traces(TRACES)
    shipped = shipped[::78] if args.quick else shipped
    with progress("collecting", total=args.runs) as bar:
        items = demo_items("test", args.runs, seed=3)
        saved = list(collect(kit.vlm, items, estimator=kit.estimator, sampling=SAMPLING, advance=bar.advance))
    logged = list(tk.import_traces(LOG))
    with progress("attributing", total=3 * len(saved) + len(shipped) + len(logged)) as bar:
        compared = [
            compare(kit, "ids", saved, saved, bar.advance),
            compare(kit, "exact text", saved, [told(kit.vlm, run, exact=True) for run in saved], bar.advance),
            compare(kit, "texts of steps", saved, [told(kit.vlm, run, exact=False) for run in saved], bar.advance),
            compare(
                kit,
                "texts of steps, shipped runs",
                shipped,
                (told(kit.vlm, run, exact=False) for run in shipped),
                bar.advance,
            ),
        ]
        from_log = of_log(kit, logged, bar.advance)
    times = timed(kit, saved[: args.timed], args.repeats)
    text = (
        "# Attributing\n\n"
        f"Regenerate: `python -m analyses.attributing`. The demo's model, {torch.get_num_threads()} thread, torch "
        f"{torch.__version__}.\n\n"
        "## The same effects, whatever is told of a run\n\n"
        f"{render.markdown(Table(pd.DataFrame(compared)))}\n{_COMPARED}"
        f"\n## Runs that inspect logged\n\n{from_log}"
        f"\n## Runs a second of the processor\n\n{render.markdown(Table(pd.DataFrame(rates(times, args.timed))))}\n"
        f"{_RATES.format(runs=args.timed, repeats=args.repeats)}"
    )
    write_text(args.out, text)
    print(text)


def told(vlm: VLM, run: Trace, exact: bool) -> Trace:
    """The run without ids; with its exact text, as a server sends it, or only with the bare texts of its steps."""
    if not exact:
        return replace(run, tokens=None)
    assert run.tokens is not None
    pieces = TextPieces(vlm)
    found = [piece for token in run.tokens.tolist() for piece in pieces.push(token)] + pieces.finish()
    written = {side: "".join(text for kind, text in found if kind == side) for side in ("thinking", "answer")}
    return replace(run, tokens=None, meta={**run.meta, "written": written})


def compare(
    kit: Kit, name: str, expected: Iterable[Trace], runs: Iterable[Trace], advance: Callable[[], None]
) -> dict[str, Any]:
    """One row: how many runs come back, with which effects and ids."""
    aside: list[str] = []
    found = {
        run.transcript_id: run
        for run in _advancing(
            attribute(kit.vlm, runs, estimator=kit.estimator, set_aside=lambda run, _: aside.append(run.transcript_id)),
            advance,
        )
    }
    off, ids, n, n_told = [], 0, 0, 0
    for run in expected:
        n += 1
        n_told += run.tokens is not None
        if (own := found.get(run.transcript_id)) is not None:
            off.append(_apart(own.effects, run.effects))
            ids += run.tokens is not None and own.tokens is not None and np.array_equal(own.tokens, run.tokens)
    same = sum(one < SAME for one in off)
    return {
        "told": name,
        "same effects": f"{same:,} of {n:,}",
        "largest difference, nats": f"{max(off):.1e}",
        "same ids": f"{ids:,} of {n_told:,}" if n_told else "—",
        "set aside": len(aside),
    }


def _advancing(runs: Iterable[Trace], advance: Callable[[], None]) -> Iterable[Trace]:
    for run in runs:
        advance()
        yield run


def _apart(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.abs(a - b).max()) if a.shape == b.shape else np.inf


def of_log(kit: Kit, logged: Sequence[Trace], advance: Callable[[], None]) -> str:
    """What came of the log's runs, in a paragraph."""
    found = list(_advancing(attribute(kit.vlm, logged, estimator=kit.estimator), advance))
    off = [
        abs(here.logprob - there.logprob)
        for run, source in zip(found, logged, strict=True)
        for here, there in zip(run.steps, source.steps, strict=True)
        if here.logprob is not None and there.logprob is not None
    ]
    made = sum(run.meta["token_ids"] == "made" for run in found)
    doubts = sum("doubt" in run.meta for run in found)
    runs, steps = words.count(len(logged), "run"), words.count(len(off), "step")
    return (
        f"{len(found)} of {runs}: ids of {made} made of the text, and as many as the log has log-probabilities;\n"
        f"{doubts} in doubt. The log-probabilities of {steps} are those here to {max(off):.1e} nats; the server\n"
        "read with transformers, as is done here.\n"
    )


def timed(kit: Kit, saved: Sequence[Trace], repeats: int) -> dict[str, list[float]]:
    """Seconds of the processor of each way, one of each repeat."""
    items = list(demo_items("test", len(saved), seed=3))
    bare = [told(kit.vlm, run, exact=True) for run in saved]
    ways: dict[str, Callable[[], Any]] = {
        "attribute": lambda: list(attribute(kit.vlm, saved, estimator=kit.estimator)),
        "attribute, ids made of text": lambda: list(attribute(kit.vlm, bare, estimator=kit.estimator)),
        "attribute, a run a pass": lambda: list(attribute(kit.vlm, saved, estimator=kit.estimator, batch_size=1)),
        "collect": lambda: list(collect(kit.vlm, items, estimator=kit.estimator, sampling=SAMPLING)),
        "attribute --measured": lambda: list(attribute(kit.vlm, saved, measured=True)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with progress("timing", total=repeats * len(ways)) as bar:
        for repeat in range(repeats + 1):
            for name, way in ways.items():
                began = time.process_time()
                way()
                if repeat:  # the first warms up
                    seconds[name].append(time.process_time() - began)
                    bar.advance(name)
    return seconds


def rates(seconds: dict[str, list[float]], runs: int) -> list[dict[str, Any]]:
    """A row for each way."""
    base = np.array(seconds["attribute"])
    return [
        {
            "way": name,
            "runs a second of one core": _spread(runs / np.array(own)),
            "times the time of attribute": "1" if name == "attribute" else _spread(np.array(own) / base),
        }
        for name, own in seconds.items()
    ]


def _spread(values: NDArray[np.float64]) -> str:
    return f"{np.median(values):.3g} ({values.min():.3g} to {values.max():.3g})"


_COMPARED = f"""
Effects are the same where the largest difference of a run is below {SAME:g} nats; runs that are read together differ
from those read alone by rounding. A run is set aside where its text cannot be what was written: the model said
something that text does not show, as a tag of the thinking span within a sentence, and its step had more tokens than
its text makes.
"""
_RATES = """
{runs} runs, each way in turn, {repeats} times: the median, with the lowest and highest, by processor time. Collecting
generates the runs, and then does what attributing does; measuring makes a pass for each region.
"""

if __name__ == "__main__":
    main()
