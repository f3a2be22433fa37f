"""Whether the runs that a server was asked for are those that are made here, and how fast they come.

    vllm serve data/demo/model --served-model-name trajkit-demo --dtype float32 --max-model-len 1024 --port 8123 \\
        --limit-mm-per-prompt '{"image":1,"video":0}' --reasoning-parser deepseek_r1
    python -m analyses.from_server --server http://127.0.0.1:8123/v1

Some minutes; writes reports/from_server.md. `trajkit serve` in place of vLLM will do, too.
"""

from __future__ import annotations

import argparse
import shlex
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import trajkit as tk
from trajkit.attribution.assemble import settings
from trajkit.attribution.collect import collect
from trajkit.attribution.item import Item
from trajkit.attribution.written import Written, explain_written
from trajkit.demo.items import demo_items
from trajkit.demo.paths import ESTIMATOR, MODEL
from trajkit.files import write_text
from trajkit.live.asked import collect_asked
from trajkit.live.asking import Answer, Asking, Wanted
from trajkit.live.other_server import OtherServer, described
from trajkit.stats.resampling import clopper_pearson
from trajkit.tables import Estimate, Table, render, words
from trajkit.tables.words import count
from trajkit.traces.trace import Trace
from trajkit.vlm.generation import Sampling
from trajkit.vlm.model import VLM

GREEDY = Sampling(temperature=0, seed=0)
_NO_IDS = 2
"""Fields that `Asking` asks for besides: log-probabilities and token ids."""
SEED = 40_000
"""Of the scenes; each measurement has its own, so that no server finds an image that it has kept."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, metavar="URL", help="…/v1 of the server that generates")
    parser.add_argument("--runs", type=int, default=240, help="to compare, one a scene")
    parser.add_argument("--timed", type=int, default=32, help="runs of each measurement of time")
    parser.add_argument("--rounds", type=int, default=2, help="of the measurements of time")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16, 32], help="requests in flight")
    parser.add_argument("--setting", default="", help="a sentence on the machine and the server, for the page")
    parser.add_argument("--out", type=Path, default=Path("reports/from_server.md"))
    args = parser.parse_args(argv)
    server = Generating(args.server, tk.load_vlm(MODEL), tk.EffectEstimator.load(ESTIMATOR))
    counts = {name: getattr(args, name) for name in ("runs", "timed", "rounds")}
    few = [f"--{name}={value}" for name, value in counts.items() if value != parser.get_default(name)]
    command = shlex.join(["python", "-m", "analyses.from_server", "--server", args.server, *few])
    page = f"# Runs of a server\n\nRegenerate: `{command}`. {server.said()} {args.setting}\n\n"
    page += f"## The same runs\n\n{server.same(args.runs)}\n{server.drawn(max(args.runs // 10, 1))}\n"
    page += "## Runs per second\n\n"
    page += server.times(args.timed, args.concurrency, args.rounds)
    write_text(args.out, page)
    print(page)


class Generating:
    """A server that generates, and the model and estimator with which its runs are explained here."""

    def __init__(self, url: str, vlm: VLM, estimator: tk.EffectEstimator) -> None:
        self.url, self.vlm, self.estimator = url, vlm, estimator
        self.told = described(url, None)

    def said(self) -> str:
        """What the server says of itself, in a sentence."""
        what = ", ".join(f"{name} {value}" for name, value in self.told.items())
        return f"The server says of itself: {what}. Here: torch {torch.__version__}, one thread."

    def asking(self, concurrency: int, sampling: Sampling = GREEDY, without: int = 0) -> Asking:
        """without: fields that it is not asked for besides (`OtherServer.without`)."""
        there = OtherServer(self.url, stall=120, without=without)
        return Asking(self.vlm, there, self.told["model"], sampling, concurrency)

    def same(self, n: int) -> str:
        """How many of `n` greedy runs of the server are those that are made here."""
        items = list(demo_items("test", n, SEED))
        here = {run.transcript_id: run for run in self.made_here(items)}
        there = {run.transcript_id: run for run in self.asked(items, 16)}
        pairs = [(there[name], run) for name, run in here.items() if name in there]
        told = [run.meta["logprob_difference"] for run in there.values() if "logprob_difference" in run.meta]
        rows = [
            ("transcript ids", len(here.keys() & there.keys())),
            ("token ids", sum(a.tokens.tolist() == b.tokens.tolist() for a, b in pairs)),
            ("texts of all steps", sum([s.text for s in a.steps] == [s.text for s in b.steps] for a, b in pairs)),
            ("answers and outcomes", sum((a.answer, a.outcome) == (b.answer, b.outcome) for a, b in pairs)),
            ("effects within 10⁻⁴ nats", sum(apart(a, b) <= 1e-4 for a, b in pairs)),
        ]
        table = pd.DataFrame(
            [{"the same": name, "runs": f"{same} of {n}", "95 %": interval(same, n)} for name, same in rows]
        )
        furthest = max((apart(a, b) for a, b in pairs if a.effects.shape == b.effects.shape), default=float("nan"))
        near = f"at most {furthest:.1g}" if furthest else "0"
        ids = ", ".join(sorted({str(run.meta["token_ids"]) for run in there.values()}))
        logprobs = f" Its log-probabilities are at most {max(told):.1g} nats a token from those here." if told else ""
        return (
            f"{count(n, 'scene')}, one greedy run of each, by the server and by `collect` here.\n\n"
            f"{render.markdown(Table(table))}\n"
            f"Where steps are the same, effects are {near} nats apart. Token ids are {ids}.{logprobs}\n"
        )

    def drawn(self, n: int) -> str:
        """How many sampled runs are the same when they are asked for again, and when their ids are made of text."""
        items, sampling = list(demo_items("test", n, SEED)), Sampling(temperature=1.0, seed=3)

        def asked(concurrency: int, without: int = 0) -> dict[str, list[int]]:
            with self.asking(concurrency, sampling, without) as asking:
                wanted = (Wanted(item, repeat) for item in items for repeat in range(2))
                some = [one for some in asking.answers(wanted) for one in some]
            return {one.wanted.id: one.tokens for one in some if isinstance(one, Answer)}

        first, again, made = asked(8), asked(3), asked(8, _NO_IDS)
        alike = [sum(other.get(run) == ids for run, ids in first.items()) for other in (again, made)]
        return (
            f"Of {2 * n} sampled runs, two of each of {count(n, 'scene')}, {alike[0]} have the same tokens when they "
            f"are asked for again in another order, by the seeds that they are given, and {alike[1]} when token ids "
            "are made of the text.\n"
        )

    def times(self, n: int, concurrencies: Sequence[int], rounds: int) -> str:
        """Runs per second of the server alone, of collecting from it, of attribution alone and of `collect` here."""
        best: dict[tuple[str, int], float] = defaultdict(float)
        for number in range(rounds):
            for name, concurrency, runs in self.timed(n, concurrencies, SEED + 1 + 100 * number):
                best[name, concurrency] = max(best[name, concurrency], per_second(runs))
        rows = [
            {"requests in flight": at, "the server alone": best["alone", at], "collect --server": best["both", at]}
            for at in concurrencies
        ]
        shown = pd.DataFrame(rows).map(lambda value: f"{value:.2g}")
        return (
            f"{n} greedy runs of other scenes each time; the best of {count(rounds, 'round')}, as what else runs only "
            f"takes away.\n\n{render.markdown(Table(shown))}\n"
            f"Attribution alone, of tokens that are there: {best['attribution', 0]:.2g} runs a second. `collect` here, "
            f"in batches of 32: {best['here', 0]:.2g}.\n"
        )

    def timed(self, n: int, concurrencies: Sequence[int], seed: int) -> Iterator[tuple[str, int, Iterator[object]]]:
        """What is measured in a round, with scenes of its own: its name, requests in flight, and the runs to come."""
        for at, concurrency in enumerate(concurrencies):
            alone, both = (list(demo_items("test", n, seed + 2 * at + one)) for one in range(2))
            yield "alone", concurrency, self.answered(alone, concurrency)
            yield "both", concurrency, self.asked(both, concurrency)
        items = list(demo_items("test", n, seed + 98))
        written = [self.written(run, item) for run, item in zip(self.made_here(items), items, strict=True)]
        yield "attribution", 0, self.explained(written)
        yield "here", 0, self.made_here(list(demo_items("test", n, seed + 99)))

    def made_here(self, items: Sequence[Item]) -> Iterator[Trace]:
        return collect(self.vlm, items, estimator=self.estimator, sampling=GREEDY)

    def asked(self, items: Sequence[Item], concurrency: int) -> Iterator[Trace]:
        made_by = settings(self.vlm, self.estimator, GREEDY, server=self.told)
        with self.asking(concurrency) as asking:
            wanted = (Wanted(item, 0) for item in items)
            yield from collect_asked(asking, wanted, estimator=self.estimator, made_by=made_by)

    def answered(self, items: Sequence[Item], concurrency: int) -> Iterator[Answer]:
        with self.asking(concurrency) as asking:
            for some in asking.answers(Wanted(item, 0) for item in items):
                yield from (one for one in some if isinstance(one, Answer))

    def written(self, run: Trace, item: Item) -> Written:
        assert run.tokens is not None
        return Written(item, 0, run.tokens.tolist(), self.vlm.prepare(item.image, item.question))

    def explained(self, runs: Sequence[Written]) -> Iterator[Trace]:
        made_by: Mapping[str, object] = settings(self.vlm, self.estimator, GREEDY)
        return explain_written(self.vlm, runs, estimator=self.estimator, made_by=made_by)


def apart(a: Trace, b: Trace) -> float:
    """The largest |difference| of effects, nats; infinite where steps are not the same."""
    return float(np.abs(a.effects - b.effects).max()) if a.effects.shape == b.effects.shape else float("inf")


def interval(n: int, of: int) -> str:
    low, high = clopper_pearson(n, of)
    return words.shares(Estimate(n / of, low, high))


def per_second(runs: Iterable[object]) -> float:
    began = time.perf_counter()
    n = sum(1 for _ in runs)
    return n / (time.perf_counter() - began)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
