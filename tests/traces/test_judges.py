"""Judges of answers: what they understand, what is wrong, and what cannot be told."""

from __future__ import annotations

import math
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajkit.errors import InputError
from trajkit.traces.answers import letter_of, number_of, says_yes
from trajkit.traces.judges import Judged, judge_of, read_outcomes

RIGHT, WRONG, UNTOLD = Judged(True, "success"), Judged(False, "failure"), Judged(None, "unknown")

NUMBERS = {
    "3": 3,
    "There are 1,234.5 km": 1234.5,
    "-3": -3,
    "\u22123 degrees": -3,
    "1/2": 0.5,
    "3 1/2 cups": 3.5,
    "2½": 2.5,
    r"\frac{1}{2}": 0.5,
    r"so \boxed{\frac{3}{4}}, not 5": 0.75,
    r"\boxed{12} of the 40": 12,
    "1e-3": 0.001,
    "2 × 10^3": 2000,
    "3 million": 3e6,
    "$5": 5,
    "twenty-one": 21,
    "one hundred and five": 105,
    "two hundred thousand and five": 200_005,
    "half": 0.5,
    "one half": 0.5,
    "three quarters": 0.75,
    "two thirds": 2 / 3,
    "two and a half": 2.5,
    "minus two": -2,
    "a dozen": 12,
    "half a dozen": 6,
    "2-3": 3,
    "two and three": 3,
    "the one on the left has 7": 7,
    "The answer is 4, not 5 of 6.": 4,
    "the answer is four of the 12": 4,
    "3 + 4 = 7 dogs, 2 of them brown": 7,
    "#### 18": 18,
    "12/25/2024": 2024,
    "none": None,
    "the third dog": None,
    "1/0": None,
    "9" * 5000: None,
    "1e400": None,
    "": None,
}


@pytest.mark.parametrize("text", NUMBERS)
def test_the_number_of_an_answer(text):
    found, value = number_of(text), NUMBERS[text]
    assert found is None if value is None else found is not None and math.isclose(found.value, value)


LETTERS = {
    "B": "B",
    "b": "B",
    "(B)": "B",
    "B.": "B",
    "B. a dog": "B",
    "B) a dog": "B",
    "**B**": "B",
    r"$\boxed{\text{C}}$": "C",
    "the answer is B": "B",
    "The answer is (b).": "B",
    "The answer is **C**, as A is a cat.": "C",
    "Answer: C": "C",
    "The correct option is: A. cat": "A",
    "the best choice is B, not C": "B",
    "I think it is C": "C",
    "It is not A but (B)": "B",
    "A": "A",
    "I": "I",
    "A dog": None,
    "answer is a dog": None,
    "A and B": None,
    "the answer is B or C": None,
    "I see a cat": None,
    "": None,
}


@pytest.mark.parametrize("text", LETTERS)
def test_the_letter_of_an_answer(text):
    assert letter_of(text) == LETTERS[text]


YES = {
    "Yes": True,
    "**Yes**, there is": True,
    "no.": False,
    "No, I see none": False,
    "There is not a dog": False,
    "There isn’t a dog": False,
    "there is a dog": None,
    "I said yes but no": None,
    "": None,
}


@pytest.mark.parametrize("text", YES)
def test_yes_or_no_of_an_answer(text):
    assert says_yes(text) is YES[text]


@given(st.integers(-(10**12), 10**12), st.sampled_from(["{}", "The answer is {} cm.", "it is {:,} apples", "={}"]))
def test_every_whole_number_is_read_back_from_a_sentence(value, sentence):
    found = number_of(sentence.format(value))
    assert found is not None
    assert found.value == value


@given(st.integers(1, 999), st.integers(1, 999), st.integers(1, 99))
def test_fractions_are_read_back_from_a_sentence(top, bottom, whole):
    assert number_of(f"about {top}/{bottom} of it").value == top / bottom
    assert number_of(f"{whole} {top}/{bottom}").value == whole + top / bottom


@given(st.floats(-1e6, 1e6, allow_subnormal=False), st.floats(0, 0.5), st.floats(0, 1))
def test_a_number_is_right_within_its_tolerance_and_wrong_outside(target, tolerance, inside):
    judge = judge_of(f"number:{tolerance!r}")
    near, far = target * (1 + tolerance * inside), target * (1 + 1.01 * tolerance + 1e-6) + math.copysign(1e-9, target)
    assert judge(f"it is {near:.17g}", [f"{target:.17g}"]) == RIGHT
    assert judge(f"it is {far:.17g}", [f"{target:.17g}"]) == WRONG


@given(st.text(max_size=60), st.text(min_size=1, max_size=60))
def test_every_judge_takes_every_text(answer, target):
    for name in ("exact", "choice", "number", "number:0.1", "pope"):
        judge = judge_of(name)
        assert judge(answer, [target]) in (RIGHT, WRONG, UNTOLD, Judged(False, "hallucination"))
        assert judge(answer, []) == UNTOLD
        assert judge(None, [target]) in (WRONG, UNTOLD)
    assert not answer.strip() or judge_of("exact")(f" {answer.upper().lower()} . ", [answer.upper()]) == RIGHT


@given(st.sampled_from("ABCDEFGHJK"), st.sampled_from("ABCDEFGHJK"))
def test_a_letter_is_right_or_wrong_however_it_is_said(given_, wanted):
    judge, expected = judge_of("choice"), RIGHT if given_ == wanted else WRONG
    for said in ("{}", "({})", "{}. a dog", "the answer is {}", "Answer: **{}**", "option ({})"):
        assert judge(said.format(given_), [wanted]) == judge(said.format(given_), [f"({wanted})"]) == expected


@pytest.mark.parametrize("text", ["9" * 10**6, "answer" + " " * 10**6, "(" * 10**6, "and a " * 10**5, "one " * 10**5])
def test_long_answers_take_no_time(text):
    start = time.perf_counter()
    for name in ("exact", "choice", "number", "pope"):
        judge_of(name)(text, ["1"])
    assert time.perf_counter() - start < 1


def test_exactly_one_of_the_accepted_answers():
    judge = judge_of("exact")
    assert judge("A  Dog. ", ["cat", "a dog"]) == RIGHT
    assert judge("dogs", ["cat", "a dog"]) == judge(None, ["cat"]) == judge("", ["cat"]) == WRONG


def test_a_choice_may_be_given_by_its_words_and_cannot_be_told_from_others():
    judge = judge_of("choice")
    assert judge("b. a dog", ["B. a dog"]) == judge("a dog", ["B", "a dog"]) == RIGHT
    assert judge("a dog", ["B"]) == judge("A or B", ["B"]) == judge("B", ["4"]) == UNTOLD
    assert judge("", ["B"]) == WRONG


def test_numbers_are_compared_as_numbers_and_no_number_is_wrong():
    judge = judge_of("number")
    assert judge("There are two.", ["2"]) == judge("2.0 cm", ["5", "2"]) == judge("1,000", ["1000"]) == RIGHT
    assert judge("0.333", ["1/3"]) == judge("I cannot tell", ["2"]) == WRONG
    assert judge("2", ["a dog"]) == UNTOLD
    assert judge_of("number:0.01")("0.333", ["1/3"]) == RIGHT
    assert judge("50%", ["50"]) == judge("50 percent", ["0.5"]) == judge("0.5", ["50%"]) == judge("5%", ["5%"]) == RIGHT
    assert judge("50%", ["0.5%"]) == judge("0.5", ["50"]) == WRONG


def test_yes_where_no_is_true_is_a_hallucination():
    judge = judge_of("pope")
    assert judge("Yes, there is a dog.", ["no"]) == Judged(False, "hallucination")
    assert judge("No.", ["yes"]) == judge("", ["yes"]) == WRONG
    assert judge("No, there is none.", ["no"]) == judge("yes", ["Yes"]) == RIGHT
    assert judge("there is a dog", ["yes"]) == judge("yes", ["dog"]) == UNTOLD
    assert judge("No.", ["yes"], "reasoning_failure") == Judged(False, "reasoning_failure")
    assert judge("Yes.", ["no"], "reasoning_failure").outcome == "hallucination"


def test_a_wrong_answer_is_what_its_question_says():
    assert judge_of("exact")("3", ["2"], "hallucination") == Judged(False, "hallucination")
    assert judge_of("exact")("2", ["2"], "hallucination") == RIGHT


MINE = """
from mine.inner import word
def right(answer, targets): return None if not targets else answer is not None and word(answer) in targets
def called(answer, targets): return {"a": "hallucination", "b": "failure"}.get(answer, "unknown")
def broken(answer, targets): return 1 / 0
def other(answer, targets): return 0.5
def numpy(answer, targets):
    import numpy as np
    return np.bool_(True)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("")
    (tmp_path / "mine" / "inner.py").write_text("def word(text): return text.split()[-1]\n")
    (tmp_path / "mine" / "judges.py").write_text(MINE)
    (tmp_path / "mine" / "wrong.py").write_text("def (")
    monkeypatch.chdir(tmp_path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


@pytest.mark.usefixtures("mine")
def test_a_function_of_the_current_folder_judges():
    path = list(sys.path)
    judge = judge_of("mine.judges:right")
    assert sys.path == path
    assert (judge("it is a dog", ["dog"]), judge("no", ["dog"]), judge(None, ["dog"])) == (RIGHT, WRONG, WRONG)
    assert judge("it is a dog", []) == UNTOLD
    assert judge_of("mine.judges:numpy")("", []) == RIGHT
    called = judge_of("mine.judges:called")
    assert called("a", [], "failure") == Judged(False, "hallucination")
    assert called("b", [], "reasoning_failure") == Judged(False, "reasoning_failure")
    assert called("c", []) == UNTOLD


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("exactly", "must be exact, choice, number, number:TOLERANCE, pope or MODULE:FUNCTION; got 'exactly'"),
        ("", "got ''"),
        ("exact:", "got 'exact:'"),
        ("exact:1", "got 'exact:1'"),
        ("number:", "got 'number:'"),
        ("number:1", "a number from 0 to 1, such as 0.01; got '1'"),
        ("number:nan", "got 'nan'"),
        ("number:a", "got 'a'"),
        ("nowhere:f", "'nowhere' could not be imported .*expected nowhere.py in"),
        ("mine.wrong:f", "could not be imported .SyntaxError"),
        ("mine.judges:f", "module 'mine.judges' has no function 'f'"),
    ],
)
def test_no_judge_of_that_name(name, message):
    with pytest.raises(InputError, match=message):
        judge_of(name)


@pytest.mark.usefixtures("mine")
def test_a_function_that_fails_or_says_something_else_is_told():
    with pytest.raises(InputError, match=r"judge mine.judges:broken failed on the answer 'dog' \(ZeroDivisionError"):
        judge_of("mine.judges:broken")("dog", ["a"])
    with pytest.raises(InputError, match=r"must say True, False, None or one of success.*it said 0\.5"):
        judge_of("mine.judges:other")("dog", ["a"])


def test_outcomes_are_read_from_json_lines_and_from_tables(tmp_path):
    expected = {"a, b": "success", "q-1": "hallucination"}
    (tmp_path / "o.jsonl").write_text(
        '\ufeff{"transcript_id": "a, b", "outcome": "success", "note": 1}\n\n'
        '{"transcript_id": "q-1", "outcome": "hallucination"}\n{"transcript_id": "c", "outcome": null}\n'
    )
    (tmp_path / "o.csv").write_text('outcome,note,transcript_id\nsuccess,x,"a, b"\nhallucination,,q-1\n,,c\n')
    (tmp_path / "o.tsv").write_text("transcript_id\toutcome\na, b\tsuccess\nq-1\thallucination\n")
    for name in ("o.jsonl", "o.csv", "o.tsv"):
        assert read_outcomes(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("o.jsonl", b"{", "line 1: it is no JSON: Expecting property name"),
        ("o.jsonl", b"[1]", r"expected a JSON object, got '\[1\]'"),
        ("o.jsonl", b'{"id": "a", "outcome": "success"}', "transcript_id must be a text.*got the keys 'id', 'outcome'"),
        ("o.jsonl", b'{"transcript_id": "a", "outcome": "wrong"}', "outcome must be one of success.*got 'wrong'"),
        ("o.jsonl", b'{"transcript_id": "a", "outcome": ["x"]}', "outcome must be one of"),
        ("o.jsonl", b'{"transcript_id": "a", "outcome": "success"}\n' * 2, "line 2: run 'a' has an outcome already"),
        ("o.jsonl", b"\n", "holds no outcome"),
        ("o.jsonl", b"\xff", "is not UTF-8"),
        ("o.csv", b"a,outcome\n1,success\n", "has no column transcript_id; got 'a', 'outcome'"),
        ("o.csv", b"", "has no column outcome and no column transcript_id; got none"),
        ("o.csv", b"transcript_id,outcome\n" + b"a" * 200_000 + b",success\n", "line 2: field larger than field limit"),
    ],
)
def test_a_file_of_something_else_is_said(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_outcomes(tmp_path / name)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv cannot be read"):
        read_outcomes(tmp_path / "none.csv")


def test_judges_need_no_torch():
    code = "import sys, trajkit.traces.judges; print([n for n in ('torch', 'pandas', 'sklearn') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("answer", "target", "right"),
    [
        *(("negative 7", "-7", True), ("the answer is minus 7", "-7", True), ("negative 7", "7", False)),
        *((r"\boxed{1{,}000}", "1000", True), ("7 minus 3", "3", True)),
    ],
)
def test_signs_in_words_and_thousands_of_latex_are_read(answer, target, right):
    assert judge_of("number")(answer, [target]).success is right


def test_the_letter_that_is_said_to_be_the_answer_goes_before_options_that_are_spoken_of():
    for answer in ("The answer is (B), because option (A) shows no dog.", "Final answer: B. Option A fails."):
        assert judge_of("choice")(answer, ["B"]).success is True
