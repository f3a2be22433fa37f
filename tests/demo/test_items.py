"""Items: fresh questions whose pictures hold what they are asked about, and the judge of their runs."""

from __future__ import annotations

import json

import numpy as np

from trajkit.demo.acts import Read, say
from trajkit.demo.items import CLEAN, MIX, Mix, demo_items, judge_by_scene, scene_of
from trajkit.demo.procedures import plan
from trajkit.demo.questions import FAMILIES, parse_question
from trajkit.traces.images import open_image


def test_an_item_is_the_same_whatever_is_asked_beside_it_and_another_in_each_split():
    few, many = (list(demo_items("validation", n, 3)) for n in (2, 7))
    assert [i.id for i in many[:2]] == [i.id for i in few]
    assert all(a.question == b.question and a.image == b.image for a, b in zip(few, many, strict=False))
    assert [i.task_set for i in many] == [*FAMILIES, *FAMILIES[:2]]
    assert not {i.question for i in few} & {i.question for i in demo_items("test", 2, 3)}


def test_the_facts_of_an_item_are_json_and_enough_to_judge_its_runs():
    for item in demo_items("test", 10, 1):
        meta = json.loads(json.dumps(item.meta))
        question, scene = parse_question(item.question), scene_of(meta["cells"])
        said = [say(act) for act in plan(question, scene)]
        judged = judge_by_scene(item, said, item.target)
        assert (judged.outcome, judged.success) == ("success", True)
        assert judged.facts["step_labels"] == [""] * len(said)
        wrong = judge_by_scene(item, said[:1], None)
        assert (wrong.outcome, wrong.facts["detail"]) == ("reasoning_failure", "no answer")


def read_first(item, n):
    """The first cells that are read in the plan."""
    acts = plan(parse_question(item.question), scene_of(item.meta["cells"]))
    return [act.at for act in acts if isinstance(act, Read)][:n]


def test_smudged_pictures_are_smudged_where_the_reading_begins():
    hard = {True: [], False: []}
    for item in demo_items("test", 60, 5):
        low, high = MIX.damage if item.meta["smudged"] else MIX.clear
        assert low <= item.meta["difficulty"] <= high
        hardness = np.array(item.meta["hardness"])
        hard[item.meta["smudged"]].append(max(hardness[at] for at in read_first(item, MIX.early)))
    assert 25 <= len(hard[True]) <= 47
    assert min(hard[True]) > 0.45
    assert max(hard[False]) <= MIX.clear[1]


def test_a_mix_says_how_many_pictures_are_smudged_and_where_and_a_clean_one_has_nothing_hard():
    for item in demo_items("test", 20, 5, Mix(smudged=1.0, early=1)):
        assert item.meta["smudged"]
        hardness = np.array(item.meta["hardness"])
        assert hardness[read_first(item, 1)[0]] > np.quantile(hardness, 0.6)
    for item in demo_items("test", 5, 5, CLEAN):
        assert (item.meta["smudged"], item.meta["difficulty"], np.max(item.meta["hardness"])) == (False, 0, 0)


def test_the_picture_of_an_item_is_the_one_in_its_jpeg_file():
    for item in demo_items("validation", 5, 3):
        assert item.jpeg.startswith(b"\xff\xd8")
        assert len(item.jpeg) < 25_000
        assert open_image(item.jpeg) == item.image
        assert item.image.size == (192, 192)
