"""What is imported, whatever the format: outcomes, ids, and what becomes of runs that cannot be used."""

from __future__ import annotations

import gzip
import json
import shutil
import weakref
from pathlib import Path

import pytest

import trajkit as tk
from trajkit.errors import InputError
from trajkit.traces.importers.dataset import Dataset
from trajkit.traces.importers.formats import FORMATS, importer, sources
from trajkit.traces.importers.imported import _not_too_deep, imported
from trajkit.traces.importers.make import Said, make_trace
from trajkit.traces.importers.run import SourceRun, ToldToken, Wanted, cut_of, think_split
from trajkit.traces.importers.scores import value_of
from trajkit.traces.judges import judge_of

GOLDEN = Path(__file__).parent / "golden" / "inspect"


def made(said: Said | None = None, **facts):
    told = {"id": "a-0", "model": "m", "question": "how many?", "thinking": "One. Two.", "answer": "2"} | facts
    run = SourceRun(**told)
    return make_trace(run, said or Said(), {"format": "test", "file": "a"})


def test_a_label_goes_before_a_judge_and_a_judge_before_the_score():
    facts = {"targets": ("3",), "score": "C"}
    assert made(**facts).outcome == "success"
    judged = made(Said(judge=judge_of("exact")), **facts)
    assert (judged.outcome, judged.success, judged.score) == ("failure", False, 0.0)
    labelled = made(Said(judge=judge_of("exact"), outcomes={"a-0": "hallucination"}), **facts)
    assert (labelled.outcome, labelled.success, labelled.score) == ("hallucination", False, 0.0)


def test_a_judge_that_cannot_tell_leaves_the_score():
    assert made(Said(judge=judge_of("exact")), score="C").outcome == "success"


def test_a_run_that_was_cut_off_is_of_unknown_outcome_unless_a_score_or_label_says_otherwise():
    facts = {"answer": "", "closed": False, "cut": "length", "targets": ("2",)}
    judge = Said(judge=judge_of("exact"))
    assert made(judge, **facts).outcome == "unknown"
    assert made(judge, **facts, score=0).outcome == "failure"
    assert made(Said(outcomes={"a-0": "reasoning_failure"}), **facts).outcome == "reasoning_failure"
    assert made(**facts).meta["cut"] == "length"


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        *(("C", (1.0, True)), ("I", (0.0, False)), ("P", (0.5, None)), ("N", (0.0, False))),
        *((True, (1.0, True)), (0, (0.0, False)), (0.7, (0.7, None)), (float("nan"), (None, None))),
        *(("yes", (1.0, True)), ("0.5", (0.5, None)), ("nan", (None, None)), ("a text", (None, None))),
        *(({"acc": "I"}, (0.0, False)), ({"a": 1, "b": 0}, (None, None)), ({}, (None, None)), (None, (None, None))),
    ],
)
def test_scores_are_read_as_tools_write_them(score, expected):
    assert value_of(score) == expected


def test_text_is_split_at_the_closing_tag_whatever_the_tags():
    assert think_split("why", "2") == ("why", "2", True)
    assert think_split("why", None) == ("why", "", False)
    assert think_split(None, "<think>why</think>2") == ("why", "2", True)
    assert think_split(None, "why</think>2") == ("why", "2", True)
    assert think_split(None, "<think>why") == ("why", "", False)
    assert think_split(None, "◁think▷why◁/think▷2") == ("why", "2", True)
    assert think_split(None, "2") == ("", "2", True)
    assert think_split(None, "why", opened=True) == ("why", "", False)


def test_a_run_that_stops_within_its_thinking_met_a_stop_string():
    assert cut_of("stop", closed=False) == "stop string"
    assert cut_of("stop", closed=True) is None
    assert cut_of("stop", closed=False, told=(ToldToken("Hm", -1.0), ToldToken("<|im_end|>", -1.0))) is None
    assert cut_of("tool_calls", closed=False) is None
    assert cut_of("length", closed=True) == "length"
    assert cut_of("content_filter", closed=True) == "content filter"


def test_marks_around_an_answer_are_left_out_of_it():
    run = made(answer="<answer><|begin_of_box|>2<|end_of_box|></answer>")
    assert run.answer == run.steps[-1].text == "2"
    assert run.meta["written"]["answer"].startswith("<answer>")


def test_a_text_with_halves_of_characters_can_be_stored(tmp_path):
    run = made(thinking="a \ud800 b.", answer="2", question="what \udfff?")
    tk.write_traces([run], tmp_path / "t.parquet")
    assert tk.read_traces(tmp_path / "t.parquet")[0].steps[0].text == "a \N{REPLACEMENT CHARACTER} b."


def test_a_run_without_text_is_refused():
    with pytest.raises(InputError, match="neither reasoning nor an answer"):
        made(thinking=" ", answer="")


def test_imported_runs_can_be_written_and_read(tmp_path):
    runs = tk.import_traces(GOLDEN / "digits.eval")
    again = tk.read_traces(tk.write_traces(runs, tmp_path / "t.parquet"))
    assert [run.steps for run in again] == [run.steps for run in runs]
    assert again[0].meta == runs[0].meta
    assert again[0].effects_kind is None


def test_a_judge_may_be_a_function_or_a_name(tmp_path):
    def long(answer, targets):
        return len(answer or "") > 4

    with pytest.warns(UserWarning, match="could not be used|redacted"):
        by_function = tk.import_traces(GOLDEN / "shapes.eval", judge=long)
    found = {run.task_id: run.outcome for run in by_function}
    assert (found["tags"], found["reasoning"]) == ("success", "failure")
    with pytest.raises(InputError, match="judge"):
        tk.import_traces(GOLDEN / "shapes.json", judge="guess")


def test_a_labels_file_gives_outcomes(tmp_path):
    (tmp_path / "l.csv").write_text("transcript_id,outcome\ntags-1,hallucination\n")
    found = {run.task_id: run.outcome for run in tk.import_traces(GOLDEN / "shapes.json", labels=tmp_path / "l.csv")}
    assert found["tags"] == "hallucination"


def test_a_name_of_the_model_may_be_given():
    assert {run.model for run in tk.import_traces(GOLDEN / "shapes.json", model="Qwen/Q")} == {"Qwen/Q"}


def test_a_log_without_any_reasoning_says_what_keeps_it(tmp_path):
    log = json.loads((GOLDEN / "shapes.json").read_text())
    log["samples"] = log["samples"][:1]
    log["samples"][0]["output"]["choices"][0]["message"]["content"] = "2"
    (tmp_path / "a.json").write_text(json.dumps(log))
    with pytest.raises(InputError, match=r"has any reasoning\. .*--reasoning-parser"):
        tk.import_traces(tmp_path / "a.json")


def test_ids_that_come_twice_are_set_aside(tmp_path):
    log = json.loads((GOLDEN / "shapes.json").read_text())
    log["samples"].append(log["samples"][0])
    (tmp_path / "a.json").write_text(json.dumps(log))
    aside = []
    found = tk.import_traces(tmp_path / "a.json", set_aside=lambda run, error: aside.append((run, str(error))))
    assert len(found) == 3
    assert aside[0][0] == "reasoning-1"
    assert "must differ" in aside[0][1]


def test_one_warning_tells_of_runs_that_cannot_be_used():
    with pytest.warns(UserWarning, match="could not be used") as warned:
        tk.import_traces(GOLDEN / "shapes.eval")
    told = [str(one.message) for one in warned]
    assert sum("2 of 11 runs could not be used, such as " in text for text in told) == 1


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_an_importer_of_its_name(name):
    found = importer(name)
    assert found.name == name
    assert found.keeps.endswith(".")


def test_formats_are_told_by_content_and_not_by_name(tmp_path):
    shutil.copy(GOLDEN / "unfinished.eval", tmp_path / "log.zip")
    shutil.copy(GOLDEN / "shapes.json", tmp_path / "log.txt")
    for name in ("log.zip", "log.txt"):
        assert sources(tmp_path / name, None)[0][0].name == "inspect"


def test_what_is_no_log_is_said_with_the_formats_there_are(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    for path in (tmp_path, tmp_path / "a.txt"):
        with pytest.raises(InputError, match="inspect"):
            tk.import_traces(path)
    with pytest.raises(InputError, match="does not exist"):
        tk.import_traces(tmp_path / "b.txt")
    with pytest.raises(InputError, match="'inspct'"):
        tk.import_traces(tmp_path / "a.txt", format="inspct")


@pytest.mark.parametrize("name", ["inspect/shapes.eval", "inspect/shapes.json", "scout", "dataset/digits.parquet"])
def test_how_many_runs_are_to_come_is_known_before_they_are_read(name):
    expected: list[int] = []
    aside: list[str] = []
    wanted = Wanted(set_aside=lambda run, error: aside.append(run), expect=expected.append)
    path = GOLDEN.parent / name
    found = list(imported(path, None, wanted, Said()))
    assert sum(expected) == len(found) + len(aside)


def test_values_that_are_nested_too_deeply_are_no_traceback(tmp_path):
    deep: object = "x"
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(InputError, match="nested too deeply"), _not_too_deep():
        made(facts={"deep": deep})


def test_token_ids_are_kept_and_odd_ones_refused():
    assert made(tokens=(1, 2, 3)).tokens.tolist() == [1, 2, 3]
    for odd in ((1, -1), (2**40,), (1.5,), ("a",)):
        with pytest.raises(InputError, match="token ids"):
            made(tokens=odd)


def test_runs_before_any_with_reasoning_are_told_once_however_many_they_are(tmp_path, monkeypatch):
    def line(number, answer):
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
        return json.dumps({"id": number, "messages": turns})

    lines = ["broken {", *(line(n, "8") for n in range(9)), "broken {", line(9, "<think>a. b.</think>8"), "broken {"]
    (tmp_path / "log.jsonl").write_text("\n".join([line("first", "8"), *lines, line("last", "8")]))
    found = {}
    for most in (100, 10, 3, 0):
        monkeypatch.setattr("trajkit.traces.importers.imported.MOST_HELD", most)
        aside = []
        runs = tk.import_traces(tmp_path / "log.jsonl", set_aside=lambda run, error, aside=aside: aside.append(run))
        found[most] = (list(runs.ids), aside)
    assert len(found[100][0]) == 12
    assert found[100][1] == ["line 2", "line 12", "line 14"]
    assert found[10] == found[3] == found[0] == found[100]


def test_no_more_runs_without_reasoning_are_held_than_may_be(tmp_path, monkeypatch):
    monkeypatch.setattr("trajkit.traces.importers.imported.MOST_HELD", 3)
    made, most = [], []
    real = Dataset.read

    def read(self, path, wanted):
        for run in real(self, path, wanted):
            made.append(weakref.ref(run))
            most.append(sum(one() is not None for one in made))
            yield run

    monkeypatch.setattr(Dataset, "read", read)
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "8"}]
    lines = [json.dumps({"id": n, "messages": turns}) for n in range(40)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError, match="none of the 40 runs"):
        tk.import_traces(tmp_path / "log.jsonl")
    assert max(most) < 8


def test_what_is_no_log_is_told_with_what_to_do(tmp_path):
    packed, asked = tmp_path / "run.json.gz", tmp_path / "questions.jsonl"
    packed.write_bytes(gzip.compress((GOLDEN / "shapes.json").read_bytes()))
    asked.write_text('{"image": "a.png", "question": "what?", "target": "b"}\n')
    ours = tk.write_traces(tk.import_traces(GOLDEN / "digits.eval"), tmp_path / "ours" / "runs.parquet")
    for path, said in {
        packed: "packed with gzip; unpack it first",
        asked: "questions and no answers.*trajkit collect",
        ours: "holds traces already",
        ours.parent: "holds traces already",
    }.items():
        with pytest.raises(InputError, match=said):
            tk.import_traces(path)
    with pytest.raises(InputError, match=r"no run that can be used as openai; leave the format out"):
        tk.import_traces(GOLDEN / "digits.eval", format="openai")
    with pytest.raises(InputError, match=r"takes the path of a log.*got Traces"):
        tk.import_traces(tk.read_traces(ours))
    with pytest.raises(InputError, match=r"labels are a file of outcomes.*got dict"):
        tk.import_traces(GOLDEN / "digits.eval", labels={"s02-0-1": "success"})


def test_labels_of_no_run_are_a_warning(tmp_path):
    (tmp_path / "labels.csv").write_text("transcript_id,outcome\nnone,success\n")
    with pytest.warns(UserWarning, match="1 of 1 labels are of no run here, such as 'none'"):
        tk.import_traces(GOLDEN / "digits.eval", labels=tmp_path / "labels.csv")
