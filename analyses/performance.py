"""What watching costs: ratios of decode time with and without it, memory, delay, and other methods beside it.

    python -m analyses.performance           # an hour on 2 quiet cores; writes reports/performance.md
    python -m analyses.performance --quick   # a minute, one short context

A Qwen3-VL text stack of random weights with the vocabulary of the real one, small on the CPU; with a GPU also that of
Qwen3-VL-8B in bf16. The vision tower is the demo's: it runs once and is no part of decoding. Everything that is
compared writes the same tokens, and by turns (`turns.py`). Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

import trajkit as tk
from analyses import fingerprint
from analyses.turns import Decoding, take_turns
from trajkit.attribution.ablation import measure_effects, single_region_masks
from trajkit.attribution.baselines import baselines
from trajkit.attribution.estimator import Binding
from trajkit.attribution.explainer import LiveStep
from trajkit.attribution.network import N_FACTS
from trajkit.attribution.stream import stream
from trajkit.files import write_text
from trajkit.progress import progress
from trajkit.tables import Table, render
from trajkit.vlm.logits import Draw
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import split_steps

SMALL_SIDE = 20
"""Tokens a side of the small image, 400 in all, whose question fills the context."""
VOCABULARY = 151_936
"""Of Qwen3-VL; every token costs a softmax over it, watched or not."""
OURS = "tk.stream, network estimator"
BLOCK = 5
"""Tokens of a turn: a third of a second, in which the machine is as fast for one as for the other."""
WARM_UP = 20
PATIENCE = 8.0
"""Seconds: a method that took longer at one context is not tried at the next."""


@dataclass(frozen=True)
class Setting:
    """A model to measure on, and how to make another. contexts: prompt lengths in tokens."""

    name: str
    make: Callable[[], VLM]
    vlm: VLM
    contexts: tuple[int, ...]
    new_tokens: int


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1000, help="that a run generates")
    parser.add_argument(
        "--contexts", type=int, nargs="+", default=[512, 2048, 4096, 8192], help="prompt lengths, tokens"
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--kept", type=Path, metavar="FOLDER", help="keep each row there as it is measured, and do not measure it again"
    )
    parser.add_argument("--out", type=Path, default=Path("reports/performance.md"))
    args = parser.parse_args(argv)
    contexts = (512,) if args.quick else tuple(args.contexts)
    new_tokens = 24 if args.quick else args.tokens
    fingerprints = fingerprint.table(0.05 if args.quick else 2.0)
    make = partial(small_model, 2, 128, 2000) if args.quick else partial(small_model, 12, 768, VOCABULARY)
    small = make()
    settings = [Setting("CPU", make, small, contexts, new_tokens)]
    if torch.cuda.is_available() and not args.quick:
        settings.append(Setting(torch.cuda.get_device_name(0), full_model, full_model(), contexts, args.tokens))
    text = (
        "# Performance\n\n"
        f"Regenerate: `python -m analyses.performance`. Measured on {platform.machine()}, {torch.get_num_threads()} "
        f"threads, torch {torch.__version__}: two runs of the same {new_tokens} tokens, one of "
        f"them watched, in turns of {block_of(new_tokens)}. Steps of about 20 tokens, a network estimator, 64 regions, "
        f"a vocabulary of {small.text_config.vocab_size:,}. The context is filled by the image, or by the question.\n\n"
    )
    for setting in settings:
        asked = [(n, "image") for n in setting.contexts] + [(n, "question") for n in setting.contexts[1:]]
        rows = [
            kept(args.kept, f"{setting.name} {n} {filled_by}", partial(measure_context, setting, n, filled_by))
            for n, filled_by in asked
        ]
        size = sum(p.numel() for p in setting.vlm.model.model.language_model.parameters()) / 1e6
        about = f"text stack of {size:,.0f} M weights, {setting.new_tokens} tokens a run"
        text += f"## {setting.name}: {about}\n\n{render.markdown(Table(pd.DataFrame(rows)))}\n"
        text += kept(args.kept, f"{setting.name} control", partial(control, setting)) + "\n"
    text += _READING
    text += f"\n## A worker made 100 × slower\n\n{slow_worker(settings[0])}\n"
    for setting in settings:
        rows = kept(args.kept, f"{setting.name} methods", partial(methods_by_context, setting))
        by_method = render.markdown(Table(pd.DataFrame(rows)))
        text += f"\n## Milliseconds per generated token, {setting.name}\n\n{by_method}\n{_METHODS}"
    text += f"\n## Fingerprints of weights\n\n{render.markdown(fingerprints)}"
    write_text(args.out, text)
    print(text)


def kept(folder: Path | None, name: str, measure: Callable[[], Any]) -> Any:
    """What `measure` returns; from a file of `folder` where it was measured before."""
    if folder is None:
        return measure()
    path = folder / f"{name}.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(measure()))
    return json.loads(path.read_text())


def measure_context(setting: Setting, context: int, filled_by: str) -> dict[str, Any]:
    """One row: decode with a watch over decode without, in blocks; added time, memory, delay."""
    block = block_of(setting.new_tokens)
    prepare = partial(decoding, setting.make, context, filled_by, setting.new_tokens)
    with progress(f"{setting.name}, context {context} of {filled_by}", total=2 * (setting.new_tokens // block)) as bar:
        turns = take_turns(prepare, block, bar.advance)
    theirs, ours = (1000 * np.array(seconds) for seconds in turns.seconds)  # ms a token
    facts = turns.facts[1]
    delays = 1000 * np.array(facts["delays"])
    return {
        "context": facts["context"],
        "of the image": facts["of the image"],
        "plain, ms per token": f"{theirs.mean():.1f}",
        "watched / plain": with_interval(theirs, ours),
        "added ms per token": f"{ours.mean() - theirs.mean():.2f}",
        "delay p50, ms": round(float(np.quantile(delays, 0.5))),
        "p99": round(float(np.quantile(delays, 0.99))),
        "of the first step": round(float(delays[0])),
        "held for attribution, MB": f"{facts['held'] / 1e6:.1f}",
        "KV cache, MB": f"{facts['cache'] / 1e6:.1f}",
    }


def decoding(
    make: Callable[[], VLM], context: int, filled_by: str, new_tokens: int, watched: bool
) -> tuple[VLM, Decoding]:
    """One of the two that take turns."""
    vlm = make()
    image, question = ask(vlm, context, filled_by)
    prompt = vlm.prepare(image, question)
    generated(vlm, prompt, WARM_UP)
    if not watched:
        return vlm, Decoding(lambda: generated(vlm, prompt, new_tokens))
    steps: list[LiveStep] = []
    watch = tk.watch(
        vlm.model,
        vlm.processor,
        image,
        question,
        estimator=random_estimator(vlm),
        regions=tk.segment(image, "blocks", (64, 64)),
        on_step=steps.append,
    )

    def generate() -> list[int]:
        with watch as run:
            return generated(vlm, prompt, new_tokens, **run.kwargs)

    def facts() -> dict[str, Any]:
        return {
            "context": prompt.length,
            "of the image": len(prompt.image_tokens),
            "delays": [step.delay for step in steps],
            "held": watch.held_bytes,
            "cache": cache_bytes(vlm, prompt.length + new_tokens),
        }

    return vlm, Decoding(generate, watch.wait, facts)


def slow_worker(setting: Setting) -> str:
    """Tokens per second with a worker that takes 100 times as long over a step, over those with one that does not."""
    vlm, estimator = setting.vlm, random_estimator(setting.vlm)
    image, question = ask(vlm, setting.contexts[0], "image")
    regions = tk.segment(image, "blocks", (64, 64))
    delay = 0.3

    class Slow(tk.NetworkEstimator):
        def predict_interval(self, features: Any) -> Any:
            time.sleep(100 * delay)
            return super().predict_interval(features)

    seconds, n = [], 96
    for kind in (tk.NetworkEstimator, Slow):
        with forward_times(vlm) as times:
            running = stream(
                vlm,
                image,
                question,
                estimator=kind(estimator.arrays, estimator.binding),
                regions=regions,
                temperature=1.0,
                max_new_tokens=n,
                seed=0,
            )
            steps = list(running)
        seconds.append(times[-1] - times[0])
        if kind is tk.NetworkEstimator:
            delay = float(np.median([step.delay for step in steps]))
    return (
        f"Tokens per second, slow over normal: {seconds[0] / seconds[1]:.3f}; reported as lagging: "
        f"{'yes' if running.lagged else 'no'}.\n"
    )


def methods_by_context(setting: Setting) -> list[dict[str, Any]]:
    """Time of scoring a run of 40 tokens, a row a method, a column a context."""
    vlm, estimator = setting.vlm, random_estimator(setting.vlm)

    def leave_one_out(vlm: VLM, prompt: Prompt, ids: Any, spans: Any, regions: Any) -> Any:
        return measure_effects(vlm, prompt, ids, spans, regions, single_region_masks(regions.k), batch_size=8)

    methods = baselines() | {"leave-one-out": leave_one_out}
    del methods["ContextCite, 64 masks"]  # twice the time of 32
    rows: dict[str, dict[str, Any]] = {name: {"method": name} for name in (OURS, *methods)}
    given_up: set[str] = set()
    for context in setting.contexts:
        image, question = ask(vlm, context, "image")
        prompt = vlm.prepare(image, question)
        tokens = plain_decode(vlm, prompt, 40)
        ids = torch.tensor(tokens, device=vlm.model.device)
        spans, _, _ = split_steps(tokens, vlm)
        regions = tk.segment(prompt.canvas.images, "blocks", (16, 16))
        column = f"context {prompt.length}"
        steps = list(
            stream(
                vlm, image, question, estimator=estimator, regions=regions, temperature=1.0, max_new_tokens=40, seed=0
            )
        )
        rows[OURS][column] = f"{1000 * sum(step.delay for step in steps) / len(tokens):.1f}"
        with progress(f"methods, context {context}", total=len(methods)) as bar:
            for name, method in methods.items():
                bar.advance(name)
                if name in given_up:
                    rows[name][column] = "too slow"
                    continue
                began = time.perf_counter()
                try:
                    method(vlm, prompt, ids, spans, regions)
                    rows[name][column] = f"{1000 * (time.perf_counter() - began) / len(tokens):.0f}"
                except (MemoryError, RuntimeError, torch.OutOfMemoryError) as error:
                    if "memory" not in str(error).lower():
                        raise
                    rows[name][column] = "out of memory"
                if time.perf_counter() - began > PATIENCE:
                    given_up.add(name)
    return list(rows.values())


def plain_decode(vlm: VLM, prompt: Prompt, n: int) -> list[int]:
    """The tokens of a plain `generate`; in a thread, as the stream is."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: generated(vlm, prompt, n)).result()


def generated(vlm: VLM, prompt: Prompt, n: int, **kwargs: Any) -> list[int]:
    """n tokens, drawn as if nobody else drew."""
    draw = Draw(torch.Generator(vlm.model.device).manual_seed(0))
    with torch.inference_mode():
        output = vlm.model.generate(
            **prompt.inputs, do_sample=False, max_new_tokens=n, logits_processor=[draw], **kwargs
        )
    return output[0, prompt.length :].tolist()


@contextmanager
def forward_times(vlm: VLM) -> Iterator[list[float]]:
    """The moments at which the model's passes ended."""
    times: list[float] = []

    def note(*_: Any) -> None:
        if vlm.model.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter())

    hook = vlm.model.register_forward_hook(note)
    try:
        yield times
    finally:
        hook.remove()


def with_interval(theirs: Any, ours: Any) -> str:
    """Ratio of two mean times over the same turns, with its 95 % interval by turn (bootstrap)."""
    drawn = np.random.default_rng(0).integers(0, len(ours), (2000, len(ours)))
    low, high = np.quantile(ours[drawn].mean(1) / theirs[drawn].mean(1), [0.025, 0.975])
    return f"{ours.mean() / theirs.mean():.3f} ({low:.3f} to {high:.3f})"


def block_of(new_tokens: int) -> int:
    """Tokens of a turn: five turns at least."""
    return min(BLOCK, (new_tokens - 1) // 5)


def control(setting: Setting) -> str:
    """Two plain runs by turns, in as many processes: what the measure says where there is nothing to measure."""
    context = setting.contexts[-1] if len(setting.contexts) == 1 else setting.contexts[1]
    prepare = partial(_plain, setting.make, context, setting.new_tokens)
    theirs, ours = map(np.array, take_turns(prepare, block_of(setting.new_tokens)).seconds)
    return f"Two plain runs by the same measure, at {context:,}: {with_interval(theirs, ours)}.\n"


def _plain(make: Callable[[], VLM], context: int, new_tokens: int, watched: bool) -> tuple[VLM, Decoding]:
    return decoding(make, context, "image", new_tokens, False)


def cache_bytes(vlm: VLM, length: int) -> int:
    text = vlm.text_config
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * text.num_hidden_layers * text.num_key_value_heads * width * length * vlm.model.dtype.itemsize


def ask(vlm: VLM, context: int, filled_by: str) -> tuple[Image.Image, str]:
    """An image and a question of `context` tokens together: one is as large as can be, the other fills the rest."""
    rows = cols = SMALL_SIDE
    around = vlm.prepare(picture(rows, cols), "row").length - rows * cols
    if filled_by == "image":
        rows = math.isqrt(context - around)
        cols = (context - around) // rows
    return picture(rows, cols), " ".join(["row"] * (context - around - rows * cols + 1))


def picture(rows: int, cols: int) -> Image.Image:
    """Noise of rows × cols tokens."""
    pixels = np.random.default_rng(0).integers(0, 255, (16 * rows, 16 * cols, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def random_estimator(vlm: VLM) -> tk.NetworkEstimator:
    """A network of random weights and the usual size."""
    rng, n, width, members = np.random.default_rng(0), 2 * vlm.n_features, 64, 4
    d = 3 * n + N_FACTS
    shapes = {"floor": (n,), "mean": (d,), "deviation": (d,), "w1": (members, d, width), "b1": (members, width)}
    shapes |= {"w2": (members, width, width), "b2": (members, width), "w3": (members, width, 1), "b3": (members, 1)}
    arrays = {name: np.float32(rng.random(shape) + 0.1) for name, shape in shapes.items()}
    arrays |= {
        "share": np.float32([0.1]),
        "offset": np.float32([0.1]),
        "from": np.float32([0, 1]),
        "factor": np.float32([1, 2]),
    }
    return tk.NetworkEstimator(arrays, Binding(vlm.fingerprint, vlm.name, None, "blocks", "sum", "mean"))


def small_model(layers: int, width: int, vocabulary: int) -> VLM:
    """On the CPU in float32. Twelve layers of width 768 are about the least that decodes like a model."""
    text = {"hidden_size": width, "intermediate_size": 7 * width // 2, "num_hidden_layers": layers}
    heads = {"num_attention_heads": width // 64, "num_key_value_heads": width // 64, "head_dim": 64}
    return random_model(text | heads | {"vocab_size": vocabulary}, torch.float32)


def full_model() -> VLM:
    """Qwen3-VL-8B's text configuration with random bf16 weights, on the GPU."""
    text = {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "vocab_size": VOCABULARY}
    return random_model(text | {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}, torch.bfloat16)


def random_model(text: dict[str, Any], dtype: torch.dtype) -> VLM:
    """A Qwen3-VL model of random weights with the demo's tokenizer, whose sentences are about 20 tokens long."""
    from transformers import AutoModelForImageTextToText

    from pipelines.demo.model import build_config, build_tokenizer, save_checkpoint
    from trajkit.vlm.adapter import adapter_for
    from trajkit.vlm.processor import load_processor

    tokenizer = build_tokenizer()
    config = build_config(tokenizer)
    half = text["head_dim"] // 2
    rope = config.text_config.rope_parameters | {"mrope_section": [half - 2 * (half // 3), half // 3, half // 3]}
    config.text_config.update(text | {"max_position_embeddings": 16384, "rope_parameters": rope})
    config.vision_config.out_hidden_size = text["hidden_size"]
    torch.manual_seed(0)
    device = "cuda" if dtype == torch.bfloat16 else "cpu"
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation="sdpa")
    with tempfile.TemporaryDirectory() as folder:
        tiny = AutoModelForImageTextToText.from_config(
            build_config(tokenizer, width=32, layers=1, heads=2, vision_width=32)
        )
        save_checkpoint(tiny, tokenizer, Path(folder))
        processor = load_processor(folder, adapter_for(config))
    processor.image_processor.size = {"shortest_edge": 16**2, "longest_edge": 2**24}  # images keep their size
    never = tokenizer.convert_tokens_to_ids(["</think>", *tokenizer.all_special_tokens])
    model.generation_config.update(
        do_sample=True,
        top_k=0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        suppress_tokens=never,
        sequence_bias=[[[tokenizer.convert_tokens_to_ids(".")], 1.7]],
    )
    known = len(tokenizer)

    def only_known_words(module: Any, inputs: Any, output: Any) -> None:
        output.logits[..., known:] = float("-inf")

    model.register_forward_hook(only_known_words)
    return VLM(model.eval().requires_grad_(False), processor, adapter_for(config), "random weights")


_READING = """
watched / plain: the time of the turns of a run under `tk.watch`, all that a turn leaves its second thread to do
included, over those of a plain run of the same model. In parentheses the 95 % interval by
turn; one pair of processes each, and where a process happens to lie in memory is in no interval: a ratio below 1 is
such luck, as watching gains no time, and says how far the others may be off. delay: from the moment the last token of a
step was seen to its effects. held for attribution: queries that wait for the end of their step, one row of K numbers
for every row of text, and for a moment the attention of the rows of a step.

Attention to the image is normalised by the log-sum-exp that the kernel knows, so text costs nothing there; the features
through the text read the keys of the text, once a step. On the CPU keys are read between two tokens by all cores: once
a step all keys of the image, and of a question of thousands of words its attention, before the second token.
"""
_METHODS = """
The same run of 40 tokens, over 16 regions. The first row is the time that the worker of `tk.stream` spends on it beside
generation; others score it after it was generated. Too slow: took more than 8 s at the context before.
"""


if __name__ == "__main__":
    main()
