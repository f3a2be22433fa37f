"""What following another engine's tokens gives and costs: features against the live ones, time a token, runs together.

    python -m analyses.following           # some minutes on 2 quiet cores; writes reports/following.md
    python -m analyses.following --quick   # one model, small and short

Features are held against those of `tk.stream` on the demo's models: the tokens of a stream are followed, and what the
estimator is asked about is compared. Time is of a text stack of random weights, as in `analyses.performance`, whose
plain decode stands beside it. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import trajkit as tk
from analyses.performance import VOCABULARY, ask, forward_times, plain_decode, random_estimator, small_model
from trajkit.demo.items import demo_items
from trajkit.demo.paths import MODEL
from trajkit.files import write_text
from trajkit.progress import progress
from trajkit.tables import Table, render, words
from trajkit.vlm.model import VLM

MODELS = ("qwen3_vl", "qwen2_5_vl", "glm4v")
TOGETHER = 8
PORTION = 16
"""Tokens of each run that come at a time where several are followed together."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="a model, whose features are compared")
    parser.add_argument("--repeats", type=int, default=2, help="of each time, of which the shortest counts")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("reports/following.md"))
    args = parser.parse_args(argv)
    models, contexts = (MODELS[:1], (512,)) if args.quick else (MODELS, (512, 1024))
    stack = small_model(2, 128, 2000) if args.quick else small_model(12, 768, VOCABULARY)
    new_tokens = 24 if args.quick else 48
    with progress("following", total=args.runs * len(models)) as bar:
        compared = [compare(name, args.runs, bar.advance) for name in models]
    costs = [cost(stack, context, new_tokens, args.repeats) for context in contexts]
    size = sum(p.numel() for p in stack.model.model.language_model.parameters()) / 1e6
    text = (
        "# Following\n\n"
        f"Regenerate: `python -m analyses.following`. {args.runs} sampled runs of each of the demo's models. Times on "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, the shortest of {args.repeats}.\n\n"
        "## Followed as streamed\n\n"
        f"{render.markdown(Table(pd.DataFrame(compared)))}\n{_COMPARED}"
        f"\n## Milliseconds a token, text stack of {size:,.0f} M weights, {new_tokens} tokens a run\n\n"
        f"{render.markdown(Table(pd.DataFrame(costs)))}\n{_COSTS}"
    )
    write_text(args.out, text)
    print(text)


class Keeping:
    """An estimator that keeps the features that it is asked about."""

    def __init__(self, estimator: tk.EffectEstimator) -> None:
        self.kept: list[NDArray[Any]] = []
        self._estimator = estimator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._estimator, name)

    def predict_interval(self, features: NDArray[Any]) -> Any:
        self.kept.append(features)
        return self._estimator.predict_interval(features)


def compare(model: str, runs: int, advance: Callable[..., None]) -> dict[str, Any]:
    """One row: how far what is followed is from what was streamed, and how often a token was read."""
    demo = MODEL.parent
    vlm = tk.load_vlm(demo / ("model" if model == MODELS[0] else model))
    estimator = tk.EffectEstimator.load(demo / ("estimator" if model == MODELS[0] else f"{model}-estimator"))
    features, effects, rows, needed, steps = 0.0, 0.0, 0, 0, 0
    for seed, item in enumerate(demo_items("test", runs, seed=7)):
        live: Any = Keeping(estimator)
        followed: Any = Keeping(estimator)
        streamed = list(running := tk.stream(vlm, item.image, item.question, estimator=live, seed=seed))
        with rows_read(vlm) as read:
            again = list(tk.follow(vlm, running.prompt, running.tokens, estimator=followed))
        if [step.text for step in again] != [step.text for step in streamed]:
            raise RuntimeError("other steps were followed than streamed")
        features = max(features, *(_apart(a, b) for a, b in zip(live.kept, followed.kept, strict=True)))
        effects = max(effects, *(_apart(a.effects, b.effects) for a, b in zip(streamed, again, strict=True)))
        rows, needed = rows + sum(read), needed + running.prompt.length - 1 + again[-1].token_end
        steps += len(again)
        advance("", 1)
    return {
        "model": model,
        "runs": runs,
        "steps": steps,
        "features, largest difference": f"{features:.1e}",
        "effects, largest difference, nats": f"{effects:.1e}",
        "rows read / needed": f"{rows / needed:.3f}",
    }


def _apart(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.abs(a - b).max())


@contextmanager
def rows_read(vlm: VLM) -> Iterator[list[int]]:
    """Rows of each pass of the text stack."""
    rows: list[int] = []

    def note(module: Any, inputs: Any, output: Any) -> None:
        rows.append(inputs[0].shape[1])

    hook = vlm.model.model.language_model.layers[0].register_forward_hook(note)
    try:
        yield rows
    finally:
        hook.remove()


def cost(vlm: VLM, context: int, new_tokens: int, repeats: int) -> dict[str, Any]:
    """One row: milliseconds a token of decoding, of following one run as its tokens come, and of several."""
    image, question = ask(vlm, context, "image")
    prompt, estimator = vlm.prepare(image, question), random_estimator(vlm)
    regions = tk.segment(image, "blocks", (64, 64))
    tokens = plain_decode(vlm, prompt, new_tokens)

    def decode() -> float:
        """Seconds from the first token to the last."""
        with forward_times(vlm) as times:
            plain_decode(vlm, prompt, new_tokens)
        return times[-1] - times[0]

    def follow(n: int, portion: int) -> tuple[float, int]:
        """Seconds and passes for `n` runs, the prompts read before."""
        group = tk.Followers(vlm, estimator=estimator)
        runs = [group.join(prompt, regions=regions) for _ in range(n)]
        for run in runs:
            run.push([])
        given = [tokens[3 * i :] + tokens[: 3 * i] for i in range(n)]  # sentences end elsewhere in each
        with rows_read(vlm) as read:
            start = time.perf_counter()
            for at in range(0, len(tokens), portion):
                group.push({run: own[at : at + portion] for run, own in zip(runs, given, strict=True)})
            group.finish(*runs)
            return time.perf_counter() - start, len(read)

    by_turns = [(decode(), follow(1, 1)) for _ in range(repeats)]
    plain, alone = min(seconds for seconds, _ in by_turns), min(followed for _, followed in by_turns)
    one_by_one = min(sum(follow(1, PORTION)[0] for _ in range(TOGETHER)) for _ in range(repeats))
    together = min(follow(TOGETHER, PORTION) for _ in range(repeats))
    n = len(tokens)
    return {
        "context": context,
        "decode": words.metric(1000 * plain / (n - 1)),
        "follow": words.metric(1000 * alone[0] / n),
        "follow / decode": words.score(alone[0] / plain * (n - 1) / n),
        f"{TOGETHER} runs one by one": words.metric(1000 * one_by_one / n / TOGETHER),
        f"{TOGETHER} together": words.metric(1000 * together[0] / n / TOGETHER),
        "passes of one": alone[1],
        f"passes of {TOGETHER} together": together[1],
    }


_COMPARED = """
Features of a step are shares of attention, between 0 and 1 but for three numbers of the step (log-probability and
entropy, nats, and its tokens). A row is needed where it predicts a token of a step, or stands before one that does;
each is read once.
"""
_COSTS = f"""
`follow` is of one run whose tokens come one by one, its prompt read before; it reads a sentence in one pass, where the
engine that writes it needs one for each token. Runs that are followed together come in portions of {PORTION} tokens, of
which every run that has finished a step by then is read in the same pass.
"""

if __name__ == "__main__":
    main()
