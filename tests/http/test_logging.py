"""The log: requests at DEBUG, long waits at INFO, outages at WARNING."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys

import pytest

from harness_async import HarnessClient, RetryPolicy, TransportError
from harness_async.testing import FakeHarness, Reset, Status, TooManyRequests
from harness_async.testing.faults import Fault
from tests.support.virtual import run_jumping


async def test_requests(fake: FakeHarness, client: HarnessClient, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG each exchange is one line with method, path, status, time, attempt and what to quote to support."""
    caplog.set_level(logging.DEBUG, logger="harness_async")
    fake.faults.add(Status(503, headers={"X-Request-Id": "r-1"}), times=1)
    await client.executions.list("default", "payments", limit=5).collect()
    fake.faults.add(Reset("before"))
    with pytest.raises(TransportError):
        await client.with_options(retry=RetryPolicy(max_attempts=1)).organizations.get("default")
    assert {record.name for record in caplog.records} == {"harness_async.http"}
    path = "/iacm/api/orgs/default/projects/payments/executions?limit=5&page=1"
    failed, retry, succeeded, lost = caplog.messages
    form = re.escape(f"GET {path}: ") + r"{}, \d+\.\d{{3}} s, attempt {}"
    assert re.fullmatch(form.format(503, "1, correlation id r-1"), failed)
    assert retry.startswith("retry in 0.0 s: 503")
    assert re.fullmatch(form.format(200, 2), succeeded)
    assert "/v1/orgs/default: the connection was lost" in lost
    assert fake.api_key not in caplog.text


RATE = "the server limits the rate: no requests for"
OUTAGE = "outage, most requests fail: no requests for"
OPEN = "requests flow again"


@pytest.mark.parametrize(
    ("faults", "calls", "logged"),
    [
        ([(Status(503, headers={"Retry-After": "4"}), 2)], 1, []),
        ([(Status(503, headers={"Retry-After": "7"}), 1)], 1, [("INFO", "retry in 7")]),
        ([(TooManyRequests(), 2)], 1, [("INFO", RATE), ("INFO", RATE), ("INFO", OPEN)]),
        ([(Status(503), 22)], 20, [("WARNING", OUTAGE), ("INFO", OUTAGE), ("INFO", OUTAGE), ("INFO", OPEN)]),
    ],
    ids=["short waits", "long wait", "rate limit", "outage"],
)
def test_waits(
    caplog: pytest.LogCaptureFixture, faults: list[tuple[Fault, int]], calls: int, logged: list[tuple[str, str]]
) -> None:
    """Long waits and a closed gate are at INFO, an outage at WARNING once, however many probes fail."""
    caplog.set_level(logging.INFO, logger="harness_async")

    async def main() -> None:
        async with FakeHarness() as fake:
            fake.add_organization("default")
            for fault, times in faults:
                fake.faults.add(fault, times=times)
            retry = RetryPolicy(initial_backoff=0.001, max_backoff=0.002)
            async with HarnessClient(fake.api_key, base_url=fake.url, retry=retry, rate_limit=None) as client:
                await asyncio.gather(*(client.organizations.get("default") for _ in range(calls)))

    run_jumping(main())
    assert len(caplog.records) == len(logged), caplog.messages
    for record, (level, start) in zip(caplog.records, logged, strict=True):
        assert (record.name, record.levelname) == ("harness_async.http", level)
        assert record.getMessage().startswith(start)


def test_silent_by_default() -> None:
    """A program that sets up no logging sees nothing on its terminal, whatever goes wrong."""
    script = """
import asyncio
from harness_async import HarnessClient, HarnessError, RetryPolicy
from harness_async.testing import FakeHarness, Reset, Status, TooManyRequests

async def main():
    async with FakeHarness() as fake:
        fake.add_organization("default")
        for fault in (Status(503), Reset()):
            fake.faults.add(fault, times=1)
        policy = RetryPolicy(initial_backoff=0.001, max_backoff=0.002)
        async with HarnessClient(fake.api_key, base_url=fake.url, retry=policy, rate_limit=None) as client:
            await client.organizations.get("default")
            fake.faults.add(TooManyRequests(retry_after=9999))
            try:
                await client.organizations.get("default")
            except HarnessError:
                pass

asyncio.run(main())
"""
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
