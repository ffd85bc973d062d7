"""Servers that are wrong about totals, pages, clocks, waits, names and members: three laws hold with all of them.

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

from attrs import define, frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness_async import HarnessClient, HarnessError, ProjectOutcome, RateLimit, SyncState
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

PROVED: set[Guarantee | None] = {"exact", "covered", "seek"}

TOTALS: dict[str, Fault | None] = {
    "true": None,
    "of the page": PageTotals(),
    "none": Totals(items=None, pages=None, size=None),
    "too high": Totals(items=5000, pages=50),
    "one too many": Totals(items=251, pages=3),
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
    "a short wait": TooManyRequests(2),
    "an absurd wait": Status(503, headers={"Retry-After": "1795000000"}),
    "reset": Reset(),
    "sign-in page": SignInPage(),
    "not JSON": Body(b"oops"),
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
    sizes: tuple[int, ...]
    consistency: Consistency
    spelling: str


@define
class Result:
    """What a client made of it."""

    delivered: Counter[tuple[str, ...]]
    outcomes: Mapping[str, ProjectOutcome]
    error: HarnessError | None
    requests: int


WORLDS = st.builds(
    World,
    totals=st.sampled_from(sorted(TOTALS)),
    clock=st.sampled_from(sorted(CLOCKS)),
    failure=st.sampled_from(sorted(FAILURES)),
    share=st.sampled_from([0.02, 0.2]),
    clip=st.sampled_from([None, None, None, 30]),
    same_page=st.sampled_from([None, None, None, SamePage(), SamePage(shuffled=True)]),
    nulls=st.booleans(),
    order=st.sampled_from(["newest", "oldest", "hash"]),
    sizes=st.tuples(st.sampled_from([0, 3, 99, 100, 101]), st.sampled_from([1, 130, 200, 250])),
    consistency=st.sampled_from(["live", "checked", "strict"]),
    spelling=st.sampled_from(["p0", "P0"]),
)


def create_server(world: World) -> FakeHarness:
    """Create a server with rows that are at least two hours old, so that no clock here hides them."""
    fake = FakeHarness(order=world.order)
    newest = fake.now() - 7_200_000
    for number, size in enumerate(world.sizes):
        fake.add_project("org", f"p{number}")
        for row in range(size):
            fake.add_execution("org", f"p{number}", created=newest - 1000 * row)
    path = "*/executions"
    for fault in (TOTALS[world.totals], ClipPages(world.clip) if world.clip else None, world.same_page):
        if fault is not None:
            fake.faults.add(fault, path=path)
    if world.nulls:
        fake.faults.add(Nulls(["workspace", "status", "pipeline", "account"]), path=path)
    if (headers := CLOCKS[world.clock]) is not None:
        fake.faults.add(Headers(headers))
    if (failure := FAILURES[world.failure]) is not None:
        fake.faults.add(failure, path=path, share=world.share)
    return fake


async def read(fake: FakeHarness, world: World, *, sync: bool = False) -> Result:
    """Read all projects; a sync twice, with rows that arrive between the two."""
    result = Result(Counter(), {}, None, 0)
    limit = RateLimit(100_000, 1.0)
    async with fake, HarnessClient(fake.api_key, base_url=fake.url, rate_limit=limit) as client:
        projects = [f"org/{world.spelling}", "org/p1"]
        state = SyncState.from_json(SyncState().to_json())
        for turn in range(2 if sync else 1):
            before = len(fake.requests)
            if turn:
                for number in range(5):
                    fake.add_execution("org", "p1", created=fake.now() - 3_600_000 * 2 + 1000 * (number + 1))
            if sync:
                run: Any = client.executions.sync(None if not turn else state, projects, consistency="checked")
            else:
                run = client.executions.bulk(projects, consistency=world.consistency)
            try:
                async with run:
                    async for batch in run.batches():
                        assert str(batch.project) in projects
                        result.delivered.update(row.key for row in batch.items)
            except HarnessError as error:
                result.error = error
            result.outcomes = {str(outcome.project): outcome for outcome in run.report.outcomes.values()}
            result.requests = max(result.requests, len(fake.requests) - before)
            if sync:
                state = run.state
    return result


def is_paged(world: World) -> bool:
    """Return whether the pages of the server can bring every row at all."""
    return world.same_page is None


def expected(fake: FakeHarness) -> set[tuple[str, ...]]:
    return {
        (row["org"], row["project"], row["pipeline_execution_id"], row["pipeline_stage_id"])
        for row in fake.all_executions()
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(world=WORLDS)
def test_bulk(world: World) -> None:
    """The three laws for a bulk run."""
    fake = create_server(world)
    result = virtual.run_jumping(read(fake, world))
    wanted = expected(fake)
    assert set(result.delivered) <= wanted
    assert not result.delivered or max(result.delivered.values()) == 1
    for name, outcome in result.outcomes.items():
        project = name.split("/")[1].lower()
        missing = {key for key in wanted if key[1] == project} - set(result.delivered)
        if outcome.status == "complete" and outcome.guarantee in PROVED:
            assert not missing, f"{len(missing)} rows lost, said {outcome.guarantee}"
        if is_paged(world) and outcome.status == "complete" and not (world.clip and world.totals != "true"):
            assert not missing, f"{len(missing)} rows lost"
    pages = sum(size // (world.clip or 100) + 2 for size in world.sizes)
    assert result.requests <= 60 + 40 * pages


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(world=WORLDS.filter(is_paged))
def test_sync(world: World) -> None:
    """The three laws for two syncs: no row is lost between them, whatever the clocks say."""
    fake = create_server(world)
    result = virtual.run_jumping(read(fake, world, sync=True))
    wanted = expected(fake)
    assert set(result.delivered) <= wanted
    for name, outcome in result.outcomes.items():
        project = name.split("/")[1].lower()
        missing = {key for key in wanted if key[1] == project} - set(result.delivered)
        if outcome.status == "complete" and not (world.clip and world.totals != "true"):
            assert not missing, f"{len(missing)} rows lost, said {outcome.guarantee}"
    pages = sum(size // (world.clip or 100) + 2 for size in world.sizes)
    assert result.requests <= 60 + 40 * pages
