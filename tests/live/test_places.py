"""So many at once, the others in turn; who goes gives up the place, or the turn."""

from __future__ import annotations

import asyncio

import pytest

from tests.live.conftest import run_alone
from trajkit.live.places import Full, Places


def test_places_are_given_in_turn_and_too_many_are_refused():
    async def play():
        places, order = Places(2, 2), []
        doors = [asyncio.Event() for _ in range(4)]

        async def run(number):
            async with places.one():
                order.append(number)
                await doors[number].wait()

        tasks = [asyncio.create_task(run(number)) for number in range(4)]
        await asyncio.sleep(0)
        assert (order, places.taken, places.waiting) == ([0, 1], 2, 2)
        with pytest.raises(Full, match="2 requests wait"):
            async with places.one():
                pass
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

        async def run():
            async with places.one():
                await door.wait()

        first, second, third = (asyncio.create_task(run()) for _ in range(3))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.sleep(0)
        assert places.waiting == 1
        door.set()
        await first
        third.cancel()  # it has been called, and has not run since
        await asyncio.gather(second, third, return_exceptions=True)
        assert (places.taken, places.waiting) == (0, 0)

    run_alone(play())
