"""Runs that another server was asked for are those that would have been made here, whatever the server does."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from tests.live.conftest import MODEL, QUESTIONS, RECORDED, listening
from tests.live.fickle import Fickle
from tests.live.test_app import wait_until
from tests.live.test_upstream import Recorded
from trajkit.attribution.assemble import settings
from trajkit.attribution.collect import collect
from trajkit.attribution.item import Item
from trajkit.errors import InputError
from trajkit.live.app import Limits, Server
from trajkit.live.asked import MOST_FAILURES, collect_asked
from trajkit.live.asking import Asking, Patience, Wanted, seed_of
from trajkit.live.other_server import NoEntryError, OtherServer, UpstreamError, described
from trajkit.vlm.generation import Sampling

GREEDY = Sampling(temperature=0, seed=0)
QUICK = Patience(tries=4, first=0.01, longest=0.02)


@pytest.fixture(scope="module")
def items():
    """Four questions about two recorded scenes."""
    made = []
    for name, asked in QUESTIONS.items():
        image = Image.open(RECORDED / asked["image"]).convert("RGB")
        made.append(Item(name, image, asked["question"], asked["image"], asked["target"], asked["task_set"]))
    return made


@pytest.fixture(scope="module")
def here(demo_vlm, demo_estimator, items):
    """The runs that are made here, by id."""
    return {run.transcript_id: run for run in collect(demo_vlm, items, estimator=demo_estimator, sampling=GREEDY)}


@pytest.fixture
def app(local_engine):
    return Server(local_engine, Limits(runs=4)).app()


@contextmanager
def asking(app, vlm, sampling=GREEDY, concurrency=4, stall=60.0, patience=QUICK):
    with (
        listening(app) as address,
        Asking(vlm, OtherServer(f"{address}/v1", stall=stall), MODEL, sampling, concurrency, patience) as made,
    ):
        yield made


def collected(app, vlm, estimator, wanted, set_aside=None, **options):
    """Runs by their id, from a server."""
    with asking(app, vlm, **options) as there:
        made_by = settings(vlm, estimator, there.sampling, server={"model": MODEL})
        runs = collect_asked(there, wanted, estimator=estimator, made_by=made_by, set_aside=set_aside)
        return {run.transcript_id: run for run in runs}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, run in found.items():
        other = expected[name]
        assert run.tokens.tolist() == other.tokens.tolist()
        assert [(s.text, s.kind, s.token_start) for s in run.steps] == [
            (s.text, s.kind, s.token_start) for s in other.steps
        ]
        np.testing.assert_allclose(run.effects, other.effects, atol=1e-4)
        assert (run.outcome, run.answer, run.success, run.group_id) == (
            other.outcome,
            other.answer,
            other.success,
            other.group_id,
        )
        assert (run.regions == other.regions).all()
        assert (run.image, run.task_id, run.task_repeat) == (other.image, other.task_id, other.task_repeat)


def test_greedy_runs_of_a_server_are_those_made_here(app, demo_vlm, demo_estimator, items, here):
    found = collected(app, demo_vlm, demo_estimator, [Wanted(item, 0) for item in items])
    assert_same(found, here)
    for run in found.values():
        assert run.meta["server"] == {"model": MODEL}
        assert run.meta["token_ids"] == "told"
        assert {run.meta[name] for name in ("temperature", "seed")} == {0}
    assert all(run.meta["server"] is None for run in here.values())


def test_they_are_so_where_the_server_tells_no_token_ids(app, demo_vlm, demo_estimator, items, here):
    fickle = Fickle(app, hidden=("return_token_ids", "stream_options"))
    found = collected(fickle, demo_vlm, demo_estimator, [Wanted(item, 0) for item in items])
    assert_same(found, here)
    assert {run.meta["token_ids"] for run in found.values()} == {"unchecked"}
    refused = ["logprobs", "return_token_ids", "stream_options"]
    assert all(run.meta["server_refuses"] == refused for run in found.values())
    assert {"seed" in body for body in fickle.bodies} == {True}


@pytest.mark.parametrize("fault", [429, 503, 500, 408, "cut", "nonsense", "endless"])
def test_what_fails_is_asked_for_again_and_nothing_is_lost(app, demo_vlm, demo_estimator, items, here, fault):
    fickle = Fickle(app, [fault, None, fault, fault, None], hidden=["logprobs"])
    found = collected(fickle, demo_vlm, demo_estimator, [Wanted(item, 0) for item in items])
    assert_same(found, here)
    assert len([body for body in fickle.bodies if "logprobs" not in body]) == len(items) + 3


def test_a_server_that_stalls_is_asked_again(demo_vlm, demo_estimator, items, here):
    fickle = Fickle(Recorded(wait=0).app(), ["stall", None])
    found = collected(fickle, demo_vlm, demo_estimator, [Wanted(items[0], 0)], stall=1.0)
    assert_same(found, {f"{items[0].id}-0": here[f"{items[0].id}-0"]})
    assert len(fickle.bodies) > 1


def test_what_the_server_refuses_is_set_aside_and_the_others_are_there(app, demo_vlm, demo_estimator, items, here):
    aside = []
    fickle = Fickle(app, [400] * 5 + [None])  # as often as fields are left out
    wanted = [Wanted(item, 0) for item in items]
    found = collected(
        fickle, demo_vlm, demo_estimator, wanted, lambda item, error: aside.append((item.id, str(error))), concurrency=1
    )
    ((name, said),) = aside
    assert name == items[0].id
    assert "answers 400: " in said
    assert_same(found, {id_: run for id_, run in here.items() if not id_.startswith(name)})


def test_a_server_that_fails_all_the_time_is_asked_no_longer(app, demo_vlm, demo_estimator, items):
    fickle, aside = Fickle(app, [500]), []
    wanted = (Wanted(item, repeat) for repeat in range(100) for item in items)
    with pytest.raises(UpstreamError, match=f"{MOST_FAILURES} runs in a row could not be had.*answers 500"):
        collected(fickle, demo_vlm, demo_estimator, wanted, lambda item, error: aside.append(item))
    assert len(aside) == MOST_FAILURES - 1
    assert len(fickle.bodies) < 100 * QUICK.tries


def test_a_server_that_lets_nobody_in_is_asked_once_by_each(app, demo_vlm, demo_estimator, items):
    fickle = Fickle(app, [401])
    wanted = (Wanted(item, repeat) for repeat in range(100) for item in items)
    with pytest.raises(NoEntryError, match="answers 401"):
        collected(fickle, demo_vlm, demo_estimator, wanted, lambda item, error: None, concurrency=2)
    assert len(fickle.bodies) < 100
    assert all("logprobs" in body for body in fickle.bodies)  # it is not asked for less


def test_no_more_is_asked_for_than_can_be_taken(app, demo_vlm, items):
    fickle, pulled = Fickle(app, wait=0.05), []

    def wanted():
        for repeat in range(100):
            pulled.append(repeat)
            yield Wanted(items[0], repeat)

    with asking(fickle, demo_vlm, concurrency=3) as there:
        answers = there.answers(wanted(), most=2)
        first = next(answers)
        wait_until(lambda: len(fickle.bodies) >= 7)
        wait_until(lambda: fickle.now == 0)
        assert 1 <= len(first) <= 2
        assert len(pulled) == 3 + 2 * 2
        assert fickle.most == 3
        next(answers)
        answers.close()
    assert len(pulled) < 12


def test_each_run_has_a_seed_of_its_own_and_always_the_same(app, demo_vlm, demo_estimator, items):
    sampling = Sampling(temperature=1.0, max_new_tokens=20, seed=5)
    wanted = [Wanted(item, repeat) for item in items[:2] for repeat in range(2)]
    seeds, texts = [], []
    for _ in range(2):
        fickle = Fickle(app)
        found = collected(fickle, demo_vlm, demo_estimator, wanted, sampling=sampling)
        seeds.append({body["seed"] for body in fickle.bodies})
        texts.append({id_: run.tokens.tolist() for id_, run in found.items()})
        assert {(body["temperature"], body["max_tokens"]) for body in fickle.bodies} == {(1.0, 20)}
    assert seeds[0] == seeds[1] == {seed_of(one.id, 5) for one in wanted}
    assert len(seeds[0]) == 4
    assert texts[0] == texts[1]


def unlike(chunk):
    for choice in chunk["choices"]:
        for entry in (choice.get("logprobs") or {}).get("content", ()):
            entry["logprob"] -= 0.5


def another_prompt(chunk):
    if "prompt_token_ids" in chunk:
        chunk["prompt_token_ids"][-1] += 1


def cut_by_a_filter(chunk):
    for choice in chunk["choices"]:
        if choice.get("finish_reason"):
            choice["finish_reason"] = "content_filter"


def of_nobody(chunk):
    for choice in chunk["choices"]:
        if choice.get("token_ids"):
            choice["token_ids"] = [10**6]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (unlike, "it serves other weights"),
        (another_prompt, "the other engine's prompt is not the one made here"),
        (cut_by_a_filter, "ended its answer with 'content_filter'"),
        (of_nobody, "1000000"),
    ],
)
def test_what_is_not_of_the_model_here_is_set_aside_and_says_why(change, said, demo_vlm, demo_estimator, items):
    with pytest.raises(InputError, match=said):
        collected(Recorded(change=change).app(), demo_vlm, demo_estimator, [Wanted(items[0], 0)])
    aside = []
    with pytest.raises(UpstreamError, match=said):
        collected(
            Recorded(change=change, wait=0).app(),
            demo_vlm,
            demo_estimator,
            [Wanted(items[0], repeat) for repeat in range(MOST_FAILURES)],
            lambda item, error: aside.append(str(error)),
        )
    assert len(aside) == MOST_FAILURES - 1


def test_a_vllm_as_it_was_recorded_writes_what_is_written_here(demo_vlm, demo_estimator, items, here):
    found = collected(Recorded(wait=0).app(), demo_vlm, demo_estimator, [Wanted(items[0], 0)])
    assert_same(found, {f"{items[0].id}-0": here[f"{items[0].id}-0"]})
    (run,) = found.values()
    assert 0 <= run.meta["logprob_difference"] < 1e-5


def test_closing_cuts_off_what_is_under_way_and_leaves_no_thread(app, demo_vlm, items):
    there, fickle = set(threading.enumerate()), Fickle(app, ["stall"])
    with listening(fickle) as address:
        made = Asking(demo_vlm, OtherServer(f"{address}/v1"), MODEL, GREEDY, 4, QUICK)
        answers = made.answers(Wanted(items[0], repeat) for repeat in range(9))
        threading.Thread(target=answers.__next__, daemon=True).start()
        wait_until(lambda: fickle.now == 4)
        made.close()
        wait_until(lambda: fickle.now == 0)
    wait_until(lambda: not {one for one in set(threading.enumerate()) - there if one.name == "trajkit-asking"})


def test_a_server_says_what_it_is_in_a_few_short_words(app):
    with listening(app) as address:
        assert described(f"{address}/v1", None) == {"model": MODEL, "owned_by": "trajkit"}
        with pytest.raises(UpstreamError, match="has no model 'x', but trajkit-demo"):
            described(f"{address}/v1", None, "x")
