"""What a server before another one gives and costs: the same tokens, time to the first and between them, how far steps
are behind, what a stop saves, what is seen when the other server stalls or dies.

    vllm serve data/demo/model --served-model-name trajkit-demo --dtype float32 --max-model-len 1024 --port 8123 \\
        --limit-mm-per-prompt '{"image":1,"video":0}' --reasoning-parser deepseek_r1
    trajkit serve --upstream http://127.0.0.1:8123/v1 --check-logprobs --upstream-stall 5 --runs 16
    python -m analyses.serving --direct http://127.0.0.1:8123/v1 --through http://127.0.0.1:8321/v1

Some minutes; writes reports/serving.md. With `--group N`, the process group of the server that generates, it is paused
and at the end killed in the middle of an answer. Let the two servers have cores of their own (`taskset -c 0`, `-c 1`),
or what is measured is how they share them.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import os
import re
import shlex
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pandas as pd
import pyarrow.parquet as pq
import torch

import trajkit as tk
from trajkit.attribution.item import Item
from trajkit.attribution.replay import replay
from trajkit.attribution.tokens import ROUNDING, Tokens, TokensError, logprob_difference, opens_thinking
from trajkit.demo.items import demo_items
from trajkit.demo.paths import ESTIMATOR, MODEL, TRACES
from trajkit.files import write_text
from trajkit.live.other_server import OtherServer, find_model
from trajkit.progress import progress
from trajkit.stats.resampling import clopper_pearson
from trajkit.tables import Estimate, Table, render, words
from trajkit.vlm.model import VLM
from trajkit.vlm.sentences import split_steps

_WRITTEN = "vllm:generation_tokens_total|trajkit_generated_tokens_total"
_RUNNING = "vllm:num_requests_running|trajkit_runs_running"
GREEDY: dict[str, Any] = {"temperature": 0}
MOST = 300
"""Tokens of an answer; a longer one is cut, by either server and by `tk.stream`."""
_TELL: dict[str, Any] = {"return_token_ids": True}
_LOGPROBS: list[dict[str, Any]] = [{"logprobs": True}]
"""Where the server that generates tells them; `--check-logprobs` asks for them too."""
_ALL: dict[str, Any] = {"trajkit": {"effects": "all"}}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--direct", required=True, metavar="URL", help="…/v1 of the server that generates")
    parser.add_argument("--through", required=True, metavar="URL", help="…/v1 of `trajkit serve` before it")
    parser.add_argument("--scenes", type=int, default=50)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="at once")
    parser.add_argument("--rounds", type=int, default=3, help="of each number of clients")
    parser.add_argument("--group", type=int, help="process group to pause and kill")
    parser.add_argument("--setting", default="", help="a sentence on the machine and the servers, for the page")
    parser.add_argument("--out", type=Path, default=Path("reports/serving.md"))
    args = parser.parse_args(argv)
    page = asyncio.run(measured(args))
    few = [] if args.rounds == parser.get_default("rounds") else ["--rounds", str(args.rounds)]
    typed = ["python", "-m", "analyses.serving", "--direct", args.direct, "--through", args.through, *few]
    command = shlex.join(typed) + (" --group N" if args.group else "")
    text = f"# Serving\n\nRegenerate: `{command}`. {args.setting}\n\n{page}"
    write_text(args.out, text)
    print(text)


@dataclass(frozen=True, eq=False)
class Place:
    """A server under measurement."""

    server: OtherServer
    model: str

    @classmethod
    async def at(cls, url: str) -> Place:
        return cls(OtherServer(url, stall=120), await asyncio.to_thread(find_model, url, None))


@dataclass(eq=False)
class Heard:
    """One answer as it came, times in seconds from when it was asked for. ids, at: token ids and when each came.
    pieces: when each piece of text came. steps: what `trajkit` told of each, and when. choices: as told."""

    text: str = ""
    ids: list[int] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    pieces: list[float] = field(default_factory=list)
    steps: list[tuple[dict[str, Any], float]] = field(default_factory=list)
    choices: list[dict[str, Any]] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)
    took: float = 0.0


async def hear(place: Place, item: Item, besides: Sequence[dict[str, Any]] = (), **options: Any) -> Heard:
    """Ask a question and listen to its answer. besides: as for `OtherServer.chunks`."""
    body = {"model": place.model, "messages": messages_of(item), "stream": True, "max_tokens": MOST} | options
    heard, began = Heard(), time.perf_counter()
    async for chunk in place.server.chunks(body, besides):
        now = time.perf_counter() - began
        own = chunk.get("trajkit") or {}
        if "step" in own:
            heard.steps.append((own, now))
        heard.about |= {} if "step" in own else own
        heard.usage = chunk.get("usage") or heard.usage
        for choice in chunk.get("choices") or []:
            delta = choice.get("delta") or {}
            said = (delta.get("reasoning") or delta.get("reasoning_content") or "") + (delta.get("content") or "")
            heard.text += said
            heard.pieces += [now] if said else []
            heard.ids += choice.get("token_ids") or []
            heard.at += [now] * len(choice.get("token_ids") or [])
            heard.choices.append(choice)
    heard.took = time.perf_counter() - began
    return heard


def messages_of(item: Item) -> list[dict[str, Any]]:
    """A question as a client asks it."""
    data = io.BytesIO()
    item.image.save(data, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    image = {"type": "image_url", "image_url": {"url": url}}
    return [{"role": "user", "content": [image, {"type": "text", "text": item.question}]}]


async def measured(args: argparse.Namespace) -> str:
    """The page."""
    direct, through = await Place.at(args.direct), await Place.at(args.through)
    items = list(demo_items("test", args.scenes, seed=7))
    vlm, estimator = tk.load_vlm(MODEL), tk.EffectEstimator.load(ESTIMATOR)
    for place in (direct, through):  # what is done once is done
        await hear(place, items[0])
    with progress("serving", total=4 * len(items) + args.rounds * len(args.clients)) as bar:
        pairs = [
            (await in_turn(at, direct, through, item, options, bar.advance), item, options)
            for options_of in (lambda i: GREEDY, lambda i: {"temperature": 1, "seed": i})
            for at, item in enumerate(items)
            for options in [options_of(at)]
        ]
        loads = [await load(n, direct, through, items, args.rounds, bar.advance) for n in args.clients]
    parts = [
        "## The same tokens, followed\n\n" + tokens_section([pair for pair, *_ in pairs], vlm, estimator, pairs),
        "## Time\n\n" + time_section([pair for pair, *_ in pairs]),
        "## Many clients\n\n" + render.markdown(Table(pd.DataFrame(loads))) + said_of_loads(args.rounds),
        "## Steps behind their text\n\n" + delay_section([pair[1] for pair, *_ in pairs]),
        "## Token ids made from text\n\n" + made_section([pair[0] for pair, *_ in pairs], vlm),
        "## Other weights\n\n" + weights_section([(pair[0], item) for pair, item, _ in pairs], vlm, estimator),
        "## A stop\n\n" + await stop_section(direct, through, items),
    ]
    if args.group:
        parts.append("## Faults\n\n" + await faults_section(args.through, items[0], args.group))
    return "\n".join(parts)


async def in_turn(
    at: int, direct: Place, through: Place, item: Item, options: dict[str, Any], advance: Callable[..., None]
) -> tuple[Heard, Heard]:
    """An answer of each server, the one asked first by turns."""
    plain: dict[int, Heard] = {}
    for which in (0, 1) if at % 2 == 0 else (1, 0):
        place, besides, own = (through, [], _ALL) if which else (direct, _LOGPROBS, {})
        plain[which] = await hear(place, item, besides, **options, **_TELL, **own)
        advance("", 1)
    return plain[0], plain[1]


def tokens_section(pairs: Sequence[tuple[Heard, Heard]], vlm: VLM, estimator: tk.EffectEstimator, asked: Any) -> str:
    """Whether tokens and texts are the same, and steps those of `tk.stream` and of a replay."""
    equal = [a.ids == b.ids and a.text == b.text and bool(a.ids) for a, b in pairs]
    same = sum(equal)
    lasting = sum(len(a.ids) for a, _ in pairs)
    as_streamed = streamed = steps = 0
    apart = replayed = 0.0
    for (_, heard), item, options in asked:
        found = [np.array(step["effects"]) for step, _ in heard.steps]
        steps += len(found)
        if options is GREEDY:
            running = tk.stream(vlm, item.image, item.question, estimator=estimator, temperature=0, max_new_tokens=MOST)
            live = list(running)
            streamed += 1
            if running.tokens == heard.ids and [one.text for one in live] == [one["text"] for one, _ in heard.steps]:
                as_streamed += 1
                apart = max(apart, *(_apart(a, b.effects) for a, b in zip(found, live, strict=True)))
        spans = split_steps(heard.ids, vlm)[0]
        prompt = vlm.prepare(item.image, item.question)
        regions = tk.segment(prompt.canvas.images, estimator.binding.region_method, vlm=vlm)
        again = replay(vlm, prompt, torch.tensor(heard.ids), spans, regions, estimator.binding.pooling)
        expected = estimator.predict(again.features)
        replayed = max(replayed, *(_apart(a, b) for a, b in zip(found, expected, strict=True)))
    return (
        f"{same} of {len(pairs)} answers ({len(pairs) // 2} scenes, greedy and sampled with a seed; {lasting:,} "
        f"tokens) have the same token ids and text through trajkit as without it: {odd_scenes(equal)}. Of the greedy "
        f"ones {as_streamed} of {streamed} are those of `tk.stream` to the last token and step, with effects at most "
        f"{apart:.1e} nats apart; of all {steps:,} steps the effects are at most {replayed:.1e} nats from those of a "
        "replay of the same tokens in one pass (they are told with six digits).\n"
    )


def odd_scenes(good: Sequence[bool]) -> str:
    """In how many scenes not all was well, with the exact interval. good: of each answer, scenes in turn."""
    n = len(good) // 2
    odd = n - sum(all(good[at::n]) for at in range(n))
    share = Estimate(odd / n, *clopper_pearson(odd, n))
    return f"{odd} of {n} scenes differ, {words.shares(share)}"


def _apart(a: Any, b: Any) -> float:
    return float(np.abs(np.asarray(a) - np.asarray(b)).max())


def time_section(pairs: Sequence[tuple[Heard, Heard]]) -> str:
    """One client at a time, in turns."""
    rows = []
    for name, of in (("time to the first token", _first), ("time per token after it", _between)):
        direct, through = (np.array([of(pair[which]) for pair in pairs]) * 1e3 for which in (0, 1))
        rows.append(
            {
                "milliseconds": name,
                "direct, median": f"{np.median(direct):.2f}",
                "through, median": f"{np.median(through):.2f}",
                "difference of pairs, median": f"{np.median(through - direct):+.2f}",
                "direct, 95 %": f"{np.quantile(direct, 0.95):.2f}",
                "through, 95 %": f"{np.quantile(through, 0.95):.2f}",
            }
        )
    return f"One client, {len(pairs)} answers of each in turns.\n\n" + render.markdown(Table(pd.DataFrame(rows)))


def _first(heard: Heard) -> float:
    return heard.pieces[0]


def _between(heard: Heard) -> float:
    return (heard.pieces[-1] - heard.pieces[0]) / max(len(heard.pieces) - 1, 1)


async def load(
    n: int, direct: Place, through: Place, items: Sequence[Item], rounds: int, advance: Callable[..., None]
) -> dict[str, Any]:
    """One row: `n` clients at once, each with questions of its own, the two servers in turns."""
    found: dict[int, list[tuple[float, list[Heard]]]] = {0: [], 1: []}
    for one in range(rounds):
        for which in (0, 1) if one % 2 == 0 else (1, 0):
            place, began = (direct, through)[which], time.perf_counter()
            asked = [
                _several(place, [items[(16 * one + 4 * client + k) % len(items)] for k in range(4)], client + 100 * one)
                for client in range(n)
            ]
            heard = [each for own in await asyncio.gather(*asked) for each in own]
            found[which].append((time.perf_counter() - began, heard))
        advance("", 1)
    row: dict[str, Any] = {"clients": n}
    for which, name in ((0, "direct"), (1, "through")):
        all_heard = [one for _, heard in found[which] for one in heard]
        tokens, seconds = sum(len(one.ids) for one in all_heard), sum(took for took, _ in found[which])
        row[f"{name}, tokens/s"] = f"{tokens / seconds:,.0f}"
        row[f"{name}, first token, ms"] = f"{1e3 * np.median([_first(one) for one in all_heard]):.0f}"
        row[f"{name}, per token, ms"] = f"{1e3 * np.median([_between(one) for one in all_heard]):.1f}"
    delays = [delay for _, heard in found[1] for one in heard for delay in behind(one)]
    row["steps behind, median, ms"] = f"{1e3 * np.median(delays):.0f}"
    row["99 %"] = f"{1e3 * np.quantile(delays, 0.99):.0f}"
    return row


async def _several(place: Place, items: Sequence[Item], seed: int) -> list[Heard]:
    return [await hear(place, item, temperature=1, seed=seed, return_token_ids=True) for item in items]


_LOADS = """
Each client asks four questions, one after another, of either server{turns} A step is behind by the time from the token
that shows it to be complete to its effects, as a client sees both. `trajkit serve --upstream` takes 8 runs at once by
default: with more, the server that generates writes no faster by itself, and steps come later.
"""
_ONCE = """, once: the direct one first, of which the
other may find kept what vLLM keeps of an image. Figures of few clients are of few answers; what the proxy costs is told
by the pairs above."""


def said_of_loads(rounds: int) -> str:
    """How the rows were measured."""
    return _LOADS.format(turns=_ONCE if rounds == 1 else f", in {rounds} rounds that begin with either in turn.")


def behind(heard: Heard) -> list[float]:
    """Seconds from the token that shows each step to be complete until its effects came."""
    return [came - heard.at[min(step["tokens"][1], len(heard.at) - 1)] for step, came in heard.steps]


def delay_section(through: Sequence[Heard]) -> str:
    delays = 1e3 * np.array([delay for heard in through for delay in behind(heard)])
    told = 1e3 * np.array([step["delay"] for heard in through for step, _ in heard.steps])
    last = 1e3 * np.array([heard.took - heard.at[-1] for heard in through])
    return (
        f"One client, {len(delays):,} steps: from the token that shows a step to be complete until its effects, half "
        f"are within {np.median(delays):.0f} ms and 99 % within {np.quantile(delays, 0.99):.0f} ms, as the client sees "
        f"it; the server's own `delay` says {np.median(told):.0f} and {np.quantile(told, 0.99):.0f} ms. After the last "
        f"token an answer ends within {np.median(last):.0f} ms ({np.quantile(last, 0.99):.0f} ms, 99 %).\n"
    )


def made_section(direct: Sequence[Heard], vlm: VLM) -> str:
    """How often ids made from text are not those that were written."""
    opened = opens_thinking(vlm)
    missed, good = 0, list[bool]()
    for heard in direct:
        tokens, ids = Tokens(vlm, opened), []
        reason = [choice.get("finish_reason") for choice in heard.choices][-1]
        try:
            for choice in heard.choices:
                delta = choice.get("delta") or {}
                bare = {key: value for key, value in choice.items() if key not in ("token_ids", "logprobs")}
                ids += tokens.of(bare, delta.get("reasoning") or "", delta.get("content") or "")
        except TokensError:
            good.append(False)
            continue
        written = heard.ids[: -1 if heard.ids[-1] in vlm.end_tokens else None]
        good.append(ids == written)
        missed += ids != written and tokens.doubt(len(heard.ids), reason or "", stops=False) is None
    runs = pq.read_table(TRACES, columns=["steps"])["steps"].to_pylist()
    steps = [step for run in runs for step in run]
    made = vlm.tokenizer([step["text"] for step in steps], add_special_tokens=False)["input_ids"]
    uneven = sum(len(ids) != step["token_end"] - step["token_start"] for ids, step in zip(made, steps, strict=True))
    return (
        f"Of the {len(direct)} answers above, taken without their ids and made from their text, {good.count(False)} "
        f"come out as other tokens, {missed} of them with a count that does not show it: {odd_scenes(good)}. On the "
        f"{len(runs):,} shipped runs the text of {uneven} of {len(steps):,} steps makes another number of tokens "
        "than was written.\n"
    )


def weights_section(heard: Sequence[tuple[Heard, Item]], vlm: VLM, estimator: tk.EffectEstimator) -> str:
    """Differences of log-probabilities between what the server tells and replicas of several precisions."""
    rows = []
    for name, replica in replicas(vlm):
        group, each = tk.Followers(replica, estimator=estimator), []
        for one, item in heard:
            follower, tokens = group.join(item.image, item.question), Tokens(replica, True)
            for choice in one.choices:
                follower.push(tokens.of(choice, "", ""))
            follower.finish()
            difference, n = logprob_difference(tokens, follower)
            each += [difference] if n else []
        if not each:
            return "The server that generates tells no log-probabilities.\n"
        rows.append(
            {
                "followed with": name,
                "median of runs": f"{np.median(each):.2g}",
                "least": f"{min(each):.2g}",
                "most": f"{max(each):.2g}",
            }
        )
    return (
        "Mean |difference| of log-probabilities over the tokens of a run, nats.\n\n"
        + render.markdown(Table(pd.DataFrame(rows)))
        + said_of_weights()
    )


def said_of_weights() -> str:
    """From which difference on `--check-logprobs` speaks."""
    limits = ", ".join(f"{limit:g} ({str(dtype).removeprefix('torch.')})" for dtype, limit in ROUNDING.items())
    return (
        f"\nBy the precision of the replica, `--check-logprobs` speaks of other weights above {limits}.\nWhat is less "
        "passes for rounding: weights of 8 bits, where the replica is not of float32, and in bfloat16 most of 4 bits.\n"
    )


def replicas(vlm: VLM) -> Any:
    """The demo's model as it is, in half precisions, and with its weights rounded to 8 and 4 bits, by rows."""
    yield "the same weights, float32", vlm
    for name, dtype in (("float16", torch.float16), ("bfloat16", torch.bfloat16)):
        yield f"the same, {name}", tk.load_vlm(MODEL, dtype=dtype)
    for bits in (8, 4):
        other = tk.load_vlm(MODEL)
        fingerprint = other.fingerprint
        with torch.no_grad():
            for module in other.model.model.language_model.modules():
                if isinstance(module, torch.nn.Linear):
                    scale = module.weight.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
                    module.weight.copy_((module.weight / scale).round() * scale)
        other.__dict__["fingerprint"] = fingerprint  # followed as if nobody knew
        yield f"rounded to {bits} bits", other


async def stop_section(direct: Place, through: Place, items: Sequence[Item]) -> str:
    """Tokens that the other server writes after a policy's stop, by its own count."""
    after, whole = [], []
    for at, item in enumerate(items):
        before = await _written(direct)
        heard = await hear(through, item, temperature=1, seed=at, return_token_ids=True, trajkit={"policy": "stop"})
        decided = [step for step, _ in heard.steps if step["decision"] and step["decision"]["action"] == "stop"]
        if decided:
            after.append(await _written(direct) - before - decided[0]["tokens"][1])
            whole.append(len((await hear(direct, item, temperature=1, seed=at, return_token_ids=True)).ids))
    if not after:
        return "No run was stopped.\n"
    return (
        f"Of {len(items)} sampled runs under the policy `stop` {len(after)} were stopped. By its own count the other "
        f"server wrote {np.median(after):.0f} tokens (median; {min(after):.0f} to {max(after):.0f}) beyond the step of "
        "the alarm, the one that shows it to be complete among them; left alone these runs have "
        f"{np.median(whole):.0f} tokens.\n"
    )


async def _written(place: Place) -> float:
    """Tokens that a vLLM, or a trajkit, has written so far, once it writes no more."""
    url, last = place.server.url.removesuffix("/v1") + "/metrics", -1.0
    async with httpx.AsyncClient() as client:
        while True:
            text = (await client.get(url)).text
            now, busy = (_summed(text, name) for name in (_WRITTEN, _RUNNING))
            if now == last and not busy:
                return now
            last = now
            await asyncio.sleep(0.3)


def _summed(metrics: str, name: str) -> float:
    return sum(map(float, re.findall(rf"^(?:{name})(?:{{.*}})? (\S+)$", metrics, re.MULTILINE)))


async def faults_section(url: str, item: Item, group: int) -> str:
    """What OpenAI's client sees when the other server is paused, goes on, and is killed in the middle of an answer."""
    rows = [
        await asyncio.to_thread(_fault, url, item, group, kind) for kind in ("paused", "paused and let on", "killed")
    ]
    return render.markdown(Table(pd.DataFrame(rows)))


def _fault(url: str, item: Item, group: int, kind: str) -> dict[str, Any]:
    pieces, seen, began = 0, "the whole answer", 0.0
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        (model,) = client.models.list().data
        stream = client.chat.completions.create(
            model=model.id,
            messages=messages_of(item),
            stream=True,
            temperature=1,
            seed=3,
            max_tokens=MOST,  # type: ignore[call-overload]
        )
        try:
            for chunk in stream:
                pieces += bool(chunk.choices)
                if pieces == 10 and not began:
                    began = time.perf_counter()
                    os.killpg(group, signal.SIGKILL if kind == "killed" else signal.SIGSTOP)
                    if kind == "paused and let on":
                        time.sleep(2)
                        os.killpg(group, signal.SIGCONT)
        except openai.APIError as error:
            seen = f"{type(error).__name__}: {error.message}"
        took = time.perf_counter() - began
        if kind == "paused":
            os.killpg(group, signal.SIGCONT)
        up = client.models.list().data[0].id == model.id
    return {
        "the other server is": kind,
        "chunks before": 10,
        "chunks in all": pieces,
        "the client sees": seen,
        "after, s": f"{took:.1f}",
        "trajkit still serves": "yes" if up else "no",
    }


if __name__ == "__main__":
    main()
