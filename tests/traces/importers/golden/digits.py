"""The task of `digits.eval`, for inspect-ai: questions about scenes of digits, judged by their target.

python -m tests.live.recording --serve 8124 FOLDER    # in the project's environment; draws questions.jsonl there
DEMO_BASE_URL=http://127.0.0.1:8124/v1 DEMO_API_KEY=none inspect eval digits.py --epochs 2 --temperature 1 \
    --model openai-api/demo/trajkit-demo --max-tokens 400 --logprobs --top-logprobs 3 --log-images    # in FOLDER
"""

from __future__ import annotations

import json
from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageUser, ContentImage, ContentText
from inspect_ai.scorer import match

QUESTIONS = Path("questions.jsonl")


@task
def digits() -> Task:
    samples = []
    for line in QUESTIONS.read_text("utf-8").splitlines():
        asked = json.loads(line)
        content = [ContentImage(image=asked["image"]), ContentText(text=asked["question"])]
        samples.append(
            Sample(
                id=asked["id"],
                input=[ChatMessageUser(content=content)],
                target=asked["target"],
                metadata={"task_set": asked["task_set"]},
            )
        )
    return Task(dataset=MemoryDataset(samples), scorer=match(location="exact"))
