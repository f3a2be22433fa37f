"""Written reasoning: free in its order, with slips that are mostly put right, in the words of the vocabulary."""

from __future__ import annotations

import re

import numpy as np

from pipelines.demo.writer import vocabulary, write_reasoning
from tests.demo.test_procedures import cases
from trajkit.demo.acts import Read, Unclear, parse

HARD, EASY = np.full((6, 6), 0.9), np.zeros((6, 6))


def test_one_way_of_reasoning_without_freedom_and_many_with_it():
    rng, scene, question = next(cases(1))
    fixed = {write_reasoning(question, scene, EASY, rng, 0.0).sentences for _ in range(5)}
    free = {write_reasoning(question, scene, EASY, rng, 1.0).sentences for _ in range(5)}
    assert len(fixed) == 1 < len(free)


def test_words_marked_as_slips_are_those_that_are_wrong_and_no_other():
    for rng, scene, question in cases(60):
        written = write_reasoning(question, scene, HARD, rng, 1.0)
        for number, sentence in enumerate(written.sentences):
            act = parse(sentence)
            words = sentence.rstrip(".").split()
            marked = {words[word] for n, word in written.slips if n == number}
            if isinstance(act, Read) and act.seen is not None:
                true = scene.at(act.at)
                expected = {act.seen[0], str(act.seen[1])} - ({true[0], str(true[1])} if true else set())
                assert marked == expected
            else:
                assert not marked


def test_hard_cells_are_called_unclear_and_misread_more_and_most_slips_are_put_right_at_once():
    counts = {}
    for name, hardness in (("hard", HARD), ("easy", EASY)):
        written = [write_reasoning(q, s, hardness, rng, 1.0) for rng, s, q in cases(60)]
        acts = [parse(sentence) for w in written for sentence in w.sentences]
        readings = sum(isinstance(act, Read) for act in acts)
        slips = sum(len({s for s, _ in w.slips}) for w in written)
        right = sum(isinstance(act, Read) and act.again for act in acts)
        counts[name] = (slips / readings, sum(isinstance(act, Unclear) for act in acts) / readings, right / slips)
    assert 0.05 < counts["hard"][0] < 0.2
    assert counts["easy"][0] < 0.03
    assert counts["hard"][1] > 0.1 > counts["easy"][1] == 0
    assert 0.5 < counts["hard"][2] < 0.7


def test_every_word_is_in_the_vocabulary():
    known = set(vocabulary())
    for rng, scene, question in cases(60):
        written = write_reasoning(question, scene, HARD, rng, 1.0)
        for text in (question.text, written.answer, *written.sentences):
            assert set(re.findall(r"\w+|[^\w\s]", text)) <= known
