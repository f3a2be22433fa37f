"""What of a long run is told, and what is passed over."""

from __future__ import annotations

from tests.demo.judged_runs import judged_run
from tests.demo.test_questions import GRID_BY_HAND
from trajkit.demo.acts import Read, Tally, say
from trajkit.demo.retelling import Stretch, alarm, cause, notes, retold

COUNT = "how many red in row 1 to row 3?"


def counting(seen=None):
    """The sentences and the answer of a careful count, but that cells are read as `seen` has them."""
    said, n = [], 0
    for at in ((row, col) for row in range(3) for col in range(6)):
        cell = (seen or {}).get(at, GRID_BY_HAND.at(at))
        said.append(say(Read(at, cell)))
        if cell and cell[0] == "red":
            n += 1
            said.append(say(Tally((n,), ("red",))))
    return said, str(n)


def told(run):
    """Numbers from 1, and what is said of stretches."""
    return [item.said() if isinstance(item, Stretch) else item + 1 for item in retold(run)]


def test_of_a_run_without_a_mistake_only_its_ends_are_told():
    run = judged_run(COUNT, *counting())
    assert told(run) == [1, "22 sentences, on course", 24]
    assert set(notes(run)) == {""}
    assert alarm(run) is cause(run) is None


def test_what_a_run_failed_by_is_told_with_what_stands_beside_it():
    run = judged_run(COUNT, *counting({(1, 2): ("blue", 0)}))
    assert (cause(run), notes(run)[11]) == (11, "misread")
    assert told(run) == [1, "9 sentences, on course", 11, 12, 13, "9 sentences, off course", 23]


def test_the_alarm_is_told_with_the_sentence_before_it():
    run = judged_run(COUNT, *counting(), alarm=6)
    assert told(run) == [1, "4 sentences, on course", 6, 7, "16 sentences, on course", 24]


def test_a_correction_is_told_with_the_misreading_that_it_corrects():
    said, answer = counting()
    run = judged_run(COUNT, ["row 1 col 1 is red 8.", "wait, row 1 col 1 is red 4.", *said[1:]], answer)
    assert notes(run)[:3] == ["misread", "put right", ""]
    assert told(run) == [1, 2, "22 sentences, on course", 25]
    again = [*said[:4], "row 1 col 3 is blue 3.", *said[5:8], "row 1 col 3 is green 1.", *said[8:]]
    run = judged_run(COUNT, again, answer)
    assert [i for i, note in enumerate(notes(run)) if note in ("misread", "put right")] == [4, 8]
    assert {5, 9} <= set(told(run))


def test_mistakes_in_a_stretch_are_counted():
    said, answer = counting()
    run = judged_run(COUNT, [*said[:4], *["on to row 5 col 5."] * 4, "row 6 col 1 is red 1.", *said[4:]], answer)
    assert told(run) == [1, "3 sentences, on course", 5, "23 sentences: 1 misread, 3 lost", 29]


def test_every_sentence_is_told_or_passed_over_once():
    said, answer = counting()
    for at in range(len(said)):
        run = judged_run(COUNT, [*said[:at], "row 5 col 5 is red 6.", *said[at + 1 :]], answer, alarm=at)
        parts = [range(item.first, item.end) if isinstance(item, Stretch) else [item] for item in retold(run)]
        assert [i for part in parts for i in part] == list(range(len(said)))
        assert {at, cause(run) or 0} <= {item for item in retold(run) if not isinstance(item, Stretch)}


def test_a_run_that_fails_by_its_answer_alone_has_no_sentence_that_it_failed_by():
    run = judged_run(COUNT, counting()[0], "1")
    assert run.outcome == "reasoning_failure"
    assert cause(run) is None
