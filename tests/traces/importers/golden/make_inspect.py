"""Writes the golden logs of inspect with the real tool; README.md says with which version.

python make_inspect.py OUT                     # all but these two
python make_inspect.py OUT --only deflated     # with an old version, whose members are deflated
python make_inspect.py OUT --cut LOG.eval ID…  # samples of a real log, as the tool writes them again

Run it in an empty folder, as logs hold the commit of the one that they are made in.
"""

from __future__ import annotations

import argparse
import base64
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import anyio
from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalLog, read_eval_log, write_eval_log
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    ContentImage,
    ContentReasoning,
    ContentText,
    Logprob,
    Logprobs,
    ModelOutput,
    ModelUsage,
    TopLogprob,
    get_model,
)
from inspect_ai.scorer import Score, Target, mean, scorer
from inspect_ai.solver import Generate, TaskState, generate, solver


def png(shade: int, side: int = 32) -> str:
    """A grey square as a data URI."""
    raw = b"".join(b"\0" + bytes([shade]) * side for _ in range(side))

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(data).decode()


def asked(text: str, *shades: int) -> list[ChatMessageUser]:
    return [ChatMessageUser(content=[*(ContentImage(image=png(s)) for s in shades), ContentText(text=text)])]


SAMPLES = [
    Sample(id="reasoning", input=asked("how many?", 10), target="2", metadata={"task_set": "math"}),
    Sample(id="tags", input=asked("which colour?", 20), target=["red", "crimson"]),
    Sample(id="summary", input=asked("where?", 30), target="left"),
    Sample(id="redacted", input=asked("what is hidden?", 40), target="left"),
    Sample(id="cut", input=asked("count all of them.", 50), target="9"),
    Sample(id="fails", input=asked("what breaks?", 60), target="0"),
    Sample(id="refused", input=asked("what is refused?", 70), target="0"),
    Sample(id="a b/c.json", input=asked("compare the two.", 80, 90), target="darker"),
    Sample(
        id=7,
        input=[
            ChatMessageSystem(content="Answer in one word."),
            *asked("is it grey?", 100),
            ChatMessageAssistant(content="yes"),
            ChatMessageUser(content="is it dark?"),
        ],
        target="yes",
    ),
    Sample(id="direct", input=asked("asked beside the state?", 120), target="yes"),
    Sample(id="unscored", input=asked("what is it?", 110), target=""),
]
WORDS = ["There", " is", " one", " there", ".", " And", " one", " here", ".", "</think>", "2", "<|im_end|>"]


def logprobs() -> Logprobs:
    def told(word: str, nats: float) -> TopLogprob:
        return TopLogprob(token=word, logprob=nats, bytes=list(word.encode()))

    return Logprobs(
        content=[
            Logprob(
                token=word,
                logprob=-0.1 * (i + 1) / 2,
                bytes=list(word.encode()),
                top_logprobs=[told(word, -0.05 * (i + 1)), told("x", -4.0)],
            )
            for i, word in enumerate(WORDS)
        ]
    )


def said(*parts: ContentReasoning | ContentText, stop: str = "stop", told: Logprobs | None = None) -> ModelOutput:
    message = ChatMessageAssistant(content=list(parts), source="generate")
    return ModelOutput(
        model="mock",
        choices=[ChatCompletionChoice(message=message, stop_reason=stop, logprobs=told)],
        usage=ModelUsage(input_tokens=9, output_tokens=9, total_tokens=18),
    )


ANSWERS = {
    "how many?": lambda: said(
        ContentReasoning(reasoning="There is one there. And one here."), ContentText(text="2"), told=logprobs()
    ),
    "which colour?": lambda: said(ContentText(text="Warm, I think.\nNo green in it.</think>\n\ncrimson")),
    "where?": lambda: said(
        ContentReasoning(reasoning="gAAAAAB", summary="It leans to the left. So: left.", redacted=True),
        ContentText(text="left"),
    ),
    "what is hidden?": lambda: said(ContentReasoning(reasoning="gAAAAAB", redacted=True), ContentText(text="left")),
    "count all of them.": lambda: said(ContentReasoning(reasoning="One. Two. Thr"), stop="max_tokens"),
    "compare the two.": lambda: said(ContentReasoning(reasoning="The first is darker."), ContentText(text="darker")),
    "is it dark?": lambda: said(ContentReasoning(reasoning="Grey of 100 is dark."), ContentText(text="yes")),
    "asked beside the state?": lambda: said(ContentReasoning(reasoning="By hand."), ContentText(text="yes")),
    "what is it?": lambda: said(ContentReasoning(reasoning="Hard to say."), ContentText(text="a square")),
}


def answer(input, tools, tool_choice, config) -> ModelOutput:
    question = input[-1].text
    if question == "what is refused?":
        refused = said(ContentText(text=""), stop="content_filter")
        refused.error = "the prompt was refused"
        return refused
    return ANSWERS[question]()


@solver
def breaking():
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        if state.sample_id == "fails":
            raise RuntimeError("the sandbox is gone\nand more")
        if state.sample_id == "direct":
            await get_model().generate(state.messages)
            state.completed = True
        return state

    return solve


@solver
def waiting(for_ever: bool):
    """Stops at the third sample, where it is to."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        if for_ever and state.sample_id == "summary":
            await anyio.sleep(600)
        return state

    return solve


@scorer(metrics=[mean()])
def graded():
    async def score(state: TaskState, target: Target) -> Score:
        value = {
            "tags": "P",
            "summary": {"accuracy": 1, "style": 0.25},
            "redacted": 0.5,
            "cut": "N",
            "a b/c.json": 1,
            "direct": True,
            "unscored": math.nan,
        }.get(state.sample_id)
        right = state.output.completion in target.target
        return Score(value=value if value is not None else "C" if right else "I", answer=state.output.completion)

    return score


def run(folder: Path, name: str, samples: list[Sample], hang: bool = False, **options) -> Path:
    """The log of a run, as `folder/name`."""
    work = folder / "work"
    steps = [breaking(), waiting(hang), generate()]
    task = Task(dataset=MemoryDataset(samples), solver=steps, scorer=graded(), name="shapes")
    answers = [ANSWERS[sample.input[-1].text]() for sample in samples] if name == "deflated.eval" else answer
    model = get_model("mockllm/model", custom_outputs=answers)
    options = {"max_samples": 1, "fail_on_error": False, "display": "none", "temperature": 0.5} | options
    kind = name.rpartition(".")[2]
    eval(task, model=model, log_dir=str(work), log_format=kind, **options)
    (log,) = work.glob(f"*.{kind}")
    out = folder / name
    if name == "shapes.eval":
        write_eval_log(without_traceback(read_eval_log(str(log))), str(out))
    else:
        shutil.move(log, out)
    shutil.rmtree(work)
    return out


def without_traceback(log: EvalLog) -> EvalLog:
    """A log whose errors do not hold the paths of the machine that it was made on."""
    for sample in log.samples:
        for error in (sample.error, *(event.error for event in sample.events if event.event == "error")):
            if error is not None:
                error.traceback = error.traceback_ansi = ""
    return log


def unfinished(folder: Path) -> None:
    """A log whose writer was killed at its third sample."""
    work = folder / "work"
    command = [sys.executable, __file__, str(folder), "--only", "hang"]
    process = subprocess.Popen(command, start_new_session=True)
    while not (logs := list(work.glob("*.eval"))) or b"tags_epoch_1" not in logs[0].read_bytes():
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    shutil.move(logs[0], folder / "unfinished.eval")
    shutil.rmtree(work)


def cut(folder: Path, log: Path, ids: list[str]) -> None:
    """Some samples of a log, as the tool writes them again."""
    found = read_eval_log(str(log))
    found.samples = [sample for sample in found.samples if str(sample.id) in ids]
    write_eval_log(found, str(folder / log.name))


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--only", choices=("deflated", "hang"))
    arguments.add_argument("--cut", nargs="+")
    given = arguments.parse_args()
    if given.cut:
        return cut(given.out, Path(given.cut[0]), given.cut[1:])
    if given.only == "hang":
        run(given.out, "hang.eval", SAMPLES[:3], hang=True, log_buffer=1)
    if given.only == "deflated":
        run(given.out, "deflated.eval", SAMPLES[:2])
    if given.only:
        return None
    from inspect_ai.log._recorders.chunked import convert_eval_logs_to_chunked

    run(given.out, "shapes.eval", SAMPLES)
    some = [sample for sample in SAMPLES if sample.id in ("tags", "a b/c.json", 7, "direct")]
    whole = run(given.out, "whole.eval", some)
    run(given.out, "shapes.json", SAMPLES[:3])
    run(given.out, "no-images.eval", SAMPLES[:2], log_images=False)
    convert_eval_logs_to_chunked(str(whole), str(given.out / "chunked"), chunk_size=2, attachments_chunk_bytes=300)
    shutil.move(given.out / "chunked" / "whole.eval", given.out / "chunked.eval")
    (given.out / "chunked").rmdir()
    whole.unlink()
    unfinished(given.out)


if __name__ == "__main__":
    main()
