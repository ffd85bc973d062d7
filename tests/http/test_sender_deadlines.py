"""Deadlines, Retry-After and cancellation of calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from harness_async import (
    APIStatusError,
    DeadlineExceededError,
    Event,
    GateClosed,
    HarnessClient,
    HarnessError,
    RequestSent,
    RetryPlanned,
    Timeouts,
)
from harness_async.testing import Delay, FakeHarness, Redirect, SlowBody, Status, TooManyRequests
from tests.support import virtual
from tests.support.connections import is_idle
from tests.support.http import Connect

SILENT = Delay(3600)


def run(scenario: Callable[[FakeHarness, HarnessClient, list[Event]], Any], **options: Any) -> Any:
    """Run a scenario with a server and an unpaced client, in virtual time."""

    async def main() -> Any:
        fake, events = FakeHarness(), list[Event]()
        fake.add_organization("default", "Default")
        async with (
            fake,
            HarnessClient(
                fake.api_key, base_url=fake.url, on_event=events.append, **{"rate_limit": None, **options}
            ) as client,
        ):
            result = await scenario(fake, client, events)
            assert is_idle(client)
            return result

    return virtual.run_jumping(main())


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (503, {"Retry-After": "60"}),
        (408, {"retry-after": " 60.0 "}),
        (503, {"Retry-After": formatdate(1_700_000_060, usegmt=True), "Date": formatdate(1_700_000_000, usegmt=True)}),
    ],
    ids=["seconds", "fraction", "date"],
)
async def test_wait_beyond_the_deadline(
    fake: FakeHarness, connect: Connect, status: int, headers: dict[str, str]
) -> None:
    """A wait that would end after the deadline fails the call at once, with the response as the cause."""
    events: list[Event] = []
    fake.faults.add(Status(status, headers=headers))
    client = connect(timeouts=Timeouts(deadline=30.0), on_event=events.append)
    with pytest.raises(DeadlineExceededError) as caught:
        await client.organizations.get("default")
    cause = caught.value.__cause__
    assert isinstance(cause, APIStatusError)
    assert cause.retry_after == 60.0
    assert [attempt.status for attempt in caught.value.attempts] == [status]
    assert not any(isinstance(event, RetryPlanned) for event in events)
    assert (client.stats.backoff, len(fake.requests)) == (0, 1)


async def test_gate_beyond_the_deadline(fake: FakeHarness, connect: Connect) -> None:
    """A gate that is closed until after the deadline fails the throttled call and the next one at once."""
    fake.faults.add(TooManyRequests(retry_after=60), times=1)
    client = connect(timeouts=Timeouts(deadline=30.0))
    with pytest.raises(DeadlineExceededError) as caught:
        await client.organizations.get("default")
    assert [attempt.status for attempt in caught.value.attempts] == [429]
    with pytest.raises(DeadlineExceededError, match="nothing was sent") as second:
        await client.organizations.get("default")
    assert second.value.attempts == ()
    assert len(fake.requests) == 1


@pytest.mark.parametrize("fault", [SILENT, SlowBody(chunk_size=1, pause=1.0)], ids=["silence", "slow body"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_deadline_of_a_request(fault: Any, method: str) -> None:
    """A response that is not complete by the deadline is an error; a POST may have taken effect."""

    async def scenario(fake: FakeHarness, client: HarnessClient, _: list[Event]) -> None:
        fake.faults.add(fault)
        with pytest.raises(DeadlineExceededError) as caught:
            await client.request(method, "/v1/orgs")
        error = caught.value
        assert isinstance(error, TimeoutError)
        assert [(attempt.status, attempt.error) for attempt in error.attempts] == [(None, "cut short by the deadline")]
        assert error.ambiguous == (method == "POST")
        assert (error.method, error.url) == (method, f"{fake.url}/v1/orgs")
        assert asyncio.get_running_loop().time() == pytest.approx(1005.0, abs=0.1)

    run(scenario, timeouts=Timeouts(read=60.0, deadline=5.0))


def test_deadline_of_a_queued_call() -> None:
    """The time in the queue counts, and a call that was never sent is not ambiguous."""

    async def scenario(fake: FakeHarness, client: HarnessClient, _: list[Event]) -> None:
        fake.faults.add(SILENT)
        first = asyncio.create_task(client.organizations.get("default"))
        while not fake.requests:
            await asyncio.sleep(0)
        with pytest.raises(DeadlineExceededError) as caught:
            await client.with_options(timeouts=Timeouts(deadline=5.0)).request("POST", "/v1/orgs", json={})
        assert (caught.value.attempts, caught.value.ambiguous) == ((), False)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert len(fake.requests) == 1

    run(scenario, max_in_flight=1, timeouts=Timeouts(deadline=None, read=None))


def test_timeout_of_the_caller() -> None:
    """The end of a caller's `asyncio.timeout` is a plain `TimeoutError`."""

    async def scenario(fake: FakeHarness, client: HarnessClient, _: list[Event]) -> None:
        fake.faults.add(SILENT)
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(5):
                await client.organizations.get("default")
        assert not isinstance(caught.value, HarnessError)

    run(scenario)


def test_attempts() -> None:
    """Each attempt has its start, its duration, its outcome, and the time waited before it."""

    async def scenario(fake: FakeHarness, client: HarnessClient, _: list[Event]) -> None:
        fake.faults.add(Status(503, message="down", headers={"Retry-After": "20"}), times=1)
        fake.faults.add(Redirect("/v1/orgs"), when=lambda _: len(fake.requests) == 2)
        fake.faults.add(Delay(3), when=lambda _: len(fake.requests) == 3)
        attempts = (await client.request("GET", "/v1/orgs")).attempts
        assert [attempt.status for attempt in attempts] == [503, 302, 200]
        assert [attempt.error is None for attempt in attempts] == [False, False, True]
        assert attempts[0].error == "down"
        assert [attempt.waited for attempt in attempts] == pytest.approx([0, 20, 0], abs=0.6)
        assert attempts[2].elapsed == pytest.approx(3, abs=0.1)
        assert attempts[0].started <= attempts[1].started <= attempts[2].started

    run(scenario)


def test_probe_that_is_never_sent() -> None:
    """A probe that ends between its turn and its sending leaves its place to another request."""

    async def main() -> None:
        closed: list[Event] = []

        def observe(event: Event) -> None:
            if isinstance(event, GateClosed):
                closed.append(event)
            elif isinstance(event, RequestSent) and closed:
                closed.clear()
                raise asyncio.CancelledError

        async with FakeHarness() as fake, HarnessClient(fake.api_key, base_url=fake.url, on_event=observe) as client:
            fake.faults.add(TooManyRequests(), times=2)
            calls = [asyncio.create_task(client.request("GET", "/v1/orgs")) for _ in range(2)]
            _, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            assert (await asyncio.wait_for(waiting.pop(), 100)).status == 200

    virtual.run_jumping(main())
