"""The places for requests in flight: first come first served, and none is ever lost or made."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_async.places import Places


async def turn() -> None:
    """Let everything that is ready run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_places_are_had_in_the_order_in_which_they_were_asked_for() -> None:
    """Who waits gets the next place that is given back, before anybody who came later."""
    places = Places(2)
    got: list[int] = []

    async def work(number: int) -> None:
        await places.take()
        got.append(number)

    tasks = [asyncio.create_task(work(number)) for number in range(5)]
    await turn()
    assert got == [0, 1]
    places.give_back()
    latecomer = asyncio.create_task(work(5))  # asks while the place is on its way to who has waited
    await turn()
    assert got == [0, 1, 2]
    for expected in ([3], [3, 4], [3, 4, 5]):
        places.give_back()
        await turn()
        assert got == [0, 1, 2, *expected]
    await asyncio.gather(*tasks, latecomer)
    for _ in range(2):
        places.give_back()
    assert places.free == 2


@pytest.mark.parametrize("when", ["before it gets the place", "in the turn in which it gets it"])
async def test_who_gives_up_leaves_the_place_to_the_next(when: str) -> None:
    """A task that is cancelled while it waits takes no place with it, not even one it was just given."""
    places = Places(1)
    await places.take()
    waiting = asyncio.create_task(places.take())
    behind = asyncio.create_task(places.take())
    await turn()
    if when == "before it gets the place":
        waiting.cancel()
        places.give_back()
    else:
        places.give_back()
        waiting.cancel()
    await turn()
    assert waiting.cancelled()
    assert behind.done()
    assert places.free == 0
    places.give_back()
    assert places.free == 1


@given(count=st.integers(1, 4), seed=st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_no_place_is_lost_or_made(count: int, seed: int) -> None:
    """Whatever is taken, given back and cancelled in whatever turn, places add up, and none is free while one waits."""
    rng = random.Random(seed)

    async def main() -> None:
        places = Places(count)
        held = 0
        tasks: set[asyncio.Task[None]] = set()

        async def work() -> None:
            nonlocal held
            await places.take()
            held += 1
            try:
                assert held <= count
                await asyncio.sleep(0)
            finally:
                held -= 1
                places.give_back()

        for _ in range(60):
            if rng.random() < 0.6:
                tasks.add(asyncio.create_task(work()))
            elif tasks:
                rng.choice(list(tasks)).cancel()
            if rng.random() < 0.5:
                await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert places.free == count

    asyncio.run(main())
