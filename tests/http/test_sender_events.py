"""Events of calls, and observers that raise."""

from __future__ import annotations

import asyncio
import logging

import pytest

from harness_async import (
    Event,
    GateClosed,
    GateOpened,
    HarnessError,
    RequestSent,
    ResponseReceived,
    RetryPlanned,
)
from harness_async.testing import FakeHarness, Reset, Status, TooManyRequests
from tests.support.connections import is_idle
from tests.support.http import Connect


def kinds(events: list[Event]) -> list[str]:
    """Return the names of the kinds of events."""
    return [type(event).__name__ for event in events]


async def test_events_of_a_call(fake: FakeHarness, connect: Connect) -> None:
    """A successful call has a `RequestSent` and a `ResponseReceived` with all their attributes."""
    events: list[Event] = []
    await connect(on_event=events.append).organizations.get("default")
    sent, received = events
    url = f"{fake.url}/v1/orgs/default"
    assert sent == RequestSent(method="GET", url=url, attempt=1)
    assert isinstance(received, ResponseReceived)
    assert (received.method, received.url, received.attempt, received.status) == ("GET", url, 1, 200)
    assert received.elapsed > 0
    assert received.size_bytes > 0
    assert received.correlation_id is None


async def test_events_of_a_retry(fake: FakeHarness, connect: Connect) -> None:
    """A `RetryPlanned` has the failed attempt and the reason, and attempts are numbered."""
    events: list[Event] = []
    fake.faults.add(Status(503, message="down", headers={"X-Request-Id": "r-1"}), times=1)
    await connect(on_event=events.append).organizations.get("default")
    assert kinds(events) == ["RequestSent", "ResponseReceived", "RetryPlanned", "RequestSent", "ResponseReceived"]
    failed, planned, again = events[1], events[2], events[3]
    assert isinstance(failed, ResponseReceived)
    assert isinstance(planned, RetryPlanned)
    assert isinstance(again, RequestSent)
    assert (failed.status, failed.correlation_id) == (503, "r-1")
    assert (planned.method, planned.attempt) == ("GET", 1)
    assert "down" in planned.reason
    assert 0 <= planned.wait <= 0.002
    assert again.attempt == 2


async def test_events_of_a_gate(fake: FakeHarness, connect: Connect) -> None:
    """A 429 closes the gate, and the response to the probe opens it."""
    events: list[Event] = []
    fake.faults.add(TooManyRequests(html=False), times=1)
    await connect(on_event=events.append).organizations.get("default")
    assert sorted(kinds(events)[1:4]) == ["GateClosed", "ResponseReceived", "RetryPlanned"]
    assert kinds(events)[0] == kinds(events)[4] == "RequestSent"
    assert sorted(kinds(events)[5:]) == ["GateOpened", "ResponseReceived"]
    closed = next(event for event in events if isinstance(event, GateClosed))
    opened = next(event for event in events if isinstance(event, GateOpened))
    assert "rate" in closed.reason
    assert 0 < closed.wait <= 0.0111
    assert opened.rate is not None
    assert opened.rate > 0


@pytest.mark.parametrize("error", [ValueError("made up"), HarnessError("x")], ids=["ValueError", "HarnessError"])
async def test_observer_that_raises(
    fake: FakeHarness, connect: Connect, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """Exceptions of an observer are logged, and do not affect the call, its retries or the gate."""

    def observe(_: Event) -> None:
        raise error

    fake.faults.add(Status(503), times=1)
    fake.faults.add(TooManyRequests(), times=1)
    fake.faults.add(Reset(), times=1)
    client = connect(on_event=observe)
    assert (await client.organizations.get("default")).name == "Default"
    assert is_idle(client)
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert logged
    assert all(record.name == "harness_async.http" and record.exc_info for record in logged)


async def test_observer_runs_in_the_task(fake: FakeHarness, connect: Connect) -> None:
    """The observer is called in the task of the call."""
    tasks: set[object] = set()
    client = connect(on_event=lambda _: tasks.add(asyncio.current_task()))
    await client.organizations.get("default")
    assert tasks == {asyncio.current_task()}
