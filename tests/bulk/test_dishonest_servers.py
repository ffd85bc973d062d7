"""Three laws hold with servers that are wrong about totals, pages, clocks, waits, names and members.

1. Every row that the server consistently shows is delivered once.
2. What is not proved is not called exact, covered or seek.
3. Every run ends within a bounded number of requests.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

from attrs import evolve, frozen
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness_async import HarnessClient, HarnessError, RetryPolicy, SyncState, Timeouts
from harness_async.testing import (
    Body,
    ClipPages,
    FakeHarness,
    Fault,
    Headers,
    Nulls,
    PageTotals,
    Reset,
    SamePage,
    SignInPage,
    Status,
    TooManyRequests,
    Totals,
)
from harness_async.types import Consistency, Guarantee
from tests.support import virtual
from tests.support.executions import Key, connect, served

PROVED: set[Guarantee | None] = {"exact", "covered", "seek"}

TOTALS: dict[str, Fault | None] = {
    "true": None,
    "of the page": PageTotals(),
    "none": Totals(items=None, pages=None, size=None),
    "too high": Totals(items=5000, pages=50),
    "too low": Totals(items=7, pages=1),
    "zero": Totals(items=0, pages=0),
    "words": Totals(items="many", pages="-1", size="0"),
    "huge": Totals(items="9" * 30, pages="9" * 30),
}

CLOCKS: dict[str, Mapping[str, str | None] | None] = {
    "true": None,
    "an hour ahead": {"Date": formatdate(time.time() + 3600, usegmt=True)},
    "an hour behind": {"Date": formatdate(time.time() - 3600, usegmt=True)},
    "1970": {"Date": "Thu, 01 Jan 1970 00:00:00 GMT"},
    "of a cache": {"Date": formatdate(time.time() - 3600, usegmt=True), "Age": "3600"},
    "no date": {"Date": "never"},
}

FAILURES: dict[str, Fault | None] = {
    "none": None,
    "503": Status(503),
    "a short wait": TooManyRequests(0.01),
    "an absurd wait": Status(503, headers={"Retry-After": "1795000000"}),
    "reset": Reset(),
    "sign-in page": SignInPage(),
    "not JSON": Body(b"oops"),
    "false encoding": Headers({"Content-Encoding": "gzip"}),
    "unknown encoding": Headers({"Content-Encoding": "x-odd"}),
    "error in a 200": Status(200, envelope="legacy"),
}


@frozen
class World:
    """A dishonest server, and how it is read."""

    totals: str
    clock: str
    failure: str
    share: float
    clip: int | None
    same_page: SamePage | None
    nulls: bool
    order: Any
    sizes: tuple[int, int]
    consistency: Consistency
    spelling: str


WORLDS = st.builds(
    World,
    totals=st.sampled_from(sorted(TOTALS)),
    clock=st.sampled_from(sorted(CLOCKS)),
    failure=st.sampled_from(["none", "none", *sorted(FAILURES)]),
    share=st.sampled_from([0.1, 0.3]),
    clip=st.sampled_from([None, None, 3]),
    same_page=st.sampled_from([None, None, None, SamePage(), SamePage(shuffled=True)]),
    nulls=st.booleans(),
    order=st.sampled_from(["newest", "oldest", "hash"]),
    sizes=st.tuples(st.sampled_from([0, 3, 4, 5, 6]), st.sampled_from([1, 9, 10, 23])),
    consistency=st.sampled_from(["live", "checked", "strict"]),
    spelling=st.sampled_from(["p0", "P0"]),
)


HONEST = World("true", "true", "none", 0.1, None, None, False, "newest", (5, 23), "checked", "p0")
PROMISED_PAGES = evolve(HONEST, totals="too high", same_page=SamePage(), sizes=(0, 1))
NO_CLOCK = evolve(HONEST, totals="huge", clock="no date", sizes=(0, 1))


def create_server(world: World, largest: int) -> FakeHarness:
    """Create a server with rows that are at least two hours old, so that no clock hides them."""
    fake = FakeHarness(order=world.order)
    newest = fake.now() - 7_200_000
    for number, size in enumerate(world.sizes):
        fake.add_project("org", f"p{number}")
        for row in range(size):
            fake.add_execution("org", f"p{number}", created=newest - 1000 * row)
    path = "*/executions"
    for fault in (TOTALS[world.totals], ClipPages(largest) if world.clip else None, world.same_page):
        if fault is not None:
            fake.faults.add(fault, path=path)
    if world.nulls:
        fake.faults.add(Nulls(["workspace", "status", "pipeline", "account"]), path=path)
    if (headers := CLOCKS[world.clock]) is not None:
        fake.faults.add(Headers(headers))
    if (failure := FAILURES[world.failure]) is not None:
        fake.faults.add(failure, path=path, share=world.share)
    return fake


def quick(fake: FakeHarness) -> HarnessClient:
    """Create a client whose calls end after a second."""
    retry = RetryPolicy(initial_backoff=0.001, max_backoff=0.002, max_retry_after=1.0)
    return connect(fake, timeouts=Timeouts(deadline=1.0), retry=retry)


def rows_of(fake: FakeHarness, project: str) -> set[Key]:
    return {key for key in served(fake) if key[1] == project.lower()}


def check(fake: FakeHarness, world: World, project: str, got: Counter[Key], guarantee: Guarantee | None) -> None:
    """Check the laws for one project that was read to the end."""
    missing = rows_of(fake, project) - set(got)
    assert not missing or (world.same_page and guarantee not in PROVED), f"{len(missing)} rows lost, said {guarantee}"
    assert max(got.values(), default=1) == 1


async def read_list(fake: FakeHarness, world: World) -> None:
    """Read the list of one project and check the laws."""
    got: Counter[Key] = Counter()
    async with fake, quick(fake) as client:
        pager = client.executions.list("org", "p1", limit=5, consistency=world.consistency)
        try:
            async with pager.walk() as walk:
                async for row in walk:
                    got[row.key] += 1
            check(fake, world, "p1", got, walk.report.guarantee)
        except HarnessError:
            assert world.failure != "none" or world.same_page or world.consistency == "strict"
    assert set(got) <= rows_of(fake, "p1")
    assert len(fake.requests) <= 60 + 10 * len(got)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(world=WORLDS)
@example(world=PROMISED_PAGES)
@example(world=NO_CLOCK)
def test_a_list(world: World) -> None:
    """The three laws for one list."""
    virtual.run_jumping(read_list(create_server(world, 3), world))


async def read_bulk(fake: FakeHarness, world: World) -> None:
    """Read two projects and check the laws for each."""
    got: dict[str, Counter[Key]] = {world.spelling: Counter(), "p1": Counter()}
    async with fake, quick(fake) as client:
        run = client.bulk(
            lambda ref: client.executions.list(ref.org, ref.project, limit=5, consistency=world.consistency),
            [("org", project) for project in got],
        )
        async with run:
            async for batch in run.batches():
                got[batch.project.project].update(row.key for row in batch.items)
    for ref, outcome in run.report.outcomes.items():
        assert set(got[ref.project]) <= rows_of(fake, ref.project)
        if outcome.status == "complete":
            check(fake, world, ref.project, got[ref.project], outcome.guarantee)
        else:
            assert world.failure != "none" or world.same_page, outcome.error
    assert run.report.requests == len(fake.requests) <= 120 + 10 * run.report.rows


@settings(max_examples=60, deadline=None, derandomize=True)
@given(world=WORLDS)
@example(world=PROMISED_PAGES)
@example(world=NO_CLOCK)
def test_bulk(world: World) -> None:
    """The three laws for a bulk run."""
    virtual.run_jumping(read_bulk(create_server(world, 3), world))


async def read_sync(fake: FakeHarness, world: World) -> None:
    """Sync twice, with rows that arrive between, and check that the two together have every row."""
    got: Counter[Key] = Counter()
    state: SyncState | None = None
    projects = [f"org/{world.spelling}", "org/p1"]
    async with fake, quick(fake) as client:
        for _ in range(2):
            before = len(fake.requests)
            run = client.executions.sync(state, projects)
            async with run:
                fresh = Counter([row.key async for row in run])
            assert max(fresh.values(), default=1) == 1
            got += fresh
            state = SyncState.from_json(run.state.to_json())
            for ref, outcome in run.report.outcomes.items():
                missing = rows_of(fake, ref.project) - set(got)
                assert outcome.status != "complete" or not missing, f"{len(missing)} rows lost"
            assert len(fake.requests) - before <= 120 + 10 * len(got)
            for _ in range(5):
                fake.add_execution("org", "p1")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    world=WORLDS.filter(lambda world: world.same_page is None),
    sizes=st.sampled_from([(0, 1), (3, 99), (1, 100), (5, 130)]),
)
def test_sync(world: World, sizes: tuple[int, int]) -> None:
    """No row is lost between two syncs, whatever the clocks say."""
    virtual.run_jumping(read_sync(create_server(evolve(world, sizes=sizes), 30), world))
