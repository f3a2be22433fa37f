"""inspect's logs, as the real tool wrote them: every shape, and what each says of its runs."""

from __future__ import annotations

import io
import json
import re
import shutil
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

import trajkit as tk
from trajkit.demo.paths import DEMO
from trajkit.errors import InputError
from trajkit.traces.importers.inspect_zip import Chunks, EvalZip
from trajkit.traces.importers.reading import error_line
from trajkit.vlm.sentences import split_steps

GOLDEN = Path(__file__).parent / "golden" / "inspect"


def imported(name: str, **options):
    """The runs of a golden log by id, and what was set aside, by id."""
    aside: dict[str, str] = {}
    runs = tk.import_traces(GOLDEN / name, set_aside=lambda run, error: aside.update({run: str(error)}), **options)
    return {run.transcript_id: run for run in runs}, aside


@pytest.fixture
def shapes():
    with pytest.warns(UserWarning, match="--reasoning-summary"):
        return imported("shapes.eval")


def texts(run) -> list[str]:
    return [step.text for step in run.steps]


def test_a_run_has_its_steps_answer_score_and_image(shapes):
    run = shapes[0]["reasoning-1"]
    assert texts(run) == ["There is one there.", "And one here.", "2"]
    assert (run.question, run.answer, run.target, run.score, run.outcome) == ("how many?", "2", "2", 1.0, "success")
    assert (run.task_id, run.task_repeat, run.task_set, run.model) == ("reasoning", 0, "math", "mockllm/model")
    assert Image.open(io.BytesIO(run.image)).size == (32, 32)
    assert run.group_id == run.image_sha256[:16]
    assert run.effects.shape == (3, 0)
    assert run.meta["written"] == {"thinking": "There is one there. And one here.", "answer": "2"}
    assert run.meta["temperature"] == 0.5
    source = run.meta["source"]
    assert (source["format"], source["file"], source["id"]) == ("inspect", "shapes.eval", "reasoning-1")
    assert source["tool"] == "inspect_ai 0.3.285"


def test_told_tokens_count_a_run_and_give_its_uncertainty(shapes):
    run = shapes[0]["reasoning-1"]
    assert [(step.token_start, step.token_end) for step in run.steps] == [(0, 5), (5, 9), (10, 11)]
    assert run.steps[0].logprob == pytest.approx(-0.05 * (1 + 2 + 3 + 4 + 5) / 5)
    assert 0 < run.steps[0].entropy < 1
    assert run.meta["entropy"] == "lower bound from 2"
    assert "counted_in" not in run.meta


def test_without_them_words_are_counted_and_the_uncertainty_is_not_known(shapes):
    run = shapes[0]["tags-1"]
    assert [(step.token_start, step.token_end) for step in run.steps] == [(0, 3), (3, 7), (7, 8)]
    assert {step.logprob for step in run.steps} == {step.entropy for step in run.steps} == {None}
    assert run.meta["counted_in"] == "words"


def test_thinking_in_the_text_is_told_by_its_closing_tag(shapes):
    assert texts(shapes[0]["tags-1"]) == ["Warm, I think.", "No green in it.", "crimson"]
    assert shapes[0]["tags-1"].meta["targets"] == ["red", "crimson"]


def test_a_summary_stands_for_redacted_reasoning_and_without_one_there_is_none(shapes):
    assert texts(shapes[0]["summary-1"]) == ["It leans to the left.", "So: left.", "left"]
    assert shapes[0]["summary-1"].meta["reasoning"] == "summary"
    assert texts(shapes[0]["redacted-1"]) == ["left"]
    assert shapes[0]["redacted-1"].meta["reasoning"] == "redacted"


def test_a_run_that_was_cut_off_says_so(shapes):
    run = shapes[0]["cut-1"]
    assert (run.meta["cut"], run.meta["thinking_closed"], run.answer) == ("length", False, "")
    assert texts(run) == ["One.", "Two.", "Thr"]


def test_scores_of_every_kind_are_numbers_where_they_can_be(shapes):
    found = {name: (run.score, run.success) for name, run in shapes[0].items()}
    assert found["tags-1"] == (0.5, None)  # P
    assert found["cut-1"] == (0.0, False)  # N
    assert found["a b/c.json-1"] == (1.0, True)  # 1
    assert found["redacted-1"] == (0.5, None)
    assert found["direct-1"] == (1.0, True)  # true
    assert found["unscored-1"] == found["summary-1"] == (None, None)  # NaN, and a mapping of several
    assert shapes[0]["unscored-1"].meta["scores"] == {"graded": None}
    assert shapes[0]["summary-1"].meta["scores"] == {"graded": {"accuracy": 1, "style": 0.25}}


def test_ids_are_those_of_the_json(shapes):
    assert {"a b/c.json-1", "7-1"} <= shapes[0].keys()


def test_several_images_are_one_picture_side_by_side(shapes):
    run = shapes[0]["a b/c.json-1"]
    assert run.meta["image_sizes"] == [[32, 32], [32, 32]]
    picture = Image.open(io.BytesIO(run.image))
    assert picture.size == (64, 32)
    assert (picture.getpixel((0, 0))[0], picture.getpixel((63, 0))[0]) == (80, 90)


def test_a_chat_keeps_its_turns(shapes):
    run = shapes[0]["7-1"]
    assert run.question == "is it dark?"
    assert run.meta["system"] == "Answer in one word."
    assert [turn["role"] for turn in run.meta["messages"]] == ["system", "user", "assistant", "user"]
    assert run.meta["messages"][1]["content"] == [{"type": "image"}, {"type": "text", "text": "is it grey?"}]
    assert "messages" not in shapes[0]["reasoning-1"].meta


def test_an_answer_beside_the_conversation_is_found_in_the_events_with_its_pooled_input(shapes):
    run = shapes[0]["direct-1"]
    assert (run.question, texts(run)) == ("asked beside the state?", ["By hand.", "yes"])
    assert run.image is not None


def test_failures_of_samples_and_models_are_set_aside_with_their_reason(shapes):
    assert shapes[1].keys() == {"fails-1", "refused-1"}
    assert "the sandbox is gone" in shapes[1]["fails-1"]
    assert "the prompt was refused" in shapes[1]["refused-1"]


@pytest.mark.parametrize("name", ["chunked.eval", "shapes.json", "unfinished.eval", "deflated.eval"])
def test_every_shape_of_a_log_says_the_same(shapes, name):
    found, aside = imported(name)
    assert len(found) >= 2
    assert not aside
    for run_id, run in found.items():
        same = shapes[0][run_id]
        assert run.steps == same.steps
        assert run.image == same.image
        for key in ("question", "answer", "target", "score", "outcome", "task_id", "task_set"):
            assert getattr(run, key) == getattr(same, key), key
        assert run.meta.get("messages") == same.meta.get("messages")


def test_stored_members_are_read_too(tmp_path, shapes):
    stored = tmp_path / "stored.eval"
    with EvalZip(GOLDEN / "shapes.eval") as log, zipfile.ZipFile(stored, "w") as zip:
        for name in log:
            zip.writestr(name, log.read(name))
    with pytest.warns(UserWarning, match="redacted"):
        assert set(tk.import_traces(stored, set_aside=lambda *_: None).ids) == shapes[0].keys()


def test_a_log_without_images_says_which_setting_keeps_them():
    with pytest.warns(UserWarning, match="--log-images"):
        found, _ = imported("no-images.eval")
    assert {run.image for run in found.values()} == {None}
    assert len({run.group_id for run in found.values()}) == 2  # by question


def test_questions_give_images_and_targets_to_a_log_without_them(tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    line = {"id": "tags", "image": "a.png", "question": "which colour?", "target": "crimson", "task_set": "colours"}
    (tmp_path / "q.jsonl").write_text(json.dumps(line))
    with pytest.warns(UserWarning, match="--log-images"):
        found, _ = imported("no-images.eval", questions=tmp_path / "q.jsonl", judge="exact")
    run = found["tags-1"]
    assert run.image == (tmp_path / "a.png").read_bytes()
    assert (run.target, run.task_set, run.outcome) == ("crimson", "colours", "success")
    assert found["reasoning-1"].image is None


def test_a_log_without_samples_says_which_setting_keeps_them(tmp_path):
    header = json.loads((GOLDEN / "shapes.json").read_text())
    del header["samples"]
    (tmp_path / "a.json").write_text(json.dumps(header))
    with pytest.raises(InputError, match="--no-log-samples"):
        tk.import_traces(tmp_path / "a.json")


def test_a_pool_of_messages_in_its_earlier_place_is_found(tmp_path):
    log = json.loads((GOLDEN / "shapes.json").read_text())
    sample = log["samples"][0]
    sample["message_pool"] = sample.pop("events_data")["messages"]
    sample["output"], sample["messages"] = {}, []
    (tmp_path / "a.json").write_text(json.dumps({**log, "version": 3}))
    run = tk.import_traces(tmp_path / "a.json")["reasoning-1"]
    assert (run.question, run.answer, run.image is not None) == ("how many?", "2", True)


def test_a_log_of_a_later_version_is_refused(tmp_path):
    header = json.loads((GOLDEN / "shapes.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps({**header, "version": 4}))
    with pytest.raises(InputError, match="version 4"):
        tk.import_traces(tmp_path / "a.json")


def test_a_member_that_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path):
    """A bomb: the directory says 100 bytes, and the data are 64 MiB of zeros."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    data = b"".join(packer.compress(bytes(2**20)) for _ in range(64)) + packer.flush()
    name = b"header.json"
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, 0, len(data), 100, len(name), 0) + name
    central = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, 0, len(data), 100, len(name), 0, 0, 0, 0, 0, 0)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(central) + len(name), len(local) + len(data), 0)
    (tmp_path / "bomb.eval").write_bytes(local + data + central + name + end)
    tracemalloc.start()
    with pytest.raises(InputError, match="size or checksum"):
        tk.import_traces(tmp_path / "bomb.eval")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_a_member_whose_checksum_is_wrong_is_set_aside(tmp_path):
    with EvalZip(GOLDEN / "unfinished.eval") as log, zipfile.ZipFile(tmp_path / "a.eval", "w") as zip:
        for name in log:
            zip.writestr(name, log.read(name))
    data = (tmp_path / "a.eval").read_bytes()
    (tmp_path / "a.eval").write_bytes(data.replace(b"which colour?", b"which color??", 1))
    aside = {}
    tk.import_traces(tmp_path / "a.eval", set_aside=lambda run, error: aside.update({run: str(error)}))
    assert list(aside) == ["samples/tags_epoch_1.json"]
    assert "checksum" in aside["samples/tags_epoch_1.json"]


def test_items_of_chunks_are_found_by_their_index():
    with EvalZip(GOLDEN / "chunked.eval") as log:
        events = Chunks(log, "samples/tags_epoch_1/events")
        whole = events.at([[0, 10**9]])
        assert len(whole) > 10
        assert events.at([[1, 2], [3, 6], [0, 1]]) == [*whole[1:2], *whole[3:6], whole[0]]
        assert events.get("5") == whole[5]
        assert events.get("99999") is events.get("x") is None
        assert list(events.all()) == whole[::-1]
        with pytest.raises(InputError, match="more than"):
            events.at([[0, 10**9]] * 10_000)


def test_a_member_that_is_too_large_is_not_read(monkeypatch):
    monkeypatch.setattr("trajkit.traces.importers.inspect_zip.MOST_BYTES", 5_000)
    with EvalZip(GOLDEN / "shapes.eval") as log:
        assert log.read("header.json")
        with pytest.raises(InputError, match="are the most"):
            log.read("samples/reasoning_epoch_1.json")


def test_chunks_that_are_too_large_together_are_not_read(monkeypatch):
    with EvalZip(GOLDEN / "chunked.eval") as log:
        names = [name for name in log if re.fullmatch(r"samples/tags_epoch_1/events/\d+.json", name)]
        assert len(names) > 1
        monkeypatch.setattr("trajkit.traces.importers.inspect_zip.MOST_BYTES", sum(map(log.size, names)) - 1)
        with pytest.raises(InputError, match="its events have more than"):
            Chunks(log, "samples/tags_epoch_1/events").at([[0, 10**9]])


@pytest.mark.parametrize(("source", "n"), [(GOLDEN / "shipped.eval", 4), (DEMO / "logs" / "digits.eval", 28)], ids=str)
def test_a_log_of_the_demos_model_has_the_steps_of_its_tokens(source, n, demo_vlm):
    """Words that the server told are the tokens of the model that it served."""
    runs = tk.import_traces(source)
    assert len(runs) == n
    for run, words in zip(runs, told_words(source), strict=True):
        ids = [demo_vlm.tokenizer.convert_tokens_to_ids(word) for word in words]
        spans, expected, closed = split_steps(ids, demo_vlm)
        assert texts(run) == expected
        assert [(step.kind, step.token_start, step.token_end) for step in run.steps] == [
            (span.kind, span.start, span.end) for span in spans
        ]
        assert run.meta["thinking_closed"] == closed
        assert all(step.logprob is not None and step.entropy is not None for step in run.steps)
        assert run.outcome in ("success", "failure")
        assert run.image


def told_words(source: Path) -> list[list[str]]:
    with EvalZip(source) as log:
        samples = [log.json(name) for name in log if name.startswith("samples/")]
    contents = (sample["output"]["choices"][0]["logprobs"]["content"] for sample in samples)
    return [[entry["token"] for entry in content] for content in contents]


def test_a_folder_of_logs_is_imported_with_ids_that_tell_them_apart(tmp_path):
    for name in ("unfinished.eval", "deflated.eval"):
        shutil.copy(GOLDEN / name, tmp_path / name)
    (tmp_path / "notes.txt").write_text("no log")
    found = tk.import_traces(tmp_path)
    assert sorted(found.ids) == [f"{n}-{r}-1" for n in ("deflated", "unfinished") for r in ("reasoning", "tags")]


def test_a_models_error_is_told_by_its_end_and_not_by_the_request_before_it():
    said = 'ModelGenerateError(\'\\nRequest:\\n{\\n  "messages": []\\n}\\n\\n'
    said += "BadRequestError(\\'Error code: 400 - no.\\')')"
    assert error_line(said) == "ModelGenerateError(' … BadRequestError(\\'Error code: 400 - no.\\')')"
    assert error_line("RuntimeError('gone').") == "RuntimeError('gone')"
