"""Which runs a replica is given at once; a cluster that loses its workers is in tests/cli/test_attribute.py."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace

from trajkit.attribution.replicas import _TRIES, Replicas, _Portion, _Task, _Worker


def task(tries: int = 0) -> _Task:
    return _Task(_Portion([]), [], tries)


def last() -> _Task:
    return task(_TRIES - 1)


def handed_out(*tasks: _Task, workers: int = 2) -> tuple[list[list[_Task]], list[_Task]]:
    """What each of so many idle replicas is given of `tasks`, and what is left."""
    replicas, left = Replicas.__new__(Replicas), deque(tasks)
    reads = SimpleNamespace(read=SimpleNamespace(remote=lambda *arguments: object()))
    replicas._workers = [_Worker(reads) for _ in range(workers)]
    replicas._hand_out(left, ())
    return [list(worker.has.values()) for worker in replicas._workers], list(left)


def test_a_replica_has_the_next_task_before_it_is_done_with_one_and_no_more():
    tasks = [task() for _ in range(5)]
    given, left = handed_out(*tasks)
    assert given == [[tasks[0], tasks[2]], [tasks[1], tasks[3]]]
    assert left == tasks[4:]


def test_a_run_that_is_tried_for_the_last_time_has_a_replica_for_itself():
    tasks = [last(), task(), task(), task()]
    given, left = handed_out(*tasks)
    assert given == [tasks[:1], tasks[1:3]]
    assert left == tasks[3:]


def test_it_waits_for_one_that_has_nothing_and_what_comes_after_it_waits_too():
    tasks = [task(), task(), last(), task()]
    given, left = handed_out(*tasks)
    assert given == [tasks[:1], tasks[1:2]]
    assert left == tasks[2:]
