"""So many at once, the others in turn; who goes gives up the place, or the turn."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.live.conftest import run_alone
from trajkit.live.places import Full, Places


async def hold(places, door, order=None, number=0):
    turn = places.join()
    try:
        await turn.come()
        if order is not None:
            order.append(number)
        await door.wait()
    finally:
        turn.leave()


def test_places_are_given_in_turn_and_too_many_are_refused():
    async def play():
        places, order = Places(2, 2), []
        doors = [asyncio.Event() for _ in range(4)]
        tasks = [asyncio.create_task(hold(places, doors[number], order, number)) for number in range(4)]
        await asyncio.sleep(0.01)
        assert (order, places.taken, places.waiting) == ([0, 1], 2, 2)
        with pytest.raises(Full, match="2 requests wait"):
            places.join()
        doors[1].set()
        await asyncio.sleep(0.01)
        assert order == [0, 1, 2]
        for door in doors:
            door.set()
        await asyncio.gather(*tasks)
        assert (order, places.taken, places.waiting) == ([0, 1, 2, 3], 0, 0)

    run_alone(play())


def test_who_goes_while_waiting_or_just_when_called_leaves_no_place_taken():
    async def play():
        places, door = Places(1, 5), asyncio.Event()
        first, second, third = (asyncio.create_task(hold(places, door)) for _ in range(3))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.sleep(0.01)
        assert places.waiting == 1
        door.set()
        await first
        third.cancel()  # it has been called, and has not run since
        await asyncio.gather(second, third, return_exceptions=True)
        assert (places.taken, places.waiting) == (0, 0)

    run_alone(play())


def test_who_goes_in_the_moment_in_which_a_place_is_given_is_passed_over():
    async def play():
        places, door, order = Places(1, 5), asyncio.Event(), []
        first = asyncio.create_task(hold(places, door))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(hold(places, door))
        third = asyncio.create_task(hold(places, door, order, 3))
        await asyncio.sleep(0.01)
        second.cancel()  # and before it hears of it, the place becomes free
        first.cancel()
        done = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(one) for one in done] == [asyncio.CancelledError] * 2
        await asyncio.sleep(0.01)
        assert (order, places.taken, places.waiting) == ([3], 1, 0)
        door.set()
        await third
        assert places.taken == 0

    run_alone(play())


def test_whatever_is_cancelled_when_no_place_is_lost_and_none_given_twice():
    async def play():
        rng = random.Random(7)
        places, inside, most = Places(3, 20), 0, 0

        async def run():
            nonlocal inside, most
            turn = places.join()
            try:
                await turn.come()
                inside += 1
                most = max(most, inside)
                try:
                    await asyncio.sleep(rng.random() * 0.004)
                finally:
                    inside -= 1
            finally:
                turn.leave()
                turn.leave()

        tasks = []
        for _ in range(400):
            if not places.full:
                tasks.append(asyncio.create_task(run()))
            if rng.random() < 0.5:
                rng.choice(tasks).cancel()
            if rng.random() < 0.5:
                await asyncio.sleep(rng.random() * 0.002)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (places.taken, places.waiting, inside, most) == (0, 0, 0, 3)
        assert not any(
            isinstance(error, Exception) and not isinstance(error, Full)
            for error in [task.exception() for task in tasks if not task.cancelled()]
        )

    run_alone(play())
