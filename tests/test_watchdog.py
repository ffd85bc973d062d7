"""Limits of many calls on one timer, in virtual time."""

from __future__ import annotations

import asyncio
import random

import pytest

from harness_async.watchdog import Watch, Watchdog
from tests import virtual


def now() -> float:
    """Tell the time of the loop."""
    return asyncio.get_running_loop().time()


async def hear(watch: Watch, pauses: list[float], quiet: float) -> str:
    """Listen to something that comes after each pause, and tell how it ended."""
    watch.listen(quiet)
    try:
        for pause in pauses:
            await asyncio.sleep(pause)
            watch.hear()
    except asyncio.CancelledError:
        if not watch.was_silent():
            raise
        return "silent"
    watch.rest()
    return "heard"


def test_a_deadline_ends_the_block_on_time() -> None:
    """At its deadline, not before and not later, a call ends with TimeoutError, and nothing is left cancelled."""

    async def main() -> None:
        dog = Watchdog(asyncio.get_running_loop())
        with pytest.raises(TimeoutError), Watch(dog, now() + 5.0) as watch:
            await asyncio.sleep(60)
        assert now() == pytest.approx(5.0, abs=0.01)
        assert watch.expired
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
        await asyncio.sleep(1)

    virtual.run(main())


@pytest.mark.parametrize("deadline", [None, 100.0])
def test_a_call_within_its_limits_is_left_alone(deadline: float | None) -> None:
    """A call that ends before its deadline, or has none, is not disturbed, and neither is what comes after it."""

    async def main() -> None:
        with Watch(Watchdog(asyncio.get_running_loop()), deadline):
            await asyncio.sleep(99)
        await asyncio.sleep(200)

    virtual.run(main())


def test_silence_is_measured_from_what_was_heard_last() -> None:
    """Each thing heard gives the other side its full time again; then the call is cut off, and goes on as it likes."""

    async def main() -> None:
        with Watch(Watchdog(asyncio.get_running_loop()), None) as watch:
            assert await hear(watch, [2.9] * 10, quiet=3.0) == "heard"
            await asyncio.sleep(50)  # nobody listens
            began = now()
            assert await hear(watch, [2.0, 9.0], quiet=3.0) == "silent"
            assert now() - began == pytest.approx(5.0, abs=0.01)
            assert await hear(watch, [1.0], quiet=3.0) == "heard"

    virtual.run(main())


def test_somebody_elses_cancellation_goes_on() -> None:
    """A task that is cancelled in the very turn in which its deadline passes, or in silence, is cancelled."""

    async def call(dog: Watchdog, quiet: float, deadline: float) -> None:
        with Watch(dog, deadline) as watch:
            await hear(watch, [60.0], quiet)

    async def main() -> None:
        dog = Watchdog(asyncio.get_running_loop())
        for quiet, deadline in ((60.0, now() + 5.0), (5.0, now() + 100.0)):
            task = asyncio.create_task(call(dog, quiet, deadline))
            await asyncio.sleep(0)
            task.get_loop().call_at(now() + 5.0, task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task

    virtual.run(main())


def test_a_deadline_that_passes_in_silence_is_the_deadline() -> None:
    """Both limits at once: the call is over."""

    async def main() -> None:
        with pytest.raises(TimeoutError), Watch(Watchdog(asyncio.get_running_loop()), 5.0) as watch:
            await hear(watch, [60.0], quiet=5.0)

    virtual.run(main())


def test_one_timer_serves_any_number_of_calls() -> None:
    """A thousand calls with limits of their own, begun at any time, are each cut off at theirs; one timer is set."""
    rng = random.Random(7)

    async def call(dog: Watchdog, limit: float) -> float:
        await asyncio.sleep(rng.uniform(0, 50))
        began = now()
        with pytest.raises(TimeoutError), Watch(dog, began + limit):
            await asyncio.Event().wait()
        return now() - began

    async def main() -> None:
        loop = asyncio.get_running_loop()
        dog = Watchdog(loop)
        limits = [rng.uniform(0.1, 300) for _ in range(1000)]
        calls = asyncio.gather(*(call(dog, limit) for limit in limits))
        await asyncio.sleep(51)
        timers = [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
        assert len(timers) <= 1
        for limit, taken in zip(limits, await calls, strict=True):
            assert limit == pytest.approx(taken, abs=0.01)

    virtual.run(main())


def test_a_later_limit_costs_no_timer() -> None:
    """One call after another leaves the timer of the first where it is: there is nothing to set or to cancel."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        dog = Watchdog(loop)
        for _ in range(1000):
            with Watch(dog, now() + 300.0) as watch:
                watch.listen(30.0)
                watch.rest()
        assert len(loop._scheduled) <= 2  # type: ignore[attr-defined]
        dog.close()
        assert not [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]

    virtual.run(main())
