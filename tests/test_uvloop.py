"""The client on uvloop, which the extra `speed` installs."""

from __future__ import annotations

import asyncio

import pytest

from harness_async import HarnessClient, RetryPolicy
from harness_async.testing import FakeHarness, Reset, Status, run_in_thread

uvloop = pytest.importorskip("uvloop", reason="not available on this platform")


def test_bulk_on_uvloop() -> None:
    """A bulk run with failures, and one that is left early, leave no tasks behind."""

    async def main(fake: FakeHarness) -> int:
        retry = RetryPolicy(initial_backoff=0.001, max_backoff=0.002)
        async with HarnessClient(fake.api_key, base_url=fake.url, rate_limit=None, retry=retry) as client:
            async with client.executions.bulk() as run:
                rows = len([row async for row in run])
            async with client.pipeline_executions.bulk() as other:
                async for _ in other.batches():
                    break
            assert not run.report.failed
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return rows

    fake = FakeHarness.seeded(projects=10, executions=1200)
    fake.faults.add(Status(503), every=7)
    fake.faults.add(Reset(), every=11)
    with run_in_thread(fake):
        assert uvloop.run(main(fake)) == 1200
