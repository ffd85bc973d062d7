"""Many projects in virtual time: when each page is requested, how many are alive, and the plan that comes before."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from harness_async import BudgetError, BulkRun, Plan, Progress, RateLimit, RatePacer
from harness_async.bulk.workers import MAX_PREFETCH
from harness_async.testing import FixedWindow, Limiter, SlidingWindow
from harness_async.types import Consistency
from tests.support import virtual
from tests.support.world import Row, World, refusal, served, take

MIXED = {"big": 173, "empty": 0, "one": 1, "full": 10, **{f"small{number}": number % 23 for number in range(40)}}
"""Rows of each project."""


@pytest.mark.parametrize("consistency", ["live", "checked"])
@pytest.mark.parametrize("concurrency", [1, 3, 32])
def test_requests(consistency: Consistency, concurrency: int) -> None:
    """A quiet run takes one request a page, one for an empty project, and delivers each row once."""
    world = World(MIXED)
    run = BulkRun(world.spec(consistency, concurrency=concurrency))
    assert virtual.run(take(run)) == served(world)
    assert len(world.log) == world.least() == run.report.requests


@pytest.mark.parametrize("pause", [0.0, 1.0, None], ids=["fast", "slow", "fitful"])
@pytest.mark.parametrize(
    ("concurrency", "max_in_flight", "most"),
    [(4, 4, 4), (1, 1, 1), (1, 32, MAX_PREFETCH), (8, 4, 8), (4, 32, 4 * MAX_PREFETCH)],
)
@pytest.mark.parametrize("consistency", ["live", "checked", "strict"])
def test_pages_alive(
    consistency: Consistency, concurrency: int, max_in_flight: int, most: int, pause: float | None
) -> None:
    """However slow the consumer, no more pages are alive than the walks of all workers may prefetch."""
    world = World(MIXED)
    rng = random.Random(3)
    rest = (lambda: 5.0 * (rng.random() < 0.02)) if pause is None else lambda: pause or 0.0
    run = BulkRun(world.spec(consistency, concurrency=concurrency, max_in_flight=max_in_flight))
    assert virtual.run(take(run, rest)) == served(world)
    assert 0 < world.most_alive <= most


@pytest.mark.parametrize(("huge", "consistency"), [(10, "live"), (1, "checked")])
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_huge_projects(huge: int, consistency: Consistency, first: bool) -> None:
    """Huge projects request one page at a time while others are active, and use the rate limit when they are alone."""
    totals = {f"small{number}": 5 for number in range(190)}
    more = {f"huge{number}": 500 for number in range(huge)}
    world = World({**more, **totals} if first else {**totals, **more}, pacer=RatePacer(RateLimit(1000)))
    virtual.run(take(BulkRun(world.spec(consistency))))
    assert len(world.log) == world.least() == 190 + 51 * huge
    seconds = world.log[-1][0] - world.log[0][0]
    last_small = max(time for time, project, _ in world.log if project.startswith("small"))
    assert last_small < 1.6 * 190 / (1000 / 60.25)
    assert seconds < 1.15 * len(world.log) / (1000 / 60.25)


@pytest.mark.parametrize("concurrency", [8, 16, 32])
def test_no_place_is_idle(concurrency: int) -> None:
    """Places in flight that lists cannot use at their first and last pages are used by other lists."""
    rng = random.Random(1)
    world = World({f"list{number}": rng.randrange(500) for number in range(60)}, places=asyncio.Semaphore(32))
    run = BulkRun(world.spec("checked", concurrency=concurrency, max_in_flight=32))

    async def main() -> float:
        assert await take(run) == served(world)
        return asyncio.get_running_loop().time()

    seconds = virtual.run(main())
    least = sum(world.latency(project, number) for _, project, number in world.log) / 32
    assert seconds < 1.2 * least


@pytest.mark.parametrize("limiter", [SlidingWindow(400), FixedWindow(400, phase=17.0)], ids=["sliding", "fixed"])
def test_two_resources_share_one_budget(limiter: Limiter) -> None:
    """Two runs over 2,000 projects each keep to 99 % of the limit together, without a refusal, and hold few pages."""
    pacer = RatePacer(RateLimit(400))
    worlds = [World(dict.fromkeys(map(str, range(2000)), rows), pacer=pacer, limiter=limiter) for rows in (0, 3)]

    async def main() -> float:
        got = await asyncio.gather(*(take(BulkRun(world.spec("checked"))) for world in worlds))
        assert got == [served(world) for world in worlds]
        return asyncio.get_running_loop().time()

    minutes = virtual.run(main()) / 60
    requests = [len(world.log) for world in worlds]
    assert requests == [2000, 2000]
    assert sum(requests) / minutes >= 0.99 * 400
    assert not any(world.refused for world in worlds)
    assert max(world.most_alive for world in worlds) <= 32 + 1
    halves = [sum(at < minutes * 30 for at, *_ in world.log) for world in worlds]
    assert max(halves) - min(halves) < 0.2 * sum(halves), "neither run waits for the other"


@pytest.mark.parametrize("consistency", ["checked", "strict"])
@pytest.mark.parametrize("where", ["before", "inside"])
def test_a_plan(consistency: Consistency, where: str) -> None:
    """A plan takes one request a project; the run does not request these pages again, and takes what it says."""
    world = World(MIXED, pacer=RatePacer(RateLimit(400)))
    run = BulkRun(world.spec(consistency))

    async def main() -> tuple[Plan, Counter[Row]]:
        if where == "before":
            plan = await run.plan()
            assert len(world.log) == len(MIXED)
            return plan, await take(run)
        async with run:
            assert not world.log
            plan = await run.plan()
            assert len(world.log) == len(MIXED)
            assert run.report.rows == 0
            return plan, Counter([row async for row in run])

    plan, got = virtual.run(main())
    assert got == served(world)
    assert (plan.projects, plan.failed, plan.rows, plan.uncounted) == (len(MIXED), 0, sum(MIXED.values()), 0)
    assert plan.made == len(MIXED)
    assert plan.requests == len(world.log) == run.report.requests
    if consistency == "checked":
        assert plan.requests == world.least()
    assert plan.minutes == pytest.approx(plan.requests * 60.25 / 398 / 60)
    assert plan.minutes_left == pytest.approx((plan.requests - plan.made) * 60.25 / 398 / 60)
    assert f"{plan.requests:,} ({plan.made:,} made)" in str(plan)
    assert all(outcome.status == "complete" for outcome in run.report.outcomes.values())


def test_a_plan_of_live_lists() -> None:
    """The first page of a live list of several pages is requested again after the plan, which counts it."""
    world = World({"one": 7, "many": 35})
    run = BulkRun(world.spec("live"))

    async def main() -> Plan:
        plan = await run.plan()
        assert await take(run) == served(world)
        return plan

    plan = virtual.run(main())
    assert plan.requests == len(world.log) == 1 + 1 + 4
    assert [(project, number) for _, project, number in world.log].count(("many", 1)) == 2


def test_failures_of_a_plan() -> None:
    """A project that fails at the plan has its outcome and is not requested again."""
    world = World({"a": 5, "b": 25, "c": 0}, failing={"b": refusal()})
    run = BulkRun(world.spec("checked"))

    async def main() -> Plan:
        plan = await run.plan()
        assert await run.plan() is plan
        await take(run)
        return plan

    plan = virtual.run(main())
    assert (plan.projects, plan.failed, plan.rows, plan.requests) == (3, 1, 5, 2)
    assert "(1 failed)" in str(plan)
    statuses = {ref.project: outcome.status for ref, outcome in run.report.outcomes.items()}
    assert statuses == {"a": "complete", "b": "denied", "c": "complete"}
    assert len(world.log) == 3
    assert [outcome.project.project for outcome in run.failures] == ["b"]


def test_a_cancelled_plan() -> None:
    """A cancelled plan leaves no task, and its run is refused, because it would miss projects."""
    world = World(MIXED)
    run = BulkRun(world.spec(concurrency=2))

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run.plan(), 1.0)
        sent = len(world.log)
        assert len(asyncio.all_tasks()) == 1
        with pytest.raises(RuntimeError, match="not completed"):
            await take(run)
        assert len(world.log) == sent

    virtual.run(main())


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("spare", [0, 5])
def test_within_max_requests(planned: bool, spare: int) -> None:
    """A run that needs at most `max_requests` delivers everything, at no extra cost."""
    world = World(MIXED)
    run = BulkRun(world.spec("checked", max_requests=world.least() + spare))

    async def main() -> Counter[Row]:
        if planned:
            await run.plan()
        return await take(run)

    assert virtual.run(main()) == served(world)
    assert len(world.log) == world.least()


@pytest.mark.parametrize("most", [0, 3, 43, 50, 80])
@pytest.mark.parametrize("planned", [False, True])
def test_beyond_max_requests(most: int, planned: bool) -> None:
    """A run that needs more delivers nothing, says what it needs, and sends no more requests than allowed."""
    world = World(MIXED)
    assert world.least() == 85
    run = BulkRun(world.spec("checked", max_requests=most, concurrency=4))

    async def main() -> BudgetError:
        with pytest.raises(BudgetError, match=f"more than max_requests={most}") as caught:
            await (run.plan() if planned else take(run))
        with pytest.raises((BudgetError, RuntimeError)):
            await take(run)
        return caught.value

    error = virtual.run(main())
    assert error.report is not None
    assert error.report.rows == 0
    assert error.plan is not None
    assert most < error.plan.requests <= world.least()
    assert len(world.log) <= most


def test_the_eta_with_a_plan() -> None:
    """With a plan and a rate limit, the remaining time is known to a few percent from the first row on."""
    reported: list[tuple[float, Progress]] = []
    world = World({f"p{number}": 40 + number for number in range(60)}, pacer=RatePacer(RateLimit(400)))

    def observe(progress: Progress) -> None:
        reported.append((asyncio.get_running_loop().time(), progress))

    run = BulkRun(world.spec("checked", on_progress=observe))

    async def main() -> float:
        await run.plan()
        await take(run)
        return asyncio.get_running_loop().time()

    end = virtual.run(main())
    assert any(0 < progress.projects_planned < 60 for _, progress in reported)
    running = [(time, progress.eta) for time, progress in reported if progress.projects_planned == 60 and progress.rows]
    assert len(running) > 50
    for time, eta in running:
        assert eta is not None
        assert abs(time + eta - end) < 2.0 + 0.05 * (end - time)


def test_the_eta_without_a_plan() -> None:
    """Without a plan, the remaining time is estimated from the projects that are finished."""
    world = World({f"p{number}": 5 for number in range(100)}, pacer=RatePacer(RateLimit(400)))
    run = BulkRun(world.spec("checked"))
    etas: list[tuple[float, float]] = []

    async def main() -> float:
        async with run:
            async for row in run:
                progress = run.progress
                if row.number == 4 and progress.projects_done > 20:
                    etas.append((asyncio.get_running_loop().time(), progress.eta or 0.0))
        return asyncio.get_running_loop().time()

    end = virtual.run(main())
    assert len(etas) > 50
    assert all(abs(time + eta - end) < 2.0 for time, eta in etas)
