"""Two processes that decode the same tokens, one under a watch, and take turns.

A machine is faster in one minute than in the next by more than a watch costs, so blocks of tokens are compared that are
written one after the other. Each has a process of its own, in whose main thread it generates, as a program does: torch
decodes slower where several threads of one process have used it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch

from trajkit.vlm.model import VLM


@dataclass
class Decoding:
    """generate: writes the tokens, and returns them. settle: waits for what is left to do at the end of a turn. facts:
    what else there is to tell in the end."""

    generate: Callable[[], list[int]]
    settle: Callable[[], object] = lambda: None
    facts: Callable[[], dict[str, Any]] = dict


@dataclass(frozen=True)
class Turns:
    """seconds: for each of the two, its time a token in every block. facts: of each."""

    seconds: tuple[list[float], list[float]]
    facts: tuple[dict[str, Any], dict[str, Any]]


def take_turns(
    prepare: Callable[[bool], tuple[VLM, Decoding]], block: int, advance: Callable[[], object] = lambda: None
) -> Turns:
    """Decode plainly and under a watch, in turns of `block` tokens after the pass that reads the prompt.

    prepare: called in each process with whether it is the watched one; it can be pickled. Raises RuntimeError where the
    two write other tokens, or one of them fails.
    """
    with _process(prepare, block, watched=False) as plain, _process(prepare, block, watched=True) as watched:
        sides, seconds, ended = (plain, watched), ([], []), [None, None]
        for side in sides:
            _heard(side)  # the model is there
        while not all(ended):
            for i, side in enumerate(sides):
                if ended[i] is None:
                    side.send("go on")
                    told = _heard(side)
                    if isinstance(told, dict):
                        ended[i] = told
                    elif told is not None:
                        seconds[i].append(told)
                        advance()
    facts = tuple(ended)
    if facts[0].pop("tokens") != facts[1].pop("tokens"):
        raise RuntimeError("watching changed the generated tokens")
    return Turns(seconds, facts)


@contextmanager
def _process(prepare: Callable[[bool], tuple[VLM, Decoding]], block: int, watched: bool) -> Iterator[Connection]:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_decode, args=(prepare, block, watched, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(10)
        process.kill()


def _heard(side: Connection) -> Any:
    try:
        return side.recv()
    except EOFError as error:
        raise RuntimeError("a process that decodes has ended; what it wrote before says why.") from error


def _decode(prepare: Callable[[bool], tuple[VLM, Decoding]], block: int, watched: bool, line: Connection) -> None:
    vlm, decoding = prepare(watched)
    n, began = 0, 0.0

    def after_a_pass(*_: Any) -> None:
        nonlocal n, began
        n += 1
        if n % block != 1:
            return
        if vlm.model.device.type == "cuda":
            torch.cuda.synchronize()
        decoding.settle()
        line.send(None if n == 1 else (time.perf_counter() - began) / block)
        line.recv()
        began = time.perf_counter()

    line.send("ready")
    line.recv()
    hook = vlm.model.register_forward_hook(after_a_pass)
    gc.collect()  # what was made until here would be gone through once more, in one of the two sooner than in the other
    tokens = decoding.generate()
    hook.remove()
    line.send({"tokens": tokens} | decoding.facts())
