"""Many projects in virtual time: what is asked for when, what is alive meanwhile, and the plan that comes before."""

from __future__ import annotations

import asyncio
import random
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from email.utils import formatdate
from typing import Any

import pytest
from attrs import define, field, frozen

from harness_async import BudgetError, BulkRun, HarnessError, Plan, Progress, ProjectRef, RateLimit, RatePacer
from harness_async.bulk.workers import MAX_PREFETCH, BulkSpec
from harness_async.errors import ErrorDetails, NotFoundError, PermissionDeniedError, ServerError
from harness_async.http.transport import RawResponse, ServerClock
from harness_async.pagination.pager import ListPager
from harness_async.pagination.source import FetchedPage, ListSpec, PageTotals, hash_by
from harness_async.testing import FixedWindow, Limiter, SlidingWindow
from harness_async.types import Consistency, TimeWindow
from tests.support import virtual

NOW = 1_000_000_000
"""When the newest row was created, in milliseconds; each older one a second before."""


@frozen
class Row:
    """A row of a project."""

    project: str
    number: int


class Rows(list[Row]):
    """The rows of a page, seen as long as they are alive."""

    __slots__ = ("__weakref__",)


@define
class World:
    """Projects on a server, which answers after a while, and what was asked of it."""

    totals: dict[str, int]
    seed: int = 1
    pacer: RatePacer = field(factory=RatePacer)
    failing: dict[str, HarnessError] = field(factory=dict[str, HarnessError])
    log: list[tuple[float, str, int]] = field(factory=list[tuple[float, str, int]])
    limiter: Limiter | None = None
    refused: int = 0
    alive: int = 0
    most_alive: int = 0

    def latency(self, project: str, number: int) -> float:
        """Say how long an answer takes: the same in every run of a seed."""
        return random.Random(f"{self.seed}/{project}/{number}").uniform(0.2, 0.5)

    def watch(self, rows: Rows) -> None:
        """Count a page for as long as it is alive."""
        self.alive += 1
        self.most_alive = max(self.most_alive, self.alive)
        weakref.finalize(rows, self._forget)

    def _forget(self) -> None:
        self.alive -= 1

    def spec(self, consistency: Consistency = "live", **options: Any) -> BulkSpec[Row]:
        """Make the job of reading all projects, each page of 10 rows."""

        def open_list(ref: ProjectRef, _end: int | None) -> ListPager[Row]:
            return ListPager(
                ListSpec(
                    source=Source(self, ref.project),
                    hash_keys=hash_by(lambda row: (row.project, row.number)),
                    created=lambda row: NOW - 1000 * row.number,
                    limit=10,
                    consistency=consistency,
                )
            )

        refs = [ProjectRef("org", name) for name in self.totals]
        return BulkSpec(
            **{
                "open_list": open_list,
                "projects": refs,
                "limited_by": lambda: "latency",
                "unlisted": {},
                "rate": lambda: self.pacer.limiter.rate(0.0) if self.pacer.limiter.limit else None,
                **options,
            }
        )

    def least(self) -> int:
        """Count the requests that reading everything takes when nothing moves."""
        return sum(total // 10 + 1 for total in self.totals.values())  # a full page is not the last one


def known_clock() -> ServerClock:
    """Create the clock of a server that has responded before, so that windows are frozen."""
    clock = ServerClock()
    clock.observe({"Date": formatdate(usegmt=True)}, clock.monotonic())
    return clock


@define
class Source:
    """The list of one project."""

    world: World
    project: str
    first_page: int = 1
    clock: ServerClock = field(factory=known_clock)

    @property
    def identity(self) -> object:
        """Name the list."""
        return self.project

    async def fetch(self, number: int, limit: int, bounds: TimeWindow | None = None) -> FetchedPage[Row]:
        """Respond after a while with the rows of a page within a time window."""
        world = self.world
        slot = await world.pacer.acquire()
        now = asyncio.get_running_loop().time()
        world.log.append((now, self.project, number))
        world.refused += world.limiter is not None and not world.limiter.allow(now)
        await asyncio.sleep(world.latency(self.project, number))
        world.pacer.record_success(slot)
        if self.project in world.failing:
            raise world.failing[self.project]
        start, end = (0, NOW) if bounds is None else (bounds.start or 0, bounds.end or NOW)
        numbers = [each for each in range(world.totals[self.project]) if start <= NOW - 1000 * each <= end]
        rows = Rows(Row(self.project, each) for each in numbers[(number - 1) * limit : number * limit])
        world.watch(rows)
        return FetchedPage(items=rows, totals=PageTotals(items=len(numbers), pages=None, size=limit))

    def decode(self, response: RawResponse) -> FetchedPage[Row]:
        """Decode nothing: these pages have no response."""
        raise AssertionError(response)


def served(world: World) -> Counter[Row]:
    """What the server has."""
    return Counter(Row(name, number) for name, total in world.totals.items() for number in range(total))


async def take(run: BulkRun[Row], world: World, pause: Callable[[], float] = lambda: 0.0) -> Counter[Row]:
    """Take all rows, resting after each."""
    got: Counter[Row] = Counter()
    async with run:
        async for row in run:
            got[row] += 1
            if rest := pause():
                await asyncio.sleep(rest)
    return got


def refusal(kind: type[Any] = PermissionDeniedError, status: int = 403) -> HarnessError:
    """Make an error of the API."""
    error: HarnessError = kind(ErrorDetails(message="no"), status=status, method="GET", url="u", attempts=())
    return error


MIXED = {"big": 173, "empty": 0, "one": 1, "full": 10, **{f"small{number}": number % 23 for number in range(40)}}

# -- requests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("consistency", ["live", "checked"])
@pytest.mark.parametrize("concurrency", [1, 3, 32])
def test_a_run_takes_exactly_the_requests_that_the_pages_need(consistency: Consistency, concurrency: int) -> None:
    """When nothing moves and nothing fails: one request a page, one for an empty project, each row once."""
    world = World(MIXED)
    run = BulkRun(world.spec(consistency, concurrency=concurrency))
    assert virtual.run(take(run, world)) == served(world)
    assert len(world.log) == world.least() == run.report.requests


def test_the_same_seed_gives_the_same_requests_at_the_same_times() -> None:
    """A run depends on nothing but its projects and the answers: two runs of a seed ask for the same in step."""

    def log(seed: int) -> Sequence[tuple[float, str, int]]:
        world = World(MIXED, seed=seed, pacer=RatePacer(RateLimit(400)))
        world.failing["small7"] = refusal()
        world.failing["small9"] = refusal(NotFoundError, 404)
        run = BulkRun(world.spec("checked", concurrency=8))
        assert sum(virtual.run(take(run, world, lambda: 0.003)).values()) == run.report.rows
        return world.log

    assert log(1) == log(1)
    assert log(1) != log(2)


@pytest.mark.parametrize("pause", [0.0, 0.01, 1.0, None], ids=["fast", "busy", "slow", "fitful"])
@pytest.mark.parametrize(
    ("concurrency", "max_in_flight", "most"),
    [(4, 4, 4), (1, 1, 1), (1, 32, MAX_PREFETCH), (8, 4, 8), (4, 32, 4 * MAX_PREFETCH)],
)
@pytest.mark.parametrize("consistency", ["live", "checked", "strict"])
def test_pages_alive_are_bounded_for_any_consumer(
    consistency: Consistency, concurrency: int, max_in_flight: int, most: int, pause: float | None
) -> None:
    """However slow the consumer, no more pages are alive than the workers' walks may hold, workers times width."""
    world = World(MIXED)
    rng = random.Random(3)
    rest = (lambda: 5.0 * (rng.random() < 0.02)) if pause is None else lambda: pause or 0.0
    run = BulkRun(world.spec(consistency, concurrency=concurrency, max_in_flight=max_in_flight))
    assert virtual.run(take(run, world, rest)) == served(world)
    assert 0 < world.most_alive <= most


def test_small_projects_do_not_wait_for_huge_ones() -> None:
    """Ten huge projects queued first take one page at a time while others are there, and all places when alone."""
    totals = {**{f"huge{number}": 500 for number in range(10)}, **{f"small{number}": 5 for number in range(190)}}
    world = World(totals, pacer=RatePacer(RateLimit(1000)))
    virtual.run(take(BulkRun(world.spec()), world))
    assert len(world.log) == world.least() == 700
    ended, start = world.log[-1][0], world.log[0][0]
    last_small = max(time for time, project, _ in world.log if project.startswith("small"))
    assert last_small - start < (ended - start) / 2
    assert ended - start < 1.05 * 700 / (1000 / 60.25), "the pace is used to the end"


def test_a_huge_project_that_comes_last_is_read_at_the_pace() -> None:
    """Fifty pages left alone at the end are asked for eight at a time, not one after the other."""
    totals = {**{f"small{number}": 5 for number in range(190)}, "huge": 500}
    world = World(totals, pacer=RatePacer(RateLimit(1000)))
    virtual.run(take(BulkRun(world.spec("checked")), world))
    assert world.log[-1][0] - world.log[0][0] < 1.15 * 240 / (1000 / 60.25)


@pytest.mark.parametrize("limiter", [SlidingWindow(400), FixedWindow(400, phase=17.0)], ids=["sliding", "fixed"])
def test_two_resources_share_one_budget(limiter: Limiter) -> None:
    """Two runs over 2,000 projects each keep to 99 % of the limit together, without a refusal, and hold few pages."""
    pacer = RatePacer(RateLimit(400))
    worlds = [World(dict.fromkeys(map(str, range(2000)), rows), pacer=pacer, limiter=limiter) for rows in (0, 3)]

    async def main() -> float:
        got = await asyncio.gather(*(take(BulkRun(world.spec("checked")), world) for world in worlds))
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


# -- the plan ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("consistency", ["checked", "strict"])
@pytest.mark.parametrize("where", ["before", "inside"])
def test_a_plan_tells_what_the_run_then_takes(consistency: Consistency, where: str) -> None:
    """One request a project makes the plan; the run asks for none of those pages again and keeps to it."""
    world = World(MIXED, pacer=RatePacer(RateLimit(400)))
    run = BulkRun(world.spec(consistency))

    async def main() -> tuple[Plan, Counter[Row]]:
        if where == "before":
            plan = await run.plan()
            assert len(world.log) == len(MIXED)
            return plan, await take(run, world)
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


def test_a_live_list_of_many_pages_is_asked_for_its_first_page_anew() -> None:
    """What nothing freezes may have moved since the plan: only lists of one page are kept, and the plan says so."""
    world = World({"one": 7, "many": 35})
    run = BulkRun(world.spec("live"))

    async def main() -> Plan:
        plan = await run.plan()
        assert await take(run, world) == served(world)
        return plan

    plan = virtual.run(main())
    assert plan.requests == len(world.log) == 1 + 1 + 4
    assert [(project, number) for _, project, number in world.log].count(("many", 1)) == 2


def test_a_plan_counts_what_fails_and_the_run_does_not_ask_again() -> None:
    """A project that is refused at the plan has its outcome; its error is not fetched twice."""
    world = World({"a": 5, "b": 25, "c": 0}, failing={"b": refusal()})
    run = BulkRun(world.spec("checked"))

    async def main() -> Plan:
        plan = await run.plan()
        assert await run.plan() is plan
        await take(run, world)
        return plan

    plan = virtual.run(main())
    assert (plan.projects, plan.failed, plan.rows, plan.requests) == (3, 1, 5, 2)
    assert "(1 failed)" in str(plan)
    statuses = {ref.project: outcome.status for ref, outcome in run.report.outcomes.items()}
    assert statuses == {"a": "complete", "b": "denied", "c": "complete"}
    assert len(world.log) == 3
    assert [outcome.project.project for outcome in run.failures] == ["b"]


def test_twenty_projects_refused_alike_end_a_plan_too() -> None:
    """The plan gives up as the run would, and so does the run after it."""
    names = [f"p{number}" for number in range(60)]
    world = World(dict.fromkeys(names, 1), failing=dict.fromkeys(names, refusal()))
    run = BulkRun(world.spec(concurrency=4))

    async def main() -> None:
        with pytest.raises(PermissionDeniedError) as caught:
            await run.plan()
        assert caught.value.report is not None
        with pytest.raises(PermissionDeniedError):
            await take(run, world)

    virtual.run(main())
    assert 20 <= len(world.log) <= 24


def test_a_plan_that_was_cancelled_is_no_run() -> None:
    """A plan left unfinished leaves nothing under way, and no run that would silently miss projects."""
    world = World(MIXED)
    run = BulkRun(world.spec(concurrency=2))

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run.plan(), 1.0)
        asked = len(world.log)
        assert len(asyncio.all_tasks()) == 1
        with pytest.raises(RuntimeError, match="not completed"):
            await take(run, world)
        assert len(world.log) == asked

    virtual.run(main())


def test_a_run_that_has_begun_cannot_be_planned() -> None:
    """A plan comes before the first row."""
    world = World({"a": 5})

    async def main() -> None:
        async with BulkRun(world.spec()) as run:
            await anext(run)
            with pytest.raises(RuntimeError, match="already started"):
                await run.plan()

    virtual.run(main())


@pytest.mark.parametrize("planned", [False, True])
@pytest.mark.parametrize("spare", [0, 5])
def test_a_run_within_its_budget_goes_on(planned: bool, spare: int) -> None:
    """With as many requests as it takes, planned by the caller or not, a run delivers everything at no extra cost."""
    world = World(MIXED)
    run = BulkRun(world.spec("checked", max_requests=world.least() + spare))

    async def main() -> Counter[Row]:
        if planned:
            await run.plan()
        return await take(run, world)

    assert virtual.run(main()) == served(world)
    assert len(world.log) == world.least()


@pytest.mark.parametrize("most", [0, 3, 43, 50, 80])
@pytest.mark.parametrize("planned", [False, True])
def test_a_run_beyond_its_budget_is_refused(most: int, planned: bool) -> None:
    """A run that would take more delivers nothing, says what it takes, and asks for no more than shows it."""
    world = World(MIXED)
    assert world.least() == 85
    run = BulkRun(world.spec("checked", max_requests=most, concurrency=4))

    async def main() -> BudgetError:
        with pytest.raises(BudgetError, match=f"more than max_requests={most}") as caught:
            await (run.plan() if planned else take(run, world))
        with pytest.raises((BudgetError, RuntimeError)):
            await take(run, world)
        return caught.value

    error = virtual.run(main())
    assert error.report is not None
    assert error.report.rows == 0
    assert error.plan is not None
    assert most < error.plan.requests <= world.least()
    assert len(world.log) <= most


# -- progress ------------------------------------------------------------------------------------------------------


def test_the_eta_is_right_when_there_is_a_plan() -> None:
    """With a plan and a limit the time that is left is known to a few percent, from the first row to the last."""
    reported: list[tuple[float, Progress]] = []
    world = World({f"p{number}": 40 + number for number in range(60)}, pacer=RatePacer(RateLimit(400)))

    def tell(progress: Progress) -> None:
        reported.append((asyncio.get_running_loop().time(), progress))

    run = BulkRun(world.spec("checked", on_progress=tell))

    async def main() -> float:
        await run.plan()
        await take(run, world)
        return asyncio.get_running_loop().time()

    end = virtual.run(main())
    assert any(0 < progress.projects_planned < 60 for _, progress in reported)
    running = [(time, progress.eta) for time, progress in reported if progress.projects_planned == 60 and progress.rows]
    assert len(running) > 50
    for time, eta in running:
        assert eta is not None
        assert abs(time + eta - end) < 2.0 + 0.05 * (end - time)


def test_the_eta_of_a_run_that_goes_on_does_not_count_what_was_done_before() -> None:
    """Without a plan the rest is estimated by what the projects of this run took, whatever was finished before it."""
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


def test_failures_are_told_as_they_come() -> None:
    """Each failed project is added when its outcome is known, not at the end."""
    world = World({"a": 15, "b": 25, "c": 45}, failing={"a": refusal(), "b": refusal(ServerError, 503)})
    run = BulkRun(world.spec("checked", concurrency=1))
    seen: list[int] = []

    async def main() -> None:
        async with run:
            async for _ in run:
                seen.append(len(run.failures))  # noqa: PERF401

    virtual.run(main())
    assert set(seen) == {2}
    assert [outcome.status for outcome in run.failures] == ["denied", "failed"]
