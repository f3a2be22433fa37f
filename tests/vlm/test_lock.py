"""The lock of a model can be taken again by who holds it, and says who that is."""

from __future__ import annotations

from threading import Thread

from trajkit.vlm.lock import ModelLock


def in_a_thread(ask):
    said = []
    thread = Thread(target=lambda: said.append(ask()))
    thread.start()
    thread.join()
    return said[0]


def test_it_is_held_until_it_was_released_as_often_as_taken():
    lock = ModelLock()
    assert not lock.held_here
    with lock:
        with lock:
            assert lock.held_here
            assert not in_a_thread(lambda: lock.held_here)
        assert lock.held_here
        assert not in_a_thread(lambda: lock.acquire(timeout=0.01))
    assert not lock.held_here
    assert in_a_thread(lambda: lock.acquire(timeout=0.01))
