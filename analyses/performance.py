"""What watching costs: ratios of decode time with and without it, memory, delay, and other methods beside it.

    python -m analyses.performance           # some 20 minutes on 2 quiet cores; writes reports/performance.md
    python -m analyses.performance --quick   # a minute, one short context

A Qwen3-VL text stack of 109 M random weights on the CPU; with a GPU also the full configuration of Qwen3-VL-8B with
random bf16 weights. Everything that is compared runs in one process, in turn (A B A B …); the median of the ratios of
neighbours is shown with its range. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

import trajkit as tk
from trajkit.attribution.baselines import BASELINES
from trajkit.attribution.estimator import Binding
from trajkit.attribution.network import N_FACTS
from trajkit.attribution.stream import Sampling, stream
from trajkit.cli.output import markdown
from trajkit.progress import progress
from trajkit.vlm.model import VLM, Prompt
from trajkit.vlm.sentences import split_steps

IMAGE_SIDE = 24
"""Image tokens a side: 576 in all, so that the shortest context holds the image and little else."""


@dataclass(frozen=True)
class Setting:
    """A model to measure on. contexts: prompt lengths in tokens; steps: of how many tokens, about."""

    name: str
    vlm: VLM
    contexts: tuple[int, ...]
    new_tokens: int


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="pairs of runs, A B A B …")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("reports/performance.md"))
    args = parser.parse_args(argv)
    contexts = (640,) if args.quick else (640, 1024, 2048, 4096)
    repeats, new_tokens = (2, 24) if args.quick else (args.repeats, 96)
    settings = [Setting("CPU, 109 M", small_model(layers=2 if args.quick else 12), contexts, new_tokens)]
    if torch.cuda.is_available() and not args.quick:
        settings.append(Setting(f"{torch.cuda.get_device_name(0)}, 8.8 B", full_model(), contexts, 256))
    text = (
        "# Performance\n\n"
        f"Regenerate: `python -m analyses.performance`. Measured on {platform.machine()}, {torch.get_num_threads()} "
        f"threads, torch {torch.__version__}, {repeats} pairs each, {new_tokens} tokens a run, steps of about 20 "
        "tokens, a network estimator. A context holds 576 image tokens and the rest text.\n\n"
    )
    for setting in settings:
        rows = [measure_context(setting, n, repeats) for n in setting.contexts]
        text += f"## {setting.name}\n\n{markdown(pd.DataFrame(rows))}\n"
    text += _READING
    text += f"\n## A worker made 100 × slower\n\n{slow_worker(settings[0], repeats)}\n"
    rows = methods_by_context(settings[0], 1 if args.quick else 3)
    text += f"\n## Milliseconds per generated token of other methods\n\n{markdown(pd.DataFrame(rows))}\n{_METHODS}"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text, encoding="utf-8")
    print(text)


def measure_context(setting: Setting, context: int, repeats: int) -> dict[str, Any]:
    """One row: decode with the stream over decode without, added milliseconds a token, memory, delay."""
    vlm, estimator = setting.vlm, random_estimator(setting.vlm)
    image, question = picture(), question_of(vlm, context)
    prompt = vlm.prepare(image, question)
    regions = tk.segment(image, "blocks", (64, 64))
    sampling = Sampling(1.0, setting.new_tokens, seed=0)
    ratios, added, delays, memory = [], [], [], 0
    with progress(f"{setting.name}, context {context}", total=repeats) as bar:
        for _ in range(repeats):
            plain, tokens = plain_decode(vlm, prompt, sampling)
            with forward_times(vlm) as times:
                running = stream(
                    vlm, image, question, estimator=estimator, regions=regions, temperature=1.0,
                    max_new_tokens=setting.new_tokens, seed=0,
                )  # fmt: skip
                steps = list(running)
            assert running.tokens == tokens
            watched = times[-1] - times[0]
            ratios.append(watched / plain)
            added.append(1000 * (watched - plain) / (len(times) - 1))
            delays += [step.delay for step in steps]
            memory = max(memory, running.held_bytes)
            bar.advance()
    return {
        "context": prompt.length,
        "decode, watched / plain": spread(ratios),
        "added ms per token": spread(added),
        "delay p50, ms": round(1000 * float(np.quantile(delays, 0.5)), 1),
        "delay p99, ms": round(1000 * float(np.quantile(delays, 0.99)), 1),
        "held for attribution, MB": round(memory / 1e6, 2),
        "KV cache, MB": round(cache_bytes(vlm, prompt.length + setting.new_tokens) / 1e6, 1),
    }


def slow_worker(setting: Setting, repeats: int) -> str:
    """Tokens per second with a worker that sleeps 100 times as long as it works, over those with one that does not."""
    vlm, estimator = setting.vlm, random_estimator(setting.vlm)
    image, question = picture(), question_of(vlm, setting.contexts[0])
    regions = tk.segment(image, "blocks", (64, 64))

    class Slow(tk.NetworkEstimator):
        def predict(self, features: Any) -> Any:
            began = time.perf_counter()
            result = super().predict(features)
            time.sleep(max(100 * (time.perf_counter() - began), 0.3))
            return result

    ratios, lagging = [], False
    for _ in range(repeats):
        seconds = []
        for kind in (tk.NetworkEstimator, Slow):
            with forward_times(vlm) as times:
                running = stream(
                    vlm, image, question, estimator=kind(estimator.arrays, estimator.binding), regions=regions,
                    temperature=1.0, max_new_tokens=setting.new_tokens, seed=0,
                )  # fmt: skip
                list(running)
            seconds.append(times[-1] - times[0])
        lagging = running.lagged
        ratios.append(seconds[0] / seconds[1])
    return (
        f"Tokens per second, slow over normal: {spread(ratios)}; reported as lagging: {'yes' if lagging else 'no'}.\n"
    )


def methods_by_context(setting: Setting, n_contexts: int) -> list[dict[str, Any]]:
    """Time of scoring a run of 40 tokens after it was generated, a row a method, a column a context."""
    rows: dict[str, dict[str, Any]] = {}
    vlm = setting.vlm
    for context in setting.contexts[:n_contexts]:
        prompt = vlm.prepare(picture(), question_of(vlm, context))
        _, tokens = plain_decode(vlm, prompt, Sampling(1.0, 40, seed=0))
        ids = torch.tensor(tokens, device=vlm.model.device)
        spans, _, _ = split_steps(tokens, vlm)
        regions = tk.segment(prompt.canvas.images, "blocks", (64, 64))
        with progress(f"methods, context {context}", total=len(BASELINES)) as bar:
            for name, baseline in BASELINES.items():
                began = time.perf_counter()
                try:
                    baseline(vlm, prompt, ids, spans, regions)
                    cell = f"{1000 * (time.perf_counter() - began) / len(tokens):.0f}"
                except (MemoryError, RuntimeError, torch.OutOfMemoryError) as error:
                    if "memory" not in str(error).lower():
                        raise
                    cell = "out of memory"
                rows.setdefault(name, {"method": name})[f"context {prompt.length}"] = cell
                bar.advance(name)
    return list(rows.values())


def plain_decode(vlm: VLM, prompt: Prompt, sampling: Sampling) -> tuple[float, list[int]]:
    """Seconds from the first token to the last of a plain `generate`, and the tokens; in a thread, as the stream is."""

    def generate() -> tuple[float, list[int]]:
        with torch.inference_mode(), torch.random.fork_rng(), forward_times(vlm) as times:
            torch.manual_seed(sampling.seed or 0)
            output = vlm.model.generate(**prompt.inputs, **sampling.arguments(vlm))
        return times[-1] - times[0], output[0, prompt.length :].tolist()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(generate).result()


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


def spread(values: list[float]) -> str:
    return f"{np.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def cache_bytes(vlm: VLM, length: int) -> int:
    text = vlm.text_config
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * text.num_hidden_layers * text.num_key_value_heads * width * length * vlm.model.dtype.itemsize


def picture() -> Image.Image:
    side = IMAGE_SIDE * 16
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8))


def question_of(vlm: VLM, context: int) -> str:
    """A question that fills the prompt up to `context` tokens."""
    short = vlm.prepare(picture(), "row").length
    return " ".join(["row"] * (context - short + 1))


def random_estimator(vlm: VLM) -> tk.NetworkEstimator:
    """A network of random weights and the usual size."""
    rng, n, width, members = np.random.default_rng(0), 2 * vlm.n_features, 64, 4
    d = 3 * n + N_FACTS
    shapes = {"floor": (n,), "mean": (d,), "deviation": (d,), "w1": (members, d, width), "b1": (members, width)}
    shapes |= {"w2": (members, width, width), "b2": (members, width), "w3": (members, width, 1), "b3": (members, 1)}
    arrays = {name: np.float32(rng.random(shape) + 0.1) for name, shape in shapes.items()}
    arrays["interval"] = np.float32([0.1, 1])
    return tk.NetworkEstimator(arrays, Binding(vlm.fingerprint, vlm.name, None, "blocks", "sum", "mean"))


def small_model(layers: int = 12) -> VLM:
    """109 M random weights in the text stack (at 12 layers)."""
    text = {"hidden_size": 768, "intermediate_size": 2688, "num_hidden_layers": layers}
    return random_model(text | {"num_attention_heads": 12, "num_key_value_heads": 12, "head_dim": 64}, torch.float32)


def full_model() -> VLM:
    """Qwen3-VL-8B's text configuration with random bf16 weights, on the GPU."""
    text = {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36}
    return random_model(text | {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}, torch.bfloat16)


def random_model(text: dict[str, Any], dtype: torch.dtype) -> VLM:
    """A Qwen3-VL model of random weights with the demo's tokenizer, whose sentences are about 20 tokens long."""
    from transformers import AutoModelForImageTextToText

    from trajkit.demo.model import build_config, build_tokenizer, save_checkpoint
    from trajkit.vlm.adapter import adapter_for
    from trajkit.vlm.processor import load_processor

    tokenizer = build_tokenizer()
    config = build_config(tokenizer)
    half = text["head_dim"] // 2
    rope = config.text_config.rope_parameters | {"mrope_section": [half - 2 * (half // 3), half // 3, half // 3]}
    config.text_config.update(text | {"max_position_embeddings": 8192, "rope_parameters": rope})
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
    area = (IMAGE_SIDE * 16) ** 2
    processor.image_processor.size = {"shortest_edge": area, "longest_edge": area}
    never = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("</think>")]
    model.generation_config.update(
        do_sample=True, top_k=0, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        suppress_tokens=never, sequence_bias=[[[tokenizer.convert_tokens_to_ids(".")], 1.7]],
    )  # fmt: skip
    return VLM(model.eval().requires_grad_(False), processor, adapter_for(config), "random weights")


_READING = """
decode, watched / plain: time from the first token to the last with `tk.stream`, all of its two threads included, over
that of a plain `generate` of the same tokens. delay: from the moment the last token of a step was seen to its effects.
held for attribution: queries that wait for the end of their step, and one row of K numbers for every row of text.
"""
_METHODS = """
Scoring a run of 40 tokens on the same model after it was generated. What `tk.stream` adds to generation is in the first
table, in milliseconds per token.
"""


if __name__ == "__main__":
    main()
