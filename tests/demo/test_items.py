"""Items: fresh questions whose pictures hold what they are asked about, and the judge of their runs."""

from __future__ import annotations

import json

import numpy as np

from trajkit.demo.acts import Read, say
from trajkit.demo.items import CLEAR, SMUDGED, judge_by_scene, scene_of, world_items
from trajkit.demo.procedures import plan
from trajkit.demo.questions import FAMILIES, parse_question


def test_an_item_is_the_same_whatever_is_asked_beside_it_and_another_in_each_split():
    few, many = (list(world_items("validation", n, 3)) for n in (2, 7))
    assert [i.id for i in many[:2]] == [i.id for i in few]
    assert all(a.question == b.question and a.image == b.image for a, b in zip(few, many, strict=False))
    assert [i.task_set for i in many] == [*FAMILIES, *FAMILIES[:2]]
    assert not {i.question for i in few} & {i.question for i in world_items("test", 2, 3)}


def test_the_facts_of_an_item_are_json_and_enough_to_judge_its_runs():
    for item in world_items("test", 10, 1):
        meta = json.loads(json.dumps(item.meta))
        question, scene = parse_question(item.question), scene_of(meta["cells"])
        said = [say(act) for act in plan(question, scene)]
        judged = judge_by_scene(item, said, item.target)
        assert (judged.outcome, judged.success) == ("success", True)
        assert judged.facts["step_labels"] == [""] * len(said)
        wrong = judge_by_scene(item, said[:1], None)
        assert (wrong.outcome, wrong.facts["detail"]) == ("reasoning_failure", "no answer")


def test_smudged_pictures_are_smudged_where_the_reading_begins():
    hard = {True: [], False: []}
    for item in world_items("test", 60, 5):
        low, high = SMUDGED if item.meta["smudged"] else CLEAR
        assert low <= item.meta["difficulty"] <= high
        read = [a.at for a in plan(parse_question(item.question), scene_of(item.meta["cells"])) if isinstance(a, Read)]
        hardness = np.array(item.meta["hardness"])
        early = read[: max(len(read) // 3, 1)]
        hard[item.meta["smudged"]].append(max(hardness[at] for at in early))
    assert 20 <= len(hard[True]) <= 40
    assert min(hard[True]) > 0.35
    assert max(hard[False]) <= 0.35
