"""Chat completions in OpenAI's form: as files, lines and recorded streams."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.traces.importers.logs import GOLDEN, IMAGE, QUESTIONS, left_out, refused, runs_in, write_lines
from trajkit.traces.trace import Trace

VLLM = GOLDEN / "openai"
DATA_URL = "data:image/png;base64," + base64.b64encode(IMAGE).decode()
ASKED = [{"type": "image_url", "image_url": {"url": DATA_URL}}, {"type": "text", "text": "read col 4."}]


def response(name: str = "s00-0.greedy") -> dict[str, Any]:
    record: dict[str, Any] = json.loads((VLLM / f"{name}.json").read_text())
    return record


def request(**more: Any) -> dict[str, Any]:
    return {"model": "asked", "messages": [{"role": "user", "content": ASKED}], **more}


def answered(message: dict[str, Any], reason: str | None = "stop", **more: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": reason, **more}]}


def exchange(path: Path, message: dict[str, Any], reason: str | None = "stop", **more: Any) -> Path:
    return write_lines(path, {"id": "q", "request": request(), "response": answered(message, reason, **more)})


def test_an_answer_of_vllm_has_steps_tokens_and_uncertainty() -> None:
    [run] = runs_in(VLLM / "s00-0.greedy.json", questions=QUESTIONS)
    told = response()["choices"][0]
    logprobs = [token["logprob"] for token in told["logprobs"]["content"]]

    assert [(step.token_start, step.token_end) for step in run.steps] == [(0, 7), (7, 15), (15, 22), (22, 30), (31, 35)]
    assert run.steps[0].logprob == pytest.approx(np.mean(logprobs[:7]))
    assert run.steps[0].text == "row 4 col 4 is empty."
    assert run.steps[0].entropy is not None
    assert (run.answer, run.target, run.image) == ("0 empty 8 empty", "4 empty 8 empty", IMAGE)
    assert run.tokens is not None
    assert run.tokens.tolist() == told["token_ids"]
    assert run.meta["source"]["tool"].startswith("vllm-0.32.0")
    assert run.meta["entropy"] == "lower bound from 5"
    assert run.meta["completion_tokens"] == len(run.tokens)
    assert run.meta["prompt_tokens"] == response()["usage"]["prompt_tokens"]
    assert (run.transcript_id, run.task_id, run.task_repeat) == ("s00-0-0", "s00-0", 0)


@pytest.mark.parametrize("name", ["s00-0.greedy", "s01-1.cut", "s01-0.plain"])
def test_a_recorded_stream_is_the_run_that_was_not_streamed(name: str) -> None:
    [whole] = runs_in(VLLM / f"{name}.json", questions=QUESTIONS)
    [streamed] = runs_in(VLLM / f"{name}.sse", questions=QUESTIONS)

    assert streamed.steps == whole.steps
    assert _stripped(streamed) == _stripped(whole)  # vLLM's streams leave out a space before the closing tag
    assert np.array_equal(streamed.tokens, whole.tokens) if whole.tokens is not None else streamed.tokens is None
    assert streamed.meta.get("cut") == whole.meta.get("cut")


def _stripped(run: Trace) -> dict[str, str]:
    return {part: text.strip() for part, text in run.meta["written"].items()}


def test_a_run_that_was_cut_off_is_no_failure_of_the_model() -> None:
    [run] = runs_in(VLLM / "s01-1.cut.json", questions=QUESTIONS, judge="exact")

    assert run.meta["cut"] == "length"
    assert run.meta["thinking_closed"] is False
    assert (run.outcome, run.success, run.answer) == ("unknown", None, "")
    assert [step.kind for step in run.steps] == ["thinking"] * 4
    assert run.steps[-1].logprob is not None
    assert run.steps[-1].entropy is None


def test_a_stop_string_within_the_thinking_is_said_to_have_cut_it(tmp_path: Path) -> None:
    message = {"role": "assistant", "content": None, "reasoning": "row 4 col"}
    [run] = runs_in(exchange(tmp_path / "log.jsonl", message))

    assert run.meta["cut"] == "stop string"
    assert run.outcome == "unknown"


def test_thinking_that_was_closed_before_an_answer_that_never_came_is_told_by_its_tokens(tmp_path: Path) -> None:
    message = {"role": "assistant", "content": None, "reasoning": "row 4."}
    told = [{"token": text, "logprob": -0.5} for text in ("row", " 4", ".", "</think>")]
    [run] = runs_in(exchange(tmp_path / "log.jsonl", message, "length", logprobs={"content": told}))

    assert run.meta["thinking_closed"] is True
    assert run.meta["cut"] == "length"
    assert (run.answer, run.n_steps) == ("", 1)


def test_a_stream_that_broke_off_is_unfinished(tmp_path: Path) -> None:
    events = (VLLM / "s00-0.greedy.sse").read_bytes().split(b"\n\n")
    (tmp_path / "s00-0.sse").write_bytes(b"\n\n".join(events[:9]) + b'\n\ndata: {"id": "chatcmpl-8d0c')
    [run] = runs_in(tmp_path / "s00-0.sse", questions=QUESTIONS)

    assert run.meta["cut"] == "unfinished"
    assert run.meta["written"]["thinking"] == " row 4 col 4 is empty. row"


def test_several_answers_in_one_recording_are_several_runs(tmp_path: Path) -> None:
    both = [(VLLM / f"{name}.sse").read_bytes() for name in ("s00-0.greedy", "s01-1.cut")]
    (tmp_path / "both.sse").write_bytes(b"".join(both))
    names = [json.loads(part.split(b"\n")[0].removeprefix(b"data: "))["id"] for part in both]
    asked = [{"id": name, "image": str(GOLDEN / "images" / "s00.png"), "question": "read."} for name in names]
    runs = runs_in(tmp_path / "both.sse", questions=write_lines(tmp_path / "questions.jsonl", *asked))

    assert [run.task_id for run in runs] == names
    assert [run.meta.get("cut") for run in runs] == [None, "length"]


@pytest.mark.parametrize(
    "spelled",
    [
        lambda asked, told: {"request": asked, "response": told},
        lambda asked, told: {"body": asked, "response": {"status_code": 200, "body": told}},
        lambda asked, told: {"messages": asked["messages"], "temperature": 0.5, "response": told},
        lambda asked, told: {**asked, "choices": told["choices"]},
        lambda asked, told: {"kwargs": asked, "completion": told},
    ],
)
def test_request_and_answer_are_taken_in_the_usual_spellings(spelled: Any, tmp_path: Path) -> None:
    record = {"id": "a", "target": "0 empty 8 empty"} | spelled(
        request(temperature=0.5, max_tokens=9, seed=3), response()
    )
    [run] = runs_in(write_lines(tmp_path / "log.jsonl", record), judge="exact")

    assert (run.question, run.image, run.outcome) == ("read col 4.", IMAGE, "success")
    assert run.transcript_id == "a-0"
    assert run.meta["temperature"] == 0.5


def test_the_text_of_an_answer_alone_may_stand_beside_the_messages(tmp_path: Path) -> None:
    record = {"messages": request()["messages"], "response": "<think>row 4.</think>8", "model": "m"}
    [run] = runs_in(write_lines(tmp_path / "log.jsonl", record))

    assert [step.text for step in run.steps] == ["row 4.", "8"]
    assert run.model == "m"


@pytest.mark.parametrize("form", ["lines", "list", "object"])
def test_json_is_read_as_lines_a_list_and_one_object(form: str, tmp_path: Path) -> None:
    record = {"id": "a", "request": request(), "response": response()}
    text = {"lines": json.dumps(record), "list": json.dumps([record], indent=1), "object": json.dumps(record, indent=2)}
    (tmp_path / "log.json").write_text("\ufeff" + text[form], encoding="utf-8")

    assert [run.transcript_id for run in runs_in(tmp_path / "log.json")] == ["a-0"]


@pytest.mark.parametrize(
    ("message", "thinking", "answer"),
    [
        ({"content": "8", "reasoning": "row 4."}, "row 4.", "8"),
        ({"content": "8", "reasoning_content": "row 4."}, "row 4.", "8"),
        ({"content": "<think>\nrow 4.\n</think>\n\n8"}, "\nrow 4.\n", "\n\n8"),
        ({"content": "row 4.\n</think>\n\n8"}, "row 4.\n", "\n\n8"),
        ({"content": [{"type": "text", "text": "row 4.</think>8"}]}, "row 4.", "8"),
    ],
)
def test_reasoning_is_found_wherever_servers_put_it(message: Any, thinking: str, answer: str, tmp_path: Path) -> None:
    [run] = runs_in(exchange(tmp_path / "log.jsonl", message))

    assert run.meta["written"] == {"thinking": thinking, "answer": answer}
    assert run.meta["thinking_closed"] is True
    assert run.answer == "8"


def test_several_choices_and_lines_of_one_question_are_its_repeats(tmp_path: Path) -> None:
    choices = [{"index": i, "message": {"content": f"<think>a.</think>{i}"}, "finish_reason": "stop"} for i in (0, 1)]
    line = {"request": request(), "response": {"model": "m", "choices": choices}}
    runs = runs_in(write_lines(tmp_path / "log.jsonl", line, line))

    assert [run.task_repeat for run in runs] == [0, 1, 2, 3]
    assert [run.answer for run in runs] == ["0", "1", "0", "1"]
    assert len({run.task_id for run in runs}) == 1
    assert len({run.transcript_id for run in runs}) == 4


def test_names_of_images_are_looked_for_in_the_folder_that_is_given(tmp_path: Path) -> None:
    content = [{"type": "image_url", "image_url": {"url": "images/s00.png"}}, {"type": "text", "text": "read col 4."}]
    record = {"request": {"messages": [{"role": "user", "content": content}]}, "response": response()}
    log = write_lines(tmp_path / "log.jsonl", record)

    assert runs_in(log, images=GOLDEN)[0].image == IMAGE
    assert "--images" in refused(log)


def test_addresses_of_images_are_not_fetched_and_it_says_so(tmp_path: Path) -> None:
    url = "https://example.com/a/s00.png?size=8"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "read col 4."}]
    record = {"request": {"messages": [{"role": "user", "content": content}]}, "response": response()}
    log = write_lines(tmp_path / "log.jsonl", record)
    with pytest.warns(UserWarning, match="nothing is fetched"):
        [run] = left_out(log)[0]

    assert run.image is None
    assert run.n_steps == 5
    assert runs_in(log, images=GOLDEN / "images")[0].image == IMAGE


def test_earlier_turns_and_the_system_prompt_are_kept(tmp_path: Path) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": "8", "reasoning": "row 4."},
        {"role": "user", "content": "sure?"},
    ]
    record = {"request": {"messages": turns}, "response": response()}
    [run] = runs_in(write_lines(tmp_path / "log.jsonl", record))

    assert run.question == "sure?"
    assert run.meta["system"] == "Be brief."
    assert run.image == IMAGE
    assert run.meta["messages"][1]["content"][0] == {"type": "image"}
    assert run.meta["messages"][2]["reasoning_content"] == "row 4."


def test_a_failed_request_is_set_aside_with_the_words_of_the_server(tmp_path: Path) -> None:
    good = {"id": "a", "request": request(), "response": response()}
    bad = {"id": "b", "request": request(), "response": {"error": {"message": "context is full", "code": 400}}}
    runs, reasons = left_out(write_lines(tmp_path / "log.jsonl", good, bad, "{half"))

    assert [run.task_id for run in runs] == ["a"]
    assert reasons["b"] == "the server failed: context is full"
    assert "no JSON" in reasons["line 3"]


def test_answers_without_their_questions_are_refused_with_the_id_that_is_missing(tmp_path: Path) -> None:
    shutil.copy(VLLM / "s01-0.plain.json", tmp_path)

    said = refused(tmp_path / "s01-0.plain.json")
    assert "does not tell what was asked" in said
    assert "'s01-0.plain'" in said
    assert "--questions" in said


def test_answers_of_other_apis_are_named(tmp_path: Path) -> None:
    told = {"choices": [{"text": "<think>a.</think>8"}]}
    log = write_lines(tmp_path / "log.jsonl", {"request": request(), "response": told})

    assert "completions API" in refused(log)


def test_answers_without_reasoning_name_the_setting_that_keeps_it(tmp_path: Path) -> None:
    assert "--reasoning-parser" in refused(exchange(tmp_path / "log.jsonl", {"content": "8"}))


def test_logs_of_one_stem_in_a_folder_are_told_apart() -> None:
    runs = runs_in(VLLM, questions=QUESTIONS)

    assert len(runs) == len({run.transcript_id for run in runs}) == 6
    assert {"s00-0.greedy.json-s00-0-0", "s00-0.greedy.sse-s00-0-0"} <= {run.transcript_id for run in runs}
