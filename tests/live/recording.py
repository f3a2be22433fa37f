"""What the shipped model writes, in the form in which vLLM answers; recorded/README.md says what of it is vLLM's.

python -m tests.live.recording                        # recorded/: scenes, questions and streams, drawn anew
python -m tests.live.recording --serve PORT FOLDER    # draws questions there, answers each twice, for a log of inspect
"""

from __future__ import annotations

import argparse
import copy
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

import trajkit as tk
from tests.scenes import clean_scene
from trajkit.attribution.collect import generate_runs
from trajkit.attribution.item import Item
from trajkit.demo import paths
from trajkit.demo.items import DemoItem, demo_items
from trajkit.demo.questions import draw_question, supports
from trajkit.vlm.generation import Sampling
from trajkit.vlm.model import VLM

HERE = Path(__file__).parent
RECORDED = HERE / "recorded"
WHOLE = HERE.parent / "traces" / "importers" / "golden" / "openai" / "s00-0.greedy.json"
FAMILIES = {"s00-0": "document", "s00-1": "code", "s01-0": "science", "s01-1": "document"}
STREAMS = {
    "s00-0.greedy": Sampling(0.0, 400, 0),
    "s00-1.sampled": Sampling(1.0, 400, 0),
    "s01-0.plain": Sampling(0.0, 400, 0),
    "s01-1.cut": Sampling(0.0, 25, 0),
}


@dataclass(frozen=True)
class Answer:
    """One run: ids of its prompt and of what was written, (n,), and (n, V) log-probabilities at each of these."""

    vlm: VLM
    prompt: list[int]
    tokens: list[int]
    logprobs: torch.Tensor

    @property
    def texts(self) -> list[str]:
        """What each token adds to the text, a space before it included; nothing for those that end a side."""
        tokenizer, last = self.vlm.tokenizer, self.tokens[0]  # a word
        before = tokenizer.decode([last])
        texts = [tokenizer.decode([last, token], skip_special_tokens=True)[len(before) :] for token in self.tokens]
        ends = {self.vlm.think_end, *self.vlm.end_tokens}
        return ["" if token in ends else text for token, text in zip(self.tokens, texts, strict=True)]

    def sides(self) -> tuple[str, str]:
        """Thinking and answer, of which vLLM has a space before the closing tag."""
        if self.vlm.think_end not in self.tokens:
            return "".join(self.texts), ""
        at = self.tokens.index(self.vlm.think_end)
        return "".join(self.texts[:at]) + " ", "".join(self.texts[at:])

    def entry(self, at: int, top: int) -> dict[str, object]:
        """Log-probabilities at one token: its own, then those of the likeliest others, `top` in all."""
        token, row = self.tokens[at], self.logprobs[at]
        order = [token, *(other for other in row.argsort(descending=True).tolist() if other != token)]
        told = [self._told(one, row) for one in order[: max(top, 1)]]
        return told[0] | {"top_logprobs": told[:top]}

    def _told(self, token: int, row: torch.Tensor) -> dict[str, object]:
        text = self.vlm.tokenizer.decode([token])
        return {"token": text, "logprob": row[token].item(), "bytes": list(text.encode())}

    @property
    def reason(self) -> str:
        return "stop" if self.tokens[-1] in self.vlm.end_tokens else "length"

    def count(self, usage: dict[str, object]) -> None:
        n, m = len(self.prompt), len(self.tokens)
        usage.update({"prompt_tokens": n, "total_tokens": n + m, "completion_tokens": m})


@torch.inference_mode()
def answers(vlm: VLM, items: list[Item], sampling: Sampling, samples: int = 1) -> list[list[Answer]]:
    """`samples` runs of each item."""
    found = []
    for _, prompt, runs in generate_runs(vlm, items, samples, sampling):
        told = []
        for tokens in runs:
            inputs = prompt.followed_by(torch.tensor(tokens, device=vlm.model.device))
            logits = vlm.model(**inputs, use_cache=False).logits[0, -len(tokens) - 1 : -1].float()
            ids = prompt.inputs["input_ids"][0].tolist()
            told.append(Answer(vlm, ids, tokens, torch.log_softmax(logits, -1).cpu()))
        found.append(told)
    return found


def stream(recorded: str, answer: Answer) -> str:
    """A recorded stream whose chunks are filled with another answer."""
    events = [json.loads(event[6:]) for event in recorded.split("\n\n") if event.startswith("data: {")]
    first, body, last, usage = events[0], events[1], events[-2], events[-1]
    told, has_ids = body["choices"][0]["logprobs"], body["choices"][0]["token_ids"] is not None
    top = len(told["content"][0]["top_logprobs"]) if told else 0
    if first["prompt_token_ids"] is not None:
        first["prompt_token_ids"] = answer.prompt
    chunks, side = [first], "reasoning"
    for at, (token, text) in enumerate(zip(answer.tokens, answer.texts, strict=True)):
        chunk = copy.deepcopy(last if at == len(answer.tokens) - 1 else body)
        (choice,) = chunk["choices"]
        choice["delta"] = {} if token == answer.vlm.think_end else {side: text}
        if told:
            choice["logprobs"] = {"content": [answer.entry(at, top)]}
        if has_ids:
            choice["token_ids"] = [token]
        side = "content" if token == answer.vlm.think_end else side
        chunks.append(chunk)
    assert chunks[-1]["choices"][0]["finish_reason"] == answer.reason, "the run ends in another way than the recording"
    answer.count(usage["usage"])
    lines = [json.dumps(chunk, ensure_ascii=False, separators=(",", ":")) for chunk in [*chunks, usage]]
    return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"])


def whole(answer: Answer, top: int) -> dict[str, object]:
    """An answer that is not streamed, without ids, with log-probabilities of `top` tokens at each place."""
    record = json.loads(WHOLE.read_text("utf-8"))
    (choice,) = record["choices"]
    thinking, content = answer.sides()
    choice["message"] |= {"reasoning": thinking, "content": content or None}
    choice["logprobs"] = {"content": [answer.entry(at, top) for at in range(len(answer.tokens))]} if top else None
    choice |= {"token_ids": None, "finish_reason": answer.reason}
    answer.count(record["usage"])
    return record | {"prompt_token_ids": None, "system_fingerprint": None}


def draw_questions(folder: Path) -> None:
    """Two clean scenes and two questions about each, of families whose runs are short."""
    rng, lines = np.random.default_rng(7), []
    for name, family in FAMILIES.items():
        image = f"{name.partition('-')[0]}.png"
        if name.endswith("-0"):
            scene, picture = clean_scene(rng)
            while not supports(scene, FAMILIES[f"{name[:-1]}1"]):
                scene, picture = clean_scene(rng)
            picture.save(folder / image, optimize=True)
        question = draw_question(rng, scene, family)
        assert question is not None
        line = {"id": name, "image": image, "question": question.text}
        lines.append(line | {"target": question.answer(scene), "task_set": family})
    write_lines(folder / "questions.jsonl", lines)


def write_lines(path: Path, lines: list[dict[str, str]]) -> None:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")


def record(vlm: VLM) -> None:
    draw_questions(RECORDED)
    lines = map(json.loads, (RECORDED / "questions.jsonl").read_text("utf-8").splitlines())
    asked = {
        line["id"]: Item(line["id"], Image.open(RECORDED / line["image"]).convert("RGB"), line["question"], line["id"])
        for line in lines
    }
    for name, sampling in STREAMS.items():
        [[answer]] = answers(vlm, [asked[name.partition(".")[0]]], sampling)
        path = RECORDED / f"{name}.sse"
        path.write_text(stream(path.read_text("utf-8"), answer), "utf-8")
        print(name, len(answer.tokens), *answer.sides())


def draw_items(folder: Path) -> list[DemoItem]:
    """14 questions of the demo's mix about scenes that no other runs are of."""
    items, lines = list(demo_items("test", 14, seed=77)), []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for i, item in enumerate(items):
        image = f"images/d{i:02d}.jpg"
        (folder / image).write_bytes(item.jpeg)
        line = {"id": f"d{i:02d}", "image": image, "question": item.question}
        lines.append(line | {"target": item.target, "task_set": item.task_set})
    write_lines(folder / "questions.jsonl", lines)
    return items


def serve(vlm: VLM, port: int, folder: Path) -> None:
    items = draw_items(folder)
    told = answers(vlm, items, Sampling(1.0, 400, 0), 2)
    left = {item.question: list(runs) for item, runs in zip(items, told, strict=True)}
    assert len(left) == len(items), "two questions have the same words"

    async def answer(request):
        body = await request.json()
        (turn,) = body["messages"]
        (text,) = (part["text"] for part in turn["content"] if part["type"] == "text")
        return JSONResponse(whole(left[text].pop(0), body.get("top_logprobs", 0)))

    uvicorn.run(Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])]), port=port)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--serve", nargs=2, metavar=("PORT", "FOLDER"))
    given, vlm = arguments.parse_args(), tk.load_vlm(paths.MODEL)
    if given.serve:
        serve(vlm, int(given.serve[0]), Path(given.serve[1]))
    else:
        record(vlm)


if __name__ == "__main__":
    main()
