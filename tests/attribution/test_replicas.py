"""Which runs a replica is given at once; a cluster that loses its workers is in tests/cli/test_attribute.py."""

from __future__ import annotations

from trajkit.attribution.replicas import _AT_ONCE, _TRIES, _Portion, _Task, _Worker


def task(tries: int = 0) -> _Task:
    return _Task(_Portion([]), [], tries)


def having(*tasks: _Task) -> _Worker:
    return _Worker(None, dict(enumerate(tasks)))


def test_a_replica_has_the_next_task_before_it_is_done_with_one_and_no_more():
    assert [having(*[task()] * n).takes(task()) for n in range(_AT_ONCE + 1)] == [True] * _AT_ONCE + [False]


def test_a_run_that_is_tried_for_the_last_time_has_a_replica_for_itself():
    last = task(_TRIES - 1)
    assert having().takes(last)
    assert not having(task()).takes(last)
    assert not having(last).takes(task())
