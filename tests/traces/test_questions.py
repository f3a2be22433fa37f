"""A user's JSONL of questions: what is read, and what is refused with its line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from trajkit.errors import InputError
from trajkit.traces.fields import FIELDS
from trajkit.traces.questions import Question, read_questions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "b.png").write_bytes(b"b")
    return tmp_path


def write(folder: Path, *lines: object) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


FULL = {"id": "q1", "image": "a.png", "question": "how many?", "target": "2", "group_id": "g", "task_set": "math"}


def test_every_key_is_read(folder: Path) -> None:
    [question] = read_questions(write(folder, FULL | {"form": "count"}))
    assert question == Question("q1", folder / "a.png", "how many?", "2", "g", "math", "count")
    assert question.facts == {"kind": "count"}
    [question] = read_questions(write(folder, FULL | {"targets": ["two", 2, "II"], "outcome": "hallucination"}))
    assert (question.targets, question.outcome, question.form) == (("2", "two", "II"), "hallucination", "")
    assert question.facts == {"targets": list(question.targets)}


def test_accepted_answers_stand_beside_the_target_or_in_place_of_it(folder: Path) -> None:
    row = {"image": "a.png", "question": "how many?"}
    asked = [
        row | {"id": 1, "target": "2"},
        row | {"id": 2, "targets": ["two", "2", " "]},
        row | {"id": 3, "target": "2", "targets": ["two"]},
        row | {"id": 4, "targets": []},
    ]
    found = read_questions(write(folder, *asked))
    assert [question.target for question in found] == ["2", "two", "2", None]
    assert [question.targets for question in found] == [("2",), ("two", "2"), ("2", "two"), ()]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("answer", "'answer' is no key of a question; did you mean 'target'?"),
        ("Target", "did you mean 'target'?"),
        ("qustion", "did you mean 'question'?"),
        ("task-set", "did you mean 'task_set'?"),
        ("image_path", "did you mean 'image'?"),
        ("zzz", "'zzz' is no key of a question; a line may hold image, question, id, target, targets, outcome"),
        ("k" * 500, "kkk' is no key of a question"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(folder: Path, key: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape("line 1: ") + ".*" + re.escape(message)):
        read_questions(write(folder, FULL | {key: 1}))


def test_a_question_without_an_answer_is_fine(folder: Path) -> None:
    path = write(folder, {"image": "a.png", "question": "one"}, {"image": "a.png", "question": "two", "target": None})
    assert [question.target for question in read_questions(path)] == [None, None]


@pytest.mark.parametrize("blank", ['""', '"  "', "null"])
def test_an_empty_target_is_no_right_answer(folder: Path, blank: str) -> None:
    (folder / "q.jsonl").write_text(f'{{"image": "a.png", "question": "what?", "target": {blank}}}\n')
    (question,) = read_questions(folder / "q.jsonl")
    assert question.target is None


def test_targets_and_ids_may_be_numbers(folder: Path) -> None:
    [question] = read_questions(write(folder, FULL | {"target": 7, "id": 12}))
    assert (question.target, question.id) == ("7", "12")


def test_questions_on_one_image_are_one_group_unless_said_otherwise(folder: Path) -> None:
    one, two, three = read_questions(
        write(
            folder,
            {"image": "a.png", "question": "one"},
            {"image": "a.png", "question": "two"},
            {"image": "pictures/b.png", "question": "one"},
        )
    )
    assert one.group_id == two.group_id != three.group_id


def test_an_id_that_is_not_given_stays_when_lines_move(folder: Path) -> None:
    one, two = {"image": "a.png", "question": "one"}, {"image": "a.png", "question": "two"}
    before = {question.question: question.id for question in read_questions(write(folder, one, two))}
    after = {question.question: question.id for question in read_questions(write(folder, two, "", one))}
    assert before == after
    assert len(set(before.values())) == 2


def test_images_are_looked_up_in_the_images_folder(folder: Path) -> None:
    path = write(folder, {"image": "b.png", "question": "one"})
    assert read_questions(path, folder / "pictures")[0].image == folder / "pictures" / "b.png"
    with pytest.raises(InputError, match="nowhere is not a folder"):
        read_questions(path, folder / "nowhere")


def test_an_image_that_is_missing_is_left_to_whoever_opens_it_and_the_line_is_known(folder: Path) -> None:
    one, two = read_questions(write(folder, FULL, "", {"image": "c.png", "question": "how many?"}))
    assert two.image == folder / "c.png"
    assert (one.line, two.line) == (1, 3)


def test_a_byte_order_mark_windows_line_ends_and_empty_lines_are_fine(folder: Path) -> None:
    path = folder / "questions.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(FULL).encode() + b"\r\n\r\n" + json.dumps(FULL | {"id": 2}).encode())
    assert [question.id for question in read_questions(path)] == ["q1", "2"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "not JSON, got '{not json'"),
        ('["a.png", "how many?"]', "expected a JSON object"),
        ({"image": "a.png"}, "'question' must be a text that is not empty, got the keys 'image'"),
        ({"question": "how many?"}, "'image' must be a text that is not empty, got the keys 'question'"),
        ({"image": "a.png", "question": "  "}, "'question' must be a text that is not empty, got '  '"),
        ({"image": 3, "question": "how many?"}, "'image' must be a text that is not empty, got 3"),
        (FULL, "id 'q1' is already that of line 1; give each question its own id"),
        (FULL | {"id": 2, "target": ["2"]}, "'target' must be a text, number or truth value, got ['2']"),
        (FULL | {"id": 2, "targets": "2"}, "'targets' must be a list of accepted answers, got '2'"),
        (FULL | {"id": 2, "targets": [["2"]]}, "'targets' must be a text, number or truth value, got ['2']"),
        (FULL | {"id": 2, "outcome": "success"}, "'outcome' must be what a wrong answer is, failure, hallucination, "),
        ('{"id": "a", "id": "b", "image": "a.png", "question": "?"}', "(it gives 'id' twice)"),
        ('{"image": "a.png", "question": "?", "note": {"a": 1, "a": 2}}', "(it gives 'a' twice)"),
        ('{"image": "a.png" "question"}', "(Expecting ',' delimiter at character 19)"),
        (
            '{"image": "a.png", "target": -' + "9" * 5000 + "}",
            "(a number has 5001 digits, and 4300 digits are the most)",
        ),
        *(
            (FULL | {"id": f"a{mark}b"}, f"'id' must be plain text, got {mark!r} in {f'a{mark}b'!r}")
            for mark in "\u202a\u202e\u2066\u2069"
        ),
    ],
)
def test_a_bad_line_is_named(folder: Path, line: object, message: str) -> None:
    path = write(folder, FULL, "", line)
    with pytest.raises(InputError, match=re.escape(f"{path}, line 3: ") + ".*" + re.escape(message)):
        read_questions(path)


def test_a_bad_line_that_is_set_aside_is_not_named_again_in_its_reason(folder: Path) -> None:
    told = []
    bad = ["{", "[1]", "{}", json.dumps(FULL | {"id": "\x1b"}), '{"image": ' + "9" * 5000 + "}", '{"a": 1, "a": 2}']
    read_questions(write(folder, FULL, *bad), None, lambda number, error: told.append((number, str(error))))
    assert [number for number, _ in told] == [2, 3, 4, 5, 6, 7]
    for _, reason in told:
        assert "line" not in reason.replace("a line such as", "")
        assert "sys." not in reason
        assert "questions.jsonl" not in reason


def test_what_a_line_may_hold_is_what_is_read(folder: Path) -> None:
    for name in FIELDS:
        with pytest.raises(InputError, match=f"'{name}' must be"):
            read_questions(write(folder, FULL | {name: {"an": "object"}}))


def test_marks_of_direction_are_fine_in_what_is_asked(folder: Path) -> None:
    [question] = read_questions(write(folder, FULL | {"question": "\u2067كم؟\u2069"}))
    assert question.question == "\u2067كم؟\u2069"


def test_a_file_without_questions_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"questions\.jsonl does not exist; expected a JSONL file"):
        read_questions(folder / "questions.jsonl")
    with pytest.raises(InputError, match="holds no question; expected a line such as"):
        read_questions(write(folder, "", "  "))
    (folder / "questions.jsonl").write_bytes(b'{"image": "\xff\xfe"}')
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_questions(folder / "questions.jsonl")
    with pytest.raises(InputError, match="pictures cannot be read"):
        read_questions(folder / "pictures")


def test_a_pipe_is_no_file_of_questions_and_is_not_waited_for(tmp_path):
    import os

    os.mkfifo(tmp_path / "q.jsonl")
    with pytest.raises(InputError, match="it is a folder, pipe or device"):
        read_questions(tmp_path / "q.jsonl")
